"""Running suites: items in order, unanswered ones counted, scores by suite."""

from collections.abc import Sequence

import pytest

from bitnet_core.errors import Stopped
from bitnet_core.suites.items import load_suites
from bitnet_core.suites.run import OnAnswer, Unanswered, run_suites, scores, total, unanswered

SUITES = load_suites(["json", "arithmetic"], None, 8)
REFERENCES = [item.reference for found in SUITES.values() for item in found]


def test_a_perfect_answerer_has_one_and_a_silent_one_has_no_score() -> None:
    def perfect(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        for place in reversed(range(len(prompts))):
            on_answer(place, REFERENCES[place])

    graded = run_suites(SUITES, perfect)
    assert [one.item.reference for one in graded] == [one.text for one in graded] == REFERENCES
    assert {name: score.passed for name, score in scores(graded, 1).items()} == {"json": 8, "arithmetic": 8}
    whole = total(graded, 1)
    assert whole.estimate is not None
    assert (whole.items, whole.answered, whole.estimate.value) == (16, 16, 1.0)

    silent = run_suites(SUITES, lambda _prompts, _on_answer: None)
    assert total(silent, 1).estimate is None
    assert scores(silent, 1)["json"].unanswered == 8
    assert unanswered(silent) == {"no answer came": 16}


def test_an_item_without_an_answer_is_not_a_wrong_one() -> None:
    def some(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        for place in range(len(prompts)):
            on_answer(place, Unanswered("refused") if place < 6 else REFERENCES[place] if place % 2 else "no")

    graded = run_suites(SUITES, some)
    by_suite = scores(graded, 1)
    assert (by_suite["json"].answered, by_suite["json"].unanswered, by_suite["json"].passed) == (2, 6, 1)
    assert by_suite["arithmetic"].passed == 4
    found = total(graded, 1)
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx((1 / 2 + 4 / 8) / 2)
    assert found.estimate.low <= 0.5 <= found.estimate.high
    assert unanswered(graded) == {"refused": 6}
    assert [one.passed for one in graded[:7]] == [None] * 6 + [False]
    assert graded[6].reason


def test_a_stop_is_not_an_answer() -> None:
    def stopped(_prompts: Sequence[str], _on_answer: OnAnswer) -> None:
        raise Stopped("stopped")

    with pytest.raises(Stopped):
        run_suites(SUITES, stopped)
