"""The six themes, as tables of colours. No other file names a colour.

Every colour is one of xterm's 256, so a terminal without true colour (most SSH sessions, tmux) shows the same
picture; those of the theme `bitnet-terminal` are the terminal's own 16.
"""

from collections.abc import Mapping

from textual.theme import Theme

_ON_SHADES = {f"on-shade-{step}": "#eeeeee" for step in range(1, 5)}
# A curve's colour differs from those of the same chart also for colour-blind readers; the total has that of the text.
_DARK = {
    "accent": "#5fafaf",
    "secondary": "#87afd7",
    "foreground": "#d0d0d0",
    "background": "#121212",
    "surface": "#1c1c1c",
    "panel": "#303030",
    "edge": "#444444",
    "success": "#87d787",
    "warning": "#ffd75f",
    "error": "#ff8787",
    "on-accent": "#121212",
    "label": "#a8a8a8",
    "faint": "#8a8a8a",
    "track": "#4e4e4e",
    "flip": "#ffaf5f",
    "shade-1": "#3a3a3a",
    "shade-2": "#005f87",
    "shade-3": "#875f00",
    "shade-4": "#af0000",
    **_ON_SHADES,
    "curve-loss": "#eeeeee",
    "curve-kl": "#5fafff",
    "curve-ce": "#5fd7af",
    "curve-format": "#d787af",
}
_LIGHT = {
    "accent": "#005f5f",
    "secondary": "#005f87",
    "foreground": "#262626",
    "background": "#ffffff",
    "surface": "#eeeeee",
    "panel": "#dadada",
    "edge": "#bcbcbc",
    "success": "#005f00",
    "warning": "#875f00",
    "error": "#af0000",
    "on-accent": "#ffffff",
    "label": "#4e4e4e",
    "faint": "#585858",
    "track": "#c6c6c6",
    "flip": "#870087",
    "shade-1": "#d0d0d0",
    "shade-2": "#87d7ff",
    "shade-3": "#ffd787",
    "shade-4": "#ff875f",
    "curve-loss": "#262626",
    "curve-kl": "#005faf",
    "curve-ce": "#005f00",
    "curve-format": "#af005f",
}
_CONTRAST = {
    "accent": "#ffff00",
    "secondary": "#00ffff",
    "foreground": "#ffffff",
    "background": "#000000",
    "surface": "#000000",
    "panel": "#303030",
    "edge": "#ffffff",
    "success": "#5fff5f",
    "warning": "#ffd700",
    "error": "#ff8787",
    "on-accent": "#000000",
    "label": "#e4e4e4",
    "faint": "#bcbcbc",
    "track": "#8a8a8a",
    "flip": "#ffaf00",
    "shade-1": "#444444",
    "shade-2": "#005faf",
    "shade-3": "#875f00",
    "shade-4": "#af0000",
    "curve-loss": "#ffffff",
    "curve-kl": "#5fd7ff",
    "curve-ce": "#5fff87",
    "curve-format": "#ffafff",
}
# After the palette of Okabe and Ito (2008): blue, orange and vermilion in the place of green, yellow and red.
_COLOUR_BLIND = {
    "accent": "#5fafd7",
    "secondary": "#0087af",
    "foreground": "#d0d0d0",
    "background": "#121212",
    "surface": "#1c1c1c",
    "panel": "#303030",
    "edge": "#444444",
    "success": "#5fafff",
    "warning": "#ffff87",
    "error": "#ff5f00",
    "on-accent": "#121212",
    "label": "#b2b2b2",
    "faint": "#8a8a8a",
    "track": "#4e4e4e",
    "flip": "#d7af00",
    "shade-1": "#3a3a3a",
    "shade-2": "#005f87",
    "shade-3": "#875f00",
    "shade-4": "#af0000",
    **_ON_SHADES,
    "curve-loss": "#eeeeee",
    "curve-kl": "#00afff",
    "curve-ce": "#ffd75f",
    "curve-format": "#ff8700",
}
_EVENING = {
    "accent": "#d787d7",
    "secondary": "#87afff",
    "foreground": "#d7d7ff",
    "background": "#1c1c1c",
    "surface": "#262626",
    "panel": "#3a3a3a",
    "edge": "#5f5f87",
    "success": "#87d7af",
    "warning": "#ffd787",
    "error": "#ff87af",
    "on-accent": "#1c1c1c",
    "label": "#afafd7",
    "faint": "#8787d7",
    "track": "#5f5f87",
    "flip": "#ffaf87",
    "shade-1": "#444444",
    "shade-2": "#005f87",
    "shade-3": "#875f00",
    "shade-4": "#af0087",
    **_ON_SHADES,
    "curve-loss": "#eeeeee",
    "curve-kl": "#87afff",
    "curve-ce": "#87ffd7",
    "curve-format": "#ff87d7",
}
_TERMINAL = {
    "accent": "ansi_cyan",
    "secondary": "ansi_blue",
    **dict.fromkeys(("foreground", "background", "surface", "label", "faint", "curve-loss"), "ansi_default"),
    **dict.fromkeys(("panel", "edge", "track"), "ansi_bright_black"),
    "success": "ansi_green",
    "warning": "ansi_yellow",
    "error": "ansi_bright_red",
    "on-accent": "ansi_black",
    "chosen": "ansi_white",
    "on-chosen": "ansi_black",
    "flip": "ansi_yellow",
    "shade-1": "ansi_bright_black",
    "shade-2": "ansi_blue",
    "shade-3": "ansi_yellow",
    "shade-4": "ansi_red",
    **dict.fromkeys(("on-panel", "on-shade-1", "on-shade-2", "on-shade-4"), "ansi_bright_white"),
    "on-shade-3": "ansi_black",
    "curve-kl": "ansi_bright_blue",
    "curve-ce": "ansi_green",
    "curve-format": "ansi_bright_magenta",
}
_SHADES = tuple(f"shade-{step}" for step in range(1, 5))
_ON_GROUNDS = ("on-panel", *(f"on-{shade}" for shade in _SHADES))
"""The text on buttons and fields, and on each shade; as other text, unless a theme says otherwise."""
_OWN = (
    "on-accent",
    "label",
    "faint",
    "track",
    "flip",
    *_SHADES,
    "curve-loss",
    "curve-kl",
    "curve-ce",
    "curve-format",
)
"""Variables that Textual does not know."""


