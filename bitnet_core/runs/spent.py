"""How long runs took, alone and with those that they go on with: one rule for whatever tells a time."""

import functools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from bitnet_core.runs.catalog import PIPELINE, stage
from bitnet_core.runs.chain import Beginning, Start, counted, of_one_training, place_of
from bitnet_core.runs.event_files import EventReader
from bitnet_core.runs.events import Event, Metric, Progress, Trace
from bitnet_core.runs.history import Entry, History
from bitnet_core.runs.outlook import continues, resumes_after
from bitnet_core.runs.record import ACTIVE
from bitnet_core.text import finite

_TRAIN, _COLLECT = "train", "collect"
_TAIL_BYTES = 1 << 16
_FILES = 1024
"""How many files' beginnings are remembered."""


def together(history: History, run: Entry) -> list[Entry]:
    """The run and those that it goes on with, the newest first.

    Of a training these are the runs back to its first step, of a collection those back to its first answer, of a
    pipeline or a baseline those just before it that did not get through. Any other run stands for itself.
    """
    return _together(history, run, _begins(history, run))


def _together(history: History, run: Entry, begins: Beginning | None) -> list[Entry]:
    same = (one for one in history.entries if one.record.stage == run.record.stage and one.place <= run.place)
    foreseen = {_TRAIN: continues, _COLLECT: _goes_on}.get(run.record.stage)
    if foreseen is not None:
        begun = begins is not None or foreseen(history, run)
        return [one.entry for one in of_one_training(_begun(same, begins))] if begun else [run]
    before = (one for one in same if one.run != run.run) if stage(run.record.stage).resumes else ()
    return [run, *takewhile(lambda one: _leaves_its_work(one, run), before)]


def _begins(history: History, run: Entry) -> Beginning | None:
    """As `begins_after`. Other stages tell no beginning, so their events need not be read for one."""
    return begins_after(history, run) if run.record.stage in (_TRAIN, _COLLECT) else None


def _leaves_its_work(one: Entry, to: Entry) -> bool:
    """Whether a run of a stage that resumes left its work to a later one. A pipeline has no settings of its own."""
    alike = one.record.stage == PIPELINE.name or one.record.fingerprint == to.record.fingerprint
    return one.state != "succeeded" and alike


def seconds_before(history: History, run: Entry) -> float:
    """How long the runs took that this one goes on with, as far as it does; 0 if it goes on with none."""
    begins = _begins(history, run)
    return sum(one or 0.0 for one in seconds_of(_together(history, run, begins), begins=begins)[1:])


def seconds_of(
    newest_first: Sequence[Entry], newest: float | None = None, begins: Beginning | None = None
) -> list[float | None]:
    """How long each of the runs that are one took. Steps that a later run of a training did anew do not count.

    `newest` is as in `seconds` and `begins` as of `begins_after`, both of the first run.
    """
    if not newest_first or newest_first[0].record.stage != _TRAIN:
        return [seconds(one, None if place else newest) for place, one in enumerate(newest_first)]
    ends = [end for _, end in counted(_begun(newest_first, begins))]
    return [
        _up_to(one, end, None if place else newest)
        for place, (one, end) in enumerate(zip(newest_first, ends, strict=True))
    ]


def _up_to(run: Entry, end: float, newest: float | None) -> float | None:
    """How long a run of a training took until its last report up to this place; all of it if it went no further."""
    whole, path = seconds(run, newest), run.run.events_path
    if whole is None or math.isinf(end):
        return whole
    reached = _reached(path, _inode(path), end)
    return whole if reached is None else min(whole, max(0.0, reached - (run.record.started or 0.0)))


def seconds(run: Entry, newest: float | None = None) -> float | None:
    """How long a run took by itself; None if it never started.

    Of one without an end, until its newest event: while it works, so that nothing changes while nothing happens;
    when its process is gone, because nothing else tells. `newest` is when that event was written, if that is known.
    """
    record = run.record
    if record.started is None:
        return None
    if run.state not in ACTIVE and record.ended is not None:
        return record.seconds()
    return max(0.0, (newest or _newest(run.run.events_path) or record.started) - record.started)


def beginning(run: Entry) -> Beginning | None:
    """Where the curves of a training begin, or the answers of a collection; None before its first figure.

    It reads no more of the events than it needs.
    """
    path, told = run.run.events_path, _Kept if run.record.stage == _COLLECT else Start
    try:
        return _beginning(path, _inode(path), told)
    except _NoFigure:
        return None


