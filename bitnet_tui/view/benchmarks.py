"""The public benchmarks as lines: which are here, their licences, and what fetching some takes."""

from collections.abc import Sequence

from bitnet_core.text import flat, listed, pad, size, wrap
from bitnet_tui.services.benchmarks import Benchmark
from bitnet_tui.view.spans import Line, Span, line

_NAME, _ITEMS, _LICENCE = 18, 7, 12
_USUAL = ", 0-shot"
"""What most are, which is said once."""
_LEAST_ABOUT = 16
"""Cells: with fewer beside the other columns, what a benchmark is about stands below its name."""
_MOST_NAMED = 6


def lines(found: Sequence[Benchmark], cells: int) -> tuple[Line, ...]:
    """Of each a mark, the name, the items, the licence, and what it is about, wrapped where it is too long."""
    indent = 2 + _NAME + _ITEMS + 2 + _LICENCE + 2
    beside = cells - indent >= _LEAST_ABOUT
    indent = indent if beside else 2
    title = f"  {pad('benchmark', _NAME)}{'items':>{_ITEMS}}  {pad('licence', _LICENCE)}"
    rows = [line(Span(f"{title}  about" if beside else title, "label"))]
    for one in found:
        mark, style = ("✓ ", "good") if one.here else ("! ", "warn") if one.wanted else ("· ", "faint")
        name = Span(pad(flat(one.name), _NAME), "value" if one.wanted else "label")
        figures = f"{one.items:>{_ITEMS},}  {pad(flat(one.licence), _LICENCE)}"
        about = wrap(flat(one.about).removesuffix(_USUAL), cells - indent)
        if beside:
            figures = f"{figures}  {about.pop(0)}"
        rows.append(line(Span(mark, style), name, Span(figures, "label")))
        rows += [line(Span(f"{'':{indent}}{text}", "label")) for text in about]
    marks = [Span("✓ ", "good"), Span("here   ", "label"), Span("! ", "warn")]
    return (
        *rows,
        (),
        line(*marks, Span("scored but not here   ", "label"), Span("· not here", "label")),
        line(Span("0-shot unless stated otherwise", "label")),
    )


def cost(found: Sequence[Benchmark]) -> int:
    """Bytes to download for those that are not here."""
    return sum({one.package: one.package_bytes for one in found if not one.here}.values())


def question(found: Sequence[Benchmark]) -> tuple[str, str, str, str]:
    """Whether what is missing should be fetched before a stage, as the texts of a question."""
    names = [one.name for one in found]
    shown = names if len(names) <= _MOST_NAMED else [*names[: _MOST_NAMED - 1], "others"]
    licences = sorted({one.licence for one in found})
    verb = "is" if len(names) == 1 else "are"
    why = (
        f"The settings ask for {listed(shown)}, which {verb} not here yet. {size(cost(found))} will come from the "
        f"package index. Licences of the data sets: {', '.join(licences)}. The stage starts when they have arrived."
    )
    return "Fetch the benchmarks first?", why, "Fetch, then start", "The stage was not started."