def _inverted(colours: Mapping[str, str]) -> dict[str, str]:
    """Ground and text of a token that is looked at, by its shade."""
    grounds = {f"at-shade-{step}": colours.get(f"on-shade-{step}", colours["foreground"]) for step in range(1, 5)}
    return grounds | {f"on-at-shade-{step}": colours[f"shade-{step}"] for step in range(1, 5)}


DEFAULTS: Mapping[str, str] = {
    **_DARK,
    **_inverted(_DARK),
    **dict.fromkeys(_ON_GROUNDS, _DARK["foreground"]),
    "divider": _DARK["surface"],
    "chosen": _DARK["panel"],
    "on-chosen": _DARK["foreground"],
}
"""For the themes that are not ours, such as TEXTUAL_THEME may name."""


def _theme(name: str, colours: Mapping[str, str], *, dark: bool = True, ansi: bool = False) -> Theme:
    accent, edge, surface = (colours[one] for one in ("accent", "edge", "surface"))
    scrollbar = {f"scrollbar{state}": edge for state in ("", "-hover", "-active")}
    scrollbar |= {f"scrollbar-background{state}": surface for state in ("", "-hover", "-active")}
    variables = {
        **scrollbar,
        "scrollbar-corner-color": surface,
        "footer-background": surface,
        "footer-description-foreground": colours["label"],
        "footer-key-foreground": accent,
        "block-cursor-text-style": "none",
        "input-selection-background": accent,
        "input-selection-foreground": colours["on-accent"],
        "divider": edge if ansi else surface,
        "border": accent,
        "border-blurred": edge,
        **{name: colours.get(name, colours["foreground"]) for name in _ON_GROUNDS},
        **{name: colours[name] for name in _OWN},
        **_inverted(colours),
        "chosen": colours.get("chosen", colours["panel"]),
        "on-chosen": colours.get("on-chosen", colours["foreground"]),
    }
    if ansi:  # Textual would blend what is not given, and the terminal's colours can't be blended
        variables |= {"ansi-foreground": "ansi_default", "ansi-background": "ansi_default", "panel": colours["panel"]}
        variables |= {"block-cursor-foreground": colours["on-accent"], "block-cursor-background": accent}
        variables |= {"input-cursor-foreground": colours["on-accent"], "input-cursor-background": accent}
        variables |= {"screen-selection-background": accent, "screen-selection-foreground": colours["on-accent"]}
    return Theme(
        name=name,
        dark=dark,
        ansi=ansi,
        primary=accent,
        secondary=colours["secondary"],
        accent=accent,
        foreground=colours["foreground"],
        background=colours["background"],
        surface=surface,
        panel=colours["panel"],
        success=colours["success"],
        warning=colours["warning"],
        error=colours["error"],
        boost="ansi_default" if ansi else None,
        variables=variables,
    )