def begins_after(history: History, run: Entry) -> Beginning | None:
    """As `beginning`; of an active training without a figure, where it has said or is foreseen to go on."""
    if run.record.stage != _TRAIN or run.state not in ACTIVE:
        return beginning(run)
    path = run.run.events_path
    try:
        return _beginning(path, _inode(path), Start)
    except _NoFigure as no_figure:
        told = no_figure.foreseen
    after = None if told else resumes_after(history, run)
    return told if after is None else Beginning(after, None, after)


@dataclass
class _NoFigure(Exception):
    """The run has none yet. Raised because it must not be remembered."""

    foreseen: Beginning | None


def _goes_on(history: History, run: Entry) -> bool:
    """Whether an active collection that has told nothing yet can be foreseen to go on with the one before."""
    before = next((one for one in history.entries if one.record.stage == _COLLECT and one.place < run.place), None)
    if before is None or before.state == "succeeded" or run.state not in ACTIVE:
        return False
    return before.record.fingerprint == run.record.fingerprint and beginning(before) is not None


@dataclass
class _Kept:
    """Feed it a collection's events in order; `begins` is there once they tell how many answers were kept before.

    One that has none left to ask for only writes. Answers count as the steps of a training do.
    """

    begins: Beginning | None = None
    foreseen: None = None
    _came: int = 0

    def feed(self, event: Event) -> None:
        there = None
        match event:
            case Trace():
                self._came += 1
            case Metric():
                there = finite(event.answers)
            case Progress(label="collecting"):
                there = finite(event.done)
            case Progress(label="writing"):
                there = self._came + 1.0
            case _:
                pass
        if self.begins is None and there is not None:
            kept = there - self._came
            self.begins = Beginning(kept, kept + 1)


@functools.lru_cache(_FILES)
def _beginning(path: Path, _file: int, told: type[Start | _Kept]) -> Beginning:
    start, reader = told(), EventReader(path)
    while start.begins is None and (events := reader.read_new()):
        for event in events:
            start.feed(event)
    if start.begins is None:
        raise _NoFigure(start.foreseen)
    return start.begins


@dataclass(frozen=True)
class _Begun:
    entry: Entry
    told: Beginning | None = None

    @property
    def begins(self) -> Beginning | None:
        return self.told or beginning(self.entry)


def _begun(newest_first: Iterable[Entry], begins: Beginning | None) -> Iterator[_Begun]:
    """The entries with their beginnings; that of the first is known, unless it is None."""
    for place, entry in enumerate(newest_first):
        yield _Begun(entry, None if place else begins)


@functools.lru_cache(_FILES)
def _reached(path: Path, _file: int, end: float) -> float | None:
    """When a run that has ended reported last up to this place; None if it went no further.

    Its reports come in the order of their places, so that a file of any length is bisected.
    """
    near, far = _TAIL_BYTES, path.stat().st_size  # bytes to the end of the file
    while not (last := list(_metrics(path, near))) and near < far:
        near *= 2
    if all(place <= end for place, _ in last):
        return None
    while far - near > _TAIL_BYTES:
        middle = (near + far) // 2
        place, _ = next(_metrics(path, middle), (math.inf, 0.0))
        near, far = (near, middle) if place <= end else (middle, far)
    reports = takewhile(lambda report: report[0] <= end, _metrics(path, far))
    return max((t for _, t in reports), default=-math.inf)


def _metrics(path: Path, last_bytes: int) -> Iterator[tuple[float, float]]:
    """The place and the time of each report in the end of a file."""
    reader = EventReader(path, last_bytes=last_bytes)
    while (events := reader.read_new()) or not reader.at_end:
        for event in events:
            if (
                isinstance(event, Metric)
                and (x := place_of(event)) is not None
                and (t := finite(event.t)) is not None
            ):
                yield x, t


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - asked at each look at an experiment
    except OSError:
        return 0


def _newest(path: Path) -> float | None:
    """When the last event of a file was written."""
    reader, newest = EventReader(path, last_bytes=_TAIL_BYTES), None
    while (events := reader.read_new()) or not reader.at_end:
        newest = next((t for one in reversed(events) if (t := finite(one.t))), newest)
    return newest
