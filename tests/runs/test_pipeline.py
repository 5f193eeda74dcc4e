"""The pipeline in real processes: its order, what it skips and repeats, and how it ends with its stages."""

from pathlib import Path

import pytest

from bitnet_core import process
from tests.builders import events_of, followed
from tests.runs.real import Starter, eventually, history_of, pid_of

STAGES = ["teacher", "collect", "train", "eval", "dryrun"]


def test_the_pipeline_runs_in_order_then_skips_then_repeats_what_changed(start: Starter) -> None:
    first = start("pipeline")
    tables = [event for event in followed(first) if event["kind"] == "table"]
    assert first.state() == "succeeded"
    assert [row[:2] for row in tables[0]["rows"]] == [[stage, "succeeded"] for stage in STAGES]
    assert [table["name"] for table in tables[-2:]] == ["qei", "gates"]
    second = start("pipeline")
    rows = next(event["rows"] for event in followed(second) if event["kind"] == "table")
    assert [row[1] for row in rows] == ["skipped"] * 5
    third = start("pipeline", KD_TAU="2")
    rows = next(event["rows"] for event in followed(third) if event["kind"] == "table")
    assert [row[1] for row in rows] == ["skipped", "skipped", "succeeded", "succeeded", "skipped"]
    assert [row[2] is None for row in rows] == [True, True, False, False, True]


def test_the_pipeline_stops_at_the_first_failure_and_continues_from_there(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_TRAIN", "fail")
    run = start("pipeline")
    assert followed(run)[-1]["error"] == "train failed: The moon is in the wrong phase; wait a week."
    monkeypatch.setenv("FAKE_TRAIN", "done")
    again = start("pipeline")
    rows = next(event["rows"] for event in followed(again) if event["kind"] == "table")
    assert [row[1] for row in rows] == ["skipped", "skipped", "succeeded", "succeeded", "succeeded"]


def test_the_pipeline_repeats_a_stage_that_it_waited_for_and_that_had_other_settings(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = tmp_path / "go on"
    theirs = start("collect", f"until {go_on}", KD_MAX_TOKENS_PER_PROMPT="9")
    monkeypatch.setenv("FAKE_COLLECT", "done")
    run = start("pipeline")
    eventually(lambda: any(one.get("run") == theirs.id for one in events_of(run.events_path)))
    go_on.touch()
    rows = next(event["rows"] for event in followed(run) if event["kind"] == "table")
    assert theirs.state() == "succeeded" and rows[1][:2] == ["collect", "succeeded"] and rows[1][3] != theirs.id
    said = [event["message"] for event in events_of(run.events_path) if event["kind"] == "log"]
    assert f"{theirs.id} had other settings or input than collect has here, so it is run again." in said


def test_stopping_the_pipeline_stops_its_stage(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_COLLECT", "wait")
    run = start("pipeline")
    child = eventually(lambda: history_of(run).active("collect"))
    assert run.stop() == "cancelled"
    assert child.state() == "cancelled"


def test_killing_the_pipeline_kills_its_stage(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_COLLECT", "deaf")
    run = start("pipeline")
    child = eventually(lambda: history_of(run).active("collect"))
    eventually(run.active_children)
    run.kill()
    assert (run.state(), child.state()) == ("cancelled", "cancelled")
    assert process.identify(pid_of(child)) is None
