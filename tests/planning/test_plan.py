"""`bitnet plan`: the process that looks at the machine, its cache, the record, the tables and the command."""

import argparse
import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitnet_core import process
from bitnet_core.cli import plan as plan_command
from bitnet_core.cli.main import main
from bitnet_core.planning import probe, timings, traces
from bitnet_core.planning.early import early_plan
from bitnet_core.planning.plan import Asked, plan
from bitnet_core.planning.tables import tables
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import TrainOptions

TINY = {
    "MINI_DIM": "256",
    "MINI_LAYERS": "5",
    "MAX_SEQ_LEN": "16",
    "TRAIN_BATCH_SIZE": "2",
    "TOTAL_STEPS": "40",
    "BUDGET_TOKENS": "640",
    "FORCE_CPU": "1",
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(probe, "token_seconds", lambda *_, **__: {"missing": "see test_decoding.py"})


def _facts(tmp_path: Path, *, time: bool = False, again: bool = False, **values: str) -> dict[str, Any]:
    settings = from_values({"DRIVE_ROOT": str(tmp_path / "e"), **TINY, **values})
    job = {"settings": settings.to_record(), "preset": None, "vocabulary": 64, "time": time, "again": again}
    return json.loads(json.dumps(probe.examine(json.loads(json.dumps(job)))))  # as it travels


OPTIONS = TrainOptions.of(from_values(TINY))
TRACES = {
    "sequences": 10,
    "train_tokens": 320,
    "supervised_per_step": 16.0,
    "held_out_tokens": 32,
    "bytes": 1000,
    "teacher_tokens": None,
}


def test_a_timing_is_kept_for_this_machine_and_this_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_SECONDS", 0.0)
    deep = _facts(tmp_path, time=True, MINI_LAYERS="13")["step"]
    assert deep["seconds"] > 0 and deep["timed_layers"] == [1, 3]
    first = _facts(tmp_path, time=True)["step"]
    assert first["seconds"] > 0 and first["memory_factor"] >= 1 and first["timed_layers"] == [5]
    assert first["supervised_per_step"] == 32 and not first["cached"]
    assert first["processor_seconds"] > 0 and first["threads"] > 0
    kept = _facts(tmp_path, time=True)["step"]
    assert kept == first | {"cached": True}
    assert not _facts(tmp_path, time=True, again=True)["step"]["cached"]
    assert not _facts(tmp_path, time=True, MAX_SEQ_LEN="24")["step"]["cached"]
    monkeypatch.setattr(probe.os, "cpu_count", lambda: 77)
    assert not _facts(tmp_path, time=True)["step"]["cached"]


@pytest.mark.parametrize("content", ["", "[]", '{"x": {"seconds": "1"}}', '{"x": 1}'])
def test_a_damaged_cache_is_timed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / timings.STEPS).write_text(content)
    assert timings.kept(timings.STEPS) == {}


def test_no_room_is_no_timing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "available_bytes", lambda: 1000)
    facts = _facts(tmp_path, time=True)
    assert facts["step"]["seconds"] is None
    record = plan(facts, OPTIONS, 20, None, Asked())
    assert record["time"]["tokens_per_s"] is None and "--tokens-per-s" in record["time"]["missing"]
    memory, program = record["training_memory"], facts["device"]["warm_bytes"]
    assert memory["process_at_least"]
    assert memory["process_peak"] == program + memory["parts"]["peak"] > facts["device"]["program_bytes"]


def test_time_follows_from_the_steps_alone(tmp_path: Path) -> None:
    facts = _facts(tmp_path)
    facts["step"] = {"seconds": 2.0, "processor_seconds": 1.6, "threads": 2, "memory_factor": 1.5}
    facts["traces"] = TRACES
    record = plan(facts, OPTIONS, 20, None, Asked())
    assert record["course"]["steps"] == 40 and record["course"]["flip_step"] == 37
    assert record["time"] | {"timed": None} == {
        "tokens_per_s": 8.0,
        "undisturbed": 20.0,
        "origin": "measured",
        "step_seconds": 2.0,
        "seconds": 80.0,
        "evaluations": {"times": 9, "seconds": pytest.approx(9 * 32 / 3 / 8)},  # start, end, flip, every 7 steps
        "timed": None,
    }
    assert record["epochs"] == 2
    epochs = plan(
        facts, TrainOptions.of(from_values(TINY | {"BUDGET_TOKENS": "", "BUDGET_EPOCHS": "2"})), 20, None, Asked()
    )
    assert epochs["budget"] == {"tokens": 640, "epochs": 2.0, "most_tokens": None}
    assert {**epochs, "budget": None} == {**record, "budget": None}
    peak = record["training_memory"]["parts"]["peak"]
    process = record["training_memory"]["process_peak"]
    assert process == round(facts["device"]["program_bytes"] + 1.5 * peak)
    assert record["fits"]["shapes"][0]["training_bytes"] == process
    given = plan(facts, OPTIONS, 20, None, Asked(tokens_per_s=4))
    assert (given["time"]["origin"], given["time"]["seconds"]) == ("given", 160.0)
    lasts = next(row[2] for row in tables(given)[0][2] if row[0] == "duration")
    assert lasts.startswith("steps alone; about 9 evaluations (24")


