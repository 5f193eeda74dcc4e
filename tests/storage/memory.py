"""A target in memory that counts its calls, and can fail, tear and be changed behind everybody's back."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from bitnet_core.storage.target import Account, AlreadyThere, Found, Limits, NoSuchObject


class MemoryTarget:
    """Objects in a dictionary. `before` is called with the call's name and key, and may raise."""

    name = "local"
    place = "memory"

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.objects: dict[str, bytes] = {}
        self.times: dict[str, float] = {}
        self.puts: Counter[str] = Counter()
        self.gets: Counter[str] = Counter()
        self.before: Callable[[str, str], None] = lambda _call, _key: None
        self.after: Callable[[str, str], None] = lambda _call, _key: None
        self.now: Callable[[], float] = time.time
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        assert len(data) <= self.limits.object_bytes
        self.before("put", key)
        with self._lock:
            if only_if_absent and key in self.objects:
                raise AlreadyThere(key)
            self.objects[key] = bytes(data)
            self.times[key] = self.now()
            self.puts[key] += 1
        self.after("put", key)

    def get(self, key: str) -> bytes:
        self.before("get", key)
        with self._lock:
            self.gets[key] += 1
            if key not in self.objects:
                raise NoSuchObject(key)
            return self.objects[key]

    def list(self, prefix: str) -> Iterator[Found]:
        self.before("list", prefix)
        with self._lock:
            found = [Found(k, len(v), self.times[k]) for k, v in self.objects.items() if k.startswith(prefix)]
        return iter(found)

    def delete(self, key: str) -> None:
        self.before("delete", key)
        with self._lock:
            self.objects.pop(key, None)

    def check(self) -> Account:
        return Account(1 << 40)
