"""The playground's sentences: how each side does, what asking costs, what there is to try."""

from collections.abc import Sequence

from bitnet_core.text import count, crop, dollars, duration, flat
from bitnet_tui import key_names
from bitnet_tui.remedies import in_app
from bitnet_tui.services.playing import Who
from bitnet_tui.view.offered import said
from bitnet_tui.view.play.answers import SIDES, Answer, Asked
from bitnet_tui.view.play.session import Session, Side
from bitnet_tui.view.spans import Line, Span, line, spread

QUIET_SECONDS = 15.0
"""From then on it is said that nothing comes."""
READING = "The student still reads the teacher's answer; then its worst token is shown."
_FINISH_CELLS = 40
_ENDS = {
    "stop": "complete",
    "length": "cut at the length",
    "stopped": "stopped",
    "content_filter": "withheld by its filter",
    "": "ended",
}


def title(who: Who, side: Side, asked: Asked | None, cells: int) -> Line:
    """Who answers, at which bits, and where."""
    left = [Span(who.capitalize(), "title"), Span(f"  {flat(side.name)}", "label")]
    bits = asked.bits if asked is not None and asked.bits is not None else side.bits
    if who == "student" and bits is not None:
        left += [Span("  "), Span(f" A{flat(str(bits))} ", "badge-after" if bits == 4 else "badge")]
    return spread(left, [Span(flat(side.where), "faint")], cells)


def status(who: Who, side: Side, answer: Answer | None, quiet: float) -> Line:
    """How the answer stands; `quiet` is for how many seconds nothing has come."""
    if answer is not None and answer.state == "failed":
        return line(Span(f"✗ {flat(in_app(answer.problem))}", "bad"))
    if side.problem and (answer is None or answer.active):
        return line(Span(f"✗ {flat(in_app(side.problem))}", "bad"))
    if side.state == "opening":
        return line(Span(flat(side.note) or f"Opening the {who}…", "label"))
    if answer is None:
        return line(Span("Ready." if side.state == "open" else "", "label"))
    if answer.active and quiet >= QUIET_SECONDS:
        note = f" ({flat(side.note)})" if side.note else ""
        stop = f"{key_names.key('play.stop')} stops waiting"
        text = f"▲ Nothing for {duration(quiet)}{note}; {stop}, the other side continues."
        return said(text, "warn", "play.stop")[0]
    if answer.state == "waiting":
        return line(Span(flat(side.note) or "Waiting for the first token…", "label"))
    finish = _ENDS.get(answer.finish) or crop(flat(answer.finish), _FINISH_CELLS)
    spans = [Span("Writing" if answer.active else finish.capitalize(), "label")]
    if answer.count is not None:
        unit = " token" if answer.count == 1 else " tokens"
        spans += [Span(f"  {count(answer.count)}", "value"), Span(unit, "label")]
    if answer.tokens_per_s is not None:
        spans += [Span(f"  {answer.tokens_per_s:.1f}", "value"), Span(" tokens/s", "label")]
    if answer.usd:
        spans += [Span(f"  {dollars(answer.usd)}", "value")]
    return tuple(spans)


def cost(side: Side, asked: Asked, whom: Sequence[Who]) -> Line:
    """What asking the teacher costs, before it is asked."""
    if "teacher" not in whom:
        return line(Span("Only the student is asked; nothing is paid.", "label"))
    if side.state != "open":
        return line(Span("", "label"))
    name = flat(side.name)
    if side.price is None:
        return line(Span(f"▲ The price of {name} is not known; enter asks it anyway.", "warn"))
    if not side.price.input and not side.price.output and side.where == "on this machine":
        shared = "; both at once are slower than each alone" if len(whom) > 1 else ""
        return line(Span(f"Asking costs nothing{shared}.", "label"))
    if not side.price.input and not side.price.output:
        return line(Span("Asking costs nothing: the teacher is on your own network.", "label"))
    return line(
        Span(f"Asking {name} costs at most ", "label"),
        Span(dollars(side.price.at_most(asked)), "value"),
        Span("; nothing is asked until you ask.", "label"),
    )


def whom_words(whom: Sequence[Who]) -> str:
    return "both" if len(whom) > 1 else f"only the {whom[0]}"


def examples(hint: str, prompts: Sequence[str], cells: int) -> tuple[Line, ...]:
    """A hint, then prompts to try, one a row, each with its key."""
    lines = [line(Span(hint, "label"))]
    for number, prompt in enumerate(prompts, 1):
        lines.append(line(Span(f" {number} ", "key"), Span(f" {crop(flat(prompt), cells - 4)}", "value")))
    return tuple(lines)


def history(session: Session) -> str:
    """Which of the session's prompts is shown."""
    total = len(session.exchanges)
    return f"prompt {session.shown + 1} of {total}" if total > 1 else ""


def no_worst(session: Session) -> str:
    """Why no token of the teacher's can be named that the student finds least likely."""
    exchange = session.exchange
    if exchange is None:
        return "There is no answer yet; ask something first."
    if len(exchange.answers) < len(SIDES):
        return f"The worst token needs both answers; {key_names.key('play.whom')} changes whom to ask."
    if not exchange.answers["teacher"].tokens:
        return "The teacher gave no tokens, so there is no worst one."
    if not exchange.followed:
        return f"The student has not read the teacher's answer; {key_names.key('play.again')} asks both again."
    return "Teacher and student split this answer into different tokens throughout, so none can be compared."


def hint(asked: bool, answer: Answer | None, side: Side) -> str:
    """What the token cursor is for, or why there is no token; before anything was asked, what to try."""
    if not asked:
        return "To try:"
    if answer is None:
        return "This side was not asked. To try:"
    if answer.tokens:
        before, after = key_names.key("play.token-back"), key_names.key("play.token")
        return f"{before}, {after} or a click: what was likely at a token. To try:"
    if answer.active:
        return "Its tokens can be looked at once the answer is complete."
    if side.logprobs == "no" or (answer.state == "ended" and answer.text):
        return f"{flat(side.name)} gives no probabilities, so its tokens have no candidates to show. To try:"
    return "There is no token to look at. To try:"
