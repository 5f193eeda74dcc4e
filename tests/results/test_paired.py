"""The interval of a difference, against a bootstrap; and what is read from a report that another program wrote."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.results.paired import COLUMNS, Answers, half_width


def _answers(seed: int, many: int, shift: float, noise: float) -> tuple[Answers, Answers]:
    """Two students on the same answers, whose difficulty varies far more than the students differ."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(5, 200, many)
    hard = rng.normal(4, 1, many)
    rows = []
    for add in (0.0, shift):
        nats = tokens * (hard + add + rng.normal(0, noise, many))
        kl = tokens * (hard - 1 + add + rng.normal(0, noise, many))
        rows.append(np.stack([tokens, nats, tokens, kl, tokens * 1.5], axis=1))
    first, second = (Answers(tuple(map(tuple, one.tolist()))) for one in rows)
    return first, second


@given(seed=st.integers(0, 2**32 - 1), many=st.integers(40, 200), noise=st.floats(0.01, 1.0))
def test_the_interval_is_that_of_a_paired_bootstrap(seed: int, many: int, noise: float):
    one, two = _answers(seed, many, 0.1, noise)
    a, b = np.array(one.rows), np.array(two.rows)
    draws = np.random.default_rng(1).integers(0, many, (2000, many))
    sums_a, sums_b = a[draws].sum(axis=1), b[draws].sum(axis=1)

    def losses(sums: Any) -> Any:
        return sums[:, 3] / sums[:, 2] + 0.25 * sums[:, 1] / sums[:, 0]

    low, high = np.percentile(losses(sums_a) - losses(sums_b), [2.5, 97.5])
    found = half_width(one, two, 1.0, 0.25)
    assert found == pytest.approx((high - low) / 2, rel=0.2)
    assert half_width(two, one, 1.0, 0.25) == pytest.approx(found)


def test_only_the_same_answers_are_paired():
    one, two = _answers(3, 30, 0.1, 0.1)
    assert half_width(one, one, 1.0, 1.0) == 0
    assert half_width(one, Answers(two.rows[:-1]), 1.0, 1.0) is None
    assert half_width(one, Answers(two.rows[::-1]), 1.0, 1.0) is None
    assert half_width(Answers(one.rows[:5]), Answers(two.rows[:5]), 1.0, 1.0) is None
    assert half_width(Answers(), Answers(), 1.0, 1.0) is None


def _report(rows: object) -> dict[str, Any]:
    return {"imitation": {"answers": {"columns": list(COLUMNS), "rows": rows}}}


@pytest.mark.parametrize(
    "odd",
    [
        *(None, [], {}, {"imitation": 3}, {"imitation": {"answers": {"columns": ["x"], "rows": []}}}),
        *(_report(rows) for rows in (7, [3], [[1] * 4], [["a"] * 5])),
    ],
)
def test_an_odd_report_has_no_answers(odd: object):
    assert Answers.of_report(odd) == Answers()


def test_a_report_has_its_answers():
    assert Answers.of_report(_report([[1, 2.5, 1, 0.5, 3.0]])) == Answers(((1.0, 2.5, 1.0, 0.5, 3.0),))
