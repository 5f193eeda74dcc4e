"""The mapped reader against a slow twin that goes row by row, and the life of the cached file."""

import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import NoHome, cache_folder
from bitnet_core.prompts.parquet import open_parquet
from bitnet_core.traces import layout, schema, shards
from bitnet_core.traces.dataset import MappedSequences, TraceSequence, load_traces, top1_counts
from tests.traces.sets import TOKENIZER, TOP_K, metadata, rewrite, set_in, write_set, write_without_rows


def slow_load(folder: Path, width: int) -> list[dict[str, Any]]:
    """Every sequence as plain lists, a row and a candidate at a time; each row is scaled to sum to 1."""
    found = []
    for path in sorted(folder.glob("kd_shard_*.parquet")):
        rows = pq.read_table(path).to_pylist()
        for stream in pq.read_table(schema.stream_of(path)).to_pylist():
            length = len(stream["completion_ids"])
            ids = [[0] * width for _ in range(length)]
            logprobs = [[-math.inf] * width for _ in range(length)]
            other, valid = [0.0] * length, [False] * length
            for row in rows:
                if row["prompt_idx"] != stream["prompt_idx"]:
                    continue
                at = row["stream_pos"]
                valid[at] = True
                total = math.fsum(map(math.exp, [*row["topk_logprobs"], row["other_logprob"]]))
                rest = math.exp(row["other_logprob"]) / total
                for rank, (token, logprob) in enumerate(zip(row["topk_ids"], row["topk_logprobs"], strict=True)):
                    if rank < width:
                        ids[at][rank], logprobs[at][rank] = token, logprob - math.log(total)
                    else:
                        rest += math.exp(logprob) / total
                other[at] = min(0.0, math.log(rest))
            found.append(stream | {"ids": ids, "logprobs": logprobs, "other": other, "valid": valid})
    return found


def require_same(one: TraceSequence, slow: dict[str, Any]) -> None:
    assert (one.prompt_idx, one.sequence_hash) == (slow["prompt_idx"], slow["sequence_hash"])
    assert (one.prompt_text, one.completion_text) == (slow["prompt_text"], slow["completion_text"])
    assert one.finish_reason == slow["finish_reason"]
    assert one.prompt_ids_P.tolist() == slow["prompt_ids"]
    assert one.completion_ids_C.tolist() == slow["completion_ids"]
    assert one.is_struct_C.tolist() == slow["is_struct"]
    assert one.kd_valid_C.tolist() == slow["valid"]
    assert one.topk_ids_CK.tolist() == slow["ids"]
    for found, wanted in zip(one.topk_logprobs_CK.tolist(), slow["logprobs"], strict=True):
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    assert one.other_logprob_C == pytest.approx(slow["other"], abs=1e-5)


