"""Tests that give a reader any bytes: a few hundred cases each in `make test`, 100,000 in all in `make fuzz`."""

import datetime as dt
import os
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

MOST_BYTES = 1_000_000_000
"""What the process may take in `make fuzz`; in `make test` it is shared with other tests."""
BY_HAND = int(os.environ.get("FUZZ_CASES", "0"))
"""Cases of each test in `make fuzz`; 0 in `make test`."""
_SECONDS = dt.timedelta(seconds=10)
_T = TypeVar("_T", bound=Callable[..., object])


def fuzz(cases: int) -> Callable[[_T], _T]:
    """Mark a hypothesis test as one of those, with its number of cases in `make test`; a case may take 10 s."""

    def mark(test: _T) -> _T:
        given = settings(
            max_examples=BY_HAND or cases,
            deadline=_SECONDS,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large] if BY_HAND else [],
        )
        marked: _T = pytest.mark.fuzz(given(test))
        return marked

    return mark
