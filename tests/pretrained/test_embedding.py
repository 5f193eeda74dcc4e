"""A student that takes a model's embedding alone: what is kept of it, resume without the model, what is refused."""

import dataclasses
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.model.student import Student
from bitnet_core.planning.probe import _shape, _shape_of_start
from bitnet_core.pretrained.choose import open_source
from bitnet_core.pretrained.embedding import RMS, EmbeddingStart, reduced
from bitnet_core.pretrained.source import EMBEDDING, tokens_of
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import StudentOptions
from bitnet_core.stages import train
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import events_of
from tests.pretrained.conftest import HIDDEN
from tests.pretrained.test_start import _traces, context, newest, same_bits, source, stop_after

__all__ = ["_traces", "source"]
OWN = {"MINI_DIM": "64", "MINI_LAYERS": "1", "MINI_HEADS": "4", "STUDENT_INIT_LAYERS": "0", "A4_POLICY": "hybrid"}


@given(seed=st.integers(0, 10_000), width=st.sampled_from([1, 2, 3, 4, 6, 8]))
def test_inner_products_are_kept_as_well_as_the_width_allows(seed: int, width: int) -> None:
    """Against the truncated singular value decomposition, which is the best approximation."""
    generator = torch.Generator().manual_seed(seed)
    wide_VE = torch.randn(20, 8, generator=generator) * torch.linspace(0.1, 2, 8)
    found_VD, share = reduced(wide_VE, width)
    left, values, _ = np.linalg.svd(wide_VE.double().numpy(), full_matrices=False)
    best = (left[:, :width] * values[:width] ** 2) @ left[:, :width].T
    np.testing.assert_allclose((found_VD @ found_VD.T).numpy(), best, atol=1e-4)
    assert share == pytest.approx((values[:width] ** 2).sum() / (values**2).sum())
    if width == 8:
        assert share == pytest.approx(1)


def test_a_student_gets_it_and_keeps_its_other_weights(source: Path, tokenizer: StudentTokenizer) -> None:
    wanted = Wanted(str(source), "0")
    start = EmbeddingStart(wanted, partial(open_source, wanted), lambda: tokens_of(tokenizer.definition))
    options = StudentOptions(layers=1, hidden_size=64, heads=4)
    student = Student(start.shape(options, tokenizer.vocab_size - 3, 64))
    before = {name: tensor.clone() for name, tensor in student.named_parameters()}
    record = start(student, (), Reporter())
    wide_VE = open_source(wanted).read(EMBEDDING)[: tokenizer.vocab_size - 3]
    made_VD = student.output_weight.detach()
    assert made_VD.square().mean().sqrt().item() == pytest.approx(RMS, rel=1e-5)
    torch.testing.assert_close(made_VD @ made_VD.T * (wide_VE.square().mean() / RMS**2), wide_VE @ wide_VE.T)
    assert {name for name, tensor in student.named_parameters() if not torch.equal(tensor, before[name])} == {
        EMBEDDING
    }
    assert (record["width"], record["width_of_source"], record["layers"]) == (64, HIDDEN, [])


def test_training_resumes_without_the_model(
    source: Path, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = OWN | {"STUDENT_INIT": str(source)}
    whole = context(tmp_path / "whole", tokenizer, **values)
    summary = train.run(whole)
    cut = context(tmp_path / "cut", tokenizer, **values)
    stop_after(cut, 2, monkeypatch)
    shutil.rmtree(source)
    again = train.run(context(tmp_path / "cut", tokenizer, **values))
    assert again["resumed_from"] is not None
    assert same_bits(newest(whole), newest(cut))
    assert summary["origin"]["layers"] == []
    assert summary["origin"]["kept"] == pytest.approx(1)
    assert newest(whole).config.num_hidden_layers == 1
    said = [one["message"] for one in events_of(whole.run_dir / "events.jsonl") if one["kind"] == "log"]
    assert any("the 64 of 64 directions that keep 100.0% of its squares" in message for message in said)


def test_a_wider_student_is_refused(source: Path, tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    ctx = context(tmp_path / "e", tokenizer, **OWN | {"STUDENT_INIT": str(source), "MINI_DIM": "128"})
    with pytest.raises(UsageError, match=r"128 wide \(MINI_DIM\), wider than .* \(64\)"):
        train.run(ctx)
    assert not list(ctx.experiment.checkpoints.glob("*.pt"))


def test_a_plan_has_the_student_s_own_shape(source: Path) -> None:
    settings = from_values(OWN | {"STUDENT_INIT": str(source)})
    assert _shape(settings, None, _shape_of_start(settings, None), 100, 64).num_hidden_layers == 1


def test_numbers_that_are_not_finite_are_refused(source: Path, tokenizer: StudentTokenizer) -> None:
    wanted = Wanted(str(source), "0")
    opened = open_source(wanted)
    broken = dataclasses.replace(opened, read=lambda name: opened.read(name).fill_(float("nan")))
    start = EmbeddingStart(wanted, lambda: broken, lambda: tokens_of(tokenizer.definition))
    student = Student(start.shape(StudentOptions(layers=1, hidden_size=64, heads=4), tokenizer.vocab_size, 64))
    with pytest.raises(BitnetError, match="not finite"):
        start(student, (), Reporter())
