"""Training from a chosen checkpoint: as if the newer ones had never been, and with the flip moved to there."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.settings.values import FlipOptions, flip_fraction_at
from bitnet_core.training import checkpoints
from tests.training.conftest import StageTrainer, events

Make = Callable[..., StageTrainer]
BUDGET = 1100
STEPS = {"BUDGET_TOKENS": str(BUDGET), "FLIP_FRACTION": "0.5", "TOTAL_STEPS": "8", "CHECKPOINT_INTERVAL": "3"}


def _same(ours: StageTrainer, theirs: StageTrainer) -> None:
    for name, tensor in ours.student.state_dict().items():
        assert torch.equal(tensor, theirs.student.state_dict()[name]), name
    assert ours.student.layer_bits == theirs.student.layer_bits
    assert (ours.state.step, ours.state.seen_tokens) == (theirs.state.step, theirs.state.seen_tokens)
    assert [row for row in ours.state.evaluations if row["when"] != "changed"] == theirs.state.evaluations
    assert ours.sampler.state() == theirs.sampler.state()


def _steps(folder: Path) -> list[int]:
    return sorted(checkpoints.load(path).step for path in checkpoints.found(folder))


def test_a_training_from_an_older_checkpoint_is_the_same_to_the_bit(make_trainer: Make) -> None:
    whole = make_trainer(STEPS)
    whole.run()
    folder = whole.ctx.experiment.checkpoints
    assert _steps(folder) == [3, 6, 8]
    again = make_trainer(STEPS | {"RESUME_STEP": "3"}, resume=True)
    assert (again.state.step, _steps(folder)) == (3, [3])
    (aside,) = (folder / "superseded").iterdir()
    assert _steps(aside) == [6, 8]
    assert f"Newer checkpoints (2) are kept in {aside}." in [one["message"] for one in events(again, "log")]
    again.run()
    _same(again, whole)


def test_the_flip_may_be_moved_to_a_checkpoint_that_has_not_flipped(make_trainer: Make) -> None:
    """The same as a training that had the flip there from the start."""
    late = make_trainer(STEPS | {"FLIP_FRACTION": "1"}, name="late")
    late.run()
    seen = checkpoints.load(checkpoints.of_step(late.ctx.experiment.checkpoints, 3)).seen_tokens
    moved = {"FLIP_FRACTION": flip_fraction_at(seen, BUDGET)}
    whole = make_trainer(STEPS | moved, name="whole")
    whole.run()
    (flip,) = events(whole, "flip")
    assert (flip["step"], flip["seen_tokens"]) == (3, seen)
    again = make_trainer(STEPS | moved | {"RESUME_STEP": "3"}, name="late", resume=True)
    again.run()
    _same(again, whole)


_REFUSED = (
    ({"RESUME_STEP": "4"}, "no complete checkpoint of step 4 in .*; steps that are there: 3, 6, 8"),
    (
        {"RESUME_STEP": "3", "KD_TAU": "2"},
        r"go on from .*_00000003.pt: .* changed \(KD_TAU 1.3 → 2\); restore the old",
    ),
    ({"RESUME_STEP": "3", "FLIP_FRACTION": "0.1"}, r"changed \(FLIP_FRACTION 0.5 → 0.1\)"),  # it is behind it
    ({"RESUME_STEP": "8", "FLIP_FRACTION": "0.9"}, r"changed \(FLIP_FRACTION 0.5 → 0.9\)"),  # it has flipped
    ({"RESUME_STEP": "8", "LR": "0.1"}, "it is finished, and LR 3e-3 → 0.1 would reach no step; choose an"),
)


def test_what_can_not_be_resumed_is_refused_and_nothing_is_moved(make_trainer: Make) -> None:
    first = make_trainer(STEPS)
    first.run()
    for changed, why in _REFUSED:
        with pytest.raises(BitnetError, match=why):
            make_trainer(STEPS | changed, resume=True)
        assert _steps(first.ctx.experiment.checkpoints) == [3, 6, 8]


@given(st.data(), st.integers(1, 10**12))
def test_the_fraction_is_the_shortest_that_flips_there(data: st.DataObject, budget: int) -> None:
    tokens = data.draw(st.integers(0, budget))
    text = flip_fraction_at(tokens, budget)
    assert FlipOptions(budget_tokens=budget, fraction=float(text)).threshold == tokens
    share = Decimal(text)
    digits = max(0, -int(share.as_tuple().exponent)) if share else 0
    if digits > 1:  # neither neighbour with one digit less does
        step = Decimal(1).scaleb(1 - digits)
        near = (share // step * step, share // step * step + step)
        assert all(int(one * budget) != tokens for one in near)