DARK = _theme("bitnet-dark", _DARK)
TERMINAL = _theme("bitnet-terminal", _TERMINAL, ansi=True)
THEMES: Mapping[str, tuple[Theme, str]] = {
    "Dark": (DARK, "Calm colours on black."),
    "Light": (_theme("bitnet-light", _LIGHT, dark=False), "The same on white."),
    "High contrast": (_theme("bitnet-contrast", _CONTRAST), "White, yellow on black; no grey."),
    "Colour-blind": (_theme("bitnet-colour-blind", _COLOUR_BLIND), "Safe colours; curves have letters."),
    "Terminal": (TERMINAL, "The 16 colours of your terminal."),
    "Evening": (_theme("bitnet-evening", _EVENING), "Violet and peach."),
}
"""Each with its label and what it is like."""
_GREYS = {
    "accent": "#ffffff",
    "on-accent": "#121212",
    "shade-1": "#3a3a3a",
    "shade-2": "#4e4e4e",
    "shade-3": "#8a8a8a",
    "shade-4": "#c6c6c6",
    **dict.fromkeys(("on-shade-1", "on-shade-2"), "#eeeeee"),
    **dict.fromkeys(("on-shade-3", "on-shade-4"), "#121212"),
}
_GREYS_ON_WHITE = {
    "accent": "#000000",
    "on-accent": "#ffffff",
    "shade-1": "#dadada",
    "shade-2": "#bcbcbc",
    "shade-3": "#767676",
    "shade-4": "#444444",
    **dict.fromkeys(("on-shade-1", "on-shade-2"), "#121212"),
    **dict.fromkeys(("on-shade-3", "on-shade-4"), "#ffffff"),
}
_SHADES_OF_16 = {"shade-1": "#444444", "shade-2": "#000087", "shade-3": "#875f00", "shade-4": "#870000"}
"""Each becomes another one of 16 colours."""
_CHOSEN_OF_16 = {"chosen": "#4e4e4e", "on-chosen": "#eeeeee"}
_CHOSEN_OF_16_ON_WHITE = {"chosen": "#bcbcbc", "on-chosen": "#121212"}
"""Of what is chosen, where the focus is elsewhere: a theme's own ground would become that of the screen."""


def instead(theme: Theme, *, no_color: bool, few: bool) -> dict[str, str]:
    """The colours in place of a theme's own. Without colours (NO_COLOR), greys for what differs only in hue.

    With `few`, 16, the ground of what is chosen, and the shades of tokens of a dark theme; those of a light one stay
    apart.
    """
    if no_color:
        greys = _GREYS if theme.dark else _GREYS_ON_WHITE
        # Inverted, a dark grey would be the ground of the text around it.
        cursor = {f"at-shade-{step}": greys["accent"] for step in range(1, 5)}
        return {**greys, **cursor, **{f"on-at-shade-{step}": greys["on-accent"] for step in range(1, 5)}}
    if not few or theme.ansi:
        return {}
    if not theme.dark:
        return _CHOSEN_OF_16_ON_WHITE
    return _CHOSEN_OF_16 | _SHADES_OF_16 | {f"on-at-{name}": colour for name, colour in _SHADES_OF_16.items()}


LETTERED = frozenset(("bitnet-contrast", "bitnet-colour-blind", "bitnet-terminal"))
"""Themes in which curves also have letters, as without colours."""
FEW = frozenset(("standard", "windows"))
"""Rich's names of terminals with 16 colours. There a colour of a theme becomes the nearest one, and many look alike;
the shades of tokens don't, and curves have letters."""
