"""Counting prompts without an answer: when the prompt is to blame, and when the teacher is."""

import pytest

from bitnet_core.collecting.teacher_health import (
    MAX_FAILED_PROMPTS,
    MAX_NEW_REFUSALS,
    REFUSALS_TO_TEST,
    FailureCounts,
    Reaction,
)
from bitnet_core.teachers.refusals import Failing, PromptRefused

REFUSED, FAILED = PromptRefused("no"), Failing("down")


@pytest.mark.parametrize("parallel", [1, 8])
def test_new_failures_in_a_row_end_the_run(parallel: int) -> None:
    counts = FailureCounts(parallel)
    most = MAX_FAILED_PROMPTS + parallel - 1
    reactions = [counts.record(FAILED, None) for _ in range(most)]
    assert reactions == [Reaction.CONTINUE] * (most - 1) + [Reaction.GIVE_UP]


def test_an_answer_starts_the_count_anew() -> None:
    counts = FailureCounts(1)
    for _ in range(20):
        assert counts.record(FAILED, None) is Reaction.CONTINUE
        assert counts.record(REFUSED, None) is Reaction.CONTINUE
        counts.reset()


def test_prompts_that_failed_before_are_left_for_a_later_run() -> None:
    counts = FailureCounts(1)
    reactions = [counts.record(FAILED, "no_answer") for _ in range(MAX_FAILED_PROMPTS + 3)]
    assert reactions[MAX_FAILED_PROMPTS - 1] is Reaction.LEAVE_THE_REST
    assert set(reactions) == {Reaction.CONTINUE, Reaction.LEAVE_THE_REST}
    assert reactions.count(Reaction.LEAVE_THE_REST) == 1


def test_refusals_test_the_teacher_now_and_then_and_many_new_ones_end_the_run() -> None:
    counts = FailureCounts(1)
    reactions = [counts.record(REFUSED, None) for _ in range(MAX_NEW_REFUSALS)]
    tested = [number for number, reaction in enumerate(reactions, 1) if reaction is Reaction.TEST_TEACHER]
    assert tested == list(range(REFUSALS_TO_TEST, MAX_NEW_REFUSALS, REFUSALS_TO_TEST))
    assert reactions[-1] is Reaction.GIVE_UP


def test_prompts_refused_before_never_end_the_run_by_their_number() -> None:
    counts = FailureCounts(1)
    reactions = {counts.record(REFUSED, PromptRefused.status) for _ in range(3 * MAX_NEW_REFUSALS)}
    assert reactions == {Reaction.CONTINUE, Reaction.TEST_TEACHER}
