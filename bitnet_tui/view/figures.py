"""The newest figures of a training, from the ends of its events: the list has many runs and can't read them whole."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from msgspec import UNSET

from bitnet_core.files.regular import open_regular
from bitnet_core.runs.events import Budget, Metric, Progress, Table, decode
from bitnet_core.runs.history import Entry, History
from bitnet_core.runs.outlook import best_kept, resumes
from bitnet_core.runs.record import ACTIVE, RunRecord
from bitnet_core.runs.trend import RISEN, RUINED, is_late, is_worse, stays_raised
from bitnet_core.runs.vitals import MEASURED
from bitnet_core.text import finite, in_layers

_PROGRESS, _TABLE = b'"progress"', b'"training"'
_HEAD_BYTES = 1 << 18
"""Fitting a student to its teacher tells of itself many times before the budget and the first evaluation."""
_TAIL_BYTES = 1 << 16
_LONGEST_TAIL_BYTES = 1 << 22
"""Where evaluations are rare, it is read further back, but no further than this."""
_SETTLING = ("after flip", "recovery")
"""When an evaluation was made that follows a flip."""
_LEVEL = 0.002
"""A held-out loss that moved by a smaller share than this stands still."""


@dataclass(frozen=True)
class Figures:
    """`before` is the held-out loss of the evaluation before, of the same numerics. `broken`: the newest report was
    not finite. `numerics`: bits, layers at 4 bits and quantised share of the evaluation; `settling`: it came soon
    after a change of them, when a loss that rises tells nothing."""

    held_out: float | None = None
    before: float | None = None
    seen: float | None = None
    budget: float | None = None
    bits: float | None = None
    """Those of the first layer."""
    broken: bool = False
    active: bool = False
    stopped: bool = False
    """Whether the newest training ended before it was done, and not because it failed."""
    kept: tuple[int, float] | None = None
    """Step and held-out loss of the best checkpoint of one that was stopped, if that is below the first loss."""
    layers: str = ""
    """` in 3 of 6 layers` while a flip has reached only some of them; empty otherwise."""
    numerics: tuple[object, ...] = field(default=(), compare=False)
    step: float | None = field(default=None, compare=False)
    settling: bool = field(default=False, compare=False)
    goes_on_at: float | None = field(default=None, compare=False)
    """The tokens seen where it took over from an earlier run; 0 if it began at step 0, None if it has not said."""
    first: float | None = None
    """The first held-out loss of the whole training, if it is known."""
    before_flip: float | None = field(default=None, compare=False)
    """The last one before the first flip, if that was read."""
    flip_at: float | None = field(default=None, compare=False)
    """The tokens seen at it."""
    measured_at: float = field(default=0.0, compare=False)
    """The tokens seen at the newest evaluation."""
    lowest: float | None = field(default=None, compare=False)
    """The lowest held-out loss that was read, once it has flipped of those since."""
    rising: tuple[float, ...] = field(default=(), compare=False)
    """The newest held-out losses of the same numerics that rose one after another, oldest first."""
    told: bool = field(default=False, compare=False)
    """Whether any of its events could be read."""
    unreadable: bool = False
    """Whether the newest training has ended and its events can't be read: these are the figures of its record."""
    earlier: bool = False
    """Whether its record has none either: these are the figures of the training before, which no longer hold."""

    @property
    def source(self) -> str:
        """Where the figures come from, if not from the events of the newest training."""
        if self.earlier:
            return "figures of an earlier training: the events of the newest one can't be read"
        return "figures from its record, as its events can't be read" if self.unreadable else ""

    @property
    def worse(self) -> bool:
        """Whether the held-out loss is above the first one, as the training's health has it.

        The flip raises it for a while, which tells nothing of a training that was stopped then.
        """
        if self.held_out is None or self.first is None or self.earlier or (self.settling and self.active):
            return False
        if self.stopped and self._raised_by_flip(self.held_out):
            return False
        return is_worse(self.held_out, self.first, self.before_flip, ended=not self.active)

    def _raised_by_flip(self, loss: float) -> bool:
        """Whether it has flipped, has not been back where it was before, and may still recover."""
        lowest = loss if self.lowest is None else self.lowest
        if not self.settling if self.before_flip is None else lowest <= self.before_flip * (1 + RISEN):
            return False
        late = False
        if self.flip_at is not None and self.budget is not None:
            late = is_late(self.measured_at - self.flip_at, self.budget - self.flip_at)
        return not stays_raised(self.rising or (loss,), self.first, late=late)

    @property
    def ruined(self) -> bool:
        """Whether Live calls the student ruined: not while it recovers, nor when done."""
        if not self.worse or self.held_out is None or self.first is None:
            return False
        return self.held_out > self.first * RUINED and (self.stopped or self.trend in ("→", "↗"))

    @property
    def trend(self) -> str:
        """Where the held-out loss goes while it trains; empty if that is not known."""
        if not self.active or self.held_out is None or self.before is None:
            return ""
        change = self.held_out - self.before
        if abs(change) <= _LEVEL * abs(self.before):
            return "→"
        if change < 0:
            return "↘"
        return "" if self.settling else "↗"

    def after(self, event: Metric | Progress | Table) -> "Figures":
        """The figures after a report, an evaluation, a progress, or the table of the whole training."""
        if isinstance(event, Table):
            return replace(self, first=_first_of(event) or self.first)
        seen = finite(event.seen_tokens)
        found = self if seen is None else replace(self, seen=seen)
        if isinstance(event, Progress):
            return found
        if event.heldout_loss is not UNSET:
            loss = finite(event.heldout_loss)
            found = replace(found, broken=True) if loss is None else found._evaluated(event, loss)
        if event.loss is not UNSET:
            found = replace(found, broken=finite(event.loss) is None)
        bits = finite(event.activation_bits)
        if bits is None:
            return found
        return replace(found, bits=bits, layers=in_layers(finite(event.layers_at_4_bits), finite(event.layers)))

    def _evaluated(self, event: Metric, loss: float) -> "Figures":
        """Losses before and after a flip, or on the way to ternary weights, are not compared with each other."""
        share, step = finite(event.quantized_share), finite(event.step)
        numerics = (finite(event.activation_bits), finite(event.layers_at_4_bits), share)
        ramping = share is not None and share < 1
        again = step is not None and step == self.step and numerics == self.numerics
        before = self.before if again else self.held_out if numerics == self.numerics and not ramping else None
        settling = event.when in _SETTLING or (again and self.settling)
        first = loss if step == 0 and not ramping else self.first
        found = replace(self, held_out=loss, before=before, numerics=numerics, step=step, settling=settling)
        rising = self.rising[:-1] if again else self.rising
        rising = (*rising, loss) if before is not None and rising and loss > rising[-1] else (loss,)
        found = replace(found, first=first, measured_at=finite(event.seen_tokens) or 0.0, rising=rising)
        if event.when == "before flip" and self.before_flip is None:
            return replace(found, before_flip=loss, flip_at=finite(event.seen_tokens), lowest=None)
        return replace(found, lowest=loss if self.lowest is None else min(self.lowest, loss))


