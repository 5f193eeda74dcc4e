"""The start of a training from a model, kept for other trainings of the same start."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitnet_core.planning import probe
from bitnet_core.pretrained import half_made
from bitnet_core.runs.context import StageContext
from bitnet_core.stages import train
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.training import checkpoints
from tests.builders import events_of
from tests.pretrained.test_start import _traces, context, ends, same_bits, source, stop_after

__all__ = ["_traces", "source"]


def _plans_it(
    root: Path, values: dict[str, str], tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Whether a plan with these values says that the start is made."""
    ctx = context(root, tokenizer, **values)
    (ctx.experiment.data / "kd_shard_000.parquet").touch()
    monkeypatch.setattr(probe, "load_traces", lambda *_, **__: train.load_traces(*_))
    job = {"settings": ctx.settings.to_record(), "preset": None, "vocabulary": None, "time": False, "again": False}
    return bool(probe.examine(job)["start"]["made"])


def test_a_start_that_is_made_is_taken_by_another_training_of_it(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bits of one that makes it anew, as long as nothing that decides it differs."""
    values = {"STUDENT_INIT": str(source), "STUDENT_INIT_LAYERS": "2", "TOTAL_STEPS": "2"}
    slower = values | {"LR": "1e-4", "TRAIN_BATCH_SIZE": "3", "SEED": "5"}
    first = context(tmp_path / "first", tokenizer, **values)
    train.run(first)
    (made,) = first.experiment.checkpoints.glob(".made-start-*.pt")
    for root, changed, there in (
        (first.experiment.root, {"LR": "1e-4", "SEED": "5"}, True),
        (first.experiment.root, {"STUDENT_INIT_FIT_STEPS": "3"}, False),
        (tmp_path / "other", {}, False),
    ):
        assert _plans_it(root, values | changed, tokenizer, monkeypatch) is there

    def started(name: str, values: dict[str, str], content: bytes = b"") -> tuple[StageContext, bool]:
        """A training that begins with a made start, if there is content; whether it took that."""
        ctx = context(tmp_path / name, tokenizer, **values)
        if content:
            ctx.experiment.checkpoints.mkdir(parents=True, exist_ok=True)
            (ctx.experiment.checkpoints / made.name).write_bytes(content)
        train.run(ctx)
        assert len(list(ctx.experiment.checkpoints.glob(".made-start-*.pt"))) == 1
        return ctx, not any("layers" in one["unit"] for one in events_of(ctx.run_dir / "events.jsonl", "progress"))

    anew, reused = (started(name, slower, content) for name, content in (("anew", b""), ("dup", made.read_bytes())))
    assert (anew[1], reused[1]) == (False, True)
    for one, other in zip(ends(anew[0]), ends(reused[0]), strict=True):
        one, other = checkpoints.load(one), checkpoints.load(other)
        assert same_bits(one, other) and torch.equal(one.rng["cpu"], other.rng["cpu"])
        assert (one.step, one.counters["origin"]) == (other.step, other.counters["origin"])
        assert (one.sampler, one.scheduler, one.recipe) == (other.sampler, other.scheduler, other.recipe)
    assert started("dup", slower | {"SEED": "6"})[1], "a training that begins anew in the same place takes it too"
    for name, content, changed in (
        ("torn", made.read_bytes()[:-999], {}),
        ("length", made.read_bytes(), {"MAX_SEQ_LEN": "16"}),
    ):
        assert not started(name, slower | changed, content)[1], name
    with monkeypatch.context() as newer:
        newer.setattr(half_made, "__version__", "99")
        assert not started("version", slower, made.read_bytes())[1]
    for weights in source.glob("*.safetensors"):
        tensors = {name: 1.5 * tensor for name, tensor in load_file(weights).items()}
        save_file(tensors, weights, metadata={"format": "pt"})
    assert not started("retrained", slower, made.read_bytes())[1], "a model of the same name has other weights"
    plain = context(tmp_path / "plain", tokenizer, MINI_DIM="256")
    plain.experiment.checkpoints.mkdir(parents=True, exist_ok=True)
    (plain.experiment.checkpoints / made.name).touch()
    stop_after(plain, 1, monkeypatch)
    assert not list(plain.experiment.checkpoints.glob(".made-start-*.pt")), "it starts from random weights"
