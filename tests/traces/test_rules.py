"""Every fault of a shard is named by file, row and reason, with the fix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.traces import schema, shards, writer
from bitnet_core.traces.dataset import load_traces
from tests.traces.sets import ORIGIN, TOP_K, change_metadata, edit, metadata, rewrite, sequence, set_in

KD0, STREAM0 = "kd_shard_000.parquet", "kd_stream_000.parquet"
FAULTS = {
    "candidate id": (
        KD0,
        edit(7, "topk_ids", lambda ids: [9999, *ids[1:]]),
        "row 7: a candidate is outside the vocabulary",
    ),
    "twice": (KD0, edit(7, "topk_ids", lambda ids: [ids[1], *ids[1:]]), "row 7: a candidate appears twice"),
    "nan": (
        KD0,
        edit(7, "topk_logprobs", lambda row: [float("nan"), *row[1:]]),
        "row 7: a logprob is not a finite number",
    ),
    "mass": (KD0, edit(7, "topk_logprobs", lambda row: [-0.5] * len(row)), "row 7: the probabilities don't sum to 1"),
    "lengths": (KD0, set_in(7, "topk_logprobs", [-1.0]), "row 7: topk_ids and topk_logprobs differ in length"),
    "other": (KD0, set_in(7, "other_logprob", 0.5), "row 7: other_logprob is not a finite number"),
    "null": (KD0, set_in(7, "other_logprob", None), "row 7: other_logprob is null"),
    "null inside": (KD0, set_in(7, "topk_ids", [None, 1, 2, 3, 4]), "row 7: a list in topk_ids holds null"),
    "tokenizer": (KD0, set_in(7, "tokenizer_hash", "x"), "row 7: has another tokenizer_hash"),
    "position": (KD0, set_in(0, "stream_pos", 9999), "row 0: stream_pos of kd_shard_000.parquet points outside"),
    "order": (KD0, lambda rows: rows.insert(0, rows.pop(1)), "stream_pos of kd_shard_000.parquet does not grow"),
    "sample": (KD0, set_in(0, "teacher_sample_id", 3), "teacher_sample_id of kd_shard_000.parquet is not the stream"),
    "strange sequence": (KD0, set_in(-1, "prompt_idx", 77), "prompt_idx 77 is not in kd_stream_000.parquet"),
    "stream id": (STREAM0, set_in(2, "completion_ids", [99999]), "row 2: is_struct and completion_ids differ"),
    "stream vocabulary": (STREAM0, set_in(2, "prompt_ids", [99999]), "row 2: a token is outside the vocabulary"),
    "empty": (STREAM0, set_in(2, "prompt_ids", []), "row 2: the prompt or the completion is empty"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_file_row_and_reason(data: Path, fault: str) -> None:
    name, change, said = FAULTS[fault]
    rewrite(data / name, change)
    with pytest.raises(BitnetError) as caught:
        load_traces(data, 20)
    assert said in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_truncated_file_is_named_with_the_fix(data: Path, keep: int) -> None:
    path = data / KD0
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BitnetError, match=r"kd_shard_000\.parquet is damaged .*run `bitnet collect` again"):
        load_traces(data, 20)


def test_missing_parts_are_named(data: Path) -> None:
    with pytest.raises(BitnetError, match=r"no traces in .*run `bitnet collect` first"):
        load_traces(data / "nowhere", 20)
    (data / STREAM0).unlink()
    with pytest.raises(BitnetError, match=r"kd_stream_000\.parquet is missing"):
        load_traces(data, 20)


TEN = (
    *("prompt_idx", "step_idx", "teacher_sample_id", "teacher_sample_text", "topk_ids", "topk_logprobs"),
    *("other_logprob", "is_struct_token", "template_hash", "tokenizer_hash"),
)
"""The columns of the earlier scripts."""


@pytest.mark.parametrize("columns", [TEN, ("prompt_idx",)], ids=["earlier scripts", "another program"])
def test_a_file_of_another_program_is_named_and_no_answers_are_promised(data: Path, columns: tuple[str, ...]) -> None:
    table = pq.read_table(data / KD0).select(columns)
    pq.write_table(table.replace_schema_metadata(None), data / KD0)
    with pytest.raises(
        BitnetError, match=r"was not written by this program; name another folder in KD_DATA_PATH, or"
    ):
        load_traces(data, 20)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": schema.SCHEMA_VERSION + 1}, "written by a newer version of bitnet-tui; update"),
        ({"schema_version": 99, "tokenizer": None}, "written by a newer version of bitnet-tui; update"),
        ({"projection": schema.PROJECTION_VERSION + 1}, "written by a newer version of bitnet-tui; update"),
        ({"a field of a later version": 1}, "written by a newer version of bitnet-tui; update"),
        ({"schema_version": 0}, "has trace format 0 and this program reads 1; move it away"),
        ({"schema_version": "2"}, r"metadata is missing or damaged\); move it away"),
        ({"teacher": 5}, r"metadata is missing or damaged\); move it away"),
    ],
)
def test_traces_of_a_newer_version_are_not_to_be_moved_away(data: Path, change: dict[str, Any], said: str) -> None:
    change_metadata(data / KD0, **change)
    with pytest.raises(BitnetError, match=said):
        load_traces(data, 20)


def test_a_column_that_is_missing_is_named(data: Path) -> None:
    table, key_values = pq.read_table(data / KD0), pq.read_metadata(data / KD0).metadata
    fewer = table.drop_columns(["stream_pos"]).replace_schema_metadata({b"bitnet": key_values[b"bitnet"]})
    pq.write_table(fewer, data / KD0)
    with pytest.raises(BitnetError, match="has no column stream_pos"):
        load_traces(data, 20)


@pytest.mark.parametrize("name", ["topk_ids", "template_hash"])
def test_a_column_that_is_there_twice_is_named(data: Path, name: str) -> None:
    table, key_values = pq.read_table(data / KD0), pq.read_metadata(data / KD0).metadata
    twice = table.append_column(name, table[name]).replace_schema_metadata({b"bitnet": key_values[b"bitnet"]})
    pq.write_table(twice, data / KD0)
    with pytest.raises(BitnetError, match=f"has 2 columns {name}; move it away"):
        load_traces(data, 20)


def test_a_column_of_another_type_is_named(data: Path) -> None:
    table, key_values = pq.read_table(data / KD0), pq.read_metadata(data / KD0).metadata
    place = table.schema.get_field_index("other_logprob")
    changed = table.set_column(place, "other_logprob", table["other_logprob"].cast(pa.float64()))
    pq.write_table(changed.replace_schema_metadata({b"bitnet": key_values[b"bitnet"]}), data / KD0)
    with pytest.raises(BitnetError, match=r"other_logprob .* is double instead of float"):
        load_traces(data, 20)


def test_shards_of_two_configurations_are_refused(data: Path) -> None:
    part = [sequence(index) for index in range(12, 20)]
    writer.write_shard(data, 1, metadata([one.request_key for one in part], config="other"), ORIGIN, part)
    with pytest.raises(BitnetError, match="other settings than kd_shard_000"):
        load_traces(data, 20)


ROWS = {
    "the last": lambda rows: rows.pop(),
    "every other": lambda rows: rows.__delitem__(slice(None, None, 2)),
    "all": list.clear,
    "the last twice": lambda rows: rows.append(rows[-1]),
}


@pytest.mark.parametrize("change", ROWS)
@pytest.mark.parametrize("name", [KD0, STREAM0])
def test_rows_that_were_cut_out_or_added_are_told(data: Path, name: str, change: str) -> None:
    rewrite(data / name, ROWS[change])
    with pytest.raises(
        BitnetError, match=rf"{name} was changed after it was written: it has \d+ of \d+ rows; move it"
    ):
        load_traces(data, 20)


def test_a_set_without_sequences_is_refused(tmp_path: Path) -> None:
    writer.write_shard(tmp_path, 0, metadata([]), ORIGIN, [])
    with pytest.raises(BitnetError, match="hold no sequence"):
        load_traces(tmp_path, 20)


def swapped(rows: list[dict[str, object]]) -> None:
    first = [row for row in rows if row["prompt_idx"] == 0]
    rows[:] = [row for row in rows if row["prompt_idx"] != 0] + first


def reversed_row(rows: list[dict[str, Any]]) -> None:
    for column in ("topk_ids", "topk_logprobs"):
        rows[5][column] = rows[5][column][::-1]


MORE_FAULTS: dict[str, tuple[str, Callable[[list[dict[str, object]]], object], str]] = {
    "back": (schema.kd_shard(0), swapped, "prompt_idx goes back in the order of kd_stream_000.parquet"),
    "rising": (schema.kd_shard(0), reversed_row, "row 5: the candidates are not most likely first"),
    "twice": (schema.kd_stream(0), set_in(4, "prompt_idx", 3), "row 4: prompt_idx 3 appears in two places"),
    "null hash": (schema.kd_stream(0), set_in(5, "sequence_hash", None), "row 5: sequence_hash is null"),
    "null ids": (schema.kd_stream(0), set_in(5, "prompt_ids", [1, None]), "row 5: a list in prompt_ids holds null"),
    "null row": (schema.kd_shard(0), set_in(5, "topk_ids", None), "row 5: topk_ids is null"),
}


@pytest.mark.parametrize("fault", MORE_FAULTS)
@pytest.mark.parametrize("reads", [3, 1 << 14])
def test_a_fault_is_named_wherever_a_window_ends(
    data: Path, fault: str, reads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "_READ_ROWS", reads)
    monkeypatch.setattr(shards, "_WINDOW_SEQUENCES", min(reads, 1024))
    name, change, said = MORE_FAULTS[fault]
    rewrite(data / name, change)
    with pytest.raises(BitnetError) as caught:
        load_traces(data, TOP_K)
    assert said in str(caught.value)
    assert name in str(caught.value)
