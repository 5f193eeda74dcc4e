"""What stands around the table of experiments: how many there are, the one under the cursor, what the marks mean."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bitnet_core.text import crop, flat, number, significant, width, wrap
from bitnet_tui.key_names import key
from bitnet_tui.remedies import in_app
from bitnet_tui.view.spans import Line, Span, cells_of, line
from bitnet_tui.view.states import BEST_KEPT, LEGEND, LOW_QEI, ROSE, RUINED, TRENDS, Look, look

if TYPE_CHECKING:
    from bitnet_tui.view.workspace import ExperimentRow, Stored

_ABOUT_LINES = 2
_MOST_REPEATED = 40
"""Cells of what was searched for, where it was not found."""
_PLAINEST = ("new", "done", "running", "cancelled")
"""States whose glyphs need words least."""
_DEMO = "demo"
"""The action that opens the demo, and the demo's name."""
_ON_MARKED = ("archive", "delete")
"""The offered actions that act on the marked experiments if there are any."""


def about(row: "ExperimentRow", cells: int) -> tuple[Line, ...]:
    """Two lines on one experiment: what is wrong with it, or else its stages by name and its copy."""
    if row.problem or row.unreadable:
        style = "bad" if row.problem else "warn"
        pieces = wrap(flat(in_app(row.problem or row.unreadable).replace(f"{row.root}/", "")), cells)
        if len(pieces) > _ABOUT_LINES:
            pieces[_ABOUT_LINES - 1] = crop(f"{pieces[_ABOUT_LINES - 1]} …", cells)
        return tuple(line(Span(piece, style)) for piece in (*pieces, "")[:_ABOUT_LINES])
    stages: list[Span] = []
    for stage in row.stages[1:]:  # without the pipeline
        state = look(stage.shown_state)
        note = f" {stage.note}" if stage.note and (stage.active or stage.copied) else ""
        stages += [Span(f"{state.glyph} ", state.style)]
        stages += [Span(stage.name, "faint" if stage.state == "new" and not stage.copied else "")]
        stages += [Span(note, "label" if stage.copied else "accent"), Span("   ")]
    return _cut(stages, cells), line(Span(crop(_more(row), cells), "label"))


def _cut(spans: Sequence[Span], cells: int) -> Line:
    kept: list[Span] = []
    for span in spans:
        cells -= width(span.text)
        if cells < 0:
            break
        kept.append(span)
    return tuple(kept)


def _more(row: "ExperimentRow") -> str:
    parts = ["archived"] if row.archived else []
    figures = row.figures
    if figures.worse:
        now, first = significant(figures.held_out), significant(figures.first)
        falls, how = figures.trend == "↘", "ruined: " if figures.ruined else ""
        parts.append(
            f"held-out {now}, still above {first} at the start"
            if falls
            else f"{how}held-out rose from {first} to {now}"
        )
    if figures.kept:
        step, loss = figures.kept
        parts.append(f"stopped; the best checkpoint is kept: {significant(loss)} at step {number(step)}")
    parts += [figures.source] if figures.source else []
    if row.qei is not None and row.qei_outdated:
        parts.append("QEI from before a change")
    elif row.qei_too_low or row.gates_failed:
        parts.append(_gates(row))
    if row.training_outdated:
        parts.append("trained before a change")
    parts.append(copy_words(row.stored))
    return " · ".join(parts)


def _gates(row: "ExperimentRow") -> str:
    """What the evaluation did not reach."""
    low = f"QEI below its gate of {row.qei_gate:g}" if row.qei_too_low else ""
    failed = f"{row.gates_failed} {'gate' if row.gates_failed == 1 else 'gates'} failed" if row.gates_failed else ""
    return ", ".join(filter(None, (low, failed)))


def copy_words(stored: "Stored") -> str:
    """Where else the experiment is, in a few words."""
    if not stored.backend:
        return "only on this machine"
    if stored.upload in ("starting", "running"):
        return f"being copied to {stored.backend}"
    if stored.unreadable:
        return f"what is stored on {stored.backend} is not known here: open it, tab Storage"
    if stored.at is None:
        return f"nothing is stored on {stored.backend} yet"
    if stored.waiting or stored.behind:
        return f"its copy on {stored.backend} is behind"
    return f"stored on {stored.backend}, up to date"


