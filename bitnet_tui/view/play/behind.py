"""What was likely at one place of an answer, by teacher and student, where both have that place."""

from collections.abc import Mapping
from dataclasses import dataclass

from bitnet_core.text import pad
from bitnet_tui.services.playing import Who
from bitnet_tui.view.candidates import CHOSEN, STYLES, bar_cells, likely, spelled
from bitnet_tui.view.play.answers import SIDES, Exchange, Token, places
from bitnet_tui.view.spans import Line, Span, cells_of, line

_NAME_CELLS = 22
_END = "(end)"


@dataclass(frozen=True)
class Candidate:
    """One token that could have come, with its probability by each side that told it among its likeliest."""

    data: bytes
    p: Mapping[Who, float]


@dataclass(frozen=True)
class Behind:
    """A place of `who`'s answer: the token there, and the candidates, the likeliest first.

    `sides` are those that have the place. `missing` says why the other has not, and `forced` that the student's
    candidates are those behind the teacher's text.
    """

    who: Who
    number: int
    of: int
    token: Token
    sides: tuple[Who, ...]
    chosen: Mapping[Who, Token]
    candidates: tuple[Candidate, ...]
    missing: str = ""
    forced: bool = False


def behind(exchange: Exchange, who: Who, number: int) -> Behind:
    """The candidates at a token, and those of the other side if it has a token at the same place.

    The same place is the one behind the same text. Where the student's own answer has another text, its tokens along
    the teacher's text count.
    """
    answer = exchange.answers[who]
    token = answer.tokens[number]
    other, forced = _beside(exchange, who, number)
    chosen = {who: token}
    if other is not None:
        chosen["student" if who == "teacher" else "teacher"] = other
    sides = tuple(side for side in SIDES if side in chosen)
    missing = "" if other is not None else _why_missing(exchange, who)
    own = _merged(chosen)
    return Behind(who, number, len(answer.tokens), token, sides, chosen, own, missing, forced)


def _beside(exchange: Exchange, who: Who, number: int) -> tuple[Token | None, bool]:
    """The other side's token at the same place, and whether it is one along the teacher's text."""
    answer = exchange.answers[who]
    start = _start(answer.tokens, answer.text, number)
    other = exchange.answers.get("student" if who == "teacher" else "teacher")
    if start is None:
        return None, False
    if other is not None and other.text[:start] == answer.text[:start]:
        found = _starting(other.tokens, other.text, start)
        if found is not None:
            return found, False
    if who == "teacher":
        return _starting(exchange.followed, answer.text, start), True
    return None, False


def hardest(exchange: Exchange) -> tuple[int, ...]:
    """The numbers of the teacher's tokens, that which the student finds least likely first.

    Only those that the student's tokenizer cuts in the same way count.
    """
    answer = exchange.answers.get("teacher")
    if answer is None:
        return ()
    along = zip(exchange.followed, places(exchange.followed, answer.text), strict=False)
    told = {place: one.p for one, place in along if one.p is not None}
    own = places(answer.tokens, answer.text)
    shared = (number for number, place in enumerate(own) if place in told)
    return tuple(sorted(shared, key=lambda number: (told[own[number]], number)))


def _start(tokens: tuple[Token, ...], text: str, number: int) -> int | None:
    found = places(tokens, text)
    return found[number][0] if number < len(found) else None


def _starting(tokens: tuple[Token, ...], text: str, start: int) -> Token | None:
    """The first token that begins at this offset, and not within a character."""
    return next((one for one, (begin, _) in zip(tokens, places(tokens, text), strict=False) if begin == start), None)


def _why_missing(exchange: Exchange, who: Who) -> str:
    name: Who = "student" if who == "teacher" else "teacher"
    answer = exchange.answers.get(name)
    if answer is None:
        return f"The {name} was not asked."
    if not answer.tokens:
        return f"The {name} gave no candidates." if not answer.active else f"The {name} has not got that far yet."
    return f"The {name} has no token at this place: its answer differs before it."


def _merged(chosen: Mapping[Who, Token]) -> tuple[Candidate, ...]:
    """The candidates of all sides, each once, with the tokens that were chosen."""
    found: dict[bytes, dict[Who, float]] = {}
    for who, token in chosen.items():
        for data, p in (*token.top, *([(token.data, token.p)] if token.p is not None else [])):
            found.setdefault(data, {}).setdefault(who, p)
    ordered = sorted(found.items(), key=lambda one: (-max(one[1].values()), one[0]))
    return tuple(Candidate(data, p) for data, p in ordered)


# -- drawn ---------------------------------------------------------------------------------------------------------


def name_of(data: bytes) -> str:
    """A token as it is named: blanks and line ends as signs, bytes that are not a whole character in hexadecimal."""
    if not data:
        return _END
    try:
        return spelled(data.decode())
    except UnicodeDecodeError:
        return " ".join(f"{byte:02X}" for byte in data)


def behind_lines(shown: Behind, cells: int, rows: int) -> tuple[Line, ...]:
    """The place, then a candidate a row: its name, and a bar and a number for each side."""
    head = [Span(f"token {shown.number + 1} of {shown.of}  ", "label"), Span(name_of(shown.token.data), "title")]
    if shown.missing:
        note = Span(f"   {shown.missing}", "label")
    elif shown.forced:
        note = Span("   what the student expects after the teacher's text", "label")
    else:
        note = Span("")
    fits = cells_of((*head, note)) <= cells
    lines = [line(*head, *([note] if fits and note.text else []))]
    if note.text and not fits:
        lines.append(line(Span(note.text.strip(), "label")))
    if not any(token.top for token in shown.chosen.values()):
        return (*lines, line(Span("Its server gives no candidates, so nothing is known about this place.", "label")))
    name = min(_NAME_CELLS, max(10, cells // 4))
    room = (cells - name) // len(shown.sides)
    lines.append((Span(pad("", name)), *(Span(pad(f"  {who}", room), "label") for who in shown.sides)))
    for candidate in shown.candidates[: max(0, rows - len(lines))]:
        spans = [Span(pad(name_of(candidate.data), name), "value")]
        for who in shown.sides:
            came = candidate.data == shown.chosen[who].data
            likelihood = likely(candidate.p.get(who), bar_cells(room - 4), STYLES[who])
            spans += [
                Span(CHOSEN if came else "  ", "key"),
                *likelihood,
                Span(" " * (room - 2 - cells_of(likelihood))),
            ]
        lines.append(tuple(spans))
    return tuple(lines)