def test_another_machine_has_no_measured_figure(tmp_path: Path) -> None:
    facts = _facts(tmp_path)
    facts["step"] = {"seconds": 2.0, "memory_factor": 1.5}
    record = plan(facts, OPTIONS, 20, None, Asked(device="cuda", memory_bytes=80 * 10**9, devices=8))
    assert record["time"]["tokens_per_s"] is None and "run `bitnet plan` there" in record["time"]["missing"]
    assert record["training_memory"]["allocator_factor"] is None
    assert record["fits"]["room_bytes"] == 80 * 10**9 and record["device"]["narrow"]
    assert record["training_memory"]["sharded"]["parts"]["peak"] < record["training_memory"]["parts"]["peak"] * 2
    for _name, columns, rows in tables(record):
        assert all(len(row) == len(columns) for row in rows)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--root", "e", "--set", "FORCE_CPU=1", "--set", "MINI_LAYERS=5", "--json", "plan", "--no-probe"]
    assert main([*argv, "--preset", "mini", "--vocab", "500"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["shape"]["vocab_size"], record["shape"]["num_hidden_layers"]) == (500, 5)
    assert record["time"]["tokens_per_s"] is None and record["course"]["exact"] is False
    assert record["teacher"]["usd"] == 0
    assert record["budget"] == {"tokens": None, "epochs": 4.0, "most_tokens": 4 * 100 * 256}
    assert not (tmp_path / "e").exists(), "a plan makes nothing"
    assert main([*argv, "--set", "MINI_HEADS=7"]) == 2
    assert "7 heads" in capsys.readouterr().err

    told: list[dict[str, Any]] = []
    examined = plan_command._examined

    def later(settings: Settings, arguments: argparse.Namespace, meanwhile: Callable[[], None], *, time: bool) -> Any:
        def say() -> None:
            meanwhile()
            told.extend(map(json.loads, capsys.readouterr().out.splitlines()))

        return examined(settings, arguments, say, time=time)

    monkeypatch.setattr(plan_command, "_examined", later)
    assert main([*argv, "--early"]) == 0
    record = json.loads(capsys.readouterr().out)
    (early,) = told
    assert early["early"] and "early" not in record
    same = ("shape", "parameters", "deployment_memory", "budget", "course", "time", "disk", "teacher", "online")
    assert {name: early[name] for name in same} == {name: record[name] for name in same}
    assert early["training_memory"] == record["training_memory"] and record["training_memory"]["process_at_least"]
    for one in (early, record):  # one rule for what a training takes
        assert one["fits"]["shapes"][0]["training_bytes"] == record["training_memory"]["process_peak"]
    for named in (["STUDENT_INIT=teacher"], ["TRAIN_ONLINE=1"], ["TOKENIZER_NAME=somewhere"]):
        settings = from_values({"DRIVE_ROOT": str(tmp_path / "e"), **dict(one.split("=") for one in named)})
        assert early_plan(settings, None, Asked()) is None, "a file has to be read first"
    maybe = from_values({"DRIVE_ROOT": str(tmp_path / "e"), "DEVICE_TYPE": "cuda"})
    on_gpu = early_plan(maybe, None, Asked())
    assert on_gpu is not None and on_gpu["training_memory"] is None


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"MINI_PRESET": "360m"}, "HuggingFaceTB/SmolLM2-360M-Instruct"),
        ({"MINI_PRESET": "smollm2-135m"}, "teacher"),
        ({"MINI_PRESET": "smollm2-135m", "MINI_LAYERS": "2"}, None),
        ({"MINI_PRESET": "nano"}, None),
    ],
)
def test_a_shape_of_a_known_model_tells_what_it_may_start_from(
    tmp_path: Path, values: dict[str, str], start: str | None
) -> None:
    settings = from_values({"DRIVE_ROOT": str(tmp_path / "e"), "FORCE_CPU": "1", **values})
    job = {"settings": settings.to_record(), "preset": None, "vocabulary": 64, "time": False, "again": False}
    record = plan(probe.examine(job), OPTIONS, 20, None, Asked())
    assert record["start_from"] == start
    rows = {row[0]: row[1] for _, _, rows in tables(record) for row in rows}
    assert rows.get("may start from") == (f"STUDENT_INIT={start}" if start else None)