def qei(row: "ExperimentRow") -> str:
    """`QEI 7.28`, and whether something has changed since, or it is too low."""
    note = " (outdated)" if row.qei_outdated else f" (below its gate of {row.qei_gate:g})" if row.qei_too_low else ""
    return f"QEI {significant(row.qei)}{note}"


def legend(cells: int = 0, rows: "Sequence[ExperimentRow]" = ()) -> Line:
    """What the glyphs mean, in one line; with `cells`, what has room: the plainest that no row has leave first.

    The signs of a low QEI, and of a held-out loss that rose or where it goes, stand there if a row has them.
    """
    seen = [row for row in rows if not row.hidden]
    signs = [LOW_QEI] if any(row.qei_too_low for row in seen) else []
    signs += [ROSE] if any(row.figures.worse and not (row.figures.kept or row.figures.ruined) for row in seen) else []
    signs += [BEST_KEPT] if any(row.figures.kept for row in seen) else []
    arrows = [one for sign, one in TRENDS.items() if any(row.figures.trend == sign for row in seen)]
    there = {look(stage.shown_state) for row in seen for stage in row.stages[1:]}
    plain = [look(name) for name in _PLAINEST]
    by_need = [*(one for one in plain if one not in there), *(one for one in plain[:2] if one in there)]
    by_need += reversed(arrows)  # beside a figure, they tell what they are
    by_need += [one for one in plain if one not in by_need] + signs[::-1]
    failed = look("failed")
    if any(row.figures.ruined and not row.figures.kept for row in seen):
        failed = failed._replace(word=f"{failed.word}, {RUINED.word}")
    told = [*(failed if name == "failed" else look(name) for name in LEGEND), *signs, *arrows]
    for one in by_need if cells else ():
        if cells_of(_legend(told)) <= cells:
            break
        told.remove(one)
    return _legend(told)


def _legend(looks: Iterable[Look]) -> Line:
    parts: list[Span] = []
    for one in looks:
        parts += [Span(f"{'  ' if parts else ''}{one.glyph} ", one.style), Span(one.word, "label")]
    return line(*parts)


def legend_lines() -> tuple[Line, ...]:
    """What the glyphs mean, one per line."""
    states = [*map(look, LEGEND), LOW_QEI, ROSE, RUINED, BEST_KEPT, *TRENDS.values()]
    return tuple(line(Span(f"  {state.glyph:<9} ", state.style), Span(state.word)) for state in states)


def counted(rows: "Sequence[ExperimentRow]", marked: int = 0) -> str:
    """`3 experiments, 1 running`."""
    seen = [row for row in rows if not row.hidden]
    parts = [f"{len(seen)} {'experiment' if len(seen) == 1 else 'experiments'}"]
    running, hidden = sum(bool(row.now) for row in rows), len(rows) - len(seen)
    parts += [f"{running} running"] if running else []
    parts += [f"{hidden} archived"] if hidden else []
    parts += [f"{marked} marked"] if marked else []
    unread = sum(row.pending for row in rows)
    parts += [f"{unread} to be read"] if unread else []
    return ", ".join(parts)


def offered(
    offers: Iterable[tuple[str, str, str]], rows: "Sequence[ExperimentRow]", marked: int
) -> tuple[tuple[str, str, str], ...]:
    """What the keys do, with the number of marked experiments at those that act on them and not on the cursor's.

    The demo is left out once it is one of the rows.
    """
    there = any(row.root.name == _DEMO for row in rows)
    return tuple(
        (key, f"{words} {marked} marked" if marked and action in _ON_MARKED else words, action)
        for key, words, action in offers
        if not (there and action == _DEMO)
    )


OFFERED_THERE = ("list.new", "list.fetch", "list.demo", "list.clear", "list.archived")
"""The actions whose keys `nothing_shown` names."""


def nothing_shown(rows: "Sequence[ExperimentRow]", wanted: str) -> str:
    """What to say where the table has no line."""
    if not rows:
        return (
            f"No experiments yet. Press {key('list.new')} to create one, press {key('list.fetch')} to fetch one, "
            f"or press {key('list.demo')} for the demo."
        )
    if wanted.strip():
        found = f"No experiment has {crop(flat(wanted), _MOST_REPEATED)!r} in its name, teacher, student or state."
        return f"{found} Press {key('list.clear')} to see all."
    return f"All experiments are archived. Press {key('list.archived')} to see them."
