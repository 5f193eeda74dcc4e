"""Peaks are measured even if they are over at the end, and a container's limit counts."""

import mmap
import time

import pytest

from bitnet_core.evaluation import memory
from bitnet_core.process import rss_bytes

BLOCK = 192 << 20


def touch(seconds: float = 0.0) -> int:
    """Hold new memory for so many seconds. Memory that was freed before could be used again, which adds nothing."""
    with mmap.mmap(-1, BLOCK) as block:
        for at in range(0, BLOCK, mmap.PAGESIZE):
            block[at] = 1
        time.sleep(seconds)
        return len(block)


@pytest.mark.parametrize("kernel", [True, False], ids=["high-water mark", "sampled"])
def test_a_peak_inside_the_block_is_seen(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(memory, "_reset_high_water", lambda: False)
    before = rss_bytes()
    with memory.peak_rss() as peak:
        # Sampling may only miss what is shorter than its interval, the kernel misses nothing.
        touch(0.0 if kernel else 0.5)
    assert peak.bytes >= before + 0.9 * BLOCK
    assert peak.how


def test_a_peak_before_the_block_is_not() -> None:
    touch()
    with memory.peak_rss() as peak:
        now = rss_bytes()
    assert peak.bytes < now + BLOCK / 2
