"""The events of a run: one struct per kind, each written as one JSON object on a line (`event_files.py`).

`docs/events.md` is generated from these structs. An UNSET field is left out of the line; a number that is not finite
is written as null. A reader ignores unknown fields and optional fields of a wrong type, and skips other lines.
"""

import contextlib
import functools
import operator
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from bitnet_core.runs import tolerant
from bitnet_core.runs.strict_json import strict

SCHEMA_VERSION = 1

Number = float | None
"""A finite number; null when it was not finite or is not known."""


class Event(msgspec.Struct, tag_field="kind", kw_only=True, repr_omit_defaults=True):
    """The fields of every event. `v` is the schema's version, `t` Unix seconds, `seq` its place in the file."""

    v: int = SCHEMA_VERSION
    t: float = 0.0
    seq: int = 0

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)


class RunStarted(Event, tag="run_started", kw_only=True):
    """The run's process has begun. `versions` holds the versions of Python and of the main packages."""

    stage: str
    run: str
    pid: int
    host: str
    device: str
    versions: dict[str, str] = {}


class Progress(Event, tag="progress", kw_only=True):
    """How far the work has come. `rate` is in units per second; in a pipeline's events `run` is the stage's run.

    A training also says `step` and `seen_tokens`, more often than its metrics do.
    """

    done: float
    total: Number = None
    unit: str = ""
    rate: Number = None
    eta_s: Number = None
    label: str = ""
    run: str | UnsetType | None = UNSET
    step: Number | UnsetType = UNSET
    seen_tokens: Number | UnsetType = UNSET
    part: Number | UnsetType = UNSET
    """Which of the `parts` of the stage's work this is, where they are known: `eta_s` is that of the part."""
    parts: Number | UnsetType = UNSET
    first_step_in_s: Number | UnsetType = UNSET
    """Seconds until a training's first step, in a part of its preparation: an estimate."""


class Metric(Event, tag="metric", kw_only=True):
    """Figures of a training step, of an evaluation on held-out traces (`when` says which one), or of collecting.

    Of collecting: `requests` and what is spent count all runs; `waits_for` says what holds back the next request.
    """

    step: int | UnsetType = UNSET
    seen_tokens: int | UnsetType = UNSET
    when: str | UnsetType = UNSET
    loss: Number | UnsetType = UNSET
    kl: Number | UnsetType = UNSET
    ce: Number | UnsetType = UNSET
    format: Number | UnsetType = UNSET
    """Left out where no token since the last metric was JSON structure."""
    format_share: Number | UnsetType = UNSET
    """The share of the squared gradient, at the last hidden states, that such tokens have."""
    agreement: Number | UnsetType = UNSET
    own_text_kl: Number | UnsetType = UNSET
    """Of the steps whose answers the student wrote; `kl` and `ce` are of the others."""
    relation: Number | UnsetType = UNSET
    """Attention relations (ATTENTION_RELATION_WEIGHT), unweighted; `loss` does not count them."""
    lr: Number | UnsetType = UNSET
    grad_norm: Number | UnsetType = UNSET
    grad_norm_clipped: Number | UnsetType = UNSET
    tokens_per_s: Number | UnsetType = UNSET
    activation_bits: int | UnsetType | None = UNSET
    """Those of the first layer, which flips first."""
    layers_at_4_bits: int | UnsetType = UNSET
    layers: int | UnsetType = UNSET
    quantized_share: Number | UnsetType = UNSET
    """Below 1, the student is not ternary yet (QUANT_RAMP_FRACTION)."""
    zero_weight_fraction: Number | UnsetType = UNSET
    zero_weights_by_layer: list[Number] | UnsetType = UNSET
    sign_change_fraction: Number | UnsetType = UNSET
    sign_changes_by_layer: list[Number] | UnsetType = UNSET
    a4_clipped_fraction: Number | UnsetType = UNSET
    a4_zero_fraction: Number | UnsetType = UNSET
    nonfinite: int | UnsetType = UNSET
    epoch: int | UnsetType = UNSET
    peak_rss_bytes: int | UnsetType = UNSET
    peak_device_bytes: int | UnsetType = UNSET
    heldout_loss: Number | UnsetType = UNSET
    heldout_kl: Number | UnsetType = UNSET
    heldout_ce: Number | UnsetType = UNSET
    heldout_agreement: Number | UnsetType = UNSET
    heldout_agreement_commonest_token: Number | UnsetType = UNSET
    """The agreement of always answering the commonest token: a student that has learnt more agrees more often."""
    heldout_tokens: int | UnsetType = UNSET
    answers: int | UnsetType = UNSET
    tokens: int | UnsetType = UNSET
    requests: int | UnsetType = UNSET
    requests_at_once: int | UnsetType = UNSET
    spent_tokens: int | UnsetType = UNSET
    spent_usd: Number | UnsetType = UNSET
    waits_for: str | UnsetType = UNSET


