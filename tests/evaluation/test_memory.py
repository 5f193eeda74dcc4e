"""Peaks are measured even if they are over at the end, and a container's limit counts."""

import time
from pathlib import Path

import pytest

from bitnet_core.evaluation import memory
from bitnet_core.process import rss_bytes

BLOCK = 192 << 20


def touch(seconds: float = 0.0) -> int:
    block = bytearray(b"\1") * BLOCK
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


def test_available_memory_respects_the_containers_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = memory.available_bytes()
    assert free > 0
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    assert memory.available_bytes() == 300000
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 50000\n")
    assert memory.available_bytes() == 350000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes() > 350000
