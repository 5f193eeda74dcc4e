"""`check` finds out what a target does to an object, and leaves nothing behind."""

from collections.abc import Iterator

import pytest

from bitnet_core.storage.probe import check
from bitnet_core.storage.target import Found, Refused
from tests.storage.memory import MemoryTarget


class Altering(MemoryTarget):
    def get(self, key: str) -> bytes:
        return super().get(key)[:-1]


class Hiding(MemoryTarget):
    def list(self, prefix: str) -> Iterator[Found]:
        return iter(())


@pytest.mark.parametrize(
    ("target", "words"),
    [(Altering(), "did not return what was written; it can't keep a copy"), (Hiding(), "does not list what was")],
)
def test_what_a_target_does_to_an_object_is_said(target: MemoryTarget, words: str) -> None:
    with pytest.raises(Refused, match=words):
        check(target)
    assert not target.objects


def test_a_good_target_is_timed() -> None:
    target = MemoryTarget()
    found = check(target)
    assert found.seconds.keys() == {"look", "write", "read", "list", "delete"}
    assert found.free_bytes == 1 << 40
    assert not target.objects
