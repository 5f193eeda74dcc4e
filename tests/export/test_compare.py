"""Figures of a comparison, against sums written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitnet_core.export.compare import compare


def tables(seed: int, steps: int, tokens: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two sets of logprobs, close to each other."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(steps, tokens)) * 3
    pair = [logits, logits + rng.normal(size=logits.shape) * 0.1]
    ours, theirs = (one - np.log(np.exp(one).sum(axis=1, keepdims=True)) for one in pair)
    return ours.astype(np.float32), theirs.astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 9))
def test_figures_are_the_sums(seed: int, steps: int, tokens: int) -> None:
    ours, theirs = tables(seed, steps, tokens)
    found = compare(ours, theirs)
    rows = list(zip(ours.tolist(), theirs.tolist(), strict=True))
    divergences = [sum(math.exp(o) * (o - t) for o, t in zip(*row, strict=True)) for row in rows]
    assert found.mean_kl == pytest.approx(sum(divergences) / steps, abs=1e-5)
    differences = [abs(o - t) for row in rows for o, t in zip(*row, strict=True)]
    assert found.max_difference == pytest.approx(max(differences))
    assert found.mean_difference == pytest.approx(sum(differences) / len(differences))
    assert found.agreement == sum(o.index(max(o)) == t.index(max(t)) for o, t in rows) / steps


@given(st.integers(0, 2**32 - 1), st.integers(3, 9))
def test_tokens_that_were_not_told_count_as_one(seed: int, tokens: int) -> None:
    ours, theirs = tables(seed, 1, tokens)
    cut = theirs.copy()
    least = cut.argmin()
    cut[0, least] = np.nan
    # One cell alone is a cell of its own either way.
    assert compare(ours, cut).mean_kl == pytest.approx(compare(ours, theirs).mean_kl, abs=1e-4)
    assert compare(ours, cut).max_difference <= compare(ours, theirs).max_difference


def test_only_steps_above_the_noise_are_decided() -> None:
    ours = np.log(np.array([[0.6, 0.3, 0.1], [0.34, 0.33, 0.33]], np.float32))
    theirs = np.log(np.array([[0.5, 0.4, 0.1], [0.33, 0.34, 0.33]], np.float32))
    found = compare(ours, theirs, ours + np.float32(0.1))
    assert (found.steps, found.decided_steps, found.agreement, found.decided_agreement) == (2, 1, 0.5, 1)
    assert compare(ours, ours, ours + np.float32(4.5)).decided_agreement is None


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(2, 9))
def test_what_is_rounded_alike_is_compared_as_well(seed: int, steps: int, tokens: int) -> None:
    ours, theirs = tables(seed, steps, tokens)
    rounded, _ = tables(seed + 1, steps, tokens)
    found = compare(ours, theirs, rounded)
    assert found.rounded_kl == compare(rounded, theirs).mean_kl
    assert found.mean_kl == compare(ours, theirs).mean_kl
    assert compare(ours, theirs).rounded_kl is None


def test_logits_may_differ_by_a_constant() -> None:
    ours, _ = tables(0, 3, 5)
    assert compare(ours, ours + 2).mean_kl == pytest.approx(0, abs=1e-6)
    assert compare(ours, ours + 2).max_difference == pytest.approx(2)
