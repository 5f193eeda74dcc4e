"""The train stage, from traces and settings to checkpoints, a table and a summary."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.event_files import each_event
from bitnet_core.runs.stage_health import health
from bitnet_core.runs.vitals import Plan, VitalSigns
from bitnet_core.stages import train
from bitnet_core.text import significant
from bitnet_core.traces.dataset import TraceSequence, TraceSet
from bitnet_core.training import checkpoints
from bitnet_core.training.trainer import Trainer
from tests.builders import emitted, stage_context
from tests.training.conftest import TINY, TOP_K, VOCAB

SHAPE = {"MINI_DIM": "256", "MINI_LAYERS": "1", "FORCE_CPU": "1", "TORCH_DTYPE": "fp32"}
FLIP = {"TOTAL_STEPS": "6", "BUDGET_TOKENS": "400", "FLIP_FRACTION": "0.4"}


@pytest.fixture(autouse=True)
def _traces(sequences: list[TraceSequence], monkeypatch: pytest.MonkeyPatch) -> None:
    found = TraceSet(sequences, VOCAB, TOP_K, "t" * 64, "p" * 64, "teacher")
    monkeypatch.setattr(train, "load_traces", lambda _folder, _top_k, *_: found)


def context(root: Path, **values: str) -> StageContext:
    return stage_context(root, "train", TINY | SHAPE | FLIP | values)


def test_the_stage_leaves_checkpoints_a_table_and_a_summary(tmp_path: Path, sequences: list[TraceSequence]) -> None:
    ctx = context(tmp_path / "e")
    summary = train.run(ctx)
    held_out = [one.sequence_hash for one in sequences if one.heldout]
    assert len(set(held_out)) > 1
    few = f"Only {len(set(held_out))} prompts with {len(held_out)} traces are held out (near-identical"
    assert any(one["message"].startswith(few) for one in emitted(ctx, "log"))
    path = checkpoints.latest(ctx.experiment.checkpoints)
    assert summary["checkpoint"] == str(path)
    assert summary["activation_bits"] == 4
    assert summary["resumed_from"] is None
    assert summary["steps"] <= 6
    assert 0 < summary["heldout_agreement_commonest_token"] < 0.3
    (table,) = emitted(ctx, "table")
    assert table["name"] == "training"
    assert [row[0] for row in table["rows"]] == [
        "start",
        "before flip",
        "after flip",
        "end",
        "flip shock",
        "tokens to recover",
        "commonest token",
    ]
    columns = table["columns"]
    loss = columns.index("held-out loss")
    before, after, shock = table["rows"][1], table["rows"][2], table["rows"][4]
    assert shock[loss] == pytest.approx(after[loss] - before[loss])
    assert all(len(row) == len(columns) for row in table["rows"])
    again = train.run(context(tmp_path / "e"))
    assert again["resumed_from"] == str(path)
    assert again["steps"] == summary["steps"]


def _stopping_after_two(ctx: StageContext) -> Callable[[Trainer], None]:
    step = Trainer._step

    def stopping(trainer: Trainer) -> None:
        step(trainer)
        if trainer.state.step == 2:
            ctx.request_stop()

    return stopping


def test_the_end_of_a_resumed_training_tells_of_all_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for stops in (True, False):
        ctx = context(tmp_path / "e", LR="1e-2", FORMAT_LOSS_WEIGHT="1")
        with monkeypatch.context() as patch:
            if stops:
                patch.setattr(Trainer, "_step", _stopping_after_two(ctx))
            with pytest.raises(Stopped) if stops else contextlib.nullcontext():
                train.run(ctx)
        signs = VitalSigns()
        for event in each_event(ctx.run_dir / "events.jsonl"):
            signs.feed(event)
        seen.append(signs.view())
    first, whole = seen
    assert first.first is not None and whole.first is not None and first.evaluations[0].when == "start"
    assert "start" not in {one.when for one in whole.evaluations}
    assert (whole.first.step, whole.first.loss) == (0, first.first.loss)
    (said,) = health("train", "succeeded", whole, Plan())
    assert f"from {significant(first.first.loss)} to {significant(whole.evaluations[-1].loss)}" in said.words


def test_the_log_names_device_and_precision(tmp_path: Path) -> None:
    ctx = context(tmp_path / "e")
    train.run(ctx)
    messages = [e["message"] for e in emitted(ctx, "log")]
    assert any("on cpu in fp32 (TORCH_DTYPE is fp32)" in message for message in messages)


def test_another_shape_in_the_same_experiment_is_refused(tmp_path: Path) -> None:
    train.run(context(tmp_path / "e"))
    with pytest.raises(BitnetError, match=r"mini_bitnet_step_.*hidden_size=256.*hidden_size=512.*another experiment"):
        train.run(context(tmp_path / "e", MINI_DIM="512"))


def test_cut_prompts_and_a_missing_held_out_side_are_reported(
    tmp_path: Path, sequences: list[TraceSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    only = TraceSet([s for s in sequences if not s.heldout], VOCAB, TOP_K, "t" * 64, "p" * 64, "teacher")
    monkeypatch.setattr(train, "load_traces", lambda _folder, _top_k, *_: only)
    ctx = context(tmp_path / "e", MAX_SEQ_LEN="16")
    summary = train.run(ctx)
    codes = [e["code"] for e in emitted(ctx, "alert")]
    assert "no_heldout" in codes
    assert "heldout_loss" not in summary
    cut = next(e for e in emitted(ctx, "alert") if e["code"] == "completions_cut")
    assert re.match(
        r"MAX_SEQ_LEN=16 cut the end of \d+ of \d+ completions \(\d+ supervised tokens\)\.", cut["message"]
    )


def test_a_student_that_no_memory_holds_is_refused_before_it_is_made(
    tmp_path: Path, sequences: list[TraceSequence], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = TraceSet(sequences, 1 << 40, TOP_K, "t" * 64, "p" * 64, "teacher")
    monkeypatch.setattr(train, "load_traces", lambda _folder, _top_k, *_: found)
    with pytest.raises(BitnetError, match=r"takes at least .* is free on cpu; choose a smaller MINI_PRESET, or end"):
        train.run(context(tmp_path / "e"))
