"""The list of traces, the head of one, the sentence below them, and rejected answers. Values in, lines out."""

from bitnet_core.text import UNKNOWN, count, crop, flat, number, pad, rejection, share, significant, width, wrap
from bitnet_tui.key_names import key
from bitnet_tui.view.spans import Line, Span, cells_of, cut, line, spread
from bitnet_tui.view.traces.columns import in_columns
from bitnet_tui.view.traces.found import Page, Rejects, Row, Scored, Shading, Trace

NAMES: dict[Shading, str] = {"kl": "KL", "other": "teacher's Other"}
_SHADED: dict[Shading, str] = {
    "kl": "shaded by KL, student from teacher",
    "other": "shaded by Other, the teacher's mass outside the top-k",
}
LEVELS: dict[Shading, tuple[float, ...]] = {"kl": (1.0, 2.5, 5.0, 8.0), "other": (0.02, 0.1, 0.25, 0.5)}
"""From which value on a token has which of the four shades."""


def shade(value: float | None, shading: Shading) -> str:
    """The style of a token with this value."""
    level = sum(value >= least for least in LEVELS[shading]) if value is not None else 0
    return f"shade-{level}" if level else ""


def row_line(row: Row | None, cells: int, style: str = "", *, scored: bool) -> Line:
    """One trace in a line of exactly `cells`; None is one that is still being read."""
    if row is None:
        return line(Span(pad("  …", cells), "faint"))
    texts = {
        "number": str(row.prompt_idx),
        "prompt": flat(row.prompt),
        "tokens": count(row.tokens),
        "ended": flat(row.finish_reason),
        "other": share(row.other),
        "kl": significant(row.kl) if row.kl is not None else "",
    }
    return line(Span(in_columns(texts, cells, scored=scored), style or ("" if row.heldout else "value")))


def found_line(page: Page | None, cells: int) -> Line:
    """How many traces there are, and how many match the search."""
    if page is None:
        return ()
    words = f"{number(page.total)} traces" + (f", {number(page.scored.sequences)} scored" if page.scored else "")
    if page.matched != page.total:
        words = f"{number(page.matched)} of {words} match"
    return line(Span(crop(words, cells), "label"))


def head_lines(trace: Trace, cells: int) -> tuple[Line, ...]:
    """The prompt, and how the trace ended and what it costs the student."""
    scored = trace.scored
    unscored = scored is not None and trace.kl is None and not trace.heldout
    parts = [
        "held out" if trace.heldout else "trained on, so not scored" if unscored else "trained on",
        f"ended by {flat(trace.finish_reason)}",
        f"{number(trace.completion_tokens)} tokens",
    ]
    if trace.kl is not None:
        mean = scored.mean_kl if scored is not None else None
        parts.append(f"KL {significant(trace.kl)}" + (f" (mean {significant(mean)})" if mean is not None else ""))
    parts.append(f"Other {share(trace.other)}")
    explained = " (outside the top-k)"
    if width(" · ".join(parts) + explained) <= cells:
        parts[-1] += explained
    return prompt_line(trace, cells), line(Span(crop(" · ".join(parts), cells), "label"))


def prompt_line(row: Row, cells: int, style: str = "title") -> Line:
    """Its number and its prompt."""
    name = f"{row.prompt_idx}  "
    return line(Span(name, "label"), Span(crop(flat(row.prompt), max(4, cells - width(name))), style))


def legend(shading: Shading, scored: Scored | None, cells: int) -> Line:
    """What the shades mean, and of which student they are."""
    shades = [Span(f" {least:g} ", f"shade-{level}") for level, least in enumerate(LEVELS[shading], 1)]
    outdated = scored is not None and bool(scored.outdated)
    left = [Span(f"{_SHADED[shading]}  ", "label"), *shades]
    if outdated or cells < cells_of(left):
        left[0] = Span(f"{NAMES[shading]} ", "label")
    if scored is not None and outdated:
        left.append(Span(f"  ↻ KL of step {scored.step}: {flat(scored.outdated)}", "warn"))
    elif scored is None:
        ahead = [Span(f"{key('traces.score')} finds the student's errors", "label")]
        if cells < cells_of(left) + 2 + cells_of(ahead):
            left[0] = Span(f"{NAMES[shading]} ", "label")
        return spread(left, ahead, cells) if cells_of(left) + 2 + cells_of(ahead) <= cells else cut(left, cells)
    else:
        bits = "" if scored.activation_bits is None else f" A{scored.activation_bits}"
        return spread(left, [Span(f"student of step {scored.step}{bits}", "label")], cells)
    return cut(left, cells)


def reject_lines(rejects: Rejects, cells: int) -> tuple[Line, ...]:
    """Rejected answers by reason, each with examples."""
    if not rejects.rejected:
        return (line(Span("No answer was rejected.", "label")),)
    lines: list[Line] = []
    for reason in rejects.rejected:
        what = rejection(flat(reason.reason))
        times = f"  {number(reason.answers)} {'answer' if reason.answers == 1 else 'answers'}"
        lines.append(line(Span(what, "title"), Span(times, "warn")))
        for one in reason.examples:
            ended = flat(one.finish_reason or UNKNOWN)
            lines += [line(Span(piece, "label")) for piece in wrap(f"{one.prompt_idx}  {flat(one.prompt)}", cells)]
            answer = flat(one.answer) or "no text"
            lines += [line(Span(piece)) for piece in wrap(f"   {answer}  ({ended})", cells)]
        lines.append(())
    return tuple(lines)