class Budget(Event, tag="budget", kw_only=True):
    """How many supervised tokens a training is to see, and the flip at: `epochs` times the `epoch_tokens` it has."""

    tokens: int
    epoch_tokens: int
    epochs: Number
    flip_at_tokens: int
    ternary_at_tokens: int | UnsetType = UNSET
    """Only with QUANT_RAMP_FRACTION."""
    seen_tokens: int | UnsetType = UNSET
    """How many of them it has seen: 0, or those of the checkpoint from which it goes on."""
    activation_bits: int | UnsetType | None = UNSET
    """Those with which it begins or goes on, as in `metric`."""
    layers_at_4_bits: int | UnsetType = UNSET
    layers: int | UnsetType = UNSET
    evaluates_early_steps: int | UnsetType = UNSET
    """Steps from the first evaluation, or from a change of settings, to the next one, unless another comes before."""
    evaluates_every_steps: int | UnsetType = UNSET
    """Steps from any other evaluation to the next one, unless another comes before. Checkpoints are measured, too."""


class SettingsChanged(Event, tag="changed", kw_only=True):
    """A training continues from its checkpoint under other settings: by name, their old and new values."""

    step: int
    seen_tokens: int
    before: dict[str, Any]
    after: dict[str, Any]


class Flip(Event, tag="flip", kw_only=True):
    """The activations of some layers went to fewer bits. The policy `ramp` has one event per group of layers."""

    step: int
    seen_tokens: int
    from_bits: int
    to_bits: int
    layers_flipped: int | UnsetType = UNSET
    layers_total: int | UnsetType = UNSET
    policy: str | UnsetType = UNSET
    """`all`, or `hybrid`: the inputs of o and down stay at `from_bits`."""


class CheckpointSaved(Event, tag="checkpoint", kw_only=True):
    """A complete checkpoint is on disk."""

    step: int
    path: str
    bytes: int
    sha256: str


class Sample(Event, tag="sample", kw_only=True):
    """A prompt and its answer; `source` is `teacher` or `student`."""

    prompt: str
    text: str
    source: str


class Trace(Event, tag="trace", kw_only=True):
    """A collected answer: its tokens, the steps kept, the tokens dropped by reason, and the mean mass of Other.

    `repaired` counts what was mended in it. Now and then the beginning of an answer comes along: `prompt`, the texts
    of its tokens in `pieces`, and the mass of Other at each in `piece_other`.
    """

    prompt_idx: int
    tokens: int
    kept: int
    dropped: dict[str, int] = {}
    other_mass_mean: Number = None
    repaired: dict[str, int] | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    pieces: list[str] | UnsetType = UNSET
    piece_other: list[Number] | UnsetType = UNSET


class Table(Event, tag="table", kw_only=True):
    """Results, such as the tables `baseline`, `quality` and `qei`. A cell is text, number, truth value or null."""

    name: str
    columns: list[str]
    rows: list[list[Any]]


class Artifact(Event, tag="artifact", kw_only=True):
    """A complete file is on disk. `role` is `report`, `traces`, `health` or another word for its purpose."""

    path: str
    bytes: int
    sha256: str
    role: str


class Upload(Event, tag="upload", kw_only=True):
    """How much of a file has reached a storage target: `done` of `bytes`."""

    path: str
    target: str
    bytes: int
    done: int
    state: str


class Alert(Event, tag="alert", kw_only=True):
    """Something that a person should know. `code` identifies the kind of alert; `advice` says what to do."""

    severity: str
    code: str
    message: str
    advice: str = ""


class Log(Event, tag="log", kw_only=True):
    """A message; `level` is `debug`, `info`, `warning` or `error`."""

    level: str = "info"
    message: str


class RunFinished(Event, tag="run_finished", kw_only=True):
    """The end of the run, written by its own process or by the one that killed it."""

    state: str
    exit_code: int | None = None
    error: str | None = None
    summary: dict[str, Any] = {}


KINDS: tuple[type[Event], ...] = tuple(Event.__subclasses__())
_BY_KIND = {str(kind.__struct_config__.tag): kind for kind in KINDS}
DECODER: "msgspec.json.Decoder[Event]" = msgspec.json.Decoder(functools.reduce(operator.or_, KINDS))


class _Tagged(msgspec.Struct):
    kind: str


def decode(line: bytes) -> Event | None:
    """The event in a line; None if the line is torn or foreign, or if a required field is missing or of a wrong type.

    An optional field of a wrong type is left out: one odd value must not hide the rest.
    """
    with contextlib.suppress(ValueError):
        return parse(line)
    return None


def parse(line: bytes) -> Event:
    """As `decode`; ValueError says in a few words why there is no event."""
    if not tolerant.may_be_deep(line):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError):
            return DECODER.decode(line)
    kind = tolerant.decode(line, _Tagged).kind
    if kind not in _BY_KIND:
        raise ValueError(f"its kind {cut(kind, 40)!r} is not known")
    return tolerant.decode(line, _BY_KIND[kind])


def to_dict(event: Event) -> dict[str, Any]:
    """The event as it is written: strict JSON, with null for a number that is not finite."""
    return dict(strict(msgspec.to_builtins(event)))


def cut(text: str, limit: int) -> str:
    """The text, or its first `limit` characters and a mark that tells how many there were."""
    return text if len(text) <= limit else f"{text[:limit]}… [cut; {len(text)} characters]"
