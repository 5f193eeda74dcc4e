"""The events of a run: one struct per kind, written as one JSON object per line, readable while the file grows.

`docs/events.md` is generated from these structs. An UNSET field is left out of the line; a number that is not finite
is written as null. A reader ignores unknown fields and optional fields of a wrong type, and skips other lines.
"""

import functools
import json
import math
import operator
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from bitnet_core.runs.tolerant import without_odd_fields

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
    """How far the work has come. `rate` is in units per second; in a pipeline's events `run` is the stage's run."""

    done: float
    total: Number
    unit: str
    rate: Number = None
    eta_s: Number = None
    label: str = ""
    run: str | UnsetType | None = UNSET


class Metric(Event, tag="metric", kw_only=True):
    """Figures of a training step, of an evaluation on held-out traces (`when` says which one), or of collecting."""

    step: int | UnsetType = UNSET
    seen_tokens: int | UnsetType = UNSET
    when: str | UnsetType = UNSET
    loss: Number | UnsetType = UNSET
    kl: Number | UnsetType = UNSET
    ce: Number | UnsetType = UNSET
    format: Number | UnsetType = UNSET
    agreement: Number | UnsetType = UNSET
    lr: Number | UnsetType = UNSET
    grad_norm: Number | UnsetType = UNSET
    grad_norm_clipped: Number | UnsetType = UNSET
    tokens_per_s: Number | UnsetType = UNSET
    activation_bits: int | UnsetType | None = UNSET
    layers_at_4_bits: int | UnsetType = UNSET
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
    heldout_tokens: int | UnsetType = UNSET
    answers: int | UnsetType = UNSET
    tokens: int | UnsetType = UNSET


class Flip(Event, tag="flip", kw_only=True):
    """The activations of some layers went to fewer bits. The policy `ramp` has one event per group of layers."""

    step: int
    seen_tokens: int
    from_bits: int
    to_bits: int
    layers_flipped: int | UnsetType = UNSET
    layers_total: int | UnsetType = UNSET


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
    """A collected answer: its tokens, the steps kept, the tokens dropped by reason, and the mean mass of Other."""

    prompt_idx: int
    tokens: int
    kept: int
    dropped: dict[str, int] = {}
    other_mass_mean: Number = None


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

    level: str
    message: str


class RunFinished(Event, tag="run_finished", kw_only=True):
    """The end of the run, written by its own process or by the one that killed it."""

    state: str
    exit_code: int | None
    error: str | None = None
    summary: dict[str, Any] = {}


KINDS: tuple[type[Event], ...] = tuple(Event.__subclasses__())
_BY_KIND = {kind.__struct_config__.tag: kind for kind in KINDS}
_DECODER: "msgspec.json.Decoder[Event]" = msgspec.json.Decoder(functools.reduce(operator.or_, KINDS))


def decode(line: bytes) -> Event | None:
    """The event in a line; None if the line is torn or foreign, or if a required field is missing or of a wrong type.

    An optional field of a wrong type is left out: one odd value must not hide the rest.
    """
    try:
        try:
            return _DECODER.decode(line)
        except msgspec.ValidationError:
            raw = msgspec.json.decode(line)
            tag = raw.get("kind") if isinstance(raw, dict) else None
            kind = _BY_KIND.get(tag) if isinstance(tag, str) else None
            return without_odd_fields(raw, kind) if kind else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def to_dict(event: Event) -> dict[str, Any]:
    """The event as it is written: strict JSON, with null for a number that is not finite."""
    return dict(strict(msgspec.to_builtins(event)))


def strict(value: Any, redact: Callable[[str], str] = str) -> Any:
    """The value as JSON can hold it: null for a number that is not finite, text as `redact` leaves it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {redact(str(key)): strict(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item, redact) for item in value]
    if isinstance(value, str):
        return redact(value)
    return value


class EventWriter:
    """Appends events. Each line is one write: a reader sees all of it or nothing. Safe to use from threads."""

    def __init__(self, path: Path, redact: Callable[[str], str] = str) -> None:
        earlier = path.read_bytes() if path.exists() else b""
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._seq = earlier.count(b"\n")
        self._torn = not earlier.endswith(b"\n") and bool(earlier)
        self._lock = threading.Lock()
        self._redact = redact

    def emit(self, event: Event) -> None:
        """Append the event with its time and number."""
        with self._lock:
            event = msgspec.structs.replace(event, v=SCHEMA_VERSION, t=round(time.time(), 3), seq=self._seq)
            line = json.dumps(strict(msgspec.to_builtins(event), self._redact), ensure_ascii=False, allow_nan=False)
            # If a full disk or a kill cut the last write short, the next event still gets a line of its own.
            data = (("\n" if self._torn else "") + line + "\n").encode(errors="replace")
            self._torn = True
            while data:
                data = data[os.write(self._fd, data) :]
            self._torn = False
            self._seq += 1

    def close(self) -> None:
        os.close(self._fd)


class EventReader:
    """Follows a growing file. Leaves a torn last line for later; starts again in a truncated or replaced file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._inode: int | None = None

    def read_new(self, limit_bytes: int = 1 << 24) -> list[Event]:
        """The events added since the last call, from at most `limit_bytes` of the file (-1 = all of it)."""
        try:
            with self.path.open("rb") as source:
                status = os.fstat(source.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset = status.st_ino, 0
                source.seek(self._offset)
                data = source.read(limit_bytes)
        except FileNotFoundError:
            return []
        whole, newline, _torn = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return [event for line in whole.split(b"\n") if (event := decode(line)) is not None]


def read_events(path: Path) -> list[Event]:
    """Every event now in the file."""
    return EventReader(path).read_new(limit_bytes=-1)