@pytest.mark.parametrize("width", [1, 3, TOP_K])
@pytest.mark.parametrize("small", [False, True])
def test_every_sequence_equals_the_slow_twins(
    data: Path, width: int, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:  # windows, reads and batches that end in the middle of everything
        monkeypatch.setattr(shards, "_WINDOW_SEQUENCES", 5)
        monkeypatch.setattr(shards, "_WINDOW_TOKENS", 30)
        monkeypatch.setattr(shards, "_READ_ROWS", 7)
        monkeypatch.setattr(layout, "_BATCH_TOKENS", 100)
    sequences, slow = load_traces(data, width).sequences, slow_load(data, width)
    assert len(sequences) == len(slow) == 20
    for one, twin in zip(sequences, slow, strict=True):
        require_same(one, twin)
    assert isinstance(sequences, MappedSequences)
    assert sequences.prompt_lengths_S.tolist() == [len(one.prompt_ids_P) for one in sequences]
    assert sequences.completion_lengths_S.tolist() == [len(one.completion_ids_C) for one in sequences]
    assert [one.prompt_idx for one in sequences[3:6]] == [3, 4, 5]
    assert sequences[-1].prompt_idx == 19


def test_every_sequence_is_on_one_side(data: Path) -> None:
    traces = load_traces(data, TOP_K)
    train, held_out = traces.split()
    assert sorted(one.prompt_idx for side in (train, held_out) for one in side) == list(range(20))
    assert not any(one.heldout for one in train)
    assert all(one.heldout for one in held_out)
    for side in (train, held_out):
        assert isinstance(side, MappedSequences)
        assert side.completion_lengths_S.tolist() == [len(one.completion_ids_C) for one in side]
    assert train.content_hash != held_out.content_hash  # type: ignore[attr-defined]
    assert train.content_hash == load_traces(data, TOP_K).split()[0].content_hash  # type: ignore[attr-defined]
    counts_V = top1_counts(traces.sequences, traces.vocab_size)
    slow = [one.topk_ids_CK[at, 0] for one in traces.sequences for at in np.flatnonzero(one.kd_valid_C)]
    assert counts_V.tolist() == np.bincount(slow, minlength=traces.vocab_size).tolist()


def test_what_a_content_filter_cut_is_left_out_of_traces_of_an_earlier_version(data: Path) -> None:
    whole = load_traces(data)
    stream = data / "kd_stream_000.parquet"
    for row, name in enumerate(
        ["content_filter", "content_filter: RECITATION", "ERROR_TOXIC", "sensitive", "SAFETY"]
    ):
        rewrite(stream, set_in(2 * row, "finish_reason", name))
    rewrite(stream, set_in(1, "finish_reason", "an unknown one"))
    found = load_traces(data)
    assert (whole.cut_by_filter, found.cut_by_filter) == (0, 5)
    wanted = [one for one in slow_load(data, TOP_K) if one["prompt_idx"] not in range(0, 10, 2)]
    assert len(found.sequences) == len(wanted) == 15
    for one, twin in zip(found.sequences, wanted, strict=True):
        require_same(one, twin)
    for path in data.glob("kd_stream_*"):
        rewrite(path, lambda rows: [row.update(finish_reason="content_filter") for row in rows])
    with pytest.raises(BitnetError, match=r"A content filter cut every answer in .*relax that filter"):
        load_traces(data)


def cached() -> list[Path]:
    return sorted((cache_folder() / "traces").glob("*.arrow"))


def test_a_set_that_is_laid_out_is_opened_once_per_file(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_traces(data)
    opened: list[str] = []

    def noting(path: Path, *arguments: Any) -> Any:
        opened.append(path.name)
        return open_parquet(path, *arguments)

    monkeypatch.setattr(shards, "open_parquet", noting)
    load_traces(data)
    assert sorted(opened) == sorted(path.name for path in data.glob("kd_*.parquet"))


def test_the_layout_is_made_once_per_content(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_traces(data, TOP_K)
    progress: list[tuple[int, int]] = []
    load_traces(data, 2, lambda *done: progress.append(done))
    assert progress == [(0, 2), (1, 2)]
    assert len(cached()) == 2

    def never(*_: object) -> None:
        raise AssertionError("laid out again")

    with monkeypatch.context() as patch:
        patch.setattr(layout, "_lay_out", never)
        again = load_traces(data, TOP_K)
    assert again.sequences.content_hash == first.sequences.content_hash  # type: ignore[attr-defined]
    rewrite(data / schema.kd_stream(1), set_in(0, "prompt_text", "another"))
    changed = load_traces(data, TOP_K)
    assert changed.sequences[12].prompt_text == "another"
    assert changed.sequences.content_hash != first.sequences.content_hash  # type: ignore[attr-defined]


@pytest.mark.parametrize("damage", [b"", b"ARROW1 but torn", None])
def test_a_damaged_layout_is_made_again(data: Path, damage: bytes | None) -> None:
    load_traces(data, TOP_K)
    (path,) = cached()
    whole = path.read_bytes()
    path.unlink()
    if damage is None:  # a whole Arrow file of another layout
        with pa.ipc.new_file(str(path), pa.schema([("a", pa.int64())])) as out:
            out.write_batch(pa.record_batch({"a": [1]}))
    else:
        path.write_bytes(damage)
    assert len(load_traces(data, TOP_K).sequences) == 20
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["prompt_ids", "completion_ids", "topk_ids"])
@pytest.mark.parametrize("value", [-1, 1 << 20])
def test_a_layout_with_an_id_that_is_no_token_is_made_again(data: Path, name: str, value: int) -> None:
    load_traces(data, TOP_K)
    (path,) = cached()
    whole = path.read_bytes()
    with pa.ipc.open_file(str(path)) as source:
        column = source.get_batch(0).column(name)
    buffer = column.values.buffers()[1].to_pybytes()
    at = whole.index(buffer)
    path.write_bytes(whole[:at] + value.to_bytes(4, "little", signed=True) + whole[at + 4 :])
    assert len(load_traces(data, TOP_K).sequences) == 20
    assert path.read_bytes() == whole


def test_a_layout_with_offsets_beyond_its_lists_is_made_again(data: Path) -> None:
    load_traces(data, TOP_K)
    (path,) = cached()
    whole = path.read_bytes()
    for name in ("prompt_text", "completion_ids", "topk_logprobs"):
        with pa.ipc.open_file(str(path)) as source:
            offsets = source.get_batch(0).column(name).buffers()[1].to_pybytes()
        at = whole.index(offsets) + 8
        path.write_bytes(whole[:at] + (1 << 40).to_bytes(8, "little") + whole[at + 8 :])
        assert len(load_traces(data, TOP_K).sequences) == 20
        assert path.read_bytes() == whole


def test_a_failed_check_leaves_no_layout_and_no_litter(data: Path) -> None:
    rewrite(data / schema.kd_shard(1), set_in(0, "other_logprob", 0.5))
    with pytest.raises(BitnetError, match=r"kd_shard_001\.parquet, row 0"):
        load_traces(data, TOP_K)
    folder = cache_folder() / "traces"
    assert not list(folder.iterdir())


def test_layouts_not_read_for_a_month_are_removed(data: Path) -> None:
    load_traces(data, TOP_K)
    (old,) = cached()
    os.utime(old, (time.time() - 40 * 86_400,) * 2)
    load_traces(data, TOP_K)  # reading keeps it
    load_traces(data, 2)
    assert old in cached()
    os.utime(old, (time.time() - 40 * 86_400,) * 2)
    load_traces(data, 1)
    assert old not in cached()
    assert len(cached()) == 2


def test_a_cache_that_cannot_be_written_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path / "file"))
    with pytest.raises(BitnetError, match=r"can't be written to .*file/traces .* BITNET_CACHE"):
        load_traces(data, TOP_K)
    expected = [one.topk_ids_CK.tolist() for one in load_traces(data, TOP_K, once=True).sequences]
    monkeypatch.delenv("BITNET_CACHE")
    assert expected == [one.topk_ids_CK.tolist() for one in load_traces(data, TOP_K).sequences]
    monkeypatch.setenv("BITNET_CACHE", "~nobody-has-this-name/cache")
    with pytest.raises(NoHome):
        load_traces(data, TOP_K)
    assert len(load_traces(data, TOP_K, once=True).sequences) == len(expected)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(BitnetError, match=r"a temporary folder \(No such .*\); .* in BITNET_CACHE or TMPDIR\.$"):
        load_traces(data, TOP_K, once=True)


