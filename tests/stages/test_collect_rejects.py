"""Answers of a teacher that the collect stage can't use: each is rejected with its reason, and no other one."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bitnet_core.runs.context import StageContext
from bitnet_core.stages import collect
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.dataset import load_traces
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, context
from tests.teachers.fake_teacher import FakeTeacher, Twist, corrupt_second_step, is_probe
from tests.teachers.server import Asked, Canned, ChatServer

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]


def _rejections(ctx: StageContext) -> list[str]:
    """The severities of the alerts that answers can't be used."""
    return [event["severity"] for event in emitted(ctx, "alert") if event["code"] == "sequences_rejected"]


def _spoiling(spoil: Callable[[dict[str, Any]], Canned | None]) -> Twist:
    """A twist that spoils each answer to the first prompt of the collection, and no other."""
    bad: list[str] = []

    def twist(_number: int, asked: Asked, body: dict[str, Any]) -> Canned | None:
        prompt = asked.body["messages"][-1]["content"]
        if is_probe(asked) or (bad and prompt not in bad):
            return None
        bad.append(prompt)
        return spoil(body)

    return twist


@pytest.mark.parametrize(
    ("fixture", "reason"),
    [
        ("openai_sentinel_sampled.json", "sentinel_logprob"),
        ("openai_sentinel_candidate.json", "sentinel_logprob"),
        ("openai_null_logprob.json", "nan_logprob"),
        ("openrouter_silent_null.json", "no_logprobs"),
        ("text_of_other_tokens.json", "text_differs"),
        ("vllm_lost_bytes.json", "bytes_missing"),
        ("openai_refusal.json", "refused"),
    ],
)
def test_an_untrustworthy_reply_is_never_used(
    tmp_path: Path, tokenizer: StudentTokenizer, fixture: str, reason: str
) -> None:
    body = (Path(__file__).parents[1] / "teachers" / "fixtures" / fixture).read_bytes()
    with ChatServer(FakeTeacher(tokenizer, _spoiling(lambda _: Canned(body)))) as server:
        summary = collect.run(context(tmp_path, server, KD_CONCURRENCY="1"))
    assert summary["sequences"] == 11
    assert set(summary["rejected"]) <= {reason, "text_differs"}
    assert sum(summary["rejected"].values()) == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"logprob": math.nan}, "nan_logprob"),
        ({"logprob": None}, "nan_logprob"),
        ({"logprob": -9999.0}, "sentinel_logprob"),
        ({"top_logprobs": []}, "no_candidates"),
    ],
)
def test_a_bad_step_rejects_its_sequence_and_no_other(
    tmp_path: Path, tokenizer: StudentTokenizer, fields: dict[str, Any], reason: str
) -> None:
    def spoil(body: dict[str, Any]) -> None:
        corrupt_second_step(body, **fields)

    with ChatServer(FakeTeacher(tokenizer, _spoiling(spoil))) as server:
        ctx = context(tmp_path, server)
        summary = collect.run(ctx)
    assert summary["sequences"] == 11
    assert summary["rejected"] == {reason: 1}
    assert len(load_traces(tmp_path / "data", 5).sequences) == 11
    rejected = [row for row in pq.read_table(tmp_path / "data" / "sequences.parquet").to_pylist() if row["rejected"]]
    assert [row["rejected"] for row in rejected] == [reason]
    assert sum(reason in event["dropped"] for event in emitted(ctx, "trace")) == 1
    assert _rejections(ctx) == ["warning"]


@pytest.mark.parametrize("values", [{"KD_MAX_ATTEMPTS": "1"}, {"GATE_INVALID_ROWS": "0.09"}])
def test_rejects_of_earlier_runs_and_a_harmless_share_of_them_raise_no_alarm(
    tmp_path: Path, tokenizer: StudentTokenizer, values: dict[str, str]
) -> None:
    def spoil(body: dict[str, Any]) -> None:
        body["choices"][0]["message"]["content"] += " and more"

    with ChatServer(FakeTeacher(tokenizer, _spoiling(spoil))) as server:
        collect.run(ctx := context(tmp_path, server))
        assert _rejections(ctx) == ["warning"]
        collect.run(ctx := context(tmp_path, server, **values))
    assert _rejections(ctx) == ["info"]
    messages = [event["message"] for event in emitted(ctx, "alert")]
    assert "1 of 12 answers can't be used: 1 text differs from its tokens." in messages


def test_missing_steps_reject_the_sequence(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        if number == PROBES + 3:
            body["usage"]["completion_tokens"] += 9

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        assert collect.run(context(tmp_path, server))["rejected"] == {"logprobs_missing": 1}
