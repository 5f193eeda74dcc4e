"""Shards written and read back: nothing lost, nothing torn."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitnet_core.prompts import parquet
from bitnet_core.tokenizer.steps import TeacherStep
from bitnet_core.traces import schema, writer
from bitnet_core.traces.columns import FinishedSequence
from bitnet_core.traces.dataset import TraceSet, load_traces
from bitnet_core.traces.split import is_heldout
from tests.traces.samples import rows_of
from tests.traces.sets import ORIGIN, TOKENIZER, TOP_K, metadata, sequence


def test_everything_written_is_read_back(data: Path) -> None:
    traces = load_traces(data, max_topk=20)
    assert (traces.vocab_size, traces.top_k) == (TOKENIZER.vocab_size, TOP_K)
    assert [one.prompt_idx for one in traces.sequences] == list(range(20))
    for one in traces.sequences:
        made = sequence(one.prompt_idx)
        assert made.projection is not None
        assert one.completion_ids_C.tolist() == made.projection.completion_ids_C.tolist()
        assert one.prompt_ids_P.tolist() == made.prompt_ids
        assert one.is_struct_C.tolist() == made.projection.is_struct_C.tolist()
        assert made.answer is not None
        assert one.completion_text == made.answer.text.decode()
        rows = {row.stream_pos: row for row in rows_of(made.projection)}
        assert np.flatnonzero(one.kd_valid_C).tolist() == sorted(rows)
        for position, row in rows.items():
            width = min(len(row.topk_ids), TOP_K)
            assert one.topk_ids_CK[position, :width].tolist() == list(row.topk_ids[:width])
            found = one.topk_logprobs_CK[position, :width].tolist()
            assert found[0] == pytest.approx(row.topk_logprobs[0], abs=1e-3)
            assert found == pytest.approx(row.topk_logprobs[:width], abs=1e-2)
        assert (one.other_logprob_C[~one.kd_valid_C] == 0).all()
        assert np.isneginf(one.topk_logprobs_CK[~one.kd_valid_C]).all()


def test_fewer_candidates_give_their_mass_to_other(data: Path) -> None:
    for one in load_traces(data, max_topk=2).sequences:
        assert one.topk_ids_CK.shape[1] == 2
        mass_C = np.exp(one.topk_logprobs_CK.astype(float)).sum(1) + np.exp(one.other_logprob_C.astype(float))
        assert mass_C == pytest.approx(np.ones(len(mass_C)), abs=1e-3)


def test_the_public_columns_come_first_and_in_order(data: Path) -> None:
    """Other programs read the columns of."""
    names = pq.read_schema(data / "kd_shard_000.parquet").names
    assert names[:10] == [
        "prompt_idx",
        "step_idx",
        "teacher_sample_id",
        "teacher_sample_text",
        "topk_ids",
        "topk_logprobs",
        "other_logprob",
        "is_struct_token",
        "template_hash",
        "tokenizer_hash",
    ]


def steps_of(index: int) -> list[TeacherStep]:
    answer = sequence(index).answer
    assert answer is not None
    return [answer.steps.step(row) for row in range(len(answer.steps))]


def test_teacher_space_keeps_every_step(data: Path) -> None:
    rows = pq.read_table(data / "teacher_shard_000.parquet").to_pylist()
    steps = [(index, step) for index in range(12) for step in steps_of(index)]
    assert len(rows) == len(steps)
    for row, (index, step) in zip(rows, steps, strict=True):
        assert row["prompt_idx"] == index
        assert (row["token_id"], row["token_bytes"]) == (step.token_id, step.data)
        assert row["top_bytes"][: row["top_count"]] == list(step.top_bytes)
        assert row["top_logprobs"][: row["top_count"]] == pytest.approx(step.top_logprobs, abs=1e-2)
        assert row["top_logprobs"][0] == pytest.approx(step.top_logprobs[0], abs=1e-3)
        assert row["logprob"] == pytest.approx(step.logprob, abs=1e-3)
        assert row["sampled_in_top"] == (step.token_id in step.top_ids)


def test_the_split_is_fixed_by_the_prompt_and_about_one_in_ten(data: Path) -> None:
    shares = [is_heldout(f"prompt {index}") for index in range(5000)]
    assert 0.08 < sum(shares) / len(shares) < 0.12
    train, heldout = load_traces(data, 20).split()
    assert len(train) + len(heldout) == 20
    assert train
    assert heldout


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_sequences_still_have_both_sides(tmp_path: Path, count: int) -> None:
    for seed in range(8):
        part = [sequence(index + 10 * seed) for index in range(count)]
        writer.write_shard(tmp_path, 0, metadata([one.request_key for one in part]), ORIGIN, part)
        train, heldout = load_traces(tmp_path, 20).split()
        assert len(train) >= 1
        assert len(heldout) >= (count >= 2)


def test_the_same_answers_make_the_same_bytes(data: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    part = [sequence(index) for index in range(12)]
    writer.write_shard(again, 0, metadata([one.request_key for one in part]), ORIGIN, part)
    for name in (schema.teacher_shard(0), schema.kd_shard(0), schema.kd_stream(0)):
        assert (again / name).read_bytes() == (data / name).read_bytes()


def test_a_failure_while_writing_leaves_the_old_shard_and_no_litter(data: Path) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}

    def failing() -> list[FinishedSequence]:
        yield sequence(1)  # type: ignore[misc]
        raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError):
        writer.write_shard(data, 0, metadata(["other"]), ORIGIN, failing())
    assert {path: path.read_bytes() for path in data.rglob("*") if path.is_file()} == before


def test_a_current_shard_is_recognised(data: Path) -> None:
    keys = [f"key{index}" for index in range(12)]
    assert writer.shard_is_current(data, 0, metadata(keys))
    assert not writer.shard_is_current(data, 0, metadata(keys[:-1]))
    assert not writer.shard_is_current(data, 0, metadata(keys, config="other"))
    (data / schema.kd_stream(0)).write_bytes(b"torn")
    assert not writer.shard_is_current(data, 0, metadata(keys))


def test_a_shard_of_another_collection_is_recognised(data: Path) -> None:
    keys = {f"key{index}" for index in range(12)}
    assert writer.belongs_to_collection(data, 0, "config", keys | {"new"})
    assert not writer.belongs_to_collection(data, 0, "config", keys - {"key3"})
    assert not writer.belongs_to_collection(data, 0, "other", keys)
    assert writer.belongs_to_collection(data, 7, "config", keys)
    (data / schema.kd_shard(1)).write_bytes(b"PAR1 torn")
    assert not writer.belongs_to_collection(data, 1, "config", {f"key{index}" for index in range(20)})
    assert writer.next_shard_index(data) == 2


def test_a_set_is_moved_away_whole(data: Path) -> None:
    (data / schema.kd_shard(1)).write_bytes(b"PAR1 torn")
    before = {path.name: path.read_bytes() for path in data.rglob("*.parquet")}
    folder = writer.set_aside(data)
    assert {path.name: path.read_bytes() for path in folder.rglob("*.parquet")} == before
    assert writer.next_shard_index(data) == 0


def test_an_empty_shard_among_others_is_fine(data: Path) -> None:
    writer.write_shard(data, 2, metadata([]), ORIGIN, [])
    traces: TraceSet = load_traces(data, 20)
    assert len(traces.sequences) == 20


ODD_FILES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "no column": lambda path: pq.write_table(pa.table({"a": [1]}), path),
    "two columns": lambda path: pq.write_table(
        pa.Table.from_arrays([pa.array(["x"])] * 2, names=["sequence_hash"] * 2), path
    ),
    "no rows": lambda path: pq.write_table(pa.table({"sequence_hash": pa.nulls(3, pa.string())}), path),
    "a bomb": lambda path: pq.write_table(
        pa.table({"sequence_hash": pa.array(np.zeros(parquet.MOST_BYTES // 8 + 1000, np.int64))}),
        path,
        compression="zstd",
        use_dictionary=False,
        row_group_size=1 << 30,
    ),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_a_stream_that_cannot_be_read_tells_nothing_of_how_prompts_are_divided(
    data: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MOST_BYTES", 1 << 24)
    sound = writer.first_hash(data)
    assert sound
    ODD_FILES[kind](data / "kd_stream_.parquet")
    assert writer.first_hash(data) == sound
