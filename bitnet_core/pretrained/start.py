"""A student's first weights: its shape from a source, the source's weights in it, and sub-norms that fit them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.export.blocks import held
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.presets import LEAST_POSITIONS
from bitnet_core.model.quant import hadamard
from bitnet_core.model.student import Student
from bitnet_core.pretrained.calibrate import calibrate
from bitnet_core.pretrained.enlarge import enlarge
from bitnet_core.pretrained.fit_size import FIT_POSITIONS
from bitnet_core.pretrained.half_made import HalfMade, deciding, made_name
from bitnet_core.pretrained.reconstruct import Text, in_full_precision, reconstruct, source_state
from bitnet_core.pretrained.rotate import rotate, turned
from bitnet_core.pretrained.source import EMBEDDING, FINAL_NORM, Source, layer_names, require_same_tokens
from bitnet_core.pretrained.wanted import Wanted, require_no_sizes
from bitnet_core.process import available_bytes
from bitnet_core.runs.reporter import Part, Reporter
from bitnet_core.settings.layers import kept_layers
from bitnet_core.settings.values import Embedding, StudentOptions
from bitnet_core.text import size
from bitnet_core.traces.examples import Example, collate

_CALIBRATION_ROWS = 16
_ROUNDED_ROWS = 4096
_MASTER_BYTES, _STEP_BYTES = 4, 12
"""Of a parameter's master, and of its gradient and two moments if it is trained."""
_SOURCE_BYTES = 4
SMALLER_SHAPE = "choose a smaller MINI_PRESET, or end other programs"
SMALLER_TEACHER = "train on the collected traces (TRAIN_ONLINE=0), or choose a smaller teacher or student"
SMALLER_MODEL = "keep fewer layers (STUDENT_INIT_LAYERS) or start from a smaller model (STUDENT_INIT)"
_PARTS = 3
"""Of a training that makes such a start: the source reads the text, the student is fitted, then it is trained."""
_FITTED_TO_READ = 5.6
"""Time to fit a layer of the student at one position, as a multiple of that in which a source's layer reads it.

Backward passes, quantisers, the head and Adam make it; measured on CPUs with three layers of 576.
"""
_ROTATED = ("o_proj.weight", "down_proj.weight")


class Start:
    """First weights from a source, which is opened when it is needed."""

    def __init__(
        self, wanted: Wanted, opening: Callable[[], Source], tokens: Callable[[], Mapping[int, str]]
    ) -> None:
        """`tokens` are the spellings in the traces' vocabulary, by id; both are called only when they are needed."""
        self.settings = wanted.settings()
        self._layers, self._fit_steps, self._embedding = wanted.layers, wanted.fit_steps, wanted.embedding
        self._opening, self._tokens = opening, tokens

    @cached_property
    def source(self) -> Source:
        """BitnetError for one that can't be opened, or whose tokenizer is not that of the traces."""
        source = self._opening()
        require_same_tokens(source.name, source.tokens, self._tokens())
        return source

    def record(self, layers: Sequence[int]) -> dict[str, Any]:
        """What the checkpoints record of the source, and of which of its layers a student has."""
        source = self.source
        return {
            "source": source.name,
            "sha256": source.sha256(),
            "layers": list(layers),
            "layers_of_source": source.shape.num_hidden_layers,
            "head": "tied" if source.tied else "replaced by the embedding",
            "settings": self.settings,
        }


