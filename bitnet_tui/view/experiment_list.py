"""The list of experiments as text: the name and age of each, with its five stages below."""

from typing import TYPE_CHECKING

from bitnet_core.text import ago, crop, significant, width
from bitnet_tui.view.spans import Line, Span, line, spread
from bitnet_tui.view.states import LEGEND, look

if TYPE_CHECKING:
    from bitnet_tui.view.workspace import ExperimentRow

_RIGHT_CELLS = 45
"""The room for a QEI, an age and what surrounds them."""
_SHORTEST_PROBLEM = 12


def card(row: "ExperimentRow", cells: int, now: float) -> tuple[Line, ...]:
    """One experiment: two lines and an empty one."""
    above: list[Span] = [Span(crop(row.name, max(12, cells - 44)), "title")]
    if row.now:
        above.append(Span(f"   ▸ {row.now}", "accent"))
    if row.unreadable:
        room = cells - sum(width(span.text) for span in above) - _RIGHT_CELLS
        problem = row.unreadable.splitlines()[0].replace(f"{row.root}/logs/", "")
        above.append(Span(f"   ! {crop(problem, room)}" if room >= _SHORTEST_PROBLEM else "   !", "warn"))
    right = [Span(f"{qei(row)}   ", "warn" if row.qei_outdated else "good")] if row.qei is not None else []
    right.append(Span(ago(row.touched, now), "label"))
    below = _stages(row) if not row.problem else (Span(crop(row.problem.split("\n")[0], cells), "bad"),)
    if sum(width(span.text) for span in below) > cells:
        below = tuple(span for span in below if span.style != "label")
    return spread(above, right, cells), below, ()


def qei(row: "ExperimentRow") -> str:
    """`QEI 7.28`, and whether something has changed since."""
    return f"QEI {significant(row.qei)}" + (" (outdated)" if row.qei_outdated else "")


def _stages(row: "ExperimentRow") -> Line:
    parts: list[Span] = []
    for stage in row.stages[1:]:  # without the pipeline
        state = look(stage.state)
        parts += [Span(f"{state.glyph} ", state.style), Span(stage.name, "faint" if stage.state == "new" else "")]
        parts.append(Span("    "))
    return tuple(parts[:-1])


def legend() -> Line:
    """What the glyphs mean, in one line."""
    parts: list[Span] = []
    for name in LEGEND:
        state = look(name)
        parts += [Span(f"{state.glyph} ", state.style), Span(f"{state.word}  ", "label")]
    return line(*parts)


def legend_lines() -> tuple[Line, ...]:
    """What the glyphs mean, one per line."""
    states = [look(name) for name in LEGEND]
    return tuple(line(Span(f"  {state.glyph:<9} ", state.style), Span(state.word)) for state in states)


def counted(rows: "tuple[ExperimentRow, ...]") -> str:
    """`3 experiments, 1 running`."""
    running = sum(bool(row.now) for row in rows)
    noun = "experiment" if len(rows) == 1 else "experiments"
    return f"{len(rows)} {noun}" + (f", {running} running" if running else "")
