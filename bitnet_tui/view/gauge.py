"""The bar over a run: how much of its budget or work is done, where the flip stands, how wide things are now."""

from bitnet_core.runs.events import Progress
from bitnet_core.text import count, flat, percent, progress_words, width
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.view.watch import RunShown

_SHORTEST_BAR = 8


def bar(share: float, cells: int, mark: float | None = None) -> Line:
    """A bar of so many cells; `mark` is where the flip stands. Done and rest differ in shape, not only in colour."""
    share = min(1.0, max(0.0, share))
    filled = int(share * cells)
    shape = ["━"] * filled + ["─"] * (cells - filled)
    styles = ["bar"] * filled + ["track"] * (cells - filled)
    if mark is not None and cells > 2:
        at = min(cells - 1, int(min(1.0, max(0.0, mark)) * cells))
        shape[at], styles[at] = "┃", "flip"
    spans: list[Span] = []
    for glyph, style in zip(shape, styles, strict=True):
        if spans and spans[-1].style == style:
            spans[-1] = Span(spans[-1].text + glyph, style)
        else:
            spans.append(Span(glyph, style))
    return tuple(spans)


def gauge(run: RunShown, cells: int) -> Line:
    """One line: for training the token budget with its flip and the badge, else the run's own progress."""
    seen = run.view.metric.seen_tokens
    if run.stage == "train" and run.budget_tokens and seen is not None:
        return _budget(run, seen, run.budget_tokens, cells)
    return _work(run.view.progress, cells, ended=not run.active)


def _budget(run: RunShown, seen: float, budget: float, cells: int) -> Line:
    left = [Span("tokens ", "label"), Span(count(seen), "value"), Span(f" of {count(budget)}  ", "label")]
    right = [Span(f"  {percent(seen, budget)}  ", "value"), *_badge(run)]
    room = cells - sum(width(span.text) for span in (*left, *right))
    if room < _SHORTEST_BAR:
        return line(*left, *right)
    return line(*left, *bar(seen / budget, room, None if run.flip_at is None else run.flip_at / budget), *right)


def _badge(run: RunShown) -> list[Span]:
    bits = run.view.metric.activation_bits
    now = f" A{bits:.0f} " if bits is not None else " A? "
    if run.view.flip is not None:
        return [Span(now, "badge-after"), Span(f" flipped at {count(run.view.flip.seen_tokens)}", "flip")]
    spans = [Span(now, "badge")]
    if run.flip_at is not None:
        spans.append(Span(f" flips at {count(run.flip_at)}", "label"))
    return spans


def _work(progress: Progress | None, cells: int, *, ended: bool) -> Line:
    if progress is None:
        return () if ended else line(Span("waiting for the first progress…", "label"))
    text = progress_words(progress.done, progress.total, progress.unit)
    label = f"  {flat(progress.label)}" if progress.label else ""
    if progress.total is None:
        return line(Span(text, "value"), Span(label, "label"))
    right = [Span(f"  {percent(progress.done, progress.total)}", "value"), Span(label, "label")]
    left = [Span(f"{text}  ", "value")]
    room = min(64, cells - sum(width(span.text) for span in (*left, *right)))
    if room < _SHORTEST_BAR:
        return line(*left, *right)
    return line(*left, *bar(progress.done / progress.total, room), *right)
