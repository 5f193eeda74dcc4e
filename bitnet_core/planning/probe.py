"""What this machine and the traces say before a training: `python -m bitnet_core.planning.probe`.

It reads one job as a JSON line from stdin and writes its findings as one JSON line to stdout: the device, the traces'
figures and, if asked, the seconds of an optimizer step. Steps are those of training, on batches of the traces, or
where there are none on synthetic rows whose every position is supervised. In a process of its own, so that threads
behave as in a stage, and memory goes back to the system.

A student of more than twelve layers is timed with one layer and with three, by turns, and the seconds are taken as
linear in the layers: it takes a fraction of the time and of the memory. The peak of the process is measured with it:
the C library's allocator keeps more than the tensors that `memory.py` counts, and only a measurement says how much.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.evaluation.memory import peak_rss
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.precision import Precision, configure, pick_device, pick_precision
from bitnet_core.model.presets import student_config
from bitnet_core.model.student import Student
from bitnet_core.planning import timings
from bitnet_core.planning.batches import batches_of, examples_of
from bitnet_core.planning.decoding import token_seconds
from bitnet_core.planning.memory import Batch, Beside, training_bytes
from bitnet_core.planning.program import program_bytes
from bitnet_core.planning.start import start_seconds
from bitnet_core.planning.traces import traces_record
from bitnet_core.pretrained.choose import planned_shape
from bitnet_core.pretrained.start import as_source, source_bytes, warm_shape
from bitnet_core.pretrained.teacher_model import TeacherModel, teacher_model
from bitnet_core.pretrained.wanted import require_no_sizes, wanted
from bitnet_core.process import available_bytes, parents_pipe, rss_bytes, say_alive
from bitnet_core.settings.layers import kept_layers
from bitnet_core.settings.presets import own_weights
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import (
    DataOptions,
    DeviceOptions,
    InitOptions,
    LossWeights,
    OnlineOptions,
    PlaceOptions,
    StudentOptions,
    TeacherOptions,
    TokenizerOptions,
    TrainOptions,
)
from bitnet_core.teachers.embedded.files import VOCABULARY
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.traces.dataset import load_traces
from bitnet_core.training.batches import Sampler
from bitnet_core.training.compiling import prepared
from bitnet_core.training.online import OnlineTeacher
from bitnet_core.training.relations import Relations
from bitnet_core.training.step import Stepper

_WHOLE_LAYERS, _DEPTHS = 12, (1, 3)
_LEAST_ROUNDS, _MOST_ROUNDS, _SECONDS = 3, 12, 6.0
"""Steps at each depth: at least this many, then more until this many seconds have passed."""
_ROOM_SHARE = 0.5
"""Of the free memory that the timed steps' tensors may take; the allocator keeps up to twice as much."""


def main() -> int:
    with parents_pipe() as parent:
        job = json.loads(sys.stdin.readline())
        try:
            answer = examine(job, partial(say_alive, parent))
        except BitnetError as error:
            answer = {"error": str(error), "exit_code": error.exit_code}
        except OSError as error:
            if not error.filename:
                raise
            words = f"{error.filename} can't be used {explained(error, 'check its permissions')}."
            answer = {"error": words, "exit_code": 1}
        parent.write(json.dumps(answer) + "\n")
    return 0


