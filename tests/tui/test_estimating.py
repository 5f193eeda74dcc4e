"""The estimates of the guide: each is of the draft as it is, and what was asked before is ended."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from bitnet_tui.screens.guide.base import Guide
from bitnet_tui.screens.guide.estimating import Estimate
from bitnet_tui.services.planning import Plan
from bitnet_tui.view.guide.draft import Draft, Fault
from bitnet_tui.view.spans import unstyled
from tests.tui.plans import PLAN


class _Asking:
    """A guide whose commands never start; `running` has the newest, until it is dropped."""

    brings_traces = False

    def __init__(self) -> None:
        self.draft, self.place, self.shared = Draft(), Path("/w/one"), dict[str, Any]()
        self.shell = SimpleNamespace(home=Path("/w"))
        self.wrong: tuple[Fault, ...] = ()
        self.asked: list[Plan] = []
        self.running: tuple[Plan, Callable[[Any], object]] | None = None
        self.fail: Callable[[str], object] = lambda _: None

    def faults(self) -> tuple[Fault, ...]:
        return self.wrong

    def ask(
        self, _group: str, command: Plan, then: Callable[[Any], object], otherwise: Callable[[str], object]
    ) -> None:
        self.asked.append(command)
        self.running, self.fail = (command, then), otherwise

    def drop(self, _group: str) -> None:
        self.running = None

    def answer(self) -> None:
        assert self.running is not None
        command, then = self.running
        self.running = None
        then({"of": command.values.get("KD_NUM_PROMPTS")})


def test_what_was_asked_for_another_draft_is_ended_and_never_shown():
    guide = _Asking()
    estimate = Estimate(cast(Guide, guide), lambda: None)

    def draw(number: str) -> None:
        guide.draft = guide.draft.having("KD_NUM_PROMPTS", number)
        estimate.make()

    draw("1")
    guide.answer()
    guide.answer()  # also timed
    assert (estimate._plan, guide.running) == ({"of": "1"}, None)
    draw("2")
    assert guide.running is not None
    draw("1")  # known already
    assert (estimate._plan, guide.running, estimate._asking) == ({"of": "1"}, None, False)
    draw("3")
    guide.answer()
    guide.wrong = (Fault("student", "LR", "LR: not a number."),)
    draw("4")
    assert (guide.running, estimate._asking, estimate._timing) == (None, False, False)
    guide.wrong = ()
    draw("3")
    assert guide.running is not None


def test_another_name_asks_nothing_again():
    guide = _Asking()
    estimate = Estimate(cast(Guide, guide), lambda: None)
    estimate.make()
    guide.place = Path("/w/two")
    estimate.make()
    assert len(guide.asked) == 1 and guide.running is not None


def test_figures_of_a_changed_draft_are_faint_at_once():
    """They come back as they were where the draft does."""
    guide = _Asking()
    estimate = Estimate(cast(Guide, guide), lambda: None)
    estimate.make()
    estimate._plan, estimate._asking = PLAN, False
    before = estimate.lines()
    assert {span.style for one in before for span in one} != {"faint"}
    estimate.mark()
    *figures, last = estimate.lines()
    assert [unstyled(one) for one in figures] == [unstyled(one) for one in before]
    assert {span.style for one in figures for span in one} == {"faint"}
    assert unstyled(last) == "Estimating again…"
    estimate.make()
    assert estimate.lines() == before


def test_figures_of_another_draft_stay_faint_while_a_value_is_wrong():
    guide = _Asking()
    guide.wrong = (Fault("student", "LR", "LR: not a number."),)
    estimate = Estimate(cast(Guide, guide), lambda: None)
    estimate.make()
    assert unstyled(*estimate.lines()) == "No estimate: a value is wrong."
    estimate._plan = PLAN
    *figures, last = estimate.lines()
    assert {span.style for one in figures for span in one} == {"faint"}
    assert unstyled(last) == "No estimate: a value is wrong."


def test_what_could_not_be_timed_says_why():
    """Until the figures of a changed draft are there, the old ones go on saying that they are being timed."""
    guide = _Asking()
    estimate = Estimate(cast(Guide, guide), lambda: None)
    estimate.make()
    estimate._planned(PLAN, timed=False)
    guide.draft = guide.draft.having("KD_NUM_PROMPTS", "1")
    estimate.mark()
    estimate.make()
    assert "timing a few steps…" in unstyled(*estimate.lines())
    estimate._planned(PLAN, timed=False)
    guide.fail("It took more than 600 s.")
    said = unstyled(*estimate.lines())
    assert "It took more than 600 s." in said and "not timed" not in said and "16M parameters" in said
    guide.draft = guide.draft.having("KD_NUM_PROMPTS", "2")
    estimate.make()
    guide.fail("The preset is unknown.")
    assert unstyled(*estimate.lines()) == "! The preset is unknown."
