"""Trainings that start from a model: same seed same bits, resume without the source, what the records say."""

import dataclasses
import errno
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from bitnet_core import files
from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.export.blocks import held
from bitnet_core.pretrained import half_made
from bitnet_core.pretrained.half_made import HalfMade
from bitnet_core.pretrained.source import EMBEDDING
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.runs.catalog import HALF_MADE
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.history import History
from bitnet_core.runs.outlook import outlook
from bitnet_core.runs.reporter import Reporter
from bitnet_core.runs.resuming import SUPERSEDED
from bitnet_core.stages import evaluate, train
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.dataset import TraceSequence, TraceSet
from bitnet_core.traces.schema import TOKENIZER_FOLDER
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint
from tests.builders import events_of, stage_context
from tests.training.conftest import TINY, TOP_K

FAST = {
    "FORCE_CPU": "1",
    "TORCH_DTYPE": "fp32",
    "TOTAL_STEPS": "6",
    "BUDGET_TOKENS": "400",
    "FLIP_FRACTION": "0.4",
    "STUDENT_INIT_FIT_STEPS": "2",
}


@pytest.fixture(autouse=True)
def _traces(sequences: list[TraceSequence], tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    size = tokenizer.vocab_size

    def fitted(one: TraceSequence) -> TraceSequence:
        ids = {name: np.minimum(getattr(one, name), size - 1) for name in ("prompt_ids_P", "completion_ids_C")}
        return dataclasses.replace(one, topk_ids_CK=np.minimum(one.topk_ids_CK, size - 1), **ids)

    found = TraceSet([fitted(one) for one in sequences], size, TOP_K, "t" * 64, "p" * 64, "teacher")
    monkeypatch.setattr(train, "load_traces", lambda _folder, _top_k, *_: found)


@pytest.fixture
def source(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "source"))


def is_kept(folder: Path) -> bool:
    """Whether something of a start is kept there."""
    return any(any(folder.glob(pattern)) for _, pattern in HALF_MADE)


def context(root: Path, tokenizer: StudentTokenizer, **values: str) -> StageContext:
    ctx = stage_context(root, "train", TINY | FAST | values)
    tokenizer.save(ctx.experiment.data / TOKENIZER_FOLDER)
    return ctx


def ends(ctx: StageContext) -> tuple[Path, Path]:
    """The first and the last checkpoint that are there."""
    found = checkpoints.found(ctx.experiment.checkpoints)
    return found[-1], found[0]


def newest(ctx: StageContext) -> Checkpoint:
    return checkpoints.load(checkpoints.require_latest(ctx.experiment.checkpoints))


def same_bits(one: Checkpoint, other: Checkpoint) -> bool:
    moments = [one.optimizer["state"][n][k] for n in one.optimizer["state"] for k in ("exp_avg", "exp_avg_sq")]
    others = [other.optimizer["state"][n][k] for n in other.optimizer["state"] for k in ("exp_avg", "exp_avg_sq")]
    return (
        all(torch.equal(tensor, other.model[name]) for name, tensor in one.model.items())
        and all(map(torch.equal, moments, others))
        and one.activation_bits == other.activation_bits
    )


def stop_after(ctx: StageContext, steps: int, monkeypatch: pytest.MonkeyPatch, part: str = "") -> str:
    """Run until that many steps are done, of training or of a part of its start, then as a stop does.

    Returns what the stop says.
    """
    progress, reported = StageContext.progress, []

    def stopping(
        self: StageContext, done: float, total: float | None, unit: str, label: str = "", **more: Any
    ) -> None:
        progress(self, done, total, unit, label, **more)
        if part == next((one for one in ("fitting", "reading") if label.startswith(one)), ""):
            reported.append(done)
        if len(reported) == steps:
            self.request_stop()

    with monkeypatch.context() as patched:
        patched.setattr(StageContext, "progress", stopping)
        with pytest.raises(Stopped) as stopped:
            train.run(ctx)
    return str(stopped.value)


