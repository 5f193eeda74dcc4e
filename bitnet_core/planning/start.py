"""How long a training makes its start: the seconds in which a source reads its text, and those of a step of the fit.

Both are those of training itself, on the examples that it would take, with weights that say nothing. Layers that the
student has beyond twelve are extrapolated, as for the steps of training; a layer of the source stands for all.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.planning import timings
from bitnet_core.planning.preparation import UNTIMED
from bitnet_core.pretrained.half_made import made_name
from bitnet_core.pretrained.reconstruct import reconstruct, source_state
from bitnet_core.pretrained.source import EMBEDDING, Source, layer_names
from bitnet_core.pretrained.start import fit_examples, fit_text, least_training_bytes
from bitnet_core.pretrained.wanted import wanted
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import InitOptions, PlaceOptions, TeacherOptions
from bitnet_core.traces.examples import Example

_SOURCE_LAYERS = 3
_FIT_STEPS = 6
_ROWS = 4
_STATES = 2
"""Of the text, in fp32: the source's, and the same behind the last norm."""


def start_seconds(
    source: StudentConfig,
    student: StudentConfig,
    examples: Sequence[Example],
    settings: Settings,
    device: torch.device,
    *,
    depths: tuple[int, ...],
    room: int,
    machine: dict[str, Any],
    time_it: bool,
    again: bool,
    alive: Callable[[], None],
) -> dict[str, Any]:
    """Seconds to read one position with one layer of the source, and of one of the steps of the fit.

    Null if they are not timed, or if that takes more than `room` bytes, and where the start is `made` already.
    `machine` is what identifies this one among the kept timings.
    """
    options = InitOptions.of(settings)
    chosen = fit_examples(examples, steps := options.fit_steps)
    asked, folder = wanted(options, TeacherOptions.of(settings)), PlaceOptions.of(settings).checkpoints
    made = asked is not None and (folder / made_name(student, chosen, steps, asked.settings())).is_file()
    lengths = sorted(one.length for one in chosen)
    about = UNTIMED | {
        "layers_of_source": source.num_hidden_layers,
        "fit_steps": steps,
        "positions": sum(lengths),
        "made": made,
    }
    if made or not time_it:
        return about
    shapes = [replace(student, num_hidden_layers=depth) for depth in depths]
    states = 4 * _STATES * len(lengths) * lengths[-1] * student.hidden_size
    if states + max(map(least_training_bytes, shapes)) > room:
        return about
    decides = {"machine": machine, "source": source.to_dict(), "shape": student.to_dict(), "lengths": lengths}
    key, cached = timings.key_of(decides), timings.kept(timings.STARTS)
    if key not in cached or again:
        position = _position_seconds(source, student, chosen, device)
        alive()
        fitted = [_step_seconds(shape, chosen, device) for shape in shapes]
        alive()
        found = {
            "position_seconds": position,
            "step_seconds": timings.at_depth(student.num_hidden_layers, depths, fitted),
            "timed_layers": list(depths),
            "at": time.time(),
        }
        cached |= {key: found}
        timings.keep(cached, timings.STARTS)
    return about | {name: cached[key][name] for name in UNTIMED}


class _Clock(Reporter):
    """Notes when progress is reported."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def progress(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())

    def median(self) -> float:
        """The median of the seconds between two reports, less the first: it allocates."""
        pairs = zip(self.times[1:], self.times[2:], strict=False)
        return statistics.median(later - earlier for earlier, later in pairs)


def _position_seconds(
    source: StudentConfig, student: StudentConfig, examples: Sequence[Example], device: torch.device
) -> float:
    """Rows of middling length are read together, as training does it with rows of like lengths."""
    middle = max(0, (len(examples) - _ROWS) // 2)
    some = sorted(examples, key=lambda one: one.length)[middle : middle + _ROWS]
    with torch.device("meta"):
        like = Student(replace(student, num_hidden_layers=1))
    text, clock = fit_text(like, some, device), _Clock()
    shape = replace(source, num_hidden_layers=_SOURCE_LAYERS)
    source_state(Source("", shape, tied=True, tokens={}, read=_read(shape), sha256=str), text, clock)
    clock.progress()
    return clock.median() / sum(one.length for one in some)


def _read(shape: StudentConfig) -> Callable[[str], torch.Tensor]:
    sizes = layer_names(shape) | {EMBEDDING: (shape.vocab_size, shape.hidden_size)}

    def read(name: str) -> torch.Tensor:
        own = name if name in sizes else name.split(".", 3)[-1]
        return torch.full(sizes[own], 0.01)

    return read


def _step_seconds(shape: StudentConfig, examples: Sequence[Example], device: torch.device) -> float:
    torch.manual_seed(0)
    student, clock = Student(shape).to(device).train(), _Clock()
    text = fit_text(student, examples, device)
    wanted_RTD = torch.randn(shape.hidden_size, device=device).expand(*text.ids_RT.shape, shape.hidden_size)
    reconstruct(student, wanted_RTD, text, _FIT_STEPS, clock)
    return clock.median()
