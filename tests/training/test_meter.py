"""The means between two readings: of the steps that have the tokens which a part is a mean over."""

import dataclasses

import pytest
import torch

from bitnet_core.traces.examples import Counts
from bitnet_core.training.monitor import Meter
from bitnet_core.training.step import StepResult

KD, TEXT = Counts(kd=8, ce=8, format=3), Counts(kd=8, ce=8, format=0)


def done(counts: Counts, *parts: float) -> StepResult:
    return StepResult(torch.tensor(parts), torch.tensor(1.0), counts.ce, counts, finite=True)


def test_a_step_without_format_tokens_does_not_lower_their_loss() -> None:
    meter = Meter()
    for step in (done(KD, 3.0, 1.0, 2.0, 0.3, 0.5), done(TEXT, 5.0, 3.0, 2.0, 0.0, 0.7)):
        meter.add(step, 1.0)
    assert Meter(**meter.state()).read() == pytest.approx(meter.read())  # read after it was kept, as before
    meter.add(done(TEXT, 5.0, 3.0, 2.0, 0.0, 0.7), 1.0)
    assert "format" not in meter.read()


def test_the_means_of_each_part_are_over_the_steps_that_have_it() -> None:
    meter = Meter()
    meter.add(done(KD, 3.0, 1.0, 2.0, 0.3, 0.5), 1.0)
    meter.add(done(TEXT, 5.0, 3.0, 2.0, 0.0, 0.7), 1.0)
    meter.add(done(Counts(kd=0, ce=8, format=2), 4.0, 0.0, 4.0, 0.1, 0.0), 2.0)
    assert meter.read() == pytest.approx(
        {"loss": 4.0, "kl": 2.0, "ce": 8 / 3, "format": 0.2, "agreement": 0.6, "tokens_per_s": 6.0}
    )


def test_the_share_of_structure_is_a_mean_over_the_steps_that_have_some() -> None:
    meter = Meter()
    for counts, share in ((KD, 0.25), (TEXT, 0.0), (KD, 0.75)):
        step = done(counts, 3.0, 1.0, 2.0, 0.3, 0.5)
        meter.add(dataclasses.replace(step, format_share=torch.tensor(share)), 1.0)
    assert Meter(**meter.state()).read()["format_share"] == 0.5
    meter = Meter()
    meter.add(dataclasses.replace(done(TEXT, 3.0, 1.0, 2.0, 0.0, 0.5), format_share=torch.tensor(0.0)), 1.0)
    assert "format_share" not in meter.read()


def test_a_mean_over_every_step_has_no_other_rounding() -> None:
    meter = Meter()
    parts = torch.tensor([1 / 3, 1 / 7, 1 / 9, 1 / 11, 1 / 13])
    for _ in range(3):
        meter.add(done(KD, *parts.tolist()), 1.0)
    exact = ((parts + parts + parts) / 3).tolist()
    assert list(meter.read().values())[1:] == exact
