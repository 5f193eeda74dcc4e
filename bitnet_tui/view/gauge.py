"""The bar above a run: how much of its budget or work is done, where the flip is, and the activation bits now."""

from bitnet_core.runs.events import Progress
from bitnet_core.settings.values import FlipOptions
from bitnet_core.text import count, finite, flat, in_layers, percent, progress_words
from bitnet_tui.view.spans import Line, Span, cells_of, cut, line
from bitnet_tui.view.watch import RunShown

_SHORTEST_BAR = 8


def bar(share: float, cells: int, mark: float | None = None) -> Line:
    """A bar with the flip at `mark`, a share like `share`. Done and rest differ in shape, not just colour."""
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
    """One line: training shows its token budget, the flip and the activation bits, other stages their progress."""
    seen = run.view.seen
    if run.stage == "train" and run.flip is not None and seen is not None:
        return _budget(run, seen, run.flip, cells)
    if run.state == "succeeded":  # its last progress is that of its last part
        return ()
    if run.view.progress is None and run.view.unread:
        return ()
    told = run.stage == "train" and run.active  # the sentence above the bar begins with what is being done
    return _work(run.view.progress, cells, ended=not run.active, labelled=not told)


def _budget(run: RunShown, seen: float, flip: FlipOptions, cells: int) -> Line:
    budget = flip.budget
    done = _done(run, seen, budget)
    left = [Span("tokens ", "label"), Span(count(seen), "value"), Span(f" of {count(budget)}  ", "label")]
    policy = " (hybrid)" if flip.a4_policy == "hybrid" else ""
    for said in (policy, ""):  # it is left out before anything else is cut
        right = [Span(f"  {done}  ", "value"), *_badge(run, flip, said)]
        room = cells - cells_of((*left, *right))
        if room >= 0:
            break
    if room < _SHORTEST_BAR:
        return cut((*left, *right), cells)
    return line(*left, *bar(seen / budget, room, flip.threshold / budget), *right)


def _done(run: RunShown, seen: float, budget: float) -> str:
    """The share of what ends the training, steps or tokens: that which is nearer to its end, while it runs and after.

    Of a training's own progress, which tells its tokens, it is the same figure as beside the stage.
    """
    progress, step = run.view.progress, run.view.step
    parts = [(seen, budget, ""), (step or 0.0, run.plan.steps or 0.0, " of steps")]
    if progress is not None and progress.total and finite(progress.seen_tokens) is not None:
        parts.insert(0, (progress.done, progress.total, " of steps" if progress.unit == "steps" else ""))
    part, whole, of = max(parts, key=lambda one: one[0] / one[1] if one[1] > 0 else 0.0)
    return percent(part, whole) + of


def _badge(run: RunShown, flip: FlipOptions, policy: str) -> list[Span]:
    bits = finite(run.view.metric.activation_bits)
    now = f" A{bits:.0f} " if bits is not None else " A? "
    quantized = finite(run.view.metric.quantized_share)
    if quantized is not None and quantized < 1:
        return [Span(now, "badge"), Span(f" not ternary yet: {percent(quantized, 1)}", "warn")]
    if some := in_layers(finite(run.view.metric.layers_at_4_bits), finite(run.view.metric.layers)):
        return [Span(" A8→A4 ", "badge-after"), Span(f"{some}{policy}", "flip")]
    if run.view.flip is not None:
        return [Span(now, "badge-after"), Span(f" flipped at {count(run.view.flip.seen_tokens)}{policy}", "flip")]
    if run.view.unread:
        return [Span(now, "badge")]
    return [Span(now, "badge"), Span(f" flips at {count(flip.threshold)}{policy}", "label")]


def _work(progress: Progress | None, cells: int, *, ended: bool, labelled: bool) -> Line:
    if progress is None:
        return line(
            Span("It ended before its first progress." if ended else "waiting for the first progress…", "label")
        )
    text = progress_words(progress.done, progress.total, flat(progress.unit))
    label = f"  {flat(progress.label)}" if progress.label else ""
    if not text:
        return line(Span(label.strip(), "value"))
    label = label if labelled else ""
    if not progress.total or progress.total < 0:
        return line(Span(text, "value"), Span(label, "label"))
    right = [Span(f"  {percent(progress.done, progress.total)}", "value"), Span(label, "label")]
    left = [Span(f"{text}  ", "value")]
    room = cells - cells_of((*left, *right))
    if room < _SHORTEST_BAR:
        return cut((*left, *right), cells)
    return line(*left, *bar(progress.done / progress.total, room), *right)
