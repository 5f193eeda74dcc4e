"""Parquet files and metadata that this program did not write: refused in one sentence, before memory is allocated."""

import base64
import contextlib
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.prompts import parquet
from bitnet_core.prompts.parquet import open_parquet
from bitnet_core.traces import schema
from bitnet_core.traces.reproject import reproject
from bitnet_core.traces.trace_set import open_shards
from bitnet_core.traces.writer import metadata_of
from tests.fuzzing import fuzz
from tests.traces.hostile import check_metadata, check_shards, sound_metadata, sound_set
from tests.traces.sets import TOKENIZER, rewrite, set_in

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_CHANGED = st.dictionaries(st.sampled_from([*sound_metadata(), "another"]), _JSON, max_size=4)
METADATA = st.binary(max_size=200) | _CHANGED.map(lambda changes: json.dumps(sound_metadata() | changes).encode())
EDITS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1 << 16) | st.integers(0, 600), st.integers(0, 255)), max_size=6
).map(lambda edits: b"".join(struct.pack("<BIB", *edit) for edit in edits))


@fuzz(300)
@given(METADATA)
def test_metadata_of_any_bytes(data: bytes) -> None:
    check_metadata(data)


@fuzz(75)
@given(EDITS)
def test_shards_with_any_bytes_changed(data: bytes) -> None:
    check_shards(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": "1"},
        {"schema_version": True},
        {"vocab_size": 1.5},
        {"vocab_size": -1},
        {"vocab_size": 1 << 40},
        {"top_k": 10**30},
        {"top_k": 101},
        {"top_k": 0},
        {"counts": []},
        {"counts": {"rows": "many"}},
        {"counts": {"rows": None}},
        {"keys": "key0"},
        {"keys": [1]},
        {"sampling": 3},
        {"tokenizer_hash": None},
    ],
    ids=str,
)
def test_metadata_of_wrong_types_is_one_sentence(data: Path, changes: dict[str, Any]) -> None:
    replace_metadata(data / schema.kd_shard(0), json.dumps(sound_metadata() | changes).encode())
    with pytest.raises(BitnetError, match=r"kd_shard_000.parquet was not written by this program"):
        open_shards(data)


@pytest.mark.parametrize("text", [b"[" * 200_000, b'{"a":' * 200_000, b"\xff", b"null", b"[]", b""])
def test_metadata_that_is_no_object_or_nested_deeply_is_one_sentence(data: Path, text: bytes) -> None:
    replace_metadata(data / schema.kd_shard(0), text)
    with pytest.raises(BitnetError, match=r"kd_shard_000.parquet was not written by this program"):
        open_shards(data)


@pytest.mark.parametrize("name", [schema.kd_shard(0), schema.kd_stream(0), schema.teacher_shard(0)])
def test_no_changed_bit_is_read_as_another_number(data: Path, name: str) -> None:
    """Without checksums a codec takes one in seven for a sound page of other numbers."""
    path = data / name
    whole, table = path.read_bytes(), pq.read_table(path)
    pages = range(4, len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"))  # behind them is the footer
    refused, draw = 0, random.Random(0)
    for place in draw.sample(pages, 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        try:
            with open_parquet(path) as file:
                assert file.read().equals(table)
        except (pa.ArrowException, OSError):
            refused += 1
    assert refused > 20


def replace_metadata(path: Path, text: bytes) -> None:
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"bitnet": text}), path)


# -- sizes -----------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.parquet"
    table = pa.table(
        {"number": pa.array(range(1000), pa.int32()), "lists": [[1, 2]] * 1000, "text": ["a", "b"] * 500}
    )
    pq.write_table(table, path, row_group_size=300, write_page_checksum=True)
    return path


def test_what_arrow_writes_is_read(file: Path) -> None:
    for options in (
        {"compression": "none"},
        {"compression": "gzip", "data_page_version": "2.0"},
        {"compression": "zstd", "data_page_size": 64, "write_page_index": True},
        {"use_dictionary": False, "column_encoding": {"number": "DELTA_BINARY_PACKED"}},
    ):
        table = pq.read_table(file)
        pq.write_table(table, file, **options)
        with open_parquet(file) as opened:
            assert opened.read().equals(table)
    pq.write_table(table.slice(0, 0), file)
    with open_parquet(file) as opened:
        assert opened.read().num_rows == 0


