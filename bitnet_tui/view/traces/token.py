"""One token of a trace: what the teacher and the student give to its candidates, as bars."""

from collections.abc import Sequence

from bitnet_core.text import crop, number, pad, significant, width
from bitnet_tui.view.candidates import CHOSEN, STYLES, VALUE, bar_cells, likely, spelled
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.view.traces.found import Candidate, Token

_NAME = 16
_SHOWN = 4
_FIRST = "student's first "
_LOW = 4
"""With this many rows or fewer, bars of the teacher alone have no heading."""
OTHER = "Other tokens"


def token_lines(token: Token, of: int, cells: int, rows: int) -> tuple[Line, ...]:
    """What is known of it, then its candidates, likeliest first, then Other; at most `rows` lines."""
    lines = [_about(token, of, cells)]
    if token.candidates is None:
        inside = "inside the teacher's token" if token.teacher and token.teacher.first < token.position else "here"
        lines.append(
            line(Span(crop(f"No candidates {inside}: it is trained by cross-entropy alone.", cells), "label"))
        )
        if token.student is not None:
            lines.append(line(Span(f"student gives it {significant(token.student)}", "label")))
        return tuple([*lines, *_first(token, (), cells)][:rows])
    both = token.student_top is not None
    room = bar_cells((cells - _NAME) // 2 - 2 if both else cells - _NAME - 2)
    headed = both or rows > _LOW
    most = max(1, rows - len(lines) - headed - 1)
    shown = _shown(token, most)
    if first := _first(token, shown, cells):
        shown = _shown(token, max(1, most - 1))
    part = f"{len(shown)} of {len(token.candidates)}" if len(shown) < len(token.candidates) else ""
    if headed:
        lines.append(_heading(part, room, both=both))
    elif part:
        lines = [_about(token, of, cells, part)]
    lines += [_row(one, room, both=both, sampled=one.token == token.token) for one in shown]
    rest = Candidate(OTHER, token.other, token.student_other)
    lines.append(_row(rest, room, both=both, sampled=False, style="label"))
    return tuple([*lines, *first][:rows])


def _shown(token: Token, most: int) -> list[Candidate]:
    """The likeliest candidates, and always the one that was sampled."""
    candidates = token.candidates or []
    shown = candidates[:most]
    if not any(one.token == token.token for one in shown):
        sampled = next((one for one in candidates if one.token == token.token), None)
        if sampled is not None and most > 1:
            shown = [*shown[: most - 1], sampled]
    return shown


def _about(token: Token, of: int, cells: int, *more: str) -> Line:
    parts = [f"{number(token.position + 1)} of {number(of)}", *more]
    if token.kl is not None:
        parts.append(f"KL {significant(token.kl)}")
    if token.structure:
        parts.append("{} structure")
    step = token.teacher
    if step is not None and step.pieces > 1:
        place = token.position - step.first + 1
        parts.append(f"piece {place} of {step.pieces}; the teacher has {spelled(step.token)} whole")
    elif step is not None and step.token != token.token:
        parts.append(f"teacher's token {spelled(step.token)}")
    name = spelled(token.token)
    return line(Span(name, "title"), Span(crop("   " + " · ".join(parts), max(0, cells - width(name))), "label"))


def _heading(part: str, room: int, *, both: bool) -> Line:
    """`part` says how many candidates there is room for, if not for all."""
    names = [pad("teacher", room + VALUE + 2), *(["student"] if both else [])]
    return line(Span(pad(f"  {part}", _NAME) + "".join(names), "label"))


def _row(one: Candidate, room: int, *, both: bool, sampled: bool, style: str = "value") -> Line:
    name = one.token if style == "label" else spelled(one.token)
    spans = [Span(CHOSEN if sampled else "  ", "key"), Span(pad(name, _NAME - 2), style)]
    spans += likely(one.probability, room, STYLES["teacher"])
    if both:
        spans += [Span("  "), *likely(one.student, room, STYLES["student"])]
    return tuple(spans)


def _first(token: Token, shown: Sequence[Candidate], cells: int) -> list[Line]:
    """The student's likeliest tokens, the teacher's among them; no line where all of them have a row."""
    own = (token.student_top or [])[:_SHOWN]
    if {one.token for one in own} <= {one.token for one in shown}:
        return []
    text = "   ".join(f"{spelled(one.token)} {significant(one.probability, 2)}" for one in own)
    return [line(Span(_FIRST, "label"), Span(crop(text, max(0, cells - width(_FIRST))), "flip"))]
