"""How pictures of the app are drawn: lines and dots go on from cell to cell, and a style has its colours."""

import itertools
from io import BytesIO

import pytest
from PIL import Image
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from bitnet_core.runs.elapsed import Elapsed
from tests.tui.gallery import place
from tests.tui.gallery.drawing import HEIGHT, WIDTH, drawn

_INK, _PAPER = "#FFFFFF", "#101010"


def _pixels(*lines: str, style: Style | None = None) -> Image.Image:
    strips = [Strip([Segment(line, style)]) for line in lines]
    return Image.open(BytesIO(drawn(strips, _INK, _PAPER))).convert("RGB")


def _row(image: Image.Image, y: int) -> list[bool]:
    return [image.getpixel((x, y)) == (255, 255, 255) for x in range(image.width)]


def _column(image: Image.Image, x: int) -> list[bool]:
    return [image.getpixel((x, y)) == (255, 255, 255) for y in range(image.height)]


@pytest.mark.parametrize(("lines", "down"), [(["─┬─"], False), (["━━━"], False), (["│", "┤", "└"], True)])
def test_a_line_has_no_gap(lines: list[str], down: bool) -> None:
    image = _pixels(*lines)
    whole = _column(image, WIDTH // 2) if down else _row(image, HEIGHT // 2)
    joined = whole[: -HEIGHT // 2] if down else whole  # the corner at the end leads to the right
    assert all(joined)


def _starts(line: list[bool]) -> list[int]:
    return [place for place, on in enumerate(line) if on and not (place and line[place - 1])]


def test_the_dots_of_braille_are_as_far_apart_across_cells_as_within_one() -> None:
    image = _pixels("⣿⣿", "⣿⣿")
    across, down = _starts(_row(image, 3)), _starts(_column(image, 3))
    assert (len(across), len(down)) == (4, 8)
    assert {after - before for before, after in itertools.pairwise(across)} == {WIDTH // 2}
    assert {after - before for before, after in itertools.pairwise(down)} == {HEIGHT // 4}


def test_blocks_fill_their_share_and_reversed_text_changes_its_colours() -> None:
    assert sum(_row(_pixels("▌"), 0)) == WIDTH // 2
    assert sum(_column(_pixels("▂"), 0)) == HEIGHT // 4
    assert all(_row(_pixels("  ", style=Style(reverse=True)), 0))
    assert _pixels("\u3000▌").width == 3 * WIDTH


@pytest.mark.parametrize(("colour", "drawn_as"), [("color(2)", (0, 128, 0)), ("#5f00af", (95, 0, 175))])
def test_a_colour_of_a_terminal_is_drawn_as_one_of_its_16(colour: str, drawn_as: tuple[int, int, int]) -> None:
    assert _pixels(" ", style=Style(bgcolor=colour)).getpixel((0, 0)) == drawn_as


def test_in_the_made_up_place_the_clock_stands_still_for_runs_too():
    with place._still(5.0):
        assert Elapsed().wall() == 5.0
