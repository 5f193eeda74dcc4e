"""The estimates of the guide: each is of the draft as it is, and what was asked before is ended."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bitnet_core.errors import BitnetError
from bitnet_tui.screens.guide.base import Guide
from bitnet_tui.screens.guide.estimating import Estimate
from bitnet_tui.services.planning import Plan
from bitnet_tui.view.guide.draft import Draft, Fault
from bitnet_tui.view.spans import unstyled
from tests.tui.plans import PLAN


class _Asking:
    """A guide whose commands never start; `running` has the newest, until it is dropped."""

    brings_traces, on_stack = False, True
    source_traces: Path | None = None
    source_checkpoints: Path | None = None

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


def test_what_is_known_early_is_shown_until_the_machine_was_looked_at():
    guide = _Asking()
    estimate = Estimate(cast(Guide, guide), lambda: None)
    estimate.make()
    assert "--early" in guide.asked[0].arguments
    asked = estimate._asked
    estimate._known_early(asked, {**PLAN, "early": True, "training_memory": None})
    lines = estimate.lines()
    assert {"Memory     …", "Time       977 steps or more", "Disk       964 MB  checkpoints"} <= set(
        map(unstyled, lines)
    )
    assert {span.style for one in lines for span in one} != {"faint"}
    guide.answer()
    assert estimate._plan == {"of": "320"} and "--early" not in guide.asked[1].arguments
    estimate._known_early(asked, PLAN)
    assert estimate._plan == {"of": "320"}, "it comes too late"
    guide.draft = guide.draft.having("KD_NUM_PROMPTS", "1")
    estimate.make()
    estimate._known_early(asked, PLAN)
    assert estimate._plan == {"of": "320"}, "it is of another draft"
    estimate.end()
    estimate._known_early(estimate._asked, PLAN)
    assert estimate._plan == {"of": "320"}, "its step was left"


def _telling(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """Stands in for `bitnet plan`: it says something early, and its answer once it has read a line."""
    children: list[subprocess.Popen[str]] = []

    @contextlib.contextmanager
    def started(_command: Plan, _keys: object) -> Iterator[subprocess.Popen[str]]:
        script = "print('{\"early\": true}', flush=True); input(); print('{\"whole\": 1}')"
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", script]
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        ) as one:
            children.append(one)
            yield one

    monkeypatch.setattr(Plan, "started", started)
    return children


def test_a_plan_is_heard_before_its_end(monkeypatch: pytest.MonkeyPatch):
    children, heard = _telling(monkeypatch), list[Any]()

    def hear(said: Any) -> None:
        heard.append(said)
        print(file=children[0].stdin, flush=True)

    answer = Plan(Path("/w"), Path("/w/one"), {}, timed=False).run_hearing(hear)
    assert (heard, answer) == ([{"early": True}], {"whole": 1, "warnings": []})


def test_a_plan_that_hangs_after_its_first_words_is_ended(monkeypatch: pytest.MonkeyPatch):
    children, heard = _telling(monkeypatch), list[Any]()
    plan = Plan(Path("/w"), Path("/w/one"), {}, timed=False)
    plan._seconds = 0.5
    with pytest.raises(BitnetError, match="The estimate gave no complete answer in"):
        plan.run_hearing(heard.append)
    assert children[0].poll() is not None


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
    before, cost = estimate.lines(), estimate.cost()
    assert {span.style for one in before for span in one} != {"faint"}
    estimate.mark()
    assert [unstyled(one) for one in estimate.lines()] == [unstyled(one) for one in before]
    assert {span.style for one in estimate.lines() for span in one} == {"faint"}
    assert estimate.title() == "What it will take: estimating again…"
    assert unstyled(estimate.cost()) == "Estimating time and disk… · costs nothing"
    estimate.make()
    assert (estimate.lines(), estimate.cost(), estimate.title()) == (before, cost, "What it will take")
    estimate._problem = "The preset is unknown."
    estimate.mark()
    assert "unknown" not in unstyled(*estimate.lines()), "it was said of another draft"


def test_figures_of_another_draft_stay_faint_while_a_value_is_wrong():
    guide = _Asking()
    guide.wrong = (Fault("student", "LR", "LR: not a number."),)
    estimate = Estimate(cast(Guide, guide), lambda: None)
    estimate.make()
    assert unstyled(*estimate.lines()) == "No estimate: a value is wrong."
    estimate._plan = PLAN
    assert {span.style for one in estimate.lines() for span in one} == {"faint"}
    assert estimate.title() == "What it will take: a value is wrong"
    assert unstyled(estimate.cost()) == "No estimate"


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


def test_traces_that_are_copied_along_are_counted_where_they_are():
    guide = _Asking()
    guide.source_traces = Path("/w/old/data")
    estimate = Estimate(cast(Guide, guide), lambda: None)
    estimate.make()
    assert "KD_DATA_PATH" not in guide.asked[-1].values
    guide.brings_traces, guide.source_checkpoints = True, Path("/w/old/checkpoints")
    estimate.make()
    assert guide.asked[-1].values["KD_DATA_PATH"] == "/w/old/data"
    assert guide.asked[-1].values["CHECKPOINTS_DIR"] == "/w/old/checkpoints"
    guide.draft = guide.draft.having("KD_DATA_PATH", "/elsewhere")
    estimate.make()
    assert guide.asked[-1].values["KD_DATA_PATH"] == "/elsewhere"


def test_the_fit_before_training_is_a_part_of_its_own():
    fit = {"seconds": 560.0, "fit_steps": 512, "exact": True, "made": False}
    timed = PLAN["time"] | {"seconds": 557.0, "step_seconds": 1.0, "tokens_per_s": 30.0}
    shown = Estimate(cast(Guide, _Asking()), lambda: None)
    shown._asked, shown._plan = {}, {**PLAN, "preparation": fit, "time": timed}
    assert "Layer fit  9m 20s  512 steps" in map(unstyled, shown.lines())
    assert "9m 17s + 9m 20s to fit the layers" in unstyled(shown.cost())
    assert (shown.first, shown.start_made) == ("9m 20s", False)
    shown._plan = {**shown._plan, "preparation": fit | {"seconds": 0.0, "made": True}}
    assert "Layer fit  made already" in map(unstyled, shown.lines())
    assert "to fit the layers" not in unstyled(shown.cost())
    assert (shown.first, shown.start_made) == ("", True)
    shown._plan = {**shown._plan, "preparation": fit | {"exact": False}}
    assert "Layer fit  at most 9m 20s  512 steps" in map(unstyled, shown.lines())
    untimed = timed | {"evaluations": {"times": 4, "seconds": 3.0}}
    shown._plan = {**shown._plan, "preparation": fit | {"seconds": None}, "time": untimed}
    assert "Layer fit  512 steps" in map(unstyled, shown.lines())
    assert unstyled(shown.cost()).startswith("Takes 9m 20s · ")
