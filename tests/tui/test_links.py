"""The lines of actions that are places to click."""

import pytest

from bitnet_tui.widgets.links import arranged

OFFERS = [(key, "does it", "action") for key in "abcdefgh"]
"""Nine cells each, with two between them."""


@pytest.mark.parametrize(
    ("cells", "lines"), [(200, [8]), (86, [8]), (85, [4, 4]), (42, [4, 4]), (41, [3, 3, 2]), (1, [1] * 8)]
)
def test_two_lines_of_offers_are_about_as_long(cells: int, lines: list[int]) -> None:
    placed = arranged(OFFERS, cells)
    assert [len(line) for line in placed] == lines
    assert [one for line in placed for _, one in line] == OFFERS


def test_two_offers_that_fit_nowhere_have_a_line_each() -> None:
    assert [len(line) for line in arranged(OFFERS[:2], 1)] == [1, 1]
