"""The contrast of what a screen shows: of each text against the ground that is drawn under it."""

from collections.abc import Iterator

from textual.color import Color
from textual.screen import Screen


def contrast(one: Color, other: Color) -> float:
    """As the WCAG define it, from 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Color) -> float:
    parts = [value / 255 for value in colour.rgb]
    linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def drawn(screen: Screen[object]) -> Iterator[tuple[str, float]]:
    """Each piece of text in one style, with its contrast.

    Not what is dimmed behind a dialog, and not what is disabled.
    """
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
            if widget.disabled or widget.has_class("-disabled"):
                continue
            ink, ground = Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor)
            yield segment.text.strip(), contrast(ground, ink)
