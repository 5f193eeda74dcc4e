"""The peak of this process's memory inside a block, in bytes. It knows nothing of models."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.process import peak_rss_bytes, rss_bytes

_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
"""See `man 5 proc`: it clears the high-water mark of this process."""
_SAMPLE_SECONDS = 0.01


@dataclass
class Peak:
    """The most memory that was resident inside a block, and how that was measured; filled when the block ends."""

    bytes: int = 0
    how: str = ""


@contextlib.contextmanager
def peak_rss() -> Iterator[Peak]:
    """Measure the peak of resident memory inside the block.

    On Linux the kernel's high-water mark (VmHWM) is reset first: then it does not count what came before the block,
    and misses nothing inside it. Elsewhere, or where that is forbidden, a thread samples.
    """
    peak = Peak()
    if _reset_high_water():
        try:
            yield peak
        finally:
            peak.bytes, peak.how = peak_rss_bytes(), "VmHWM, set back before"
        return
    peak.how = f"sampled every {_SAMPLE_SECONDS * 1000:.0f} ms"
    done = threading.Event()

    def sample() -> None:
        while True:
            peak.bytes = max(peak.bytes, rss_bytes())
            if done.wait(_SAMPLE_SECONDS):
                return

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield peak
    finally:
        done.set()
        sampler.join()
        peak.bytes = max(peak.bytes, rss_bytes())


def _reset_high_water() -> bool:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:  # forbidden, or not Linux
        return False
    # Some sandboxes accept the write and ignore it.
    return peak_rss_bytes() <= rss_bytes() * 1.05 + (16 << 20)
