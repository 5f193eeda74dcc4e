"""Traces that a run collects or has collected: its newest answer with the tokens shaded by Other, and how it goes."""

from collections.abc import Sequence

from bitnet_core.runs.stage_health import misses_much, spent_words
from bitnet_core.text import UNKNOWN, crop, finite, flat, number, pad, percent, share, width, wrap
from bitnet_tui.view.run_fold import Traces
from bitnet_tui.view.spans import Line, Span, cells_of, line
from bitnet_tui.view.traces.found import Token
from bitnet_tui.view.traces.lines import legend
from bitnet_tui.view.traces.text import Laid
from bitnet_tui.view.watch import RunShown

_LABEL, _FIGURES = 11, 34
_WIDE = 72
_MOST_REASONS = 4
_Pair = tuple[str, str, str]


def collecting_lines(run: RunShown, cells: int) -> tuple[Line, ...]:
    """The answer beside the figures, or below them on a narrow screen. None before the first answer."""
    if not run.view.traces.sequences:
        return ()
    if cells < _WIDE:
        figures = _figures(run, cells)
        return (*figures, (), *_answer(run.view.traces, cells))
    figures, room = _figures(run, _FIGURES), cells - _FIGURES - 3
    answer = _answer(run.view.traces, room)
    lines = []
    for row in range(max(len(figures), len(answer))):
        left = answer[row] if row < len(answer) else ()
        gap = room + 3 - cells_of(left)
        lines.append((*left, Span(" " * gap), *(figures[row] if row < len(figures) else ())))
    return tuple(lines)


def _answer(traces: Traces, cells: int) -> tuple[Line, ...]:
    """The newest answer with tokens. What is said about it comes first, where it stays for answers of any length."""
    newest = traces.newest
    if newest is None or not newest.pieces:
        return (line(Span("The newest answer appears here.", "label")),)
    masses: Sequence[object] = newest.piece_other or ()
    tokens = [
        Token(place, piece, piece, other=finite(masses[place]) if place < len(masses) else None)
        for place, piece in enumerate(newest.pieces)
    ]
    if tokens and not tokens[-1].text:  # the token that ends an answer
        tokens.pop()
    laid = Laid(tokens, cells)
    more = newest.tokens - len(tokens)
    part, whole = number(len(tokens)), f"{number(newest.tokens)} tokens"
    forms = [f"newest answer  {whole}, the first {part}", f"newest: {part} of {whole}"] if more > 1 else []
    about = next((one for one in forms if width(one) <= cells), f"newest answer  {whole}")
    return (
        line(Span(crop(about, cells), "label")),
        legend("other", None, cells),
        line(Span(crop(f"› {flat(newest.prompt or str(newest.prompt_idx))}", cells), "title")),
        *laid.drawn(0, len(laid.lines), -1, "other"),
    )


def _figures(run: RunShown, cells: int) -> list[Line]:
    vitals, traces = run.view.vitals, run.view.traces
    rejected = sum(vitals.rejected.values())
    reasons = sorted(vitals.rejected.items(), key=lambda one: (-one[1], one[0]))[:_MOST_REASONS]
    pairs: list[_Pair] = [
        ("coverage", f"{percent(vitals.kept, vitals.tokens)} of tokens", "value"),
        ("mean Other", f"{share(traces.other_mass)} of probability", "warn" if misses_much(vitals) else "value"),
        ("kept", number(vitals.answers - rejected), "value"),
        ("mended", number(traces.mended), "value"),
        ("rejected", number(rejected), "warn" if rejected else "value"),
        *(("", f"{number(count)} {flat(reason).replace('_', ' ')}", "warn") for reason, count in reasons),
        *_now(run),
    ]
    return [
        line(Span(pad("" if row else name, _LABEL), "label"), Span(piece, style))
        for name, value, style in pairs
        for row, piece in enumerate(wrap(value, max(8, cells - _LABEL)))
    ]


def _now(run: RunShown) -> list[_Pair]:
    """What was spent; of an active run also requests at once and the limiter."""
    now = run.view.vitals.collected
    if now is None:
        return []
    words = list(spent_words(run.view.vitals, run.plan)) or [UNKNOWN]
    spent: list[_Pair] = [("" if place else "spent", word, "value") for place, word in enumerate(words)]
    if not run.active:
        return spent
    waits = flat(now.waits_for) if isinstance(now.waits_for, str) else ""
    return [
        ("at once", number(finite(now.requests_at_once)), "value"),
        ("limiter", waits or "none", "warn" if waits else "value"),
        *spent,
    ]
