"""A server that quotes refused prompts, in a whole run: it changes no sampling, and ends the run for none of them."""

import time
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.stages import collect
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, context, sequential_context
from tests.teachers.fake_teacher import FakeTeacher, is_probe
from tests.teachers.server import Asked, Canned, ChatServer

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]

QUOTED = [
    "What is the boiling temperature of water?",
    "Explain top_p, top_k and min_p.",
    'How do I fix "Incorrect API key provided"?',
    'What does "insufficient balance" mean?',
    'What does "logprobs are not supported" mean?',
    "Why is max_tokens too large?",
    "Your account is suspended, contact billing",
]


@pytest.mark.parametrize("together", ["1", "16"])
@pytest.mark.parametrize("status", [400, 403])
def test_quoted_prompts_are_refused_prompts_and_change_nothing(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, status: int, together: str
) -> None:
    prompts = tmp_path / "prompts.txt"
    good = [f"Say {number}." for number in range(len(QUOTED))]
    prompts.write_text("\n".join(line for pair in zip(good, QUOTED, strict=True) for line in pair))

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        said = asked.body["messages"][-1]["content"]
        time.sleep(0.02)
        return Canned({"error": {"message": f"guard: {said}"}}, status) if said in QUOTED else None

    with ChatServer(FakeTeacher(teacher_tokenizer, twist)) as server:
        values = {"KD_TEACHER_TEMPERATURE": "1", "KD_TEACHER_TOP_P": "1", "KD_CONCURRENCY": together}
        ctx = context(tmp_path / "e", server, KD_PROMPTS_FILE=str(prompts), KD_NUM_PROMPTS="14", **values)
        summary = collect.run(ctx)
        fields = {frozenset(asked.body) for asked in server.asked}
    assert (summary["sequences"], summary["rejected"]) == (7, {"refused_prompt": 7})
    assert len(fields) == 1
    assert {event["code"] for event in emitted(ctx, "alert")} == {"prompts_without_answer", "sequences_rejected"}


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("max_tokens is too large: 16. This model supports at most 8", "KD_MAX_TOKENS_PER_PROMPT"),
        ("max_tokens: Input should be less than or equal to 8", "KD_MAX_TOKENS_PER_PROMPT"),
    ],
)
def test_a_limit_above_the_models_ends_the_run_at_its_first_refusal(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, message: str, settings: str
) -> None:
    """The probe's few tokens are below it; nothing else is paid for."""

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": {"message": message}}, 400) if asked.body["max_tokens"] > 8 else None

    with ChatServer(FakeTeacher(teacher_tokenizer, twist)) as server:
        with pytest.raises(BitnetError, match=f"correct the teacher's settings: {settings}\\.$"):
            collect.run(sequential_context(tmp_path, server))
        assert len(server.asked) == PROBES + 2


def test_a_key_that_is_revoked_in_the_middle_ends_the_run(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer
) -> None:
    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": {"message": "Incorrect API key provided"}}, 401) if number > 6 else None

    with ChatServer(FakeTeacher(teacher_tokenizer, twist)) as server:
        with pytest.raises(BitnetError, match="wants a key"):
            collect.run(sequential_context(tmp_path, server))
        assert [is_probe(asked) for asked in server.asked[7:]] == [False, True]


def test_logprobs_after_the_nucleus_are_told_before_anything_is_collected(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer
) -> None:
    def twist(_number: int, asked: Asked, body: dict[str, Any]) -> None:
        if asked.body.get("top_p", 1) < 0.5:
            for step in body["choices"][0]["logprobs"]["content"]:
                step["logprob"] = 0.0
                step["top_logprobs"] = [{**step["top_logprobs"][0], "logprob": 0.0}]

    with ChatServer(FakeTeacher(teacher_tokenizer, twist)) as server:
        with pytest.raises(BitnetError, match="KD_TEACHER_TEMPERATURE=1 and KD_TEACHER_TOP_P=1"):
            collect.run(context(tmp_path / "cut", server, KD_TEACHER_TOP_P="0.7"))
        assert all(map(is_probe, server.asked))
        values = {"KD_TEACHER_TEMPERATURE": "0.7", "KD_TEACHER_TOP_P": "1"}
        assert collect.run(context(tmp_path / "whole", server, **values))["logprob_mode"] == "raw"
