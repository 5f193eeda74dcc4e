"""The penalty on peaks in what the down projections read: its value and its gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.pretrained.peaks import unevenness


@given(st.lists(st.floats(-100, 100), min_size=60, max_size=60), st.floats(1e-2, 1e2), st.integers(0, 59))
def test_the_penalty_is_that_of_the_definition_and_knows_no_scale(
    values: list[float], scale: float, place: int
) -> None:
    values[place] = 200.0
    rms = math.sqrt(sum(one * one for one in values) / len(values))
    expected = max(0.0, 200.0 / rms / 6 - 1) ** 2
    token = torch.tensor(values, dtype=torch.float64)
    assert math.isclose(float(unevenness([token[None]])), expected, rel_tol=1e-6, abs_tol=1e-9)
    assert math.isclose(float(unevenness([token[None] * scale])), expected, rel_tol=1e-6, abs_tol=1e-9)
    assert float(unevenness([torch.stack([token, torch.zeros_like(token)])])) == pytest.approx(expected / 2, abs=1e-9)


def test_its_gradient_is_that_of_the_definition() -> None:
    token = torch.full((2, 60), 0.1, dtype=torch.float64)
    token[:, 7] = torch.tensor([5.0, -3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: unevenness([x, 2 * x]), token.requires_grad_())
