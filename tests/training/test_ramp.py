"""Gradual ternarisation: the share as a function of tokens, the mix against a slow twin, and what a training says."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError, Stopped, UsageError
from bitnet_core.model.layers import BitLinear
from bitnet_core.model.quant import partly, quantize_activation, quantize_weight
from bitnet_core.settings.values import FlipOptions, TrainOptions
from bitnet_core.training import checkpoints
from bitnet_core.training.monitor import Divergence
from bitnet_core.training.ramp import quantized_share
from tests.training.conftest import StageTrainer, events
from tests.training.test_trainer import stop_after, timeless

Make = Callable[..., StageTrainer]
RAMP = {
    "QUANT_RAMP_FRACTION": "0.5",
    "FLIP_FRACTION": "0.8",
    "BUDGET_TOKENS": "1600",
    "TOTAL_STEPS": "40",
    "LOG_INTERVAL": "1",
}


# -- the share -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 100), st.integers(1, 10**12), st.lists(st.integers(0, 10**12), min_size=1))
def test_the_share_rises_linearly_with_the_tokens_to_exactly_one(
    hundredths: int, budget: int, seen: list[int]
) -> None:
    flip = FlipOptions(budget_tokens=budget, quant_ramp_fraction=hundredths / 100, fraction=1.0)
    end = budget * hundredths // 100
    assert flip.ternary_at == end
    assert quantized_share(flip, end) == 1 == quantized_share(flip, budget)
    assert quantized_share(flip, 0) == (0 if end else 1)
    shares = [quantized_share(flip, tokens) for tokens in sorted(seen)]
    assert shares == sorted(shares)
    for tokens in seen:
        assert quantized_share(flip, tokens) == (float(Fraction(tokens, end)) if tokens < end else 1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"QUANT_RAMP_FRACTION": "0.9"}, r"only after the flip at 0\.8 of the budget \(FLIP_FRACTION\)"),
        ({"STUDENT_QUANTIZE": "0"}, "set STUDENT_QUANTIZE=1, or QUANT_RAMP_FRACTION=0"),
        ({"TOTAL_STEPS": "4"}, r"TOTAL_STEPS=4 ends at about \d+ tokens, before the student is ternary at 800"),
    ],
)
def test_a_training_that_would_not_become_ternary_is_refused(
    make_trainer: Make, values: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_trainer(RAMP | values).run()


# -- the mix ---------------------------------------------------------------------------------------------------------


def twin(linear: BitLinear, x: torch.Tensor, share: float, bits: int) -> torch.Tensor:
    """The same as it is written in the source, where autograd keeps the sums."""
    w = linear.weight
    w_q = w + share * (quantize_weight(w) - w).detach()
    x_q = x + share * (quantize_activation(x, bits) - x).detach()
    return F.linear(x_q, w_q)


@pytest.mark.parametrize("bits", [8, 4])
@given(share=st.integers(0, 1023).map(lambda n: n / 1024), seed=st.integers(0, 1000))
def test_a_linear_mixes_its_weight_and_its_input_as_the_twin_does(bits: int, share: float, seed: int) -> None:
    torch.manual_seed(seed)
    linear = BitLinear(24, 16).double()
    torch.nn.init.normal_(linear.weight, std=0.3)
    linear.activation_bits, linear.quantized_share = bits, torch.tensor(share)
    x = torch.randn(5, 24, dtype=torch.float64, requires_grad=True)
    found, grad = linear(x), torch.randn(5, 16, dtype=torch.float64)
    torch.testing.assert_close(found, twin(linear, x, share, bits))
    ours = torch.autograd.grad(found, (x, linear.weight), grad)
    theirs = torch.autograd.grad(twin(linear, x, share, bits), (x, linear.weight), grad)
    torch.testing.assert_close(ours, theirs)
    linear.hold(True)
    torch.testing.assert_close(linear(x), found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_mix_stays_in_its_type(dtype: torch.dtype) -> None:
    x = torch.randn(3, 64).to(dtype)
    found = partly(x, quantize_activation(x, 8), torch.tensor(0.25))
    assert found.dtype == dtype
    wanted = 0.75 * x.float() + 0.25 * quantize_activation(x, 8).float()
    torch.testing.assert_close(found.float(), wanted, rtol=1e-2, atol=1e-2)


def test_none_of_it_is_full_precision_and_all_of_it_the_student_as_ever(make_trainer: Make) -> None:
    student, ids = make_trainer(num_hidden_layers=2).student, torch.randint(0, 512, (2, 12))

    def hidden(share: float | None, bits: int | None = 8) -> torch.Tensor:
        student.activation_bits = bits
        if share is not None:
            student.quantized_share = share
        with torch.no_grad():
            found = student(ids)
            with student.held_weights():
                torch.testing.assert_close(student(ids), found)
        return found

    ever, full = hidden(None), hidden(None, None)
    student.quantized_share = 0.0
    assert torch.equal(hidden(None), full)
    assert not torch.equal(hidden(0.5), full) and not torch.equal(hidden(0.5), ever)
    assert torch.equal(hidden(1.0), ever)
    assert all(linear.quantized_share is None for linear in student.bit_linears())
    assert "quantized_share" not in str(student.state_dict().keys())


def test_a_compiled_linear_is_compiled_once_for_the_whole_ramp(make_trainer: Make) -> None:
    student, graphs = make_trainer().student, list[object]()

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    linear, x = next(student.bit_linears()), torch.randn(3, 256)
    compiled = torch.compile(linear, backend=backend)
    for share in (0.0, 0.1, 0.5, 0.9):
        student.quantized_share = share
        torch.testing.assert_close(compiled(x), linear(x))
    assert len(graphs) == 1
    student.quantized_share = 1.0
    torch.testing.assert_close(compiled(x), linear(x))
    assert len(graphs) == 2


# -- a training ------------------------------------------------------------------------------------------------------


def test_a_training_says_how_ternary_it_is_and_takes_no_best_before(make_trainer: Make) -> None:
    trainer = make_trainer(RAMP | {"CHECKPOINT_INTERVAL": "1"})
    summary = trainer.run()
    (budget,) = events(trainer, "budget")
    assert (budget["ternary_at_tokens"], budget["flip_at_tokens"]) == (800, 1280)
    steps = [event for event in events(trainer, "metric") if "loss" in event]
    seen = [0, *(event["seen_tokens"] for event in steps)]
    assert [one["quantized_share"] for one in steps] == [min(1.0, tokens / 800) for tokens in seen[:-1]]
    whens = [(row["when"], row["quantized_share"]) for row in trainer.state.evaluations]
    assert whens[0] == ("start", 0) and ("ternary", 1.0) in whens and whens[-1][0] == "end"
    ternary_at = next(row["seen_tokens"] for row in trainer.state.evaluations if row["when"] == "ternary")
    assert ternary_at == next(tokens for tokens in seen if tokens >= 800)
    kept = [row for row in trainer.state.evaluations if row["when"] in ("checkpoint", "end")]
    after = [row for row in kept if row["quantized_share"] == 1]
    assert 0 < len(after) < len(kept)
    assert trainer.state.best["step"] == min(after, key=lambda row: row["heldout_loss"])["step"]
    assert summary["activation_bits"] == 4
    assert trainer.student.quantized_share == 1
    assert checkpoints.newest_health(trainer.ctx.experiment.checkpoints)["quantized_share"] == 1


@pytest.mark.parametrize("interval", ["1", "4"])
def test_no_report_counts_as_diverging_that_is_of_steps_before(
    make_trainer: Make, interval: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[float] = []
    monkeypatch.setattr(Divergence, "add", lambda _, loss, _steps: counted.append(loss))
    trainer = make_trainer(RAMP | {"LOG_INTERVAL": interval})
    trainer.run()
    reports = [event for event in events(trainer, "metric") if "loss" in event]
    whole = [one["loss"] for before, one in itertools.pairwise(reports) if before["quantized_share"] == 1]
    assert counted == whole and len(whole) < sum(1 for one in reports if one["quantized_share"] == 1)


def test_without_a_ramp_nothing_speaks_of_it(make_trainer: Make) -> None:
    trainer = make_trainer()
    trainer.run()
    assert not any("quantized_share" in event for event in events(trainer, "metric"))
    assert "ternary_at_tokens" not in events(trainer, "budget")[0]
    assert not any(row["when"] == "ternary" for row in trainer.state.evaluations)


@pytest.mark.parametrize("stopped", [2, 9])
def test_a_resumed_ramp_is_the_uninterrupted_one(make_trainer: Make, stopped: int) -> None:
    """Also with several batches a step. The first stop is in the ramp, the second behind it."""
    values = RAMP | {"GRAD_ACCUM_STEPS": "2", "TRAIN_BATCH_SIZE": "2"}
    whole = make_trainer(values, name="whole")
    whole.run()
    first = make_trainer(values, name="halves", resume=True)
    stop_after(first, stopped)
    with pytest.raises(Stopped):
        first.run()
    path = checkpoints.require_latest(first.ctx.experiment.checkpoints)
    loaded = checkpoints.load(path)
    assert loaded.step == stopped
    assert (loaded.quantized_share < 1) == (stopped == 2)
    if loaded.quantized_share < 1:
        assert checkpoints.read_health(path)["quantized_share"] == loaded.quantized_share > 0
        with pytest.raises(BitnetError, match=r"step 2 is not ternary yet: its quantisation is at 0\.\d\d of 1"):
            checkpoints.student_from(loaded)
    second = make_trainer(values, name="halves", resume=True)
    second.run()
    for name, tensor in whole.student.state_dict().items():
        assert torch.equal(tensor, second.student.state_dict()[name]), name
    assert whole.student.quantized_share == second.student.quantized_share == 1
    assert timeless(events(first, "metric") + events(second, "metric")) == timeless(events(whole, "metric"))
    assert timeless(whole.state.evaluations) == timeless(second.state.evaluations)


def test_a_larger_budget_takes_nothing_back(make_trainer: Make) -> None:
    first = make_trainer(RAMP, name="more", resume=True)
    stop_after(first, 3)
    with pytest.raises(Stopped):
        first.run()
    share = first.student.quantized_share
    assert 0 < share < 1
    second = make_trainer(RAMP | {"BUDGET_TOKENS": "9000", "TOTAL_STEPS": "200"}, name="more", resume=True)
    second._ramp_up()
    assert second.student.quantized_share == share


def test_a_training_that_ends_too_early_after_all_warns_and_is_not_evaluated(make_trainer: Make) -> None:
    trainer = make_trainer(RAMP)
    trainer.resume(trainer.ctx)
    trainer.options = TrainOptions(**{**vars(trainer.options), "total_steps": 2})
    trainer._train()
    (alert,) = [one for one in events(trainer, "alert") if one["code"] == "not_ternary"]
    assert "neither evaluated nor exported" in alert["message"]
    assert trainer.state.best == {}


def test_a_student_of_no_share_is_refused(make_trainer: Make) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        make_trainer().student.quantized_share = 1.5