def test_a_training_stopped_while_its_start_is_made_goes_on_from_there_to_the_same_bits(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "2", "STUDENT_INIT_FIT_STEPS": "5"}
    whole, cut = (context(tmp_path / name, tokenizer, **values) for name in ("whole", "cut"))
    origin = train.run(whole)["origin"]
    assert origin["fit"]["steps"] == 5
    told = {
        one["label"].partition(" ")[0]: (one.get("part"), one.get("parts"))
        for one in events_of(whole.run_dir / "events.jsonl", "progress")
    }
    assert (told["reading"], told["fitting"], told[""]) == ((1, 3), (2, 3), (None, None))
    assert origin["fit"]["tokens"] > 0
    folder = cut.experiment.checkpoints
    begins_anew = "train was stopped; starting it again runs it from the beginning."
    kept = "train was stopped; its work is kept, and starting it again continues it."
    assert stop_after(cut, 1, monkeypatch, "reading") == begins_anew
    for part, done, files_kept in (("reading", 3, 1), ("fitting", 2, 2)):
        cut = context(tmp_path / "cut", tokenizer, **values)
        assert stop_after(cut, done, monkeypatch, part) == kept
        assert checkpoints.latest(folder) is None and len(list(folder.glob(".start-*.pt"))) == files_kept
    cut = context(tmp_path / "cut", tokenizer, **values)
    again = train.run(cut)
    said = " ".join(event["message"] for event in events_of(cut.run_dir / "events.jsonl", "log"))
    assert "2 of 5 steps of fitting are done." in said and "layers have read the answers" in said
    assert (again["origin"], same_bits(newest(cut), newest(whole))) == (origin, True)
    assert not is_kept(folder)
    unfitted = context(tmp_path / "unfitted", tokenizer, **(values | {"STUDENT_INIT_FIT_STEPS": "0"}))
    assert "fit" not in train.run(unfitted)["origin"]
    assert not same_bits(newest(unfitted), newest(whole))


def test_what_was_kept_of_another_start_or_is_damaged_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, parts = Reporter(resumes=False), partial(HalfMade, made=".made-start-0.pt")
    parts(tmp_path, "one").keep("fit", {"step": 3}, told)
    assert told.resumes
    assert parts(tmp_path, "one").find("fit")["step"] == 3
    parts(tmp_path, "one").keep("read", {"layers": 3}, told)
    assert parts(tmp_path, "other").find("read") == {} and not is_kept(tmp_path)
    parts(tmp_path, "one").keep("fit", {"step": 3}, told)
    assert parts(tmp_path, "other").find("fit") == {} == parts(tmp_path, "one").find("fit")
    parts(tmp_path, "one").keep("fit", {"step": 3}, told)
    for number in (errno.EIO, errno.ESTALE, errno.ENOMEM):  # the file may be sound, and took hours
        with monkeypatch.context() as faulty, pytest.raises(OSError, match=re.escape(os.strerror(number))):
            faulty.setattr(half_made, "load_tensors", Mock(side_effect=OSError(number, os.strerror(number))))
            parts(tmp_path, "one").find("fit")
    assert parts(tmp_path, "one").find("fit")["step"] == 3
    (tmp_path / ".start-fit.pt").write_bytes(b"PK\x03\x04 torn")
    assert parts(tmp_path, "one").find("fit") == {} and not is_kept(tmp_path)
    full = Reporter(resumes=False)
    (tmp_path / "file").touch()
    parts(tmp_path / "file", "one").keep("fit", {"step": 3}, full)
    assert not full.resumes


