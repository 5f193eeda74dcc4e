"""The lines of actions that are places to click."""

import pytest

from bitnet_tui.actions import by_id
from bitnet_tui.view import offered
from bitnet_tui.view.spans import unstyled, wrapped
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


SENTENCES = [
    ("Raise the budget in Config (6), or resume in Checkpoints (4).", "experiment.config", "Config (6)"),
    ("Lower LR (6 Config).", "experiment.config", "(6 Config)"),
    ("Go on from a checkpoint (4 Checkpoints, T).", "experiment.checkpoints", "4 Checkpoints"),
    ("To begin again, score them (S).", "traces.score", "them (S)"),
    ("Its stages run; f follows the one that is running.", "experiment.follow", "f follows the one that is running"),
    ("Worst token number 1; N goes to number 2.", "traces.worst-of-all", "N goes to number 2"),
    ("No experiments yet. Press n to create one.", "list.new", "Press n"),
    ("press Push the copy (u)", "experiment.push", "Push the copy (u)"),
    ("A key of a teacher; a shows where, and sets one.", "app.keys", "a shows where, and sets one"),
    ("A new model, a large one (a b).", "app.keys", ""),
]


@pytest.mark.parametrize(("text", "name", "link"), SENTENCES)
@pytest.mark.parametrize("cells", [200, 24])
def test_what_a_sentence_says_of_a_key_is_a_place_to_click(text: str, name: str, link: str, cells: int) -> None:
    lines = offered.wrapped_links("! ", text, "label", cells, name)
    assert unstyled(*lines) == unstyled(*wrapped("! ", text, "label", cells))
    spans = [span for one in lines for span in one if span.action]
    assert " ".join(" ".join(span.text for span in spans).split()) == link.split(",")[0]
    action = by_id(name)
    assert {span.action for span in spans} <= {f"app.{action.name}" if action.where == "app" else action.name}
    assert not [span.text for span in spans if span.text[:1].isspace()]