def _first_of(table: Table) -> float | None:
    """The first evaluation of a ternary student that the table of a training has."""
    found: dict[float, float] = {}
    for cells in table.rows:
        row = dict(zip(table.columns, cells, strict=False))
        when, step, loss = row.get("when"), finite(row.get("step")), finite(row.get("held-out loss"))
        if isinstance(when, str) and when in MEASURED and step is not None and loss is not None:
            found.setdefault(step, loss)
    return found[min(found)] if found else None


NO_FIGURES = Figures()


class FiguresReader:
    """Of a file that has grown only what is new is read. For one thread."""

    def __init__(self) -> None:
        self._known: dict[tuple[Path, float], _Read] = {}

    def read(self, history: History) -> Figures:
        """Of the newest training; what one that was just resumed has not measured yet is that of the one before.

        Of that one what it did behind the checkpoint counts no more. One that begins again has none until its first
        report.
        """
        newest, end, earlier, known = None, math.inf, False, False
        for entry in history.entries:
            if entry.record.stage == "train":
                found = self._of(entry, end)
                if newest is None and not found.told and entry.state not in (*ACTIVE, "interrupted"):
                    recorded = _recorded(entry.record, found)
                    if entry.state == "succeeded" or recorded.held_out is not None:
                        return recorded
                    earlier = True
                if newest is not None:
                    newest = _with_first(newest, found) if known else _continued(newest, found)
                newest = newest or found
                known = known or (found.held_out is not None and (newest.before is not None or newest is not found))
                complete = newest.first is not None if found.goes_on_at else newest.held_out is not None
                if (complete and (known or not found.goes_on_at)) or _begins_anew(history, entry, found):
                    break
                if found.goes_on_at is not None and (found.seen is not None or found.active):
                    end = min(end, found.goes_on_at)
        if newest is None:
            return NO_FIGURES
        earlier = earlier and newest.seen is not None
        return _with_kept(replace(newest, earlier=earlier), history)

    def _of(self, entry: Entry, end: float) -> Figures:
        path = entry.run.events_path
        before = self._known.get((path, end))
        try:
            known = self._known[path, end] = _read(path, before, end)
        except OSError:
            known = before or _Read()
        budget = known.figures.budget or finite(entry.record.settings.get("BUDGET_TOKENS"))
        stopped = entry.state in ("cancelled", "interrupted")
        return replace(known.figures, budget=budget, active=entry.state in ACTIVE, stopped=stopped)


def _with_kept(found: Figures, history: History) -> Figures:
    """With the best checkpoint, where a training was stopped that had become worse."""
    if not (found.stopped and found.worse) or found.first is None:
        return found
    kept = best_kept(history.experiment.checkpoints)
    return replace(found, kept=kept) if kept and kept[1] < found.first else found


