"""The contrast of what a screen shows: of each text against the ground that is drawn under it."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from rich.color import Color as Drawn
from rich.color import ColorType
from textual.color import Color
from textual.screen import Screen
from textual.widget import Widget

_VGA = "000 a00 0a0 a50 00a a0a 0aa aaa 555 f55 5f5 ff5 55f f5f 5ff fff"
_XTERM = (
    "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff"
)
TERMINALS = {
    f"{name} on {'white' if ground else 'black'}": (tuple(f"#{one}" for one in colours.split()), text, ground)
    for name, colours in (("VGA", _VGA), ("xterm", _XTERM))
    for text, ground in ((7, 0), (0, 15))
}
"""What terminals make of their 16 colours, and the numbers of those in which they write text that names none."""


def contrast(one: Color, other: Color) -> float:
    """As the WCAG define it, from 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Color) -> float:
    parts = [value / 255 for value in colour.rgb]
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


class Piece(NamedTuple):
    """Text in one style, and the widget that draws it."""

    text: str
    widget: Widget
    ink: Drawn
    ground: Drawn

    def contrast(self, terminal: str = "VGA on black", *, coloured: bool = True) -> float:
        """On one of TERMINALS, or in greys."""
        return _contrast(self.ink, self.ground, terminal, coloured)


@cache
def _contrast(ink: Drawn, ground: Drawn, terminal: str, coloured: bool) -> float:
    colours, *usual = TERMINALS[terminal]
    text, under = (_seen(one, colours, otherwise) for one, otherwise in zip((ink, ground), usual, strict=True))
    return contrast(under, text) if coloured else contrast(under.monochrome, text.monochrome)


def _seen(colour: Drawn, colours: Sequence[str], otherwise: int) -> Color:
    if colour.is_default:
        return Color.parse(colours[otherwise])
    if colour.type is ColorType.STANDARD and colour.number is not None:
        return Color.parse(colours[colour.number])
    return Color.from_rich_color(colour)


def drawn(screen: Screen[object]) -> Iterator[Piece]:
    """Each piece of text in one style. Not what is dimmed behind a dialog, and not what is disabled."""
    cards = [one.region for one in screen.walk_children()]
    for y, strip in enumerate(screen._compositor.render_strips()):
        x = 0
        for segment in strip:
            start = x + len(segment.text) - len(segment.text.lstrip())
            x += segment.cell_length
            style = segment.style
            if not segment.text.strip() or not style or not style.color or not style.bgcolor:
                continue
            if not any(card.contains(start, y) for card in cards):
                continue
            widget, _ = screen.get_widget_at(start, y)
            if not widget.disabled and not widget.has_class("-disabled"):
                yield Piece(segment.text.strip(), widget, style.color, style.bgcolor)
