"""Prompts files that are not what their reader expects: refused before anything is asked and paid for."""

import datetime as dt
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.prompts import files, parquet
from bitnet_core.prompts.prompt import load_prompts

MOMENT = pa.array([1], pa.timestamp("ns"))
MESSAGES = pa.array([[{"role": "user", "content": "Hi", "at": 1}]])


def refused(path: Path, said: str) -> None:
    with pytest.raises(BitnetError, match=said) as caught:
        load_prompts(path, "unused")
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 600 + len(str(path))


@pytest.mark.parametrize("name", ["p.csv", "P.TSV", "p.xlsx", "p.html", "p.txt.zst", "p.csv.gz", "p.yaml", "p.zip"])
def test_lines_of_another_format_are_no_prompts(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('prompt,x\n"Hello, you",1\n')
    refused(tmp_path / name, "not of a kind that is read")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.txt", "Hello\n\0\0PK\n"),
        ("p.jsonl", '{"prompt": "a\\u0000b"}'),
        ("p.json", '["a\\u0000b"]'),
        ("p.jsonl", '{"messages": [{"role": "user", "content": "a\\u0000"}]}'),
    ],
)
def test_a_nul_character_is_no_text(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    refused(tmp_path / name, "NUL")


@pytest.mark.parametrize(
    "column",
    [
        MOMENT,
        pa.array([10**15], pa.timestamp("s")),
        pa.array([1], pa.duration("ns")),
        pa.array([1]),
        pa.array([b"Hi"]),
        pa.array([1.5]),
        pa.array([[1]]),
        pa.array([[("role", "user")]], pa.map_(pa.string(), pa.string())),
        pa.array([[{"role": 1, "content": "Hi"}]]),
    ],
)
@pytest.mark.parametrize("name", ["prompt", "messages"])
def test_a_column_without_text_is_named_with_its_type(tmp_path: Path, column: Any, name: str) -> None:
    pq.write_table(pa.table({name: column}), tmp_path / "p.parquet")
    refused(tmp_path / "p.parquet", f"column {name} holds .*, not text alone")


def test_a_field_beside_the_text_may_be_anything_that_can_be_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"messages": MESSAGES}), tmp_path / "p.parquet")
    assert load_prompts(tmp_path / "p.parquet", "unused")[0].text == "Hi"
    when = pa.array([[{"role": "user", "content": "Hi", "at": dt.datetime(2026, 1, 1)}]])  # noqa: DTZ001
    exact = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("at", pa.timestamp("ns"))]))
    pq.write_table(pa.table({"messages": when}), tmp_path / "q.parquet")
    assert load_prompts(tmp_path / "q.parquet", "unused")[0].text == "Hi"
    odd = pa.array([[{"role": "user", "content": "Hi", "at": 1}]], exact)
    pq.write_table(pa.table({"messages": odd}), tmp_path / "r.parquet")
    refused(tmp_path / "r.parquet", "column messages holds")


@pytest.mark.parametrize(
    "type_", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_text_of_any_arrow_type_is_text(tmp_path: Path, type_: pa.DataType) -> None:
    pq.write_table(pa.table({"prompt": pa.array(["Hi"], type_)}), tmp_path / "p.parquet")
    assert load_prompts(tmp_path / "p.parquet", "unused")[0].text == "Hi"


def test_the_columns_that_are_there_are_named_in_short(tmp_path: Path) -> None:
    pq.write_table(pa.table({f"column_{n}": ["a"] for n in range(900)}), tmp_path / "p.parquet")
    refused(tmp_path / "p.parquet", "no column prompt, messages or text, but column_0")


def test_which_of_two_columns_is_meant_is_not_guessed(tmp_path: Path) -> None:
    texts = pa.array(["Hi"])
    pq.write_table(pa.Table.from_arrays([texts, texts], ["prompt", "prompt"]), tmp_path / "p.parquet")
    refused(tmp_path / "p.parquet", "has 2 columns prompt; leave one of them there")


def test_a_row_group_that_is_too_large_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST_BYTES", 10_000)
    path, texts = tmp_path / "p.parquet", [f"prompt {number}" for number in range(1000)]
    pq.write_table(pa.table({"prompt": texts}), path)
    refused(path, r"column prompt has [\d,]+ bytes in a row group, .*; write it with fewer rows in a row group\.$")
    pq.write_table(pa.table({"prompt": texts}), path, row_group_size=100)
    assert len(load_prompts(path, "unused")) == 1000
    # What is not read may be of any size.
    pq.write_table(
        pa.table({"prompt": texts[:9], "image": [{"bytes": bytes(99_999)}] * 9}), path, use_dictionary=False
    )
    assert len(load_prompts(path, "unused")) == 9


def test_a_column_that_is_named_otherwise_where_its_pages_are_is_no_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MOST_BYTES", 10_000)
    path, texts = tmp_path / "p.parquet", [f"prompt {number}" for number in range(1000)]
    pq.write_table(pa.table({"prompt": texts}), path, store_schema=False, write_statistics=False)
    before, _, after = path.read_bytes().rpartition(b"prompt")
    path.write_bytes(before + b"qrompt" + after)
    assert pq.read_table(path).column_names == ["prompt"]
    refused(path, r"column prompt has [\d,]+ bytes in a row group")


@pytest.mark.parametrize("name", ["p.txt.gz", "p.jsonl.gz", "p.json.gz"])
@pytest.mark.parametrize("before", ["", '{"prompt": "Hi"}\n'])
def test_blank_lines_without_end_are_not_read(
    tmp_path: Path, name: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MOST_BLANK", 1000)
    (tmp_path / name).write_bytes(gzip.compress(before.encode() + b"\n" * 900 + b'{"prompt": "Ho"}\n'))
    assert load_prompts(tmp_path / name, "unused")
    (tmp_path / name).write_bytes(gzip.compress(before.encode() + b"\n" * 10_000))
    refused(tmp_path / name, "blank lines")
