"""A teacher that gives one answer to every prompt after a while: said once, and nothing is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.collecting.repeats import IN_A_ROW, LEAST_STEPS, Repeats
from bitnet_core.stages import collect
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, sequential_context
from tests.teachers.fake_teacher import FakeTeacher, is_probe
from tests.teachers.server import Asked, ChatServer


@pytest.mark.teacher
@pytest.mark.usefixtures("teacher_cache")
@pytest.mark.parametrize("repeated", [IN_A_ROW - 1, IN_A_ROW, IN_A_ROW + 2])
def test_one_answer_for_many_prompts_is_said_once(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, repeated: int
) -> None:
    first: list[dict[str, Any]] = []

    def twist(number: int, asked: Asked, body: dict[str, Any]) -> None:
        if not is_probe(asked) and body["usage"]["completion_tokens"] >= LEAST_STEPS:
            first.append(copy.deepcopy(body))
        if number >= PROBES + 12 - repeated:
            body.update(copy.deepcopy(first[0]))

    with ChatServer(FakeTeacher(teacher_tokenizer, twist)) as server:
        ctx = sequential_context(tmp_path, server, KD_MAX_TOKENS_PER_PROMPT="24")
        assert collect.run(ctx)["sequences"] == 12
    assert [event["code"] for event in emitted(ctx, "alert")].count("one_answer") == (repeated >= IN_A_ROW)


def test_short_answers_repeats_of_a_prompt_and_other_answers_between_are_no_reason() -> None:
    for steps, prompts, texts in (
        (LEAST_STEPS - 1, range(99), [b"Yes."]),
        (LEAST_STEPS, [1, 2, 3] * 33, [b"a long one"]),
        (LEAST_STEPS, range(99), [b"a long one"] * (IN_A_ROW - 1) + [b"another"]),
    ):
        repeats = Repeats()
        assert not any(repeats.noticed(str(one), texts[at % len(texts)], steps) for at, one in enumerate(prompts))
