"""The two themes, and how each style of the views looks. No other file names a colour."""

from collections.abc import Iterable, Mapping

from textual.color import Color, ColorParseError
from textual.content import Content
from textual.theme import Theme

from bitnet_core.text import printable
from bitnet_tui.view.spans import Line

# Every colour is one of xterm's 256, so a terminal without true colour (most SSH sessions, tmux) shows the same
# picture. The curves can be told apart by colour-blind readers; the total has the colour of the text.
_DARK = {
    "label": "#949494",
    "faint": "#585858",
    "track": "#4e4e4e",
    "flip": "#ffaf5f",
    "shade-1": "#444444",
    "shade-2": "#5f5f00",
    "shade-3": "#875f00",
    "shade-4": "#870000",
    "curve-loss": "#eeeeee",
    "curve-kl": "#5fafff",
    "curve-ce": "#5fd7af",
    "curve-format": "#d787af",
}
_LIGHT = {
    "label": "#6c6c6c",
    "faint": "#a8a8a8",
    "track": "#c6c6c6",
    "flip": "#af5f00",
    "shade-1": "#eeeeee",
    "shade-2": "#ffffaf",
    "shade-3": "#ffd787",
    "shade-4": "#ff875f",
    "curve-loss": "#262626",
    "curve-kl": "#005faf",
    "curve-ce": "#00875f",
    "curve-format": "#af5f87",
}
CURVES = {
    **dict.fromkeys(("loss", "lr"), "curve-loss"),
    **dict.fromkeys(("kl", "heldout_loss", "peak_rss_bytes"), "curve-kl"),
    **dict.fromkeys(("ce", "agreement", "tokens_per_s", "peak_device_bytes"), "curve-ce"),
    **dict.fromkeys(("format", "grad_norm", "heldout_agreement"), "curve-format"),
    "A": "curve-kl",
    "B": "flip",
    "C": "curve-ce",
    "D": "curve-format",
    "E": "curve-loss",
    "F": "warning",
    "G": "error",
    "H": "label",
}
"""The colour of each curve; those of one chart differ. Letters stand for the runs of a comparison."""
DEFAULTS: Mapping[str, str] = _DARK


def _variables(colours: Mapping[str, str], accent: str, edge: str, surface: str) -> dict[str, str]:
    scrollbar = {f"scrollbar{state}": edge for state in ("", "-hover", "-active")}
    scrollbar |= {f"scrollbar-background{state}": surface for state in ("", "-hover", "-active")}
    return {
        **scrollbar,
        "scrollbar-corner-color": surface,
        "footer-background": surface,
        "footer-description-foreground": colours["label"],
        "footer-key-foreground": accent,
        "block-cursor-text-style": "none",
        "border": accent,
        "border-blurred": edge,
        **colours,
    }


DARK = Theme(
    name="bitnet-dark",
    dark=True,
    primary="#5fafaf",
    secondary="#87afd7",
    accent="#5fafaf",
    foreground="#d0d0d0",
    background="#121212",
    surface="#1c1c1c",
    panel="#303030",
    success="#87d787",
    warning="#ffd75f",
    error="#ff8787",
    variables=_variables(_DARK, "#5fafaf", "#444444", "#1c1c1c"),
)
LIGHT = Theme(
    name="bitnet-light",
    dark=False,
    primary="#008787",
    secondary="#005f87",
    accent="#008787",
    foreground="#262626",
    background="#ffffff",
    surface="#eeeeee",
    panel="#dadada",
    success="#00875f",
    warning="#875f00",
    error="#af0000",
    variables=_variables(_LIGHT, "#008787", "#bcbcbc", "#eeeeee"),
)
STYLES = {
    "title": "bold $foreground",
    "value": "$foreground",
    "label": "$label",
    "faint": "$faint",
    "accent": "$accent",
    "good": "$success",
    "warn": "$warning",
    "bad": "bold $error",
    "key": "bold $accent",
    "bar": "$accent",
    "track": "$track",
    "flip": "bold $flip",
    "badge": "bold $background on $accent",
    "badge-after": "bold $background on $flip",
    "chosen": "bold $background on $accent",
    "chosen-blurred": "bold $foreground on $panel",
    "shade-1": "$foreground on $shade-1",
    "shade-2": "$foreground on $shade-2",
    "shade-3": "$foreground on $shade-3",
    "shade-4": "bold underline $foreground on $shade-4",
    **{f"curve-{name}": f"bold ${colour}" for name, colour in CURVES.items()},
}


def paint(lines: Iterable[Line]) -> Content:
    """Lines as Textual content, safe to show. It follows a change of theme, as variables are resolved when drawn."""
    parts: list[str | tuple[str, str]] = []
    for one in lines:
        if parts:
            parts.append("\n")
        parts += [(printable(span.text), STYLES[span.style]) if span.style else printable(span.text) for span in one]
    return Content.assemble(*parts)


def plot_colours(variables: Mapping[str, str]) -> dict[str, tuple[int, int, int]]:
    """The colours of a chart from the theme's variables."""
    wanted = {"axis": "label", "flip": "flip", "bad": "error"}
    wanted |= CURVES
    colours: dict[str, tuple[int, int, int]] = {}
    for name, variable in wanted.items():
        try:
            colours[name] = Color.parse(variables[variable]).rgb
        except (KeyError, ColorParseError):
            colours[name] = Color.parse(DEFAULTS.get(variable, DEFAULTS["label"])).rgb
    return colours
