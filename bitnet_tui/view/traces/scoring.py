"""What the Traces tab says of scoring, and of the tokens where the student errs most. Pure."""

from bitnet_core.text import duration, number
from bitnet_tui.view.traces.found import Page

OFFERED = {
    "": ("Score student", "Score"),
    "scored": ("Score again", "Again"),
    "running": ("Stop scoring", "Stop"),
}
"""What the button offers; second, where there is little room."""
NAMED = ("traces.score", "traces.shade", "traces.worst-of-all")
"""The actions whose keys these sentences name."""


_BAR_CELLS = 10
_ENDS = "(it ends with the app)"
LOOKING = "Looking for the worst token…"


def running(done: int, total: int | None, seconds: float) -> str:
    """How far scoring is. Loading the student comes first; the seconds tell that it goes on."""
    if total is None:
        return f"Scoring the newest student: loading it first, {duration(seconds)} {_ENDS}"
    full = _BAR_CELLS * done // max(1, total)
    bar = "━" * full + "─" * (_BAR_CELLS - full)
    return f"Scoring the newest student: {number(done)} of {number(total)} traces, {duration(seconds)} {bar} {_ENDS}"


GONE = "The experiment was renamed or deleted meanwhile, so its student was not scored."


def ended(scored: int, total: int | None) -> str:
    """What was scored, of how many traces if that is known."""
    return f"Scored {_held_out(scored)}" + ("" if total is None else f" of {number(total)}")


def _held_out(traces: int) -> str:
    return "the one held-out trace" if traces == 1 else f"the {number(traces)} held-out traces"


def worst_of(page: Page | None, place: int, following: int, score: str, again: str, *, scoring: bool) -> str:
    """The place among the worst tokens, and where these were looked for. `score` and `again` are keys."""
    if page is not None and page.scored is not None:
        every = page.scored.scope == "all"
        which = "all" if every else f"{_held_out(page.scored.sequences)} of"
        where = f"{which} {number(page.total)}{' traces' if every else ''}"
        return f"Worst token number {place} in {where}; {again} goes to number {following}."
    if scoring:
        return "Ranked by Other's mass until the student is scored."
    return f"Ranked by Other's mass; {score} scores the newest student."


def not_scored(score: str, shade: str, *, scoring: bool, heldout: bool) -> str:
    """Why a trace has no KL, and what to do instead. `score` and `shade` are keys."""
    if not heldout:
        return f"The student was trained on this trace, so it is not scored; {shade} shades by Other."
    then = "it will be soon" if scoring else f"{score} scores the held-out ones"
    return f"This trace was not scored; {then}, {shade} shades by Other."