def test_a_training_killed_right_after_its_start_was_made_goes_on_from_that_start(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "2"}
    whole, cut = (context(tmp_path / name, tokenizer, **values) for name in ("whole", "cut"))
    train.run(whole)

    def killed(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(half_made, "remove", killed)
        with pytest.raises(SystemExit):
            train.run(cut)
    assert newest(cut).step == 0 and is_kept(cut.experiment.checkpoints)
    evaluate._newest_checkpoint(cut)
    (alert,) = events_of(cut.run_dir / "events.jsonl", "alert")[-1:]
    assert alert["code"] == "untrained" and "step_00000000.pt has not been trained: " in alert["message"]
    shutil.rmtree(source)
    again = train.run(context(tmp_path / "cut", tokenizer, **values))
    assert str(again["resumed_from"]).endswith("step_00000000.pt")
    assert same_bits(newest(cut), newest(whole)) and not is_kept(cut.experiment.checkpoints)


def test_a_training_that_starts_again_has_the_start_that_was_made(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path
) -> None:
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "2"}
    first = context(tmp_path / "e", tokenizer, **values)
    train.run(first)
    whole = newest(first)
    shutil.rmtree(source)  # it is not needed
    again = context(tmp_path / "e", tokenizer, **values, RESUME_STEP="0", LR="1e-3")
    assert outlook(History.read(first.experiment), again.settings).aside == (whole.step,)
    summary = train.run(again)
    assert (summary["steps"], str(summary["resumed_from"])[-11:]) == (whole.step, "00000000.pt")
    assert not events_of(again.run_dir / "events.jsonl", "settings_changed")  # no step had the old ones
    assert not same_bits(newest(again), whole)
    train.run(context(tmp_path / "e", tokenizer, **values, RESUME_STEP="0"))
    assert same_bits(newest(again), whole)
    other = context(tmp_path / "e", tokenizer, **(values | {"STUDENT_INIT_FIT_STEPS": "3"}), RESUME_STEP="0")
    with pytest.raises(BitnetError):  # that is another start, and its source is gone
        train.run(other)


def test_what_is_half_made_of_a_start_is_forgotten_when_another_one_is_wanted(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "2"}
    stop_after(context(tmp_path / "e", tokenizer, **values), 2, monkeypatch, "reading")
    plain = context(tmp_path / "e", tokenizer, MINI_DIM="256")
    assert is_kept(plain.experiment.checkpoints)
    stop_after(plain, 1, monkeypatch)
    assert not is_kept(plain.experiment.checkpoints)


def test_a_stopped_training_says_whether_its_work_is_kept(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "2"}
    ctx = context(tmp_path / "e", tokenizer, **values)
    kept = "train was stopped; its work is kept, and starting it again continues it."
    assert stop_after(ctx, 1, monkeypatch) == kept


@pytest.mark.parametrize(
    "values",
    [
        {"STUDENT_INIT_LAYERS": "2", "A4_POLICY": "hybrid"},
        {"STUDENT_INIT_LAYERS": "0,2,3", "A4_POLICY": "all", "STUDENT_INIT_EMBEDDING": "Q4_0"},
        {"STUDENT_HADAMARD": "1", "A4_POLICY": "all"},
        {"STUDENT_INIT_LAYERS": "2", "STUDENT_INIT_EMBEDDING": "trained"},
    ],
    ids=str,
)
def test_resume_is_bit_exact_and_never_reads_the_source_again(
    values: dict[str, str],
    source: Path,
    tokenizer: StudentTokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = {"STUDENT_INIT": str(source), **values}
    whole = context(tmp_path / "whole", tokenizer, **values)
    summary = train.run(whole)
    cut = context(tmp_path / "cut", tokenizer, **values)
    stop_after(cut, 2, monkeypatch)
    assert 0 < newest(cut).step < newest(whole).step
    shutil.rmtree(source)
    again = train.run(context(tmp_path / "cut", tokenizer, **values))
    assert again["resumed_from"] is not None
    assert same_bits(newest(whole), newest(cut))
    assert summary["activation_bits"] == 4
    assert summary["origin"] == again["origin"]
    kind = values.get("STUDENT_INIT_EMBEDDING", "Q5_0")
    kept = kind != "trained"
    first, last = (checkpoints.load(path).model[EMBEDDING] for path in ends(whole))
    assert torch.equal(first, last) == kept
    assert np.array_equal(held(kind if kept else "Q5_0", last.numpy()), last.numpy()) == kept
    assert len(newest(whole).optimizer["state"]) == len(newest(whole).model) - kept


def test_the_same_seed_gives_the_same_bits_and_the_records_name_the_source(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path
) -> None:
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "0,3", "TOTAL_STEPS": "3"}
    contexts = [context(tmp_path / name, tokenizer, **values) for name in ("a", "b")]
    for ctx in contexts:
        train.run(ctx)
    one, other = map(newest, contexts)
    assert same_bits(one, other)
    assert one.recipe["STUDENT_INIT"] == str(source)
    assert one.recipe["STUDENT_INIT_LAYERS"] == "0,3"
    origin: dict[str, Any] = one.counters["origin"]
    assert origin["layers"] == [0, 3]
    assert origin["layers_of_source"] == 4
    assert len(origin["sha256"]) == 64
    path = checkpoints.require_latest(contexts[0].experiment.checkpoints)
    assert files.read_json(checkpoints.health_of(path))["origin"] == origin
    said = [e["message"] for e in events_of(contexts[0].run_dir / "events.jsonl") if e["kind"] == "log"]
    assert any("starts from" in message and "(layers 0, 3 of 4)" in message for message in said)
    assert one.config.hidden_size == 64
    assert one.config.rope_theta == 50_000.0
    assert one.config.num_key_value_heads == 2