def test_a_column_of_many_values_in_few_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_BYTES", 1 << 24)
    path = tmp_path / "bomb.parquet"
    zeros = pa.array(np.zeros(parquet.MOST_BYTES // 8 + 1000, np.int64))
    pq.write_table(pa.table({"zeros": zeros}), path, compression="zstd", use_dictionary=False, row_group_size=1 << 30)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(pa.ArrowInvalid, match=r"column zeros has [\d,]+ bytes in a row group"):
        open_parquet(path)


def test_a_page_that_claims_more_than_its_column_is_refused(file: Path) -> None:
    start = pq.read_metadata(file).row_group(0).column(0).dictionary_page_offset
    content = bytearray(file.read_bytes())
    page = parquet._Thrift(bytes(content[start:]), parquet._Room())
    before = page.struct()[2]
    encoded = bytes(content[start + 3 : start + 5])
    assert content[start + 2] == 0x15  # field 2, an integer
    assert parquet._Thrift(encoded, parquet._Room())._zigzag() == before
    content[start + 3 : start + 5] = b"\xfe\x7f"
    file.write_bytes(content)
    with pytest.raises(pa.ArrowInvalid, match="a page of column number claims 8191 bytes"):
        open_parquet(file)


_LONG = "x" * 20_000
_ONE_OF_MANY = pa.array([_LONG, *map(str, range(5000))])


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (lambda: pa.array([_LONG] * 5000), {}),
        (lambda: pa.array([_LONG.encode()] * 5000), {"compression": "zstd"}),
        (lambda: pa.array([[_LONG] * 5000]), {}),
        (lambda: pa.array([[{"role": "user", "content": _LONG}] * 50] * 100), {"data_page_version": "2.0"}),
        (lambda: pa.array([b"x" * 20_000] * 5000, pa.binary(20_000)), {}),
        (lambda: pa.array([[b"x" * 20_000] * 5000], pa.list_(pa.binary(20_000))), {}),
        (lambda: pa.array([_LONG] * 5000), {"use_dictionary": False, "column_encoding": {"c": "DELTA_BYTE_ARRAY"}}),
        (lambda: pa.array([[_LONG] * 5000]), {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}),
    ],
    ids=["text", "bytes", "list", "messages", "fixed", "list of fixed", "prefixes", "list of prefixes"],
)
def test_a_long_value_that_is_repeated_is_counted_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], options: dict[str, Any]
) -> None:
    monkeypatch.setattr(parquet, "MOST_BYTES", 1 << 26)
    pq.write_table(pa.table({"c": make()}), tmp_path / "bomb.parquet", **options)
    assert (tmp_path / "bomb.parquet").stat().st_size < 1 << 20
    with pytest.raises(parquet.TooLarge, match=r"column c\S* has [\d,]+ bytes in a row group"):
        open_parquet(tmp_path / "bomb.parquet")
    open_parquet(tmp_path / "bomb.parquet", ()).close()


@pytest.mark.parametrize("encoding", ["PLAIN", "DELTA_BYTE_ARRAY", None])
@pytest.mark.parametrize("column", [_ONE_OF_MANY, pa.array([_ONE_OF_MANY.to_pylist()]), pa.array([None, _LONG, ""])])
def test_one_long_value_among_many_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: Any, encoding: str | None
) -> None:
    monkeypatch.setattr(parquet, "MOST_BYTES", 1 << (17 if encoding != "DELTA_BYTE_ARRAY" or len(column) > 1 else 28))
    options: dict[str, Any] = {"use_dictionary": False, "column_encoding": encoding} if encoding else {}
    pq.write_table(pa.table({"c": column}), tmp_path / "p.parquet", **options)
    with open_parquet(tmp_path / "p.parquet") as file:
        assert file.read().column(0).to_pylist() == column.to_pylist()


