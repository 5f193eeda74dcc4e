"""Bytes on disk per teacher token, with the benchmark's made-up answers, which compress worse than real ones."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from bitnet_core.collecting.journal import Journal
from bitnet_core.teachers.probe import Verdict

STEPS = 30_000  # of a shard of 98,000: a small shard costs more, as each stores its dictionaries
MOST_BYTES = 80


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "bench_traces.py"
    spec = importlib.util.spec_from_file_location("bench_traces", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.teacher
@pytest.mark.usefixtures("teacher_cache")
def test_a_token_costs_at_most_80_bytes_in_each_layer(tmp_path: Path, benchmark: ModuleType) -> None:
    steps = benchmark.fill(tmp_path / "journal.sqlite", STEPS)
    data = tmp_path / "data"
    with Journal(tmp_path / "journal.sqlite") as journal:
        shards = benchmark.shard_maker(tmp_path, journal, data)
        shards.write(benchmark.requests(0, steps // benchmark.LENGTH), Verdict("raw", benchmark.TOP_K))

    def cost(*patterns: str) -> float:
        return sum(path.stat().st_size for pattern in patterns for path in data.rglob(pattern)) / steps

    assert 20 < cost("teacher_shard_*.parquet") <= MOST_BYTES
    assert 20 < cost("kd_shard_*.parquet", "kd_stream_*.parquet") <= MOST_BYTES