def test_another_start_begins_again_from_its_own_weights(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path
) -> None:
    """Not from random ones, and the old checkpoints are set aside."""
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "0,1", "TOTAL_STEPS": "2"}
    train.run(context(tmp_path / "e", tokenizer, **values))
    other = values | {"STUDENT_INIT_LAYERS": "2,3"}
    ctx = context(tmp_path / "e", tokenizer, **other)
    train.run(ctx)
    fresh = context(tmp_path / "fresh", tokenizer, **other)
    train.run(fresh)
    assert same_bits(newest(ctx), newest(fresh))
    assert list((ctx.experiment.checkpoints / "superseded").rglob("*.pt"))
    faster = context(tmp_path / "e", tokenizer, **other, LR="1e-4")
    train.run(faster)
    assert newest(faster).counters["origin"]["layers"] == [2, 3]


def test_a_source_with_another_tokenizer_is_refused_before_anything_is_written(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = context(tmp_path / "e", tokenizer, STUDENT_INIT=str(source))
    monkeypatch.setattr(train, "tokens_of", lambda _: {0: "another"})
    with pytest.raises(BitnetError, match="has another tokenizer than the traces"):
        train.run(ctx)
    assert not list(ctx.experiment.checkpoints.glob("*.pt"))


def test_a_training_of_a_version_that_fitted_nothing_and_kept_no_embedding_goes_on_so(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = {"STUDENT_INIT_FIT_STEPS": "0", "STUDENT_INIT_EMBEDDING": "trained"}
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "2"}
    cut = context(tmp_path / "cut", tokenizer, **values | older)
    noted = Wanted.settings
    with monkeypatch.context() as patched:  # that version did not note settings that it did not know
        patched.setattr(Wanted, "settings", lambda one: {k: v for k, v in noted(one).items() if k not in older})
        stop_after(cut, 2, monkeypatch)
    monkeypatch.delitem(FAST, "STUDENT_INIT_FIT_STEPS")
    assert train.run(context(tmp_path / "cut", tokenizer, **values))["resumed_from"] is not None
    assert newest(cut).config.embedding_type == ""
    changed = context(
        tmp_path / "cut", tokenizer, **values, STUDENT_INIT_EMBEDDING="Q5_0", STUDENT_INIT_FIT_STEPS="0"
    )
    train.run(changed)
    (alert,) = events_of(changed.run_dir / "events.jsonl", "alert")
    assert "STUDENT_INIT_EMBEDDING trained → Q5_0" in alert["message"]
    assert newest(changed).config.embedding_type == "Q5_0"


def test_a_setting_of_the_start_that_is_taken_away_has_its_default_again(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path
) -> None:
    """The run's record names the default, so the student must not be another one."""
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "2", "TOTAL_STEPS": "1"}
    first = context(tmp_path / "e", tokenizer, **values, STUDENT_INIT_EMBEDDING="Q4_0")
    train.run(first)
    again = context(tmp_path / "e", tokenizer, **values)
    train.run(again)
    (alert,) = (e for e in events_of(again.run_dir / "events.jsonl", "alert") if e["code"] == SUPERSEDED)
    assert "STUDENT_INIT_EMBEDDING Q4_0 → Q5_0" in alert["message"]
    assert newest(again).config.embedding_type == again.settings.to_record()["STUDENT_INIT_EMBEDDING"] == "Q5_0"