def test_many_short_values_of_one_length_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of traces are half-precision numbers: a dictionary of some thousands, and millions of values."""
    monkeypatch.setattr(parquet, "MOST_BYTES", 1 << 17)
    column = pa.array(np.arange(20_000, dtype=np.uint16).view(np.float16))
    pq.write_table(pa.table({"c": column}), tmp_path / "p.parquet")
    with open_parquet(tmp_path / "p.parquet") as file:
        assert file.read().num_rows == len(column)


@pytest.mark.parametrize("kind", [1, 5, 8, 9, 12])
def test_metadata_of_too_many_items_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    """Empty structs and lists take a byte each; what is made of them takes 64."""
    monkeypatch.setattr(parquet, "_MOST_ITEMS", 1000)
    monkeypatch.setattr(parquet._Room, "left", 1000)
    footer = bytes([0x29, 0xF0 | kind, 0xE9, 0x07]) + bytes(1001) + b"\0"  # field 2: a list of 1001
    (tmp_path / "p.parquet").write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(parquet.TooLarge, match="its metadata have more than 1,000 items") as caught:
        open_parquet(tmp_path / "p.parquet")
    assert caught.value.advice == "write it with fewer row groups"


def test_a_shard_whose_footer_is_damaged_counts_as_torn(tmp_path: Path) -> None:
    content = sound_set()[schema.kd_shard(0)]
    path = tmp_path / schema.kd_shard(0)
    path.write_bytes(
        content.replace(b"kd_cand_logprobs", b"kd_cand_logprob\xff").replace(b"topk_ids", b"topk_id\xff")
    )
    assert path.read_bytes() != content
    assert metadata_of(path) is None


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_is_no_file_in_the_place_of_a_shard_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / schema.kd_shard(0)
    make: dict[str, Callable[[Path], None]] = {
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
        "link": lambda path: path.symlink_to("nowhere"),
    }
    make[kind](path)
    assert metadata_of(path) is None
    with pytest.raises(OSError, match=r"regular file|Is a directory|No such file"):
        open_parquet(path)


def test_a_file_that_is_replaced_between_check_and_opening_is_checked_anew(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, bomb, spare = pq.ParquetFile, tmp_path / "bomb", file.read_bytes()
    zeros = pa.array(np.zeros(parquet.MOST_BYTES // 8 + 1000, np.int64))
    pq.write_table(pa.table({"zeros": zeros}), bomb, compression="zstd", use_dictionary=False, row_group_size=1 << 30)

    def replaced(path: Path, **options: object) -> pq.ParquetFile:
        if bomb.exists():
            bomb.rename(path)
        return opened(path, **options)

    monkeypatch.setattr(pq, "ParquetFile", replaced)
    with pytest.raises(parquet.TooLarge):
        open_parquet(file)

    def always_replaced(path: Path, **options: object) -> pq.ParquetFile:
        path.rename(tmp_path / "old")
        path.write_bytes(spare)
        return opened(path, **options)

    monkeypatch.setattr(pq, "ParquetFile", always_replaced)
    with pytest.raises(OSError, match="replaced all the time"):
        open_parquet(file)


@pytest.mark.parametrize("length", [0, 4, 8, 100, 5000])
def test_a_file_cut_short_is_refused(file: Path, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(pa.ArrowException):
        open_parquet(file)


# -- teacher space ---------------------------------------------------------------------------------------

Change = Callable[[list[dict[str, object]]], object]


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        (schema.teacher_shard(0), set_in(3, "logprob", None), "teacher_shard_000.parquet holds null"),
        (schema.teacher_shard(0), set_in(3, "top_bytes", [None] * 5), "teacher_shard_000.parquet holds null"),
        (schema.teacher_shard(0), set_in(3, "top_count", 6), "more than its 5 candidates"),
        (schema.teacher_shard(0), set_in(3, "top_count", -1), "more than its 5 candidates"),
        (schema.teacher_shard(0), lambda rows: rows.pop(0), "not all steps of sequence 0 are there, in order"),
        (schema.teacher_shard(0), lambda rows: rows.insert(4, rows[4]), "not all steps of sequence 0 are there"),
        (schema.teacher_shard(0), lambda rows: rows.pop(), "it has 304 of 305 steps; move it away"),
        (schema.teacher_shard(0), list.clear, "it has 0 of 305 steps; move it away"),
        (
            schema.sequences_part(0),
            set_in(2, "messages_json", "[" * 100_000),
            "part_000.parquet is missing or damaged",
        ),
        (schema.sequences_part(0), set_in(2, "messages_json", "{}"), "part_000.parquet is missing or damaged"),
        (schema.sequences_part(0), set_in(2, "messages_json", '[{"role": 3}]'), "part_000.parquet is missing"),
        (schema.sequences_part(0), set_in(2, "messages_json", None), "part_000.parquet is missing or damaged"),
    ],
)
def test_a_damaged_teacher_space_is_one_sentence(
    data: Path, tmp_path: Path, name: str, change: Change, sentence: str
) -> None:
    rewrite(data / name, change)
    TOKENIZER.save(tmp_path / "own")
    with pytest.raises(BitnetError, match=sentence):
        reproject(data, str(tmp_path / "own"))


@pytest.mark.parametrize("column", [one.name for one in schema.teacher_steps(5) if one.name != "bytes_before"])
def test_a_column_of_teacher_space_that_is_missing_is_named(data: Path, tmp_path: Path, column: str) -> None:
    path = data / schema.teacher_shard(0)
    key_values = pq.read_metadata(path).metadata
    table = pq.read_table(path).drop_columns([column])
    pq.write_table(table.replace_schema_metadata({b"bitnet": key_values[b"bitnet"]}), path)
    TOKENIZER.save(tmp_path / "own")
    with pytest.raises(BitnetError, match=f"teacher_shard_000.parquet has no column {column}"):
        reproject(data, str(tmp_path / "own"))


@pytest.mark.parametrize("column", ["top_bytes", "top_logprobs"])
def test_lists_of_no_candidates_are_another_type(data: Path, tmp_path: Path, column: str) -> None:
    """Arrow itself makes no such type, but reads one from the schema that a file keeps in base64."""
    path = data / schema.teacher_shard(0)
    written, kept = path.read_bytes(), pq.read_metadata(path).metadata[b"ARROW:schema"]
    arrow = base64.b64decode(kept)
    for place in range(len(arrow) - 3):
        if arrow[place : place + 4] == struct.pack("<i", 5):
            path.write_bytes(written.replace(kept, base64.b64encode(arrow[:place] + bytes(4) + arrow[place + 4 :])))
            with contextlib.suppress(pa.ArrowException, OSError):
                if getattr(pq.read_schema(path).field(column).type, "list_size", -1) == 0:
                    break
    else:
        raise AssertionError("the schema has no list of 5 candidates")
    TOKENIZER.save(tmp_path / "own")
    with pytest.raises(BitnetError, match=rf"Column {column} of .*\[0\] instead of "):
        reproject(data, str(tmp_path / "own"))
