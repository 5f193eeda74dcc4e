"""The eval stage, from a trained checkpoint and real trace files to a report and tables, or to an error."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.deployed import Deployed
from bitnet_core.model.student import Student
from bitnet_core.results.paired import Answers
from bitnet_core.stages import evaluate
from bitnet_core.traces import schema
from bitnet_core.training import checkpoints
from tests.builders import emitted
from tests.stages.evaluated import BASELINE, context, table, write_traces
from tests.traces.sets import TOKENIZER


def test_the_whole_stage(root: Path) -> None:
    ctx = context(root)
    summary = evaluate.run(ctx)
    report = json.loads((root / "reports" / "mini_evaluation_report.json").read_text())
    assert report["checkpoint"]["activation_bits"] == 4
    widths = list(report["imitation"]["by_activation_bits"])
    assert widths == ["4", "8"], "the student's own width first"
    answers = Answers.of_report(report).rows
    assert len(answers) == report["imitation"]["sequences"]
    assert sum(row[3] for row in answers) / sum(row[2] for row in answers) == pytest.approx(
        report["imitation"]["by_activation_bits"]["4"]["coarse_kl"]["value"], abs=1e-5
    )
    # The trained student knows more than nothing, and the table shows what nothing is.
    imitation = {(row[0], row[1]): row[2] for row in table(ctx, "imitation")}
    assert imitation["top-1 agreement", "chance"] == pytest.approx(1 / TOKENIZER.vocab_size)
    assert 0 <= imitation["top-1 agreement", "always the commonest token"] <= 1
    assert imitation["coarse KL", "student A4"] != imitation["coarse KL", "student A8"]
    assert 0 < imitation["imitation", "student A4"] < imitation["imitation", "teacher"] <= 1
    # Nobody was asked items, so that the quality is that on the fixed text.
    quality = {(row[0], row[1]): row[2] for row in table(ctx, "quality")}
    assert quality["fixed text, bits/byte", "teacher"] == 1.0
    assert quality["fixed text, bits/byte", "student"] > 1.0
    assert report["quality"]["weights"] == {"items": 0.0, "fixed text": 1.0}
    assert (report["quality"]["student_runtime"], report["quality"]["missing"]) == ("in-process", [])
    qei = report["qei"]
    for side in ("student", "teacher"):
        assert {qei[side][name]["origin"] for name in ("quality", "memory", "speed")} == {"measured"}
    q_s, q_t = qei["student"]["quality"]["value"], qei["teacher"]["quality"]["value"]
    assert (q_s, q_t) == (report["quality"]["student"]["value"], pytest.approx(0.5))
    m_s = qei["student"]["memory"]["value"]
    assert m_s == report["deployed"]["memory"]["bytes"] > 0
    assert summary["qei"] == qei["qei"]["value"] == pytest.approx(q_s / q_t / (m_s / 300e6))
    speed = report["deployed"]["tokens_per_s"]["decode"] / 100.0
    assert summary["qei_speed"] == pytest.approx(summary["qei"] * speed)
    assert [row[0] for row in table(ctx, "qei")][-3:] == ["QEI", "QEI_speed", "imitation"]
    assert table(ctx, "qei")[-1][1] == pytest.approx(imitation["imitation", "student A4"], abs=1e-4)
    verdicts = {row[0]: row[1] for row in table(ctx, "gates")}
    assert verdicts == {gate["name"]: gate["verdict"] for gate in report["gates"]}
    assert verdicts["invalid rows"] == verdicts["non-finite steps"] == "pass"
    assert verdicts["JSON validity"] == "not measurable"
    assert verdicts["flip recovered"] in ("pass", "fail")
    assert verdicts["QEI"] == ("pass" if summary["qei"] >= 1 else "fail")
    assert sum(summary["gates"].values()) == len(verdicts) == 7
    assert table(ctx, "memory")[0][1] == m_s
    assert (report["deployed"]["runtime"], report["deployed"]["why"]) == ("in-process", "llama.cpp is not here")
    assert [row[:2] for row in table(ctx, "runs anywhere")] == [
        ["in-process", "yes"],
        ["transformers", "yes"],
        ["llama.cpp", "no"],
    ]
    there, export = report["runs_anywhere"][1], root / "exports" / f"experiment-step{report['checkpoint']['step']}-hf"
    assert there["found"]["max_difference"] < 1e-4
    assert there["line"].endswith(f"experiment export hf && transformers serve {export}")
    said = [one["message"] for one in emitted(ctx, "log")]
    assert "Speed and memory are those of this program, because llama.cpp is not here." in said
    assert "Items and given text were answered and scored by the student in this program." in said
    samples = emitted(ctx, "sample")
    assert [sample["source"] for sample in samples] == ["student", "student"]
    assert samples[0]["prompt"].startswith("prompt ")
    assert [sample["text"] for sample in report["samples"]] == [sample["text"] for sample in samples]
    assert not [*ctx.run_dir.glob(".packed*"), *ctx.run_dir.glob(".in-transformers*")]


def test_quality_does_not_depend_on_the_run(root: Path, no_child: object) -> None:
    first, second = evaluate.run(context(root)), evaluate.run(context(root))
    assert first == second


def test_a_hosted_teacher_has_no_index_until_its_memory_is_given(root: Path, no_child: object) -> None:
    hosted = BASELINE | {"memory": {"bytes": None, "origin": "unknown"}}
    files.write_json(root / "reports" / "teacher_baseline.json", hosted)
    ctx = context(root)
    assert evaluate.run(ctx)["qei"] is None
    row = next(row for row in table(ctx, "qei") if row[0] == "QEI")
    assert row[1] is None
    assert "TEACHER_MEMORY_GB" in row[4]
    ctx = context(root, TEACHER_MEMORY_GB="2.5")
    assert evaluate.run(ctx)["qei"] is not None
    assert next(row for row in table(ctx, "qei") if row[0] == "QEI")[3] == "given"


def test_a_file_of_scores_is_read_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text('{"student": {"mmlu": {"score": 2}}}')
    with pytest.raises(BitnetError, match=r"scores\.json \(EVAL_SCORES\) is not a file of scores"):
        evaluate.run(context(tmp_path / "empty", EVAL_SCORES=str(tmp_path / "scores.json")))


def test_speeds_are_compared_like_with_like(root: Path, no_child: object) -> None:
    no_clock = BASELINE | {"tokens_per_s": {"end_to_end": 80.0, "decode": None}}
    files.write_json(root / "reports" / "teacher_baseline.json", no_clock)
    ctx = context(root)
    evaluate.run(ctx)
    row = next(row for row in table(ctx, "qei") if row[0].startswith("speed"))
    assert row[1:3] == [pytest.approx(10 / 0.6, abs=0.1), 80.0]


def test_given_qualities_are_shown_as_given(root: Path, no_child: object) -> None:
    ctx = context(root, EVAL_STUDENT_QUALITY="0.4", EVAL_TEACHER_QUALITY="0.8")
    assert evaluate.run(ctx)["qei"] == pytest.approx(0.5 / (100 / 300))
    row = table(ctx, "qei")[0]
    assert row[1:4] == [0.4, 0.8, "given"]
    ctx = context(root, EVAL_STUDENT_QUALITY="0.4")
    evaluate.run(ctx)
    assert [alert["code"] for alert in emitted(ctx, "alert")] == ["mixed_quality"]
    with pytest.raises(BitnetError, match="EVAL_TEACHER_QUALITY is 0"):
        evaluate.run(context(root, EVAL_TEACHER_QUALITY="0"))


def test_the_users_prompts_are_answered(root: Path, tmp_path: Path, no_child: list[Sequence[Sequence[int]]]) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("the rain\nthere then\n" + "long " * 3000 + "\n")
    ctx = context(root, EVAL_PROMPTS_FILE=str(path), EVAL_MAX_PROMPTS="3", SAVE_SAMPLE_GENERATIONS="0")
    evaluate.run(ctx)
    (asked,) = no_child
    rendered = [TOKENIZER.render_prompt([{"role": "user", "content": text}]) for text in ("the rain", "there then")]
    assert [list(prompt) for prompt in asked] == [TOKENIZER.encode(text) for text in rendered]
    assert [alert["code"] for alert in emitted(ctx, "alert")] == ["prompts_too_long"]
    assert json.loads((root / "reports" / "mini_evaluation_report.json").read_text())["samples"] == []


def test_a_prompt_that_the_template_refuses_is_left_out(
    root: Path, tmp_path: Path, no_child: list[Sequence[Sequence[int]]]
) -> None:
    refusing = (
        "{% if 'no' in messages[0].content %}{{ raise_exception('Not this') }}{% endif %}{{ messages[0].content }}"
    )
    (root / "data" / schema.TOKENIZER_FOLDER / "chat_template.jinja").write_text(refusing)
    path = tmp_path / "mine.txt"
    path.write_text("the rain\nno rain\nthere\n")
    ctx = context(root, EVAL_PROMPTS_FILE=str(path))
    evaluate.run(ctx)
    (asked,) = no_child
    assert [list(prompt) for prompt in asked] == [TOKENIZER.encode("the rain"), TOKENIZER.encode("there")]
    (alert,) = [alert for alert in emitted(ctx, "alert") if alert["code"] == "prompts_refused"]
    assert "refuses 1 of 3 prompts (the first is prompt 1: Not this); they are left out" in alert["message"]
    path.write_text("no rain\n")
    with pytest.raises(BitnetError, match=r"refuses every prompt \(prompt 0: Not this\); change EVAL_PROMPTS_FILE"):
        evaluate.run(context(root, EVAL_PROMPTS_FILE=str(path)))


def test_a_student_in_the_middle_of_a_flip_is_measured_as_it_is(
    root: Path, no_child: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoints.require_latest(root / "checkpoints")
    made = checkpoints.load(path)
    checkpoints.save(path.parent, dataclasses.replace(made, counters=made.counters | {"layer_bits": [4, 8]}), {})
    answered: list[tuple[int | None, ...]] = []
    stood_in = evaluate.run_deployed

    def deployed(packed: Student, *given: Any, **more: Any) -> Deployed:
        answered.append(packed.layer_bits)
        return stood_in(packed, *given, **more)

    monkeypatch.setattr(evaluate, "run_deployed", deployed)
    ctx = context(root)
    evaluate.run(ctx)
    report = json.loads((root / "reports" / "mini_evaluation_report.json").read_text())
    bits = "4 in 1 of 2 layers, 8 in the other"
    assert report["checkpoint"]["activation_bits"] == bits
    assert list(report["imitation"]["by_activation_bits"]) == [bits, "8", "4"]
    found = [one["coarse_kl"]["value"] for one in report["imitation"]["by_activation_bits"].values()]
    assert len(set(found)) == 3
    assert ("coarse KL", f"student A{bits}") in [(row[0], row[1]) for row in table(ctx, "imitation")]
    assert answered == [(4, 8)], "imitation gives the layers back their own bits"


def test_one_prompt_is_not_enough_to_measure_imitation(root: Path, no_child: object) -> None:
    for path in (root / "data").glob("*.parquet"):
        path.unlink()
    write_traces(root / "data", 1)
    ctx = context(root)
    assert evaluate.run(ctx)["qei"] is not None, "the quality does not need them"
    assert "imitation" not in [row[0] for row in table(ctx, "qei")]
    (alert,) = emitted(ctx, "alert")
    assert (alert["code"], "KD_NUM_PROMPTS" in alert["advice"]) == ("no_heldout", True)


def test_another_teacher_than_the_baselines_is_not_scored_in_its_place(root: Path, no_child: object) -> None:
    other = BASELINE | {"model": "gpt", "origin": "https://elsewhere"}
    files.write_json(root / "reports" / "teacher_baseline.json", other)
    ctx = context(root)
    assert evaluate.run(ctx)["qei"] is None
    (alert,) = [one for one in emitted(ctx, "alert") if one["code"] == "text_not_measurable"]
    assert "the baseline is of gpt; run `bitnet teacher`" in alert["message"]


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("checkpoints", "run `bitnet train` first"),
        ("data", "run `bitnet collect` first"),
        ("reports", "run `bitnet teacher` first"),
    ],
)
def test_what_is_missing_is_named_with_its_fix(root: Path, missing: str, sentence: str) -> None:
    shutil.rmtree(root / missing)
    with pytest.raises(BitnetError, match=sentence):
        evaluate.run(context(root))
    assert not (root / "reports" / "mini_evaluation_report.json").exists()


def test_another_tokenizer_is_refused(root: Path) -> None:
    folder = root / "data" / schema.TOKENIZER_FOLDER
    path = folder / "tokenizer.json"
    changed = json.loads(path.read_text())
    changed["added_tokens"][0]["lstrip"] = True
    path.write_text(json.dumps(changed))
    with pytest.raises(BitnetError, match="another tokenizer"):
        evaluate.run(context(root))


def test_a_stop_ends_it(root: Path) -> None:
    ctx = context(root)
    ctx.request_stop()
    with pytest.raises(BitnetError, match="stopped"):
        evaluate.run(ctx)
