"""A part of a target as a target of its own: every key gets a prefix."""

from collections.abc import Iterator
from dataclasses import replace

from bitnet_core.storage.target import Account, Found, Target


class Under:
    """The objects of `target` below a prefix that ends with `/`."""

    def __init__(self, target: Target, prefix: str) -> None:
        self._target = target
        self._prefix = prefix
        self.name = target.name
        self.place = f"{target.place.rstrip('/')}/{prefix}"
        self.limits = replace(target.limits, key_bytes=target.limits.key_bytes - len(prefix.encode()))

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        self._target.put(self._prefix + key, data, only_if_absent=only_if_absent)

    def get(self, key: str) -> bytes:
        return self._target.get(self._prefix + key)

    def list(self, prefix: str) -> Iterator[Found]:
        for found in self._target.list(self._prefix + prefix):
            yield replace(found, key=found.key.removeprefix(self._prefix))

    def delete(self, key: str) -> None:
        self._target.delete(self._prefix + key)

    def check(self) -> Account:
        return self._target.check()
