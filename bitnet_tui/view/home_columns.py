"""The columns of the table of experiments: what each shows of a row, and how it is sorted by it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bitnet_core.text import UNKNOWN, count, finite, significant, size, width
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.view.stage_rows import UNTOLD, running, short_time
from bitnet_tui.view.states import BEST_KEPT, LOW_QEI, ROSE, RUINED, look
from bitnet_tui.view.workspace import ExperimentRow, Stored

_NOTHING = line(Span(UNKNOWN, "faint"))
_STALE = Span(" ↻", "warn")
_TOO_LOW = Span(f" {LOW_QEI.glyph}", LOW_QEI.style)
_NOTE_CELLS = 7
"""For how far the stage is that runs, behind the marks of all five."""
_URGENT = ("running", "starting", "failed", "interrupted", "cancelled", "outdated", "done", "new")
"""The states of stages in the order of the column that shows them."""


@dataclass(frozen=True)
class Column:
    """`widest` is None for a text that takes what it needs, from `least` cells on.

    `rank` tells how long a column stays in a narrow window: the greatest leaves first. `key` is None where there is
    nothing to sort by; `down`: the greatest comes first.
    """

    id: str
    title: str
    least: int
    widest: int | None
    rank: int
    text: Callable[[ExperimentRow, float], Line]
    key: Callable[[ExperimentRow], Any]
    down: bool = False
    right: bool = False


def age(then: float | None, now: float) -> str:
    """`now`, `4 min`, `3 h`, `6 d`, `3 w`, `2 y`."""
    then = finite(then)
    if then is None:
        return UNKNOWN
    seconds = max(0.0, now - then)
    for limit, unit, word in ((3600, 60, "min"), (48 * 3600, 3600, "h"), (14 * 86400, 86400, "d")):
        if seconds < limit:
            return f"{int(seconds // unit)} {word}" if seconds >= 60 else "now"
    return f"{int(seconds // (7 * 86400))} w" if seconds < 730 * 86400 else f"{int(seconds // (365 * 86400))} y"


def _name(row: ExperimentRow, _now: float) -> Line:
    style = "label" if row.archived or row.pending else ""
    marks = [Span(" (archived)", "label")] if row.archived else []
    return line(Span(row.name, style), *marks, *([Span(" !", "warn")] if row.unreadable else []))


def _stages(row: ExperimentRow, _now: float) -> Line:
    """A mark for each of the five stages, and how far the one is that runs."""
    if row.pending:
        return line(Span("…", "faint"))
    marks = [Span(look(stage.shown_state).glyph, look(stage.shown_state).style) for stage in row.stages[1:]]
    at_work = running(row.stages)
    note = at_work.brief_note if at_work else ""
    note = next((one for one in (note, short_time(note)) if width(one) <= _NOTE_CELLS), UNTOLD)
    return (*marks, *([Span(f" {note}", "accent")] if note else []))


def _urgency(row: ExperimentRow) -> Any:
    states = [stage.state for stage in row.stages[1:]]
    return tuple(-states.count(state) for state in _URGENT[:-1]) if states else None


def _held_out(row: ExperimentRow, _now: float) -> Line:
    figures = row.figures
    if figures.broken:
        return line(Span("NaN", "bad"))
    if figures.held_out is None:
        return _NOTHING
    old = row.training_outdated or figures.earlier
    rose = BEST_KEPT if figures.kept else RUINED if figures.ruined else ROSE if figures.worse else None
    value = Span(significant(figures.held_out), "label" if old else rose.style if rose else "")
    if figures.trend:
        style = "label" if rose else {"↘": "good", "↗": "warn"}.get(figures.trend, "label")
        return line(value, Span(f" {figures.trend}", style), *([Span(rose.glyph, rose.style)] if rose else []))
    if old:
        return line(value, _STALE)
    return line(value, Span(f" {rose.glyph}", rose.style)) if rose else line(value)


def _tokens(row: ExperimentRow, _now: float) -> Line:
    seen, budget = row.figures.seen, row.figures.budget
    if seen is None:
        return _NOTHING
    told = Span(count(seen), "label" if row.figures.earlier else "")
    if budget is None or seen >= budget:
        return line(told)
    return line(told, Span(f"/{count(budget)}", "label"))


def _bits(row: ExperimentRow, _now: float) -> Line:
    if row.figures.bits is None:
        return _NOTHING
    return line("A8→A4" if row.figures.layers else f"A{row.figures.bits:.0f}")


def qei_text(value: float | None) -> str:
    """`1.31`, `0.84`."""
    return significant(value, 2 if value is not None and abs(value) < 1 else 3)


def _qei(row: ExperimentRow, _now: float) -> Line:
    if row.qei is None:
        return _NOTHING
    text = qei_text(row.qei)
    if row.qei_outdated:
        return line(Span(text, "label"), _STALE)
    if row.qei_too_low:
        return line(Span(text, "warn"), _TOO_LOW)
    return line(Span(text, "good" if row.qei_gate is not None and not row.gates_failed else ""))


def _plain(text: str) -> Line:
    return line(text) if text else _NOTHING


def stored_mark(stored: Stored) -> Span:
    """How the copy stands, as one sign; and how many files wait to be sent."""
    if stored.upload in ("starting", "running"):
        return Span("▸", "accent")
    if stored.upload in ("failed", "interrupted") or stored.unreadable:
        return Span("✗", "bad")
    if stored.at is None:
        return Span("0 B", "label")
    if stored.waiting:
        return Span(f"↑{count(stored.waiting)}", "warn")
    return Span("↻", "warn") if stored.behind else Span("✓", "good")


def _stored(row: ExperimentRow, _now: float) -> Line:
    return line(row.stored.backend, " ", stored_mark(row.stored)) if row.stored.backend else _NOTHING


def _size(row: ExperimentRow, _now: float) -> Line:
    return line(size(row.size)) if row.size is not None else line(Span("…", "faint"))


def _age(row: ExperimentRow, now: float) -> Line:
    return line(Span("now" if row.now else age(row.touched, now), "label"))


def _youth(row: ExperimentRow) -> Any:
    """What runs now comes before whatever was touched, by a wrong clock in the future too."""
    return -sys.float_info.max if row.now else None if row.touched is None else -row.touched


COLUMNS = (
    Column("name", "name", 12, None, 0, _name, lambda row: row.name.casefold()),
    Column("stages", "stages", 6 + _NOTE_CELLS, 6 + _NOTE_CELLS, 1, _stages, _urgency),
    Column("heldout", "held-out", 8, 8, 2, _held_out, lambda row: row.figures.held_out, right=True),
    Column("tokens", "tokens", 11, 11, 4, _tokens, lambda row: row.figures.seen, down=True, right=True),
    Column("bits", "bits", 5, 5, 6, _bits, lambda row: row.figures.bits),
    Column("qei", "QEI", 6, 6, 5, _qei, lambda row: row.qei, down=True, right=True),
    Column("student", "student", 7, None, 9, lambda row, _: _plain(row.student), lambda row: row.student or None),
    Column("teacher", "teacher", 8, None, 8, lambda row, _: _plain(row.teacher), lambda row: row.teacher or None),
    Column("stored", "stored", 7, None, 7, _stored, lambda row: row.stored.backend or None),
    Column("size", "size", 7, 7, 10, _size, lambda row: row.size, down=True, right=True),
    Column("age", "age", 6, 6, 3, _age, _youth, right=True),
)
BY_ID = {column.id: column for column in COLUMNS}
