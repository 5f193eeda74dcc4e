"""After how many tokens trainings that have not seen the same are put beside each other."""

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.results.verdict import _SAME_TOKENS, _alike

_CURVES = st.lists(st.lists(st.integers(0, 300), unique=True, max_size=12).map(sorted), min_size=2, max_size=4)


@given(_CURVES)
def test_it_is_the_largest_number_near_which_all_have_measured(seen: list[list[int]]):
    curves = [[(float(tokens), tokens / 7) for tokens in some] for some in seen]

    def far(some: list[int], x: int) -> bool:
        nearest = min(some, key=lambda tokens: abs(tokens - x), default=0)
        return abs(nearest - x) > _SAME_TOKENS * max(nearest, x)

    shared = [x for some in seen for x in some if x and not any(far(others, x) for others in seen)]
    after, found = _alike(curves)
    assert after == max(shared, default=0)
    assert [one[0] for one in found] == [min(some, key=lambda t: abs(t - after)) for some in seen if shared]


def test_long_trainings_without_a_number_in_common_take_no_time_that_grows_with_their_square():
    assert _alike([[(x + first, 1.0) for x in range(40_000)] for first in (1.0, 1e6)]) == (0.0, [])
