"""The compact set against Python's own."""

import random
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.prompts.seen import DIGEST_BYTES, Seen

digests = st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES)


@given(st.lists(st.one_of(digests, st.sampled_from([bytes([n] + [0] * 14 + [1]) for n in range(5)]))))
def test_it_is_a_set(added: list[bytes]) -> None:
    seen, twin = Seen(), {bytes(DIGEST_BYTES)}
    for digest in added:
        assert seen.add(digest) == (digest not in twin)
        twin.add(digest)
    assert len(seen) == len(twin) - 1


def test_it_grows_and_stays_small() -> None:
    source = random.Random(1)
    many = [source.randbytes(DIGEST_BYTES) for _ in range(20_000)]
    tracemalloc.start()
    seen = Seen()
    assert all(seen.add(digest) for digest in many)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not any(seen.add(digest) for digest in many)
    assert peak < 80 * len(many)
