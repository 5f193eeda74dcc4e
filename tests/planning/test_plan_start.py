"""`bitnet plan` for a student that starts from a model: what comes before its first step."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.planning import probe, start
from bitnet_core.planning.plan import Asked, plan
from bitnet_core.planning.preparation import UNTIMED
from bitnet_core.planning.tables import tables
from bitnet_core.planning.teacher import TeacherPlan
from bitnet_core.pretrained import choose
from bitnet_core.pretrained.fit_size import FIT_POSITIONS
from bitnet_core.settings.presets import EMBEDDED_LAYERS
from tests.planning.test_plan import OPTIONS, TRACES, _facts, _own_cache
from tests.planning.test_plan_online import teacher

__all__ = ["_own_cache", "teacher"]

SIZES = dict.fromkeys(("MINI_DIM", "MINI_LAYERS", "MINI_HEADS"), "")
TIMED = {
    "layers_of_source": 30,
    "fit_steps": 512,
    "positions": 20_000,
    "position_seconds": 0.001,
    "step_seconds": 1.5,
    "made": False,
}


def test_reading_and_fitting_are_timed_and_kept(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_SECONDS", 0.0)
    values = {**SIZES, "STUDENT_INIT": str(teacher), "STUDENT_INIT_FIT_STEPS": "7"}
    found = _facts(tmp_path, time=True, **values)["start"]
    assert found["position_seconds"] > 0 and found["step_seconds"] > 0
    assert (found["layers_of_source"], found["fit_steps"]) == (2, 7)

    def never(*_: object) -> float:
        raise AssertionError

    monkeypatch.setattr(start, "_step_seconds", never)
    assert _facts(tmp_path, time=True, **values)["start"] == found
    assert _facts(tmp_path, **values)["start"] == found | UNTIMED
    facts = _facts(tmp_path, **values)
    student = Student(StudentConfig.from_dict(facts["shape"]))
    layers = sum(one.numel() for one in student.parameters()) - student.output_weight.numel()
    assert plan(facts, OPTIONS, 20, None, Asked())["disk"]["start"] == 4 * layers
    assert _facts(tmp_path, time=True, **values | {"STUDENT_INIT_FIT_STEPS": "0"})["start"] is None
    assert _facts(tmp_path, time=True)["start"] is None


def test_no_weights_are_downloaded_for_a_plan(tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration of a model on the hub tells its shape, and that of the embedded teacher is known."""
    alone = tmp_path / "configuration"
    alone.mkdir()
    shutil.copy(teacher / "config.json", alone)
    asked: list[Sequence[str]] = []

    def downloaded(_name: str, patterns: Sequence[str], **_: object) -> Path:
        asked.append(patterns)
        return alone

    monkeypatch.setattr(choose, "download", downloaded)
    monkeypatch.setattr(choose, "ensure_files", lambda *_: pytest.fail("the embedded teacher is downloaded"))
    told = [_facts(tmp_path, **SIZES, STUDENT_INIT=name) for name in ("someone/model", str(teacher))]
    assert told[0]["shape"] == told[1]["shape"] and told[0]["start"] == told[1]["start"]
    assert asked == [("config.json",)]
    assert _facts(tmp_path, **SIZES, STUDENT_INIT="teacher")["shape"]["num_hidden_layers"] == EMBEDDED_LAYERS
    assert len(asked) == 1


def test_what_does_not_fit_into_memory_is_not_timed(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_ROOM_SHARE", 0.0)
    facts = _facts(tmp_path, time=True, **SIZES, STUDENT_INIT=str(teacher))
    assert facts["start"]["step_seconds"] is None
    assert plan(facts, OPTIONS, 20, None, Asked())["preparation"]["seconds"] is None


def test_it_is_a_part_of_its_own(tmp_path: Path) -> None:
    facts = _facts(tmp_path) | {"start": TIMED, "traces": TRACES}
    record = plan(facts, OPTIONS, 20, None, Asked())
    assert record["preparation"]["seconds"] == pytest.approx(20_000 * 30 * 0.001 + 512 * 1.5)
    told = next(row for row in tables(record)[0][2] if row[0] == "before the first step")
    assert told[1] == "22m 48s"
    assert "30 layers of the model read 20,000 tokens in 10m 00s, then 512 steps of fitting take 12m 48s" in told[2]
    facts["start"] = TIMED | {"made": True, "position_seconds": None, "step_seconds": None}
    there = plan(facts, OPTIONS, 20, None, Asked())
    assert there["preparation"]["seconds"] == 0
    told = next(row for row in tables(there)[0][2] if row[0] == "before the first step")
    assert told[1:] == [None, "the start is made already, with these settings on these traces"]
    elsewhere = plan(facts, OPTIONS, 20, None, Asked(device="cuda", memory_bytes=80 * 10**9))
    told = next(row for row in tables(elsewhere)[0][2] if row[0] == "before the first step")
    read = "30 layers of the model read 20,000 tokens"
    assert told[1:] == [None, f"{read}, then come 512 steps of fitting; not timed"]


def test_without_traces_the_most_is_said(tmp_path: Path) -> None:
    facts = _facts(tmp_path) | {"start": TIMED}
    asked = TeacherPlan(answers=3, prompt_tokens=9, completion_tokens=9, origin="at most", usd=None, price_from="")
    few, many = (plan(facts, OPTIONS, 20, one, Asked())["preparation"] for one in (asked, None))
    assert few["positions"] == 3 * OPTIONS.max_seq_len
    assert many["positions"] == min(FIT_POSITIONS, 512 * OPTIONS.max_seq_len)
    assert not few["exact"]