def examine(job: dict[str, Any], alive: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """`job`: `settings` as in a run's record, `vocabulary` or null, and whether to `time` and to time `again`.

    `alive` is called after each timed step.
    The answer has the student's `shape` and a STUDENT_INIT with weights of that shape (`start_from`), the `device`,
    what is known of `traces`, the `step` and `decoding`, the teacher that is asked `online`, null where there is
    none, the `source_bytes` of a source that is read beside it, and what its `start` from a model takes.
    """
    settings = Settings.from_record(job["settings"], {})
    options, hardware = TrainOptions.of(settings), DeviceOptions.of(settings)
    data = DataOptions.of(settings)
    folder = data.path or PlaceOptions.of(settings).data
    traces = load_traces(folder, data.top_k, once=True) if any(folder.glob("kd_shard_*.parquet")) else None
    vocabulary = job["vocabulary"] or (traces.vocab_size if traces else _vocabulary(TokenizerOptions.of(settings)))
    start = _shape_of_start(settings, job["preset"])
    config = _shape(settings, job["preset"], start, vocabulary, options.max_seq_len)
    device = pick_device(hardware)
    configure(hardware)
    precision = pick_precision(hardware, device)
    usable = traces if traces and traces.vocab_size == vocabulary else None
    sampler = batches_of(usable, options, vocabulary, data.top_k)
    teacher = teacher_model(TeacherOptions.of(settings), device) if OnlineOptions.of(settings).online else None
    source = _source_beside(settings, start)
    answer: dict[str, Any] = {
        "shape": config.to_dict(),
        "start_from": _start_from(settings, job["preset"]),
        "device": _device(device, precision),
        "traces": traces_record(usable, sampler, options, folder) if usable else None,
        "step": None,
        "decoding": None,
        "online": _online_record(teacher, TeacherOptions.of(settings)) if teacher else None,
        "source_bytes": source_bytes(source) if source else 0,
        "start": None,
    }
    if job["time"]:
        work = Work(sampler, options, device, precision, teacher, source, alive)
        answer["step"] = step_seconds(config, work, again=job["again"])
    if start and InitOptions.of(settings).fit_steps:
        answer["start"] = start_seconds(
            start,
            config,
            examples_of(usable, options, vocabulary, data.top_k),
            settings,
            device,
            depths=_depths(config),
            room=int(_ROOM_SHARE * answer["device"]["free_bytes"]),
            machine=_machine(answer["device"]),
            time_it=job["time"],
            again=job["again"],
            alive=alive,
        )
    if job["time"]:
        answer["decoding"] = token_seconds(config, available_bytes(), again=job["again"])
    if device.type != "cuda" and not (answer["step"] or {}).get("memory_factor"):
        answer["device"]["warm_bytes"] = program_bytes()
    return answer


def _shape_of_start(settings: Settings, preset: str | None) -> StudentConfig | None:
    """The shape of the model in STUDENT_INIT, whose weights are not read; None if no layer of one is kept."""
    start = None if preset else wanted(InitOptions.of(settings), TeacherOptions.of(settings))
    if start is None or start.embedding_alone:
        return None
    require_no_sizes(StudentOptions.of(settings))
    return planned_shape(start)


def _shape(
    settings: Settings, preset: str | None, start: StudentConfig | None, vocabulary: int, max_seq_len: int
) -> StudentConfig:
    """The shape of the preset that is asked for, else of the layers that are kept of the model to `start` from."""
    options = StudentOptions.of(settings)
    if start is None:
        chosen = options if preset is None else StudentOptions(**{**vars(options), "preset": preset})
        return student_config(chosen, vocabulary, max_seq_len)
    layers, embedding = len(_kept(settings, start)), InitOptions.of(settings).embedding
    return warm_shape(start, layers, options, vocabulary, max_seq_len, embedding)


def _source_beside(settings: Settings, start: StudentConfig | None) -> StudentConfig | None:
    """The shape of the source's layers that training reads beside the student, if it does."""
    if not LossWeights.of(settings).relation or start is None:
        return None
    return replace(start, num_hidden_layers=_kept(settings, start)[-1] + 1)


def _kept(settings: Settings, start: StudentConfig) -> tuple[int, ...]:
    return kept_layers(InitOptions.of(settings).layers, start.num_hidden_layers)


def _start_from(settings: Settings, preset: str | None) -> str | None:
    """The STUDENT_INIT that would start such a student from weights; None if there is none, or one is chosen."""
    options, teacher = StudentOptions.of(settings), TeacherOptions.of(settings)
    if preset is None and wanted(InitOptions.of(settings), teacher) is not None:
        return None
    with suppress(UsageError):
        require_no_sizes(options)
        return own_weights(preset or options.preset, teacher.chosen) or None
    return None


def _vocabulary(tokenizer: TokenizerOptions) -> int:
    return load_tokenizer(tokenizer.name).vocab_size if tokenizer.name else VOCABULARY


def _device(device: torch.device, precision: Precision) -> dict[str, Any]:
    cuda = device.type == "cuda"
    return {
        "type": device.type,
        "name": torch.cuda.get_device_name(device) if cuda else _cpu_name(),
        "precision": precision.name,
        "narrow": precision.autocast,
        "threads": torch.get_num_threads(),
        "free_bytes": torch.cuda.mem_get_info(device)[0] if cuda else available_bytes(),
        "program_bytes": 0 if cuda else rss_bytes(),
        "load": os.getloadavg()[0],
        "cores": os.cpu_count() or 1,
    }


def _online_record(teacher: TeacherModel, options: TeacherOptions) -> dict[str, Any]:
    return {
        "model": teacher.identity.model,
        "parameters": teacher.parameters,
        "hidden_size": teacher.hidden_size,
        "number_bytes": teacher.dtype.itemsize,
        "fp32": options.dtype == "fp32",
    }


def _cpu_name() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


# -- the seconds of a step -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What is timed, but for the student's shape."""

    sampler: Sampler
    options: TrainOptions
    device: torch.device
    precision: Precision
    teacher: TeacherModel | None = None
    """Asked at every step, if there is one."""
    source: StudentConfig | None = None
    """The shape of what is read beside the student for its attention relations, if anything is."""
    alive: Callable[[], None] = lambda: None
    """Called after each step."""

    @property
    def beside(self) -> Beside | None:
        one = self.teacher
        return Beside(one.parameters, one.hidden_size, one.dtype.itemsize) if one else None


@dataclass(frozen=True)
class _Timed:
    layers: int
    seconds: list[float]
    processor: list[float]
    """Processor time of the same steps, which other programs make little longer."""


def step_seconds(config: StudentConfig, work: Work, *, again: bool) -> dict[str, Any]:
    """Seconds of an optimizer step, from the cache if this machine has timed the same before; or what is missing."""
    if work.teacher and not work.teacher.is_here:
        missing = f"the weights of {work.teacher.identity.model} are not on this machine; training downloads them"
        return {"seconds": None, "missing": missing}
    work = replace(work, options=prepared(work.options, work.device, work.sampler))
    depths = _depths(config)
    shapes = [replace(config, num_hidden_layers=depth) for depth in depths]
    needed = _bytes_by_turns(shapes, work)
    about = _device(work.device, work.precision)
    if needed > _ROOM_SHARE * about["free_bytes"]:
        room = int(_ROOM_SHARE * about["free_bytes"])
        return {"seconds": None, "needed_bytes": needed, "room_bytes": room}
    key = _key(config, work, about)
    cached = timings.kept(timings.STEPS)
    if key in cached and not again:
        return {**cached[key], "cached": True}
    timed, peak_bytes = _by_turns(shapes, work)
    layers = config.num_hidden_layers
    found = {
        "seconds": timings.at_depth(layers, depths, [statistics.median(one.seconds) for one in timed]),
        # On a GPU the processor's time says nothing of a step's.
        "processor_seconds": timings.at_depth(layers, depths, [statistics.median(one.processor) for one in timed])
        if work.device.type == "cpu"
        else 0.0,
        "threads": about["threads"],
        "timed_layers": list(depths),
        "steps": sum(len(one.seconds) for one in timed),
        # A process that has freed memory before grows by less than its tensors take.
        "memory_factor": max(1.0, peak_bytes / needed),
        "spread": max((max(one.seconds) - min(one.seconds)) / statistics.median(one.seconds) for one in timed),
        "supervised_per_step": work.sampler.mean_supervised * work.options.accumulate,
        "load": about["load"],
        "at": time.time(),
        "teacher": work.teacher.identity.model if work.teacher else "",
    }
    timings.keep(cached | {key: found}, timings.STEPS)
    return {**found, "cached": False}


def _by_turns(shapes: list[StudentConfig], work: Work) -> tuple[list[_Timed], int]:
    """Seconds at each depth, and the bytes that all of this added at its peak (on a GPU, those of its allocator).

    The first step of each depth is not counted: it allocates, and compiles where that is asked for.
    """
    before = rss_bytes()
    with peak_rss() as peak:
        timed = _timed(shapes, work)
    if work.device.type == "cuda":
        return timed, torch.cuda.max_memory_allocated(work.device)
    return timed, peak.bytes - before


def _timed(shapes: list[StudentConfig], work: Work) -> list[_Timed]:
    teacher = _opened(work.teacher, work.device, shapes[0].vocab_size) if work.teacher else None
    relations = Relations(as_source(Student(work.source)).to(work.device), 1.0) if work.source else None
    steppers = []
    for shape in shapes:
        torch.manual_seed(work.options.seed)
        student = Student(shape).to(work.device).train()
        steppers.append(Stepper(student, work.options, work.device, work.precision, teacher, relations))
    timed = [_Timed(shape.num_hidden_layers, [], []) for shape in shapes]
    started = time.perf_counter()
    for turn in range(_MOST_ROUNDS + 1):
        begun, used = time.perf_counter(), time.process_time()
        batches = [work.sampler.next() for _ in range(work.options.accumulate)]
        making, made_in = time.perf_counter() - begun, time.process_time() - used
        for stepper, one in zip(steppers, timed, strict=True):
            begun, used = time.perf_counter(), time.process_time()
            stepper.step(batches, work.options.rate.floor)
            if work.device.type == "cuda":
                torch.cuda.synchronize(work.device)
            work.alive()
            if turn:
                one.seconds.append(making + time.perf_counter() - begun)
                one.processor.append(made_in + time.process_time() - used)
        if turn == 0:
            started = time.perf_counter()
        elif turn >= _LEAST_ROUNDS and time.perf_counter() - started > _SECONDS:
            break
    return timed


def _opened(teacher: TeacherModel, device: torch.device, vocabulary: int) -> OnlineTeacher:
    states = teacher.states(device, vocabulary)
    return OnlineTeacher("", states, states.head_VE, eos_id=0)


def _bytes_by_turns(shapes: list[StudentConfig], work: Work) -> int:
    """What the tensors of all depths take: that at work, with the weights, gradients and AdamW of the others."""
    options = work.options
    batch = Batch(options.batch_size, options.max_seq_len, options.accumulate, options.pack)
    parts = [
        training_bytes(
            one,
            batch,
            narrow=work.precision.autocast,
            device_type=work.device.type,
            quantize=options.quantize,
            recompute=options.recompute,
            teacher=work.beside,
            source=source_bytes(work.source) if work.source else 0,
        )
        for one in shapes
    ]
    kept = [one["weights"] + one["adamw"] + one["gradients"] for one in parts]
    return max(sum(kept) - own + one["peak"] for one, own in zip(parts, kept, strict=True))


def _depths(config: StudentConfig) -> tuple[int, ...]:
    """The numbers of layers to time, from which those of the student follow."""
    return (config.num_hidden_layers,) if config.num_hidden_layers <= _WHOLE_LAYERS else _DEPTHS


def _machine(device: dict[str, Any]) -> dict[str, Any]:
    """What identifies this machine among timings."""
    machine = {name: device[name] for name in ("type", "name", "precision", "threads", "cores")}
    return machine | {"host": os.uname().nodename, "torch": torch.__version__}


def _key(config: StudentConfig, work: Work, device: dict[str, Any]) -> str:
    """Identifies the machine and everything that decides how long a step takes."""
    options, beside = work.options, work.beside
    decides = {
        "machine": _machine(device),
        "shape": config.to_dict(),
        "batches": work.sampler.fingerprint,
        **{name: getattr(options, name) for name in ("accumulate", "compiled", "quantize", "recompute")},
    }
    if work.teacher and beside:
        decides["teacher"] = [work.teacher.identity.model, *asdict(beside).values()]
    if work.source:
        decides["source"] = work.source.to_dict()
    return timings.key_of(decides)


if __name__ == "__main__":
    sys.exit(main())
