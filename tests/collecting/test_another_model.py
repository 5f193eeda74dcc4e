"""A server that lets another model answer, or another build of it: said once, and kept with the traces."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bitnet_core.stages import collect
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, context
from tests.teachers.fake_teacher import FakeTeacher
from tests.teachers.server import Asked, ChatServer

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]


@pytest.mark.parametrize(
    ("probed", "later", "others"),
    [
        ("m", ["tiny-fallback-1b"], ["tiny-fallback-1b"]),
        ("m", ["m", "a", "b"], ["a", "b"]),
        ("m-2026-01-01", ["m-2026-05-05"], ["m-2026-05-05"]),
        ("another/name", ["another/name"], []),  # from the start: many servers have names of their own
        ("m", ["", ""], []),
        ("", ["a", "b"], []),
    ],
)
def test_another_model_is_said_and_kept(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, probed: str, later: list[str], others: list[str]
) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        body["model"] = probed if number < PROBES else later[number % len(later)]

    with ChatServer(FakeTeacher(teacher_tokenizer, twist)) as server:
        ctx = context(tmp_path, server)
        summary = collect.run(ctx)
    assert summary["rejected"] == {}
    alerts = [event["message"] for event in emitted(ctx, "alert") if event["code"] == "another_model"]
    assert len(alerts) == bool(others)
    assert not others or any(f"the model {other}, but {probed} was probed" in alerts[0] for other in others)
    (path,) = tmp_path.rglob("sequences.parquet")
    probe = json.loads(pq.read_metadata(path).metadata[b"bitnet"])["probe"]
    assert sorted(probe.get("also_served", [])) == sorted(others)
    assert probe["served_model"] == probed


@pytest.mark.parametrize(
    ("by_turns", "kept"),
    [
        (["fp_a", "fp_b"], ["fp_a", "fp_b"]),
        (["fp_a", "fp_b", "fp_c", None], ["fp_a", "fp_b", "fp_c"]),
        (["fp_a"], []),
        (["fp_a", None, ""], []),
        ([{"odd": 1}, 7], ["7", "{'odd': 1}"]),
    ],
)
def test_another_fingerprint_is_said_once_and_kept(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, by_turns: list[Any], kept: list[str]
) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        body["system_fingerprint"] = by_turns[number % len(by_turns)]

    with ChatServer(FakeTeacher(teacher_tokenizer, twist)) as server:
        ctx = context(tmp_path, server)
        collect.run(ctx)
    alerts = [event["message"] for event in emitted(ctx, "alert") if event["code"] == "another_fingerprint"]
    assert len(alerts) == bool(kept)
    assert not kept or "answers with the fingerprint" in alerts[0]
    (path,) = tmp_path.rglob("sequences.parquet")
    probe = json.loads(pq.read_metadata(path).metadata[b"bitnet"])["probe"]
    assert sorted(probe.get("fingerprints", [])) == kept


@pytest.mark.parametrize(("left", "told"), [(1, 1), (2, 1), (3, 0), (5, 0)])
def test_half_of_the_candidates_that_were_probed_is_said_once(
    tmp_path: Path, teacher_tokenizer: StudentTokenizer, left: int, told: int
) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        for token in body["choices"][0]["logprobs"]["content"] if number >= PROBES else ():
            del token["top_logprobs"][left:]

    with ChatServer(FakeTeacher(teacher_tokenizer, twist)) as server:
        ctx = context(tmp_path, server)
        collect.run(ctx)
    alerts = [event["message"] for event in emitted(ctx, "alert") if event["code"] == "fewer_candidates"]
    assert len(alerts) == told
    assert not told or f"gives {left} candidates a step in an answer, and gave 5 when it was probed" in alerts[0]


def test_a_stream_keeps_its_fingerprint() -> None:
    stream = OpenAIChat.fold()
    stream.add({"system_fingerprint": "fp_a", "choices": [{"delta": {"content": "Hi"}}]})
    stream.add({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    assert stream.answer_body()["system_fingerprint"] == "fp_a"