@pytest.mark.parametrize(
    "words", [["--budget", "0"], ["--devices", "-1"], ["--tokens-per-s", "nan"], ["--memory-gb", "0"]], ids=str
)
def test_a_number_that_is_none_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words]) == 2
    assert f"{words[0]} is" in capsys.readouterr().err


@pytest.mark.parametrize(("processor_seconds", "shown"), [(0.8, 40.0), (3.6, None), (0.0, None)])
def test_what_other_programs_take_is_told_where_it_is_much(
    tmp_path: Path, processor_seconds: float, shown: float | None
) -> None:
    """A step of 2 s with 16 tokens and two threads; on a GPU no processor time is told."""
    facts = _facts(tmp_path)
    about = {"timed_layers": [5], "steps": 3, "load": 9.0, "spread": 0.5, "cached": False}
    facts["step"] = {
        "seconds": 2.0,
        "processor_seconds": processor_seconds,
        "threads": 2,
        "memory_factor": 1.5,
    } | about
    facts["traces"] = TRACES
    rows = {row[0]: row[1] for _, _, rows in tables(plan(facts, OPTIONS, 20, None, Asked())) for row in rows}
    assert rows.get("tokens/s, undisturbed") == shown
    assert rows["tokens/s"] == 8.0


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt_tokens": ["a"], "completion_tokens": ["b"]},
        {"prompt_tokens": [1]},
        {"prompt_tokens": [None], "completion_tokens": [2]},
        {"prompt_tokens": [[1]], "completion_tokens": [2]},
    ],
    ids=range(4),
)
def test_what_another_program_says_of_the_answers_is_passed_over(
    tmp_path: Path, columns: dict[str, list[Any]]
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "sequences.parquet")
    assert traces.teacher_tokens(tmp_path) is None
    pq.write_table(pa.table({"prompt_tokens": [1, 2], "completion_tokens": [4, 6]}), tmp_path / "sequences.parquet")
    assert traces.teacher_tokens(tmp_path) == {"prompt_tokens": 1.5, "completion_tokens": 5.0, "answers": 2.0}


def test_a_file_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/x/kd_shard_000.parquet")

    answer = io.StringIO()
    monkeypatch.setattr(probe, "examine", examine)
    monkeypatch.setattr(probe, "parents_pipe", lambda: contextlib.nullcontext(answer))
    monkeypatch.setattr("sys.stdin", io.StringIO("{}\n"))
    assert probe.main() == 0
    told = "/x/kd_shard_000.parquet can't be used (Permission denied); check its permissions."
    assert json.loads(answer.getvalue()) == {"error": told, "exit_code": 1}


def test_a_process_that_hangs_is_ended_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, others = tmp_path / "python", set(psutil.Process().children())
    hanging.write_text("#!/bin/sh\nexec sleep 600\n")
    hanging.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(hanging))
    monkeypatch.setattr(process, "_SILENCE_SECONDS", 1.0)
    assert main(["plan", "--root", str(tmp_path / "e"), "--no-probe"]) == 1
    assert "The process that looks at this machine gave no sign of life for 1 s" in capsys.readouterr().err
    assert set(psutil.Process().children()) <= others


def test_a_timed_step_is_a_sign_of_life(tmp_path: Path) -> None:
    settings = from_values({"DRIVE_ROOT": str(tmp_path / "e"), **TINY})
    job = {"settings": settings.to_record(), "preset": None, "vocabulary": 64, "time": True, "again": False}
    told: list[int] = []
    found = probe.examine(job, lambda: told.append(1))
    warming = 1  # the first step is not counted
    assert len(told) == found["step"]["steps"] + warming * len(found["step"]["timed_layers"])
