"""How large experiments are. Measuring walks through their folders, so call it in a thread."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from bitnet_core.files.trees import measure

_AGAIN_SECONDS = 30.0
_OLD_SECONDS = 600.0


class Sizes:
    """Keeps what was measured. One experiment is measured again when it has changed, but not all the time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Path, tuple[object, float, float | None]] = {}

    def of(self, root: Path) -> float | None:
        """Its size in bytes, if it was measured."""
        known = self._known.get(root)
        return known[2] if known else None

    def due(self, versions: Mapping[Path, object]) -> list[Path]:
        """Those to be measured, the ones that never were first. A version differs when an experiment has changed."""
        now, found = self._clock(), []
        for root, version in versions.items():
            known = self._known.get(root)
            waits = _OLD_SECONDS if known and known[0] == version else _AGAIN_SECONDS
            if known is None or now - known[1] >= waits:
                found.append(root)
        return sorted(found, key=lambda root: root in self._known)

    def measure(self, roots: Iterable[Path], versions: Mapping[Path, object], seconds: float) -> None:
        """Measure them, one after the other, until `seconds` have passed."""
        deadline = time.monotonic() + seconds
        for root in roots:
            if time.monotonic() > deadline:
                return
            try:
                size: float | None = measure(root).bytes
            except OSError:
                size = None
            self._known[root] = (versions.get(root), self._clock(), size)
