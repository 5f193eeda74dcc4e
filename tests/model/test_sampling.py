"""Sampling against slow twins that work on lists; order, ties and extremes."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import UsageError
from bitnet_core.model.sampling import Decoding, distribution, min_p, next_token, nucleus, penalised, top_k
from bitnet_core.settings.values import Sampling

WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=12)


def exact(weights: list[int]) -> list[float]:
    """A distribution in whole parts of a power of two, so that sums are exact and a tie is a tie in both twins."""
    scale = 2 ** sum(weights).bit_length()
    probs = [weight / scale for weight in weights]
    return [*probs, 1 - sum(probs)]


def by_rank(probs: list[float]) -> list[int]:
    return sorted(range(len(probs)), key=lambda index: (-probs[index], index))


def only(probs: list[float], kept: set[int]) -> list[float]:
    total = math.fsum(probs[index] for index in kept)
    return [probs[index] / total if index in kept else 0.0 for index in range(len(probs))]


def slow_top_k(probs: list[float], k: int) -> list[float]:
    return only(probs, set(by_rank(probs)[:k] if k else range(len(probs))))


def slow_nucleus(probs: list[float], top_p: float) -> list[float]:
    """Take tokens by falling probability until their mass reaches `top_p`."""
    kept: set[int] = set()
    for index in by_rank(probs):
        if kept and math.fsum(probs[one] for one in kept) >= top_p:
            break
        kept.add(index)
    return only(probs, kept)


def slow_min_p(probs: list[float], share: float) -> list[float]:
    return only(probs, {index for index, prob in enumerate(probs) if prob >= share * max(probs)})


def slow_distribution(logits: list[float], decoding: Decoding) -> list[float]:
    parts = [math.exp((one - max(logits)) / decoding.temperature) for one in logits]
    probs = [part / math.fsum(parts) for part in parts]
    probs = slow_top_k(probs, decoding.top_k)
    probs = slow_nucleus(probs, decoding.top_p)
    return slow_min_p(probs, decoding.min_p)


@given(WEIGHTS, st.integers(0, 14))
def test_top_k_against_its_slow_twin(weights: list[int], k: int) -> None:
    probs = exact(weights)
    assert top_k(torch.tensor(probs, dtype=torch.float64), k).tolist() == pytest.approx(slow_top_k(probs, k))


@given(WEIGHTS, st.integers(1, 128))
def test_the_nucleus_against_its_slow_twin(weights: list[int], parts: int) -> None:
    probs = exact(weights)
    found = nucleus(torch.tensor(probs, dtype=torch.float64), parts / 128)
    assert found.tolist() == pytest.approx(slow_nucleus(probs, parts / 128))


@given(WEIGHTS, st.integers(0, 128))
def test_min_p_against_its_slow_twin(weights: list[int], parts: int) -> None:
    probs = exact(weights)
    found = min_p(torch.tensor(probs, dtype=torch.float64), parts / 128)
    assert found.tolist() == pytest.approx(slow_min_p(probs, parts / 128))


@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=1, max_size=9), st.floats(0.5, 2))
def test_the_penalty_against_its_slow_twin(tokens: list[tuple[float, bool]], penalty: float) -> None:
    expected = [logit if not seen else logit / penalty if logit > 0 else logit * penalty for logit, seen in tokens]
    logits, seen = (torch.tensor(list(column)) for column in zip(*tokens, strict=True))
    assert penalised(logits.double(), seen, penalty).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", [lambda p: top_k(p, 2), lambda p: nucleus(p, 0.6), lambda p: min_p(p, 0.5)])
def test_rows_of_a_batch_are_independent(make: Callable[[torch.Tensor], torch.Tensor]) -> None:
    probs_BV = torch.tensor([[0.1, 0.4, 0.3, 0.2], [0.7, 0.1, 0.1, 0.1]])
    assert torch.equal(make(probs_BV), torch.stack([make(probs_V) for probs_V in probs_BV]))


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(max_tokens=1, temperature=0.7, top_p=0.9),
        Decoding(max_tokens=1, temperature=1.3, top_k=3),
        Decoding(max_tokens=1, temperature=1.0, min_p=0.2),
        Decoding(max_tokens=1, temperature=2.0, top_k=5, top_p=0.8, min_p=0.3),
    ],
)
def test_samples_follow_the_distribution(decoding: Decoding) -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -5.0, 1.5, 0.7])
    rng = torch.Generator().manual_seed(3)
    counts = torch.zeros(6)
    for _ in range(3000):
        counts[next_token(logits, decoding, rng)] += 1
    expected = torch.tensor(slow_distribution(logits.tolist(), decoding))
    assert 0 < int((expected == 0).sum()) < 5
    assert counts[expected == 0].sum() == 0
    assert torch.allclose(counts / 3000, expected, atol=0.04)


def test_temperature_zero_is_the_argmax_after_the_penalty() -> None:
    logits, seen = torch.tensor([0.1, 3.0, 2.9]), torch.tensor([False, True, False])
    assert int(next_token(logits, Sampling(max_tokens=1, temperature=0.0, top_p=0.1))) == 1
    assert int(next_token(logits, Decoding(max_tokens=1, repetition_penalty=1.2), seen_V=seen)) == 2


def test_extreme_logits_and_temperatures_stay_finite() -> None:
    found = distribution(torch.tensor([3e38, -3e38, 1.0]), Decoding(max_tokens=1, temperature=1e-6, top_p=0.9))
    assert found.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("number", [5e-324, 1e-300, 1e-40, 1e38, 1e300])
def test_numbers_that_float32_lacks_give_a_distribution(number: float) -> None:
    logits, seen = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([True, True, True])
    for decoding in (
        Decoding(max_tokens=1, temperature=number),
        Decoding(max_tokens=1, temperature=1.0, repetition_penalty=number),
    ):
        found = distribution(penalised(logits, seen, decoding.repetition_penalty), decoding)
        assert float(found.sum()) == pytest.approx(1.0)
        assert float(found[0]) >= float(found[1])
        assert 0 <= int(next_token(logits, decoding, seen_V=seen)) < 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name} is "):
        Decoding(**{"max_tokens": 1, name: value})  # type: ignore[arg-type]
