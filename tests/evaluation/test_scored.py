"""Items and fixed text through one model given as both sides: it is exactly its own equal, and gaps are said."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation import suite_report
from bitnet_core.evaluation.benchmarks import Open
from bitnet_core.evaluation.scored import Scored, longest, score_student, tasks_to_score
from bitnet_core.evaluation.scorers import student_scorer
from bitnet_core.evaluation.student_runtime import StudentRuntime
from bitnet_core.runs.strict_json import strict
from bitnet_core.settings.values import SuiteOptions
from bitnet_core.suites.fixed_text import task
from bitnet_core.suites.items import load_suites
from bitnet_core.suites.likelihood import TextScorer
from bitnet_core.suites.outside import OutsideScores
from bitnet_core.suites.run import Answer, OnAnswer, Unanswered, grade_answers, prompts_of
from tests.builders import emitted, events_of, stage_context
from tests.export.conftest import random_student
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]

SUITES = load_suites(["json", "arithmetic"], None, 6)
REFERENCES = [item.reference for items in SUITES.values() for item in items]
SOME: dict[int, Answer] = {place: text if place % 3 else "no" for place, text in enumerate(REFERENCES)}


@pytest.fixture(scope="module")
def scorer() -> Iterator[TextScorer]:
    torch.manual_seed(0)
    tokenizer = small_tokenizer()
    with student_scorer(random_student(tokenizer.vocab_size), tokenizer) as found:
        yield found


def baseline_of(answers: Mapping[int, Answer]) -> dict[str, Any]:
    return {"checks": suite_report.record(grade_answers(SUITES, answers), 0, 96, "x")}


def scored(root: Path, scorer: TextScorer, baseline: Mapping[str, Any], teacher: Open) -> tuple[Scored, list[str]]:
    """The student answers as SOME says."""
    ctx = stage_context(root, "eval", {"EVAL_TEXT_WEIGHT": "0.5", "EVAL_LIMIT": "1"})
    asked = SuiteOptions.of(ctx.settings)

    def answers(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        assert list(prompts) == prompts_of(SUITES)
        for place, text in SOME.items():
            on_answer(place, text)

    here = StudentRuntime("x", "", answers, scorer)
    tasks = tasks_to_score([], asked)
    found = score_student(here, SUITES, tasks, asked, baseline, teacher, OutsideScores(), ctx, keep_texts=True)
    return found, [one["code"] for one in emitted(ctx, "alert")]


def test_a_model_beside_itself_has_exactly_one(root: Path, scorer: TextScorer) -> None:
    found, alerts = scored(root, scorer, baseline_of(SOME), lambda: contextlib.nullcontext(scorer))
    assert alerts == []
    assert found.found is not None and found.found.whole.ratio is not None
    assert found.found.whole.ratio.value == 1.0
    assert found.found.whole.student == found.found.whole.teacher
    assert set(found.found.weights.values()) == {0.5}
    assert strict(found.record()) == found.record()
    assert found.checks is not None and found.checks["runtime"] == "x"


def test_items_that_the_teacher_failed_on_count_for_neither(root: Path, scorer: TextScorer) -> None:
    failing = {place: Unanswered("refused.") if place < 4 else text for place, text in enumerate(REFERENCES)}
    found, alerts = scored(root, scorer, baseline_of(failing), lambda: contextlib.nullcontext(scorer))
    assert found.found is not None
    assert [len(part.weights_N) for part in found.found.parts] == [2, 6, 1]
    assert found.found.items is not None and found.found.items.teacher.value == 1.0
    assert alerts == ["teacher_unanswered"]
    assert found.checks is not None and found.checks["teacher_unanswered"] == {"refused.": 4}
    (alert,) = events_of(next((root / "logs").glob("eval-*/events.jsonl")), "alert")
    assert alert["message"] == "In its baseline the teacher left 4 of these 12 items unanswered (refused)."


def test_items_that_the_teacher_was_not_asked_are_told_from_those_it_left(root: Path, scorer: TextScorer) -> None:
    baseline = baseline_of({place: text for place, text in SOME.items() if place})
    baseline["checks"]["answers"] = baseline["checks"]["answers"][:-2]
    found, alerts = scored(root, scorer, baseline, lambda: contextlib.nullcontext(scorer))
    assert alerts == ["teacher_unanswered", "items_not_compared"]
    assert found.checks is not None and found.checks["in_common"]["items"] == 9


def test_a_teacher_without_probabilities_is_said(root: Path, scorer: TextScorer) -> None:
    @contextlib.contextmanager
    def refusing() -> Iterator[TextScorer]:
        raise BitnetError("it only chats.")
        yield

    found, alerts = scored(root, scorer, baseline_of(SOME), refusing)
    assert found.why == ["The teacher has no score on given text: it only chats."]
    assert alerts == ["text_not_measurable"]
    assert found.found is not None and found.found.how == "items"
    assert found.found.whole.ratio is not None and found.found.whole.ratio.value == 1.0


def test_a_teacher_that_fails_on_the_whole_text_is_said(root: Path, scorer: TextScorer) -> None:
    class Ending:
        limit = 255

        def score_ids(self, *_: Any) -> list[Any]:
            raise BitnetError("the server ended.")

    ending = TextScorer(scorer.tokenizer, Ending())
    found, alerts = scored(root, scorer, baseline_of(SOME), lambda: contextlib.nullcontext(ending))
    assert alerts == ["benchmarks_unanswered"]
    assert found.found is not None and found.found.how == "items"
    assert found.record()["missing"] == ["The teacher scored no passage of the fixed text."]


def test_a_baseline_without_items_is_said(root: Path, scorer: TextScorer) -> None:
    found, _ = scored(root, scorer, {}, lambda: contextlib.nullcontext(scorer))
    assert found.found is not None and found.found.how == "fixed text"
    assert "No item of the suites was answered by both" in found.record()["missing"][0]


def test_a_baseline_of_longer_answers_is_said(root: Path, scorer: TextScorer) -> None:
    baseline = baseline_of(SOME)
    baseline["checks"]["max_tokens"] = 4096
    _, alerts = scored(root, scorer, baseline, lambda: contextlib.nullcontext(scorer))
    assert alerts == ["items_not_alike"]


def test_enough_tokens_for_the_longest_text_are_a_whole_number_of_steps() -> None:
    assert longest([]) == 256
    assert longest([task()]) % 256 == 0 and longest([task()]) > task().longest
