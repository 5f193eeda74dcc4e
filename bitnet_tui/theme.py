"""How each style of the views looks, by the variables of the themes."""

from collections.abc import Iterable, Mapping

from rich.style import Style
from textual.color import Color, ColorParseError
from textual.content import Content
from textual.style import Style as Painting

from bitnet_core.text import printable
from bitnet_tui.themes import DEFAULTS, FEW, LETTERED
from bitnet_tui.view.spans import Line

OFFER = "offer"
"""The action that a click on a cell does, in its style."""
CURVES = {
    **dict.fromkeys(("loss", "lr"), "curve-loss"),
    **dict.fromkeys(("kl", "heldout_loss", "peak_rss_bytes"), "curve-kl"),
    **dict.fromkeys(("ce", "agreement", "tokens_per_s", "peak_device_bytes"), "curve-ce"),
    **dict.fromkeys(("format", "grad_norm", "heldout_agreement"), "curve-format"),
    "A": "curve-kl",
    "B": "curve-format",
    "C": "curve-ce",
    "D": "warning",
    "E": "curve-loss",
    "F": "flip",
    "G": "error",
    "H": "label",
}
"""The colour of each curve; those of one chart differ. Letters stand for the runs of a comparison."""
STYLES = {
    "title": "bold $foreground",
    "value": "$foreground",
    "label": "$label",
    "beside-title": "not bold $label",
    "faint": "$faint",
    "accent": "$accent",
    "good": "$success",
    "warn": "$warning",
    "bad": "bold $error",
    "key": "bold $accent",
    "bar": "$accent",
    "track": "$track",
    "flip": "bold $flip",
    "badge": "bold $on-accent on $accent",
    "badge-after": "bold $on-accent on $flip",
    "chosen": "bold $on-accent on $accent",
    "chosen-blurred": "bold $on-chosen on $chosen",
    "shade-1": "$on-shade-1 on $shade-1",
    "shade-2": "$on-shade-2 on $shade-2",
    "shade-3": "$on-shade-3 on $shade-3",
    "shade-4": "bold underline $on-shade-4 on $shade-4",
    **{f"chosen-shade-{step}": f"bold $on-at-shade-{step} on $at-shade-{step}" for step in range(1, 5)},
    **{f"curve-{name}": f"bold ${colour}" for name, colour in CURVES.items()},
}


def paint(lines: Iterable[Line]) -> Content:
    """Lines as Textual content, safe to show. It follows a change of theme, as variables are resolved when drawn.

    What a span offers is in the style of its cells, as `OFFER`.
    """
    parts: list[str | tuple[str, str]] = []
    offers: list[tuple[int, int, str]] = []
    at = 0
    for one in lines:
        if parts:
            parts.append("\n")
            at += 1
        for span in one:
            text = printable(span.text)
            parts.append((text, STYLES[span.style]) if span.style else text)
            offers += [(at, at + len(text), span.action)] if span.action else []
            at += len(text)
    painted = Content.assemble(*parts)
    for first, end, action in offers:
        painted = painted.stylize(Painting.from_meta({OFFER: action}), first, end)
    return painted


def plot_styles(variables: Mapping[str, str]) -> dict[str, Style]:
    """How each thing in a chart is drawn, by the theme's variables."""
    wanted = {"axis": "label", "flip": "flip", "bad": "error", **CURVES}
    return {name: Style(color=_colour(variables, variable).rich_color) for name, variable in wanted.items()}


def _colour(variables: Mapping[str, str], variable: str) -> Color:
    try:
        return Color.parse(variables[variable])
    except (KeyError, ColorParseError):
        return Color.parse(DEFAULTS.get(variable, DEFAULTS["label"]))


def lettered(theme: str, colours: str | None, *, no_color: bool) -> bool:
    """Whether curves are told apart by letters as well. `colours` is Rich's name of what the terminal can show."""
    return no_color or theme in LETTERED or colours in FEW
