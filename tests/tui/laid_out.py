"""What is wrong with how a screen is laid out: cut words, widgets that can't be reached, and those on each other."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path

from textual.command import CommandPalette
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList, Static

import bitnet_core
import bitnet_tui
from bitnet_core.text import width
from bitnet_tui.view.spans import cells_of
from bitnet_tui.widgets.table import GUTTER, Table


def faults(screen: Screen[object]) -> list[str]:
    """One sentence for each fault; none on a screen on which all can be read and reached."""
    shown = [one for one in screen.walk_children() if one.is_attached and _displayed(one)]
    found = [f"{screen} scrolls as a whole"] if screen.max_scroll_y or screen.max_scroll_x else []
    for one in shown:
        found += [f"{one}: {fault}" for fault in (*_out_of_reach(one), *_cut(one))]
    for one in (screen, *shown):
        inside = [child for child in one.children if child in shown and child.region.area]
        for first, second in combinations(inside, 2):
            if first.layer == second.layer and first.region.overlaps(second.region):
                found.append(f"{first} and {second} are on each other")
    return found


def cut_words(screen: Screen[object], brought: str) -> list[str]:
    """Words on it that neither the app nor the core has: most likely parts of one. Not what is behind a dialog.

    A word before an ellipsis may be cut. `brought` has the words that the test and the machine bring along.
    """
    known = _known() | {word.lower() for word in re.findall(_LETTERS, brought)}
    cards = [one.region for one in screen.walk_children() if one.is_attached and _displayed(one)]
    found = []
    for y, strip in enumerate(screen._compositor.render_strips()):
        for word in _WORD.finditer(strip.text):
            x = width(strip.text[: word.start()])
            if word[1].lower() not in known and any(card.contains(x, y) for card in cards):
                found.append(f"{word[1]!r} in {strip.text.strip()!r}")
    return found


_LETTERS = r"[^\W\d_]{3,}"
_WORD = re.compile(rf"(?<![^\W_])({_LETTERS})(?![^\W_]|…)")


@cache
def _known() -> set[str]:
    """Every word of the texts of the app and of the core."""
    known: set[str] = set()
    for package in (bitnet_tui, bitnet_core):
        for path in Path(str(package.__file__)).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    known |= {word[1].lower() for word in _WORD.finditer(node.value)}
    return known


def _displayed(one: Widget) -> bool:
    return all(above.display for above in one.ancestors_with_self if isinstance(above, Widget))


def _out_of_reach(one: Widget) -> Iterator[str]:
    """A widget has to lie in the one around it, unless that one has a scrollbar."""
    around = one.parent
    if not isinstance(around, Widget) or isinstance(one.screen, CommandPalette):
        return  # Textual moves the parts of its palette over one another
    region, room = one.region, around.region.shrink(around.styles.border.spacing)
    if not region.area:
        if one.focusable or (isinstance(one, Static) and str(one.content).strip()):
            yield "has no room"
    elif (region.y < room.y or region.bottom > room.bottom) and not around.allow_vertical_scroll:
        yield f"{region} is above or below {around}"
    elif (region.x < room.x or region.right > room.right) and not around.allow_horizontal_scroll:
        yield f"{region} is beside {around}"


def _cut(one: Widget) -> Iterator[str]:
    cells, rows = one.content_size
    ends = one.styles.text_wrap == "nowrap" and one.styles.text_overflow == "clip"
    if isinstance(one, Static) and one.region.area:
        lines = one.visual.get_height(one.styles, cells)
        if lines > rows:
            yield f"shows {rows} of {lines} lines: {str(one.content)!r}"
        elif ends and one.visual.get_optimal_width(one.styles, cells) > cells:
            yield f"ends after {cells} cells: {str(one.content)!r}"
    elif isinstance(one, Button) and width(str(one.label)) + 2 * one.styles.line_pad > cells:
        yield f"shows {cells} cells of {str(one.label)!r}"
    elif isinstance(one, Input) and not one.value and width(one.placeholder) > cells:
        yield f"shows {cells} cells of {one.placeholder!r}"
    elif isinstance(one, OptionList) and ends:
        room = one.scrollable_content_region.width
        padding = one.get_component_styles("option-list--option").padding.width
        for option in one.options:
            if one._get_visual(option).get_optimal_width(one.styles, room) + padding > room:
                yield f"shows {room} cells of {str(option.prompt)!r}"
    elif isinstance(one, Table):
        room = one.scrollable_content_region.width - GUTTER
        for row in one._rows:
            if cells_of(row.text) > room:
                yield f"shows {room} cells of {row.text}"