class WarmStart(Start):
    """Puts a source's weights into a student when training begins; a training that resumes never opens the source."""

    @cached_property
    def kept(self) -> tuple[int, ...]:
        return kept_layers(self._layers, self.source.shape.num_hidden_layers)

    def shape(self, options: StudentOptions, vocab_size: int, max_seq_len: int) -> StudentConfig:
        """The student's shape: the source's, with the layers kept and the vocabulary of the traces.

        UsageError for settings of another shape, BitnetError as of `source`.
        """
        require_no_sizes(options)
        return warm_shape(self.source.shape, len(self.kept), options, vocab_size, max_seq_len, self._embedding)

    def resumed_shape(self, there: StudentConfig, options: StudentOptions, max_seq_len: int) -> StudentConfig:
        """The shape that the checkpoints' student has under these options; the source need not be there any more."""
        require_no_sizes(options)
        return warm_shape(there, there.num_hidden_layers, options, there.vocab_size, max_seq_len, self._embedding)

    def __call__(
        self, student: Student, examples: Sequence[Example], reporter: Reporter, folder: Path | None = None
    ) -> dict[str, Any]:
        """Load, calibrate on the first of the training's examples, rotate, fit to the source, and enlarge.

        An embedding that is not trained is rounded before the fit, so that the layers learn with it as it stays.
        What the checkpoints record of it. Stopped when the reporter is asked to stop. What is done of the fit is kept
        in `folder`, from where the same call goes on.
        """
        source = self.source
        if len(self.kept) != student.config.num_hidden_layers:
            raise BitnetError(f"{source.name} has changed since the training began; use another experiment (--root).")
        load(student, source, self.kept)
        tokens = calibrate_on(student, examples)
        rotate(student)
        round_embedding(student)
        record = self.record(self.kept) | {"calibration_tokens": tokens}
        if self._fit_steps:
            record["fit"] = fit(student, source, examples, self._fit_steps, reporter, folder, record)
        enlarge(student)
        round_embedding(student)  # a smaller scale may lie between two numbers of fp16
        return record


@torch.no_grad()
def round_embedding(student: Student) -> None:
    """Round an embedding that is not trained, in place, to what the type holds in which it is kept."""
    if kind := student.config.embedding_type:
        for rows_RD in torch.split(student.output_weight, _ROUNDED_ROWS):
            rows_RD.copy_(torch.from_numpy(held(kind, rows_RD.cpu().numpy())))


def warm_shape(
    source: StudentConfig,
    layers: int,
    options: StudentOptions,
    vocab_size: int,
    max_seq_len: int,
    embedding: Embedding = "trained",
) -> StudentConfig:
    """The shape of a student with `layers` of a source's layers."""
    return replace(
        source,
        vocab_size=vocab_size,
        num_hidden_layers=layers,
        max_position_embeddings=max(source.max_position_embeddings, LEAST_POSITIONS, max_seq_len),
        hadamard=options.hadamard,
        a4_policy=options.a4_policy,
        embedding_type="" if embedding == "trained" else embedding,
    )


def least_training_bytes(config: StudentConfig) -> int:
    """What training takes at the very least: masters, gradients and moments."""
    return _MASTER_BYTES * config.parameters() + _STEP_BYTES * config.trained_parameters()


def require_room(
    config: StudentConfig, device: torch.device, beside: str = "", beside_bytes: int = 0, *, fix: str = SMALLER_SHAPE
) -> None:
    """BitnetError, ending in `fix`, if the student's masters, gradients and moments can't fit into the free memory.

    Nor what takes `beside_bytes` `beside` it. Without this the system would end the process, or another one.
    """
    needed = least_training_bytes(config)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    if needed + beside_bytes > free:
        also = f" and {beside} beside it {size(beside_bytes)}" if beside else ""
        raise BitnetError(
            f"Training {config.parameters():,} parameters takes at least {size(needed)} of memory{also}, and "
            f"{size(free)} is free on {device}; {fix}."
        )


def source_bytes(shape: StudentConfig) -> int:
    """Bytes of a `source_student` of this shape."""
    return _SOURCE_BYTES * shape.parameters()


def source_student(source: Source, layers: int) -> Student:
    """The first layers of a source as a student that computes what they do."""
    student = Student(replace(source.shape, num_hidden_layers=layers, hadamard=False))
    load(student, source, range(layers))
    return as_source(student)


def as_source(student: Student) -> Student:
    """The student, changed to compute as a source with its weights does: no sub-norms, and nothing quantised."""
    for layer in student.model.layers:
        in_full_precision(layer)
    return student


@torch.no_grad()
def load(student: Student, source: Source, kept: Sequence[int]) -> None:
    """Copy a source's tensors, one at a time; the sub-norms, which it hasn't got, stay as they are.

    The source may have more tokens than the student, whose embedding is then its first rows. BitnetError for numbers
    that are not finite.
    """
    own = dict(student.named_parameters())
    for name in (EMBEDDING, FINAL_NORM):
        copy(own[name], name, source.read(name)[: own[name].shape[0]])
    for place, layer in enumerate(kept):
        for part in layer_names(student.config):
            name = f"model.layers.{layer}.{part}"
            values = source.read(name)
            if student.config.hadamard and name.endswith(_ROTATED):
                values = hadamard(values)  # the student's input is rotated too, and the product stays what it was
            copy(own[f"model.layers.{place}.{part}"], name, values)