def test_a_set_without_any_teacher_row_is_read(data: Path) -> None:
    """Its positions are trained by cross-entropy alone."""
    for shard in (0, 1):
        write_without_rows(data / schema.kd_shard(shard))
    traces = load_traces(data, TOP_K)
    assert len(traces.sequences) == 20
    assert not any(one.kd_valid_C.any() for one in traces.sequences)
    assert not top1_counts(traces.sequences, traces.vocab_size).any()


# -- a set larger than the memory allowed ------------------------------------------------------------

_WALK = """
import sys
from pathlib import Path
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.examples import Examples
from bitnet_core.training.batches import Sampler

def anonymous():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024

load_traces(Path(sys.argv[1]), 20)  # memory that the libraries keep once they have been used
before = anonymous()
train, _ = load_traces(Path(sys.argv[2]), 20).split()
sampler = Sampler(Examples(train, 512), 4, 0, 512)
most, seen = 0, 0
while sampler.epoch == 0:
    seen += sampler.next().counts.ce
    most = max(most, anonymous())
print(most - before, seen)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="RssAnon is Linux's")
def test_memory_stays_flat_over_a_large_set(tmp_path: Path) -> None:
    write_set(tmp_path / "small", shards=2, sequences=200, length=400)
    tokens = write_set(tmp_path / "big", shards=8, sequences=200, length=400)
    laid_out = tokens * 20 * 8
    walk = [sys.executable, "-c", _WALK, tmp_path / "small", tmp_path / "big"]
    done = subprocess.run(walk, capture_output=True, text=True, check=True)
    grown, seen = map(int, done.stdout.split())
    assert seen > 0.85 * tokens  # all but what is held out
    assert laid_out > 100e6
    assert grown < laid_out / 4, f"{grown:,} bytes for a set of {laid_out:,}"


def test_the_sets_of_this_test_are_sound(tmp_path: Path) -> None:
    tokens = write_set(tmp_path, shards=2, sequences=5, length=12)
    traces = load_traces(tmp_path, 20)
    assert sum(len(one.completion_ids_C) for one in traces.sequences) == tokens == 120
    assert all(one.kd_valid_C.all() for one in traces.sequences)
    assert metadata([]).vocab_size == TOKENIZER.vocab_size
