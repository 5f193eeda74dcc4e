"""A server that lets another model answer than the one that was probed: said once, and kept with the traces."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bitnet_core.stages import collect
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.collecting.stage_runs import PROBES, context, events
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
    alerts = [event["message"] for event in events(ctx, "alert") if event["code"] == "another_model"]
    assert len(alerts) == bool(others)
    assert not others or any(f"the model {other}, where {probed} was probed" in alerts[0] for other in others)
    (path,) = tmp_path.rglob("sequences.parquet")
    probe = json.loads(pq.read_metadata(path).metadata[b"bitnet"])["probe"]
    assert sorted(probe.get("also_served", [])) == sorted(others)
    assert probe["served_model"] == probed
