"""What the eval stage asks of items that a program grades, and of benchmarks."""

import json
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.stages import evaluate
from bitnet_core.suites.benchmarks import BENCHMARKS
from bitnet_core.suites.items import load_items
from tests.builders import emitted
from tests.stages.evaluated import BASELINE, context, table
from tests.suites import small_wheel
from tests.suites.test_fetch import stored

# -- suites ----------------------------------------------------------------------------------------------
ITEM = {"id": "a", "prompt": "Hi", "check": {"kind": "number", "value": "2"}, "reference": "2"}


def own_items(tmp_path: Path) -> Path:
    """Three items, the last too long for the student."""
    path = tmp_path / "mine.jsonl"
    prompts = ("Hi", "Hi there", "Hi " * 2000)
    lines = [json.dumps(ITEM | {"id": str(place), "prompt": prompt}) for place, prompt in enumerate(prompts)]
    path.write_text("\n".join(lines))
    return path


def test_the_student_is_asked_the_items_and_compared_on_those_that_both_answered(
    root: Path, no_child: object, tmp_path: Path
) -> None:
    mine = own_items(tmp_path)
    first, *_ = load_items(mine)
    verdicts = [{"hash": first.hash, "passed": True}, {"hash": "of another item", "passed": True}, "damaged"]
    files.write_json(root / "reports" / "teacher_baseline.json", BASELINE | {"checks": {"answers": verdicts}})
    ctx = context(root, EVAL_ITEMS_FILE=str(mine), EVAL_LIMIT="3", EVAL_SUITE_MAX_TOKENS="3")
    summary = evaluate.run(ctx)
    report = json.loads((root / "reports" / "mini_evaluation_report.json").read_text())
    found = report["checks"]
    assert [(one["passed"], bool(one["reason"])) for one in found["answers"]] == [
        (False, True),
        (False, True),
        (None, True),
    ]
    assert summary["checks"] == found["total"]["score"]["value"] == 0.0
    assert found["total"]["score"]["high"] > 0.5, "two items prove little"
    ((why, count),) = found["unanswered"].items()
    assert (why.startswith("the prompt is longer than the student's "), count) == (True, 1)
    assert found["in_common"]["items"] == 1
    assert (found["in_common"]["student"]["value"], found["in_common"]["teacher"]["value"]) == (0.0, 1.0)
    (row,) = table(ctx, "checks")
    assert row[:4] == ["own", 3, 2, 0.0]
    assert row[-3:] == [1, 0.0, 1.0]
    assert {"items_unanswered", "items_not_compared"} <= {event["code"] for event in emitted(ctx, "alert")}


def test_a_teacher_that_only_chats_is_compared_on_items_alone(root: Path, no_child: object, tmp_path: Path) -> None:
    mine = own_items(tmp_path)
    verdicts = [{"hash": one.hash, "passed": True} for one in load_items(mine)]
    files.write_json(root / "reports" / "teacher_baseline.json", BASELINE | {"checks": {"answers": verdicts}})
    hosted = {"TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "gpt"}
    ctx = context(root, **hosted, EVAL_ITEMS_FILE=str(mine), EVAL_SUITE_MAX_TOKENS="2")
    assert evaluate.run(ctx)["qei"] == 0.0, "no item was passed"
    quality = json.loads((root / "reports" / "mini_evaluation_report.json").read_text())["quality"]
    assert quality["weights"] == {"items": 1.0, "fixed text": 0.0}
    assert (quality["text"], quality["student"]["value"], quality["teacher"]["value"]) == (None, 0.0, 1.0)
    assert "openai gives no probabilities of a text" in quality["missing"][0]
    assert "text_not_measurable" in [alert["code"] for alert in emitted(ctx, "alert")]
    assert table(ctx, "qei")[0][4] == "items"
    assert next(row for row in table(ctx, "gates") if row[0] == "Q_s/Q_t")[1:3] == ["fail", 0.0]
    ctx = context(root, **hosted)
    assert evaluate.run(ctx)["qei"] is None
    assert "EVAL_SUITE" in next(row for row in table(ctx, "qei") if row[0] == "QEI")[4]


def test_a_baseline_without_suites_leaves_the_student_alone(root: Path, no_child: object) -> None:
    ctx = context(root, EVAL_SUITE="arithmetic,json", EVAL_LIMIT="1", EVAL_SUITE_MAX_TOKENS="2")
    evaluate.run(ctx)
    report = json.loads((root / "reports" / "mini_evaluation_report.json").read_text())
    assert report["checks"]["in_common"] is None
    assert [row[0] for row in table(ctx, "checks")] == ["json", "arithmetic", "all suites, weighted equally"]
    assert all(row[-3:] == [0, None, None] for row in table(ctx, "checks"))


def test_benchmarks_are_scored_and_a_teacher_that_only_chats_is_said(
    root: Path, tmp_path: Path, no_child: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_wheel.packed(small_wheel.members())
    package = small_wheel.package(data)
    for kind in ("choice", "text", "calls"):
        monkeypatch.setitem(BENCHMARKS, f"small_{kind}", small_wheel.benchmark(package, f"small_{kind}", kind))
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path))
    scores = tmp_path / "scores.json"
    scores.write_text('{"teacher": {"mmlu": {"score": 0.3, "n": 10, "interval": [0.1, 0.6]}}}')
    asked = {
        "EVAL_SUITE": "small_choice,small_text,small_calls",
        "EVAL_LIMIT": "3",
        "EVAL_SUITE_MAX_TOKENS": "4",
        "EVAL_SCORES": str(scores),
        "TEACHER_PROVIDER": "openai",
        "TEACHER_MODEL": "gpt",
    }
    with pytest.raises(BitnetError, match="bitnet bench get small_"):
        evaluate.run(context(root, **asked))
    stored(data, tmp_path)
    ctx = context(root, **asked)
    evaluate.run(ctx)
    report = json.loads((root / "reports" / "mini_evaluation_report.json").read_text())
    assert list(report["checks"]["suites"]) == ["small_calls"]
    found = report["benchmarks"]["benchmarks"]
    assert set(found) == {"small_choice", "small_text", "mmlu"}
    assert found["small_choice"]["student"]["items"] == 3
    assert found["small_choice"]["teacher"] is None and found["small_choice"]["ratio"] is None
    assert found["small_text"]["student"]["main"] == "bits_per_byte"
    assert found["mmlu"]["teacher"]["origin"] == "given"
    assert ["mmlu", "teacher", "score", 0.3, 0.1, 0.6, 10, 0, "given"] in table(ctx, "benchmarks")
    alerts = [one["message"] for one in emitted(ctx, "alert")]
    assert any("openai gives no probabilities of a text" in alert for alert in alerts)
