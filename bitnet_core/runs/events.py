"""The events of a run: one struct a kind, written as one JSON object a line, and read while the file grows.

`docs/events.md` is generated from these structs. A field that was not told is absent; null is a number that was not
finite. A reader passes over fields that it does not know, and over lines that are no event of this version.
"""

import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

SCHEMA_VERSION = 1

Number = float | None
"""A finite number; null where it was not finite or is not known."""


class Event(msgspec.Struct, tag_field="kind", kw_only=True):
    """What every event has. `v` is the schema's version, `t` Unix seconds, `seq` its place in the run's record."""

    v: int = SCHEMA_VERSION
    t: float = 0.0
    seq: int = 0

    @property
    def kind(self) -> str:
        return str(self.__struct_config__.tag)


class RunStarted(Event, tag="run_started", kw_only=True):
    """The run's process is at work. `versions` are those of the packages that matter."""

    stage: str
    run: str
    pid: int
    host: str
    device: str
    versions: dict[str, str] = {}


class Progress(Event, tag="progress", kw_only=True):
    """How far the work is. `rate` is in units a second; `run` is the stage's own run, in a pipeline's record."""

    done: float
    total: Number
    unit: str
    rate: Number = None
    eta_s: Number = None
    label: str = ""
    run: str | UnsetType | None = UNSET


class Metric(Event, tag="metric", kw_only=True):
    """Numbers of a training step, of a measurement on held-out traces (`when` says which), or of collecting."""

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
    """Activations of some layers went to fewer bits; with the policy `ramp` there is one event a group of layers."""

    step: int
    seen_tokens: int
    from_bits: int
    to_bits: int
    layers_flipped: int | UnsetType = UNSET
    layers_total: int | UnsetType = UNSET


class CheckpointSaved(Event, tag="checkpoint", kw_only=True):
    """A checkpoint is on disk, whole."""

    step: int
    path: str
    bytes: int
    sha256: str


class Sample(Event, tag="sample", kw_only=True):
    """One answer; `source` is `teacher` or `student`."""

    prompt: str
    text: str
    source: str


class Trace(Event, tag="trace", kw_only=True):
    """One collected answer: its tokens, the rows kept, the tokens dropped by reason, and the mean mass of Other."""

    prompt_idx: int
    tokens: int
    kept: int
    dropped: dict[str, int] = {}
    other_mass_mean: Number = None


class Table(Event, tag="table", kw_only=True):
    """Results: `baseline`, `quality`, `qei`, `memory`, … A cell is text, a number, a truth value or null."""

    name: str
    columns: list[str]
    rows: list[list[Any]]


class Artifact(Event, tag="artifact", kw_only=True):
    """A file is on disk, whole; `role` is `report`, `traces`, `health` or another."""

    path: str
    bytes: int
    sha256: str
    role: str


class Upload(Event, tag="upload", kw_only=True):
    """How far a file's way to a storage target is."""

    path: str
    target: str
    bytes: int
    done: int
    state: str


class Alert(Event, tag="alert", kw_only=True):
    """Something a person should know. `code` names the kind; `advice` says what to do."""

    severity: str
    code: str
    message: str
    advice: str = ""


class Log(Event, tag="log", kw_only=True):
    """A message; `level` is `debug`, `info`, `warning` or `error`."""

    level: str
    message: str


class RunFinished(Event, tag="run_finished", kw_only=True):
    """The end, written down by the run's process or by whoever ended it."""

    state: str
    exit_code: int | None
    error: str | None = None
    summary: dict[str, Any] = {}


KINDS: tuple[type[Event], ...] = (
    *(RunStarted, Progress, Metric, Flip, CheckpointSaved, Sample, Trace, Table, Artifact, Upload, Alert, Log),
    RunFinished,
)
AnyEvent = (
    RunStarted
    | Progress
    | Metric
    | Flip
    | CheckpointSaved
    | Sample
    | Trace
    | Table
    | Artifact
    | Upload
    | Alert
    | Log
    | RunFinished
)
_DECODER: "msgspec.json.Decoder[AnyEvent]" = msgspec.json.Decoder(AnyEvent)


def decode(line: bytes) -> AnyEvent | None:
    """The event that a line holds; None for a line that is torn, foreign, or not an event of this version."""
    try:
        return _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def to_dict(event: Event) -> dict[str, Any]:
    """The event as its line holds it: strict JSON, in which a number that is not finite is null."""
    found: dict[str, Any] = _strict(msgspec.to_builtins(event), str)
    return found


def _strict(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {redact(str(key)): _strict(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item, redact) for item in value]
    if isinstance(value, str):
        return redact(value)
    return value


class EventWriter:
    """Appends events; every line reaches the file in one write, so a reader sees all of it or none."""

    def __init__(self, path: Path, redact: Callable[[str], str] = str) -> None:
        earlier = path.read_bytes() if path.exists() else b""
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._seq = earlier.count(b"\n")
        self._torn = not earlier.endswith(b"\n") and bool(earlier)
        self._lock = threading.Lock()
        self._redact = redact

    def emit(self, event: Event) -> None:
        """Append the event, with its time and its number. Safe to call from several threads."""
        with self._lock:
            event = msgspec.structs.replace(event, v=SCHEMA_VERSION, t=round(time.time(), 3), seq=self._seq)
            line = json.dumps(_strict(msgspec.to_builtins(event), self._redact), ensure_ascii=False, allow_nan=False)
            # After a write that a full disk or a kill cut short, the next event starts on a line of its own.
            data = (("\n" if self._torn else "") + line + "\n").encode(errors="replace")
            self._torn = True
            while data:
                data = data[os.write(self._fd, data) :]
            self._torn = False
            self._seq += 1

    def close(self) -> None:
        os.close(self._fd)


class EventReader:
    """Follows a growing file. A torn last line is not there yet; a truncated or replaced file is read anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._inode: int | None = None

    def read_new(self, limit_bytes: int = 1 << 24) -> list[AnyEvent]:
        """The events that came since the last call; lines that are no events are passed over."""
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


def read_events(path: Path) -> list[AnyEvent]:
    """Every event that the file holds now."""
    return EventReader(path).read_new(limit_bytes=-1)