def copy(parameter: Tensor, name: str, values: Tensor) -> None:
    """Fill a parameter with a source's tensor. BitnetError for numbers that are not finite."""
    parameter.copy_(finite(name, values))


def finite(name: str, values: Tensor) -> Tensor:
    """A source's tensor. BitnetError for numbers that are not finite."""
    if not bool(values.isfinite().all()):
        raise BitnetError(f"The tensor {name} of STUDENT_INIT has numbers that are not finite; use another model.")
    return values


def calibrate_on(student: Student, examples: Sequence[Example]) -> int:
    """Calibrate the sub-norms on the first of these examples; how many tokens those have."""
    some = examples[:_CALIBRATION_ROWS]
    ids_RT = collate(some).ids_BT.to(student.output_weight.device)
    places_T = torch.arange(ids_RT.shape[1], device=ids_RT.device)
    lengths_R1 = torch.tensor([[one.length] for one in some], device=ids_RT.device)
    real_N = (places_T < lengths_R1).flatten().nonzero()[:, 0]
    calibrate(student, ids_RT, real_N)
    return len(real_N)


def fit(
    student: Student,
    source: Source,
    examples: Sequence[Example],
    steps: int,
    reporter: Reporter,
    folder: Path | None = None,
    origin: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Fit a rotated student to its source, on examples from all over; what the checkpoints record of it.

    What is half made is kept in `folder`, as a start of this `origin`. If it is made there already, that is taken.
    """
    chosen = fit_examples(examples, steps)
    text = fit_text(student, chosen, student.output_weight.device)
    about = {"tokens": int(text.asked_RT.sum()), "steps": steps}
    fitted = [one for one in student.parameters() if one is not student.output_weight]
    half_made = None
    if folder is not None:
        name = made_name(student.config, chosen, steps, origin["settings"])
        decides = deciding(student, text.ids_RT, text.asked_RT, steps=steps, origin=dict(origin))
        half_made = HalfMade(folder, decides, name)
        if made := half_made.find("made"):
            with torch.no_grad():
                for one, value in zip(fitted, made["weights"], strict=True):
                    one.copy_(value)
            reporter.log("The start was made before, with these settings on these traces, and is taken as it is.")
            return {**about, **made["divergence"]}
    layers = student.config.num_hidden_layers / source.shape.num_hidden_layers
    try:
        reporter.part = Part(1, _PARTS, rest=_FITTED_TO_READ * layers * steps / len(text.ids_RT))
        wanted_RTD = turned(source_state(source, text, reporter, half_made))
        reporter.part = Part(2, _PARTS, rest=0.0)
        found = reconstruct(student, wanted_RTD, text, steps, reporter, half_made)
    finally:
        reporter.part = None
    divergence = asdict(found)
    if half_made:
        weights = [one.detach().cpu() for one in fitted]
        half_made.keep_made({"weights": weights, "divergence": divergence}, reporter)
    return about | divergence


def fit_examples(examples: Sequence[Example], steps: int) -> list[Example]:
    """The examples of the text that a student is fitted on in `steps` steps."""
    some = _spread(examples, steps)
    longest = max(one.length for one in some)
    return _spread(some, max(1, FIT_POSITIONS // longest))


def _spread(examples: Sequence[Example], most: int) -> list[Example]:
    """At most `most` of the examples, at even distances."""
    count = min(len(examples), most)
    return [examples[number * len(examples) // count] for number in range(count)]


def fit_text(student: Student, examples: Sequence[Example], device: torch.device) -> Text:
    """The examples as rows; their supervised positions count."""
    batch = collate(examples)
    asked_RT = torch.zeros_like(batch.ids_BT, dtype=torch.bool)
    asked_RT.view(-1)[batch.positions_N] = True
    places_T = torch.arange(asked_RT.shape[1], device=device)
    rotation = student.rotation(places_T[None], torch.float32)
    return Text(batch.ids_BT.to(device), asked_RT.to(device), rotation)
