"""After how many tokens trainings that have not seen the same are put beside each other, and how they stand there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.results.same_tokens import SAME_TOKENS, standings

_CURVES = st.lists(st.lists(st.integers(0, 300), unique=True, max_size=12).map(sorted), min_size=2, max_size=4)


@given(_CURVES)
def test_it_is_where_the_first_was_measured_last(seen: list[list[int]]):
    curves = [[(float(tokens), 9 - tokens / 50) for tokens in some] for some in seen]
    after, found = standings(curves)
    end = min((some[-1] for some in seen if some), default=0)
    known = end > 0 and all(some and some[0] * (1 - SAME_TOKENS) <= end for some in seen)
    assert after == (end if known else 0) and bool(found) == known
    for some, one in zip(seen, found, strict=False):
        assert one.value == pytest.approx(9 - one.tokens / 50)
        assert one.measured == any(abs(tokens - end) <= SAME_TOKENS * max(tokens, end) for tokens in some)
        assert one.bounds[0] <= one.value <= one.bounds[1]


def test_what_is_between_two_measurements_is_lower_only_beyond_both():
    """From the start the loss falls steeply, so a line from there says nothing."""
    long = [(0.0, 12.4), (30.0, 6.7), (60.0, 6.0)]
    for x, value, words, below, above in (
        (20.0, 7.1, "6.70 to 12.4", False, False),
        (20.0, 6.5, "6.70 to 12.4", True, False),
        (45.0, 6.3, "about 6.35", False, False),
        (45.0, 5.9, "about 6.35", True, False),
        (45.0, 6.8, "about 6.35", False, True),
        (60.5, 6.1, "6.000", False, True),
    ):
        _, (short, other) = standings([[(0.0, 12.4), (x, value)], [*long, (90.0, 5.5)]])
        assert (other.words, short.below(other), other.below(short)) == (words, below, above)