def _begins_anew(history: History, entry: Entry, found: Figures) -> bool:
    """Whether it goes on with no earlier training: so it has said, or so it can be foreseen before its first step."""
    if found.seen is not None:
        return found.goes_on_at == 0
    return found.active and not resumes(history, entry)


def _recorded(record: RunRecord, found: Figures) -> Figures:
    loss, seen, bits = (
        finite(record.summary.get(name)) for name in ("heldout_loss", "seen_tokens", "activation_bits")
    )
    return replace(found, held_out=loss, seen=seen, bits=bits, unreadable=True)


def _continued(newest: Figures, before: Figures) -> Figures:
    if newest.held_out is not None:  # its first evaluation, which is compared with the last one before it
        share = newest.numerics[-1]
        ramping = isinstance(share, float) and share < 1
        last = before.before if before.step == newest.step else before.held_out
        newest = _with_first(newest, before)
        return newest if ramping or before.numerics != newest.numerics else replace(newest, before=last)
    return replace(
        newest,
        held_out=before.held_out,
        before=before.before,
        numerics=before.numerics,
        step=before.step,
        settling=before.settling,
        first=before.first,
        before_flip=before.before_flip,
        flip_at=before.flip_at,
        measured_at=before.measured_at,
        lowest=before.lowest,
        rising=before.rising,
        seen=before.seen if newest.seen is None else newest.seen,
        bits=before.bits if newest.bits is None else newest.bits,
        layers=before.layers if newest.bits is None else newest.layers,
    )


def _with_first(newest: Figures, before: Figures) -> Figures:
    """With what an earlier run of the training began from."""
    known = [one for one in (newest.lowest, before.lowest) if one is not None]
    return replace(
        newest,
        lowest=min(known, default=None) if newest.before_flip is None else newest.lowest,
        first=before.first if newest.first is None else newest.first,
        before_flip=before.before_flip if newest.before_flip is None else newest.before_flip,
        flip_at=before.flip_at if newest.before_flip is None else newest.flip_at,
    )


@dataclass(frozen=True)
class _Read:
    """What a file has said up to its byte `offset`, where a line begins."""

    version: tuple[int, int, int] = (0, 0, 0)
    offset: int = 0
    figures: Figures = NO_FIGURES


def _read(path: Path, before: _Read | None, end: float) -> _Read:
    """What it says of the steps up to `end` tokens."""
    status = path.stat()
    version = (status.st_ino, status.st_mtime_ns, status.st_size)
    if before is not None and before.version == version:
        return before
    with open_regular(path) as source:
        if before is not None and before.version[0] == version[0] and before.offset <= version[2]:
            start, figures = before.offset, before.figures
            first = max(start, version[2] - _LONGEST_TAIL_BYTES)
            source.seek(first)
            data = source.read(version[2] - first)
        else:
            start, figures = 0, NO_FIGURES
            window = _TAIL_BYTES
            while True:
                first = max(0, version[2] - window)
                source.seek(first)
                data = source.read(version[2] - first)
                if first == 0 or window >= _LONGEST_TAIL_BYTES or data.count(b'"heldout_loss"') > 1:
                    break
                window *= 8
        whole, newline, _torn = data.rpartition(b"\n")
        if figures.goes_on_at is None:  # a training is looked at from its start on, when it has not said that yet
            source.seek(start)
            figures = _begun(figures, source.read(_HEAD_BYTES) if start < first else whole)
    if not figures.told:
        figures = replace(figures, told=any(decode(line) for line in reversed(whole.split(b"\n"))))
    for event in _telling(whole):
        if isinstance(event, Table) or (finite(event.seen_tokens) or 0.0) <= end:
            figures = figures.after(event)
    return _Read(version, first + len(whole) + len(newline), figures)


def _begun(figures: Figures, data: bytes) -> Figures:
    """With what is told once: the budget, where it goes on, and the held-out loss before the first step."""
    for event in (decode(line) for line in data.split(b"\n") if b'"budget"' in line or b'"heldout_loss"' in line):
        if isinstance(event, Budget):
            figures = replace(figures, budget=finite(event.tokens), goes_on_at=finite(event.seen_tokens))
        elif isinstance(event, Metric) and event.step == 0:
            figures = replace(figures, first=Figures().after(event).first or figures.first)
    return figures


def _telling(data: bytes) -> Iterator[Metric | Progress | Table]:
    """Of the lines, in order: evaluations, the last report and progress, a training's table. Parses no other."""
    lines = data.split(b"\n")
    last: dict[bool, int] = {}
    for number in range(len(lines) - 1, -1, -1):
        if b'"seen_tokens"' in lines[number]:
            last.setdefault(_PROGRESS in lines[number], number)
            if len(last) == 2:
                break
    for number, line in enumerate(lines):
        table = _TABLE in line and b'"table"' in line
        if table or number in last.values() or b'"heldout_loss"' in line:
            event = decode(line)
            if isinstance(event, Metric | Progress) or (isinstance(event, Table) and event.name == "training"):
                yield event
