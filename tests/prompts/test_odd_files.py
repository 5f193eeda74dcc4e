"""Prompts files that are not what their reader expects: refused before anything is asked and paid for."""

import base64
import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.prompts import files, parquet, prompt
from bitnet_core.prompts.prompt import load_prompts
from bitnet_core.prompts.texts import iter_texts
from bitnet_core.traces.shards import require_whole

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


class Keys(pe.KmsClient):
    """Hands out every key as it is."""

    def wrap_key(self, key: bytes, name: str) -> bytes:
        return base64.b64encode(key)


@pytest.mark.parametrize(
    ("encrypted", "said"),
    [
        ({"column_keys": {"k": ["prompt"]}}, "it is encrypted; write it without encryption"),
        ({"uniform_encryption": True}, "it is encrypted; write it without encryption"),
        (
            {"column_keys": {"k": ["prompt"]}, "plaintext_footer": True},
            "column prompt is encrypted; write it without",
        ),
        ({"column_keys": {"k": ["image"]}, "plaintext_footer": True}, ""),
    ],
)
def test_an_encrypted_file_is_not_called_damaged(tmp_path: Path, encrypted: dict[str, Any], said: str) -> None:
    path, table = tmp_path / "p.parquet", pa.table({"prompt": ["Hi"], "image": [b"x"]})
    keys = pe.EncryptionConfiguration(footer_key="k", **encrypted)
    properties = pe.CryptoFactory(lambda _: Keys()).file_encryption_properties(pe.KmsConnectionConfig(), keys)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    if said:
        refused(path, said)
        with pytest.raises(BitnetError, match=said):
            require_whole(path)
    else:
        assert load_prompts(path, "unused")[0].text == "Hi"


@pytest.mark.parametrize("name", ["p.txt.gz", "p.jsonl.gz", "p.json.gz"])
@pytest.mark.parametrize("before", ["", '{"prompt": "Hi"}\n'])
def test_blank_lines_without_end_are_not_read(
    tmp_path: Path, name: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MOST_BLANK", 1000)
    before = "Hi\n" if before and "txt" in name else before
    last = b"Ho\n" if "txt" in name else b'{"prompt": "Ho"}\n'
    (tmp_path / name).write_bytes(gzip.compress(before.encode() + b"\n" * 900 + last))
    assert load_prompts(tmp_path / name, "unused")
    (tmp_path / name).write_bytes(gzip.compress(before.encode() + b"\n" * 10_000))
    refused(tmp_path / name, "blank lines")


@pytest.mark.parametrize("name", ["p.txt", "prompts", "p.md", "p.txt.gz"])
@pytest.mark.parametrize(
    "text",
    [
        '{"prompt": "Hi"}\n',
        'Hello\n  {"messages": [{"role": "user", "content": "Hi"}]}\n',
        '[\n{"prompt": "Hi"},\n{"prompt": "Ho"}\n]\n',
        '[{"text": "Hi"}]\n',
    ],
)
def test_json_under_another_name_is_not_asked_as_it_stands(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    refused(tmp_path / name, r"holds JSON \(line \d\); give it a name that ends in .jsonl or .json")


def test_a_prompt_may_be_about_json(tmp_path: Path) -> None:
    asked = ['{"a": 1}', "[1, 2] is a list?", '{"prompt": is this JSON?', '["prompt"]', "{" * 9000]
    (tmp_path / "p.txt").write_text("\n".join(asked))
    assert [one.text for one in load_prompts(tmp_path / "p.txt", "unused")] == asked


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl"])
def test_the_mark_of_files_that_were_put_together_is_no_text(tmp_path: Path, name: str) -> None:
    lines = ["Hi", "Ho", ""] if name == "p.txt" else ['{"prompt": "Hi"}', '{"prompt": "Ho"}', ""]
    (tmp_path / name).write_text("".join(f"\ufeff\ufeff{line}\n" for line in [*lines, *lines]))
    assert [one.text for one in load_prompts(tmp_path / name, "unused")] == ["Hi", "Ho"]


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.parquet"])
def test_repeats_without_end_are_not_read(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "_MOST_REPEATS", 1000)

    def write(prompts: list[str]) -> None:
        if name == "p.parquet":
            pq.write_table(pa.table({"prompt": prompts}), tmp_path / name)
        else:
            form = "{}\n" if name == "p.txt" else '{{"prompt": "{}"}}\n'
            (tmp_path / name).write_text("".join(map(form.format, prompts)))

    write(["Hi"] * 1001 + ["Ho"] * 1001)
    assert len(load_prompts(tmp_path / name, "unused")) == 2
    write([str(number) for number in range(50)] * 99)
    assert len(load_prompts(tmp_path / name, "unused")) == 50
    write(["Hi"] * 2000)
    refused(tmp_path / name, r"(line|row) 1002: the last 1,001 prompts repeat others; remove them")


@pytest.mark.parametrize("field", ["system", "system_prompt"])
def test_a_system_message_beside_the_prompt_is_not_left_out_in_silence(tmp_path: Path, field: str) -> None:
    record = {"prompt": "Hi", "answer": "Ho", field: "Be rude."}
    (tmp_path / "p.jsonl").write_text(json.dumps(record))
    talk = [{"role": "user", "content": "Hi"}]
    (tmp_path / "q.jsonl").write_text(json.dumps({"messages": talk, field: "Be rude."}))
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "p.parquet")
    for name in ("p.jsonl", "q.jsonl", "p.parquet"):
        refused(tmp_path / name, f'its "{field}" is not asked; make it a message with the role system')
    with pytest.raises(BitnetError, match=f'its "{field}" is not asked'):
        list(iter_texts(tmp_path / "p.jsonl"))
    said = [{"role": "system", "content": "Be rude."}, *talk]
    (tmp_path / "q.jsonl").write_text(json.dumps({"messages": said, field: "Be rude."}))
    (tmp_path / "p.jsonl").write_text(json.dumps(record | {field: ""}))
    assert load_prompts(tmp_path / "q.jsonl", "unused")[0].messages == tuple(said)
    assert load_prompts(tmp_path / "p.jsonl", "unused")[0].text == "Hi"


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("p.jsonl", '{"prompt": "Hi"}\n{"prompt": "Ho", "prompt": "Hu"}\n', "line 2"),
        ("p.jsonl", '{"prompt": "Hi"}\n{"prompt": "Ho", "\\u0070rompt": "Hu"}\n', "line 2"),
        ("p.json", '[{"prompt": "Hi"},\n{"prompt": "Ho", "prompt": "Ho"}]', "object 2"),
        ("p.ndjson", '{"messages": [{"role": "user", "content": "Hi", "content": "Ho"}]}', "line 1"),
        ("p.parquet", '[{"role": "user", "role": "system", "content": "Hi"}]', "row 1"),
    ],
)
def test_a_name_that_stands_twice_is_refused_with_its_place(tmp_path: Path, name: str, text: str, place: str) -> None:
    if name == "p.parquet":
        pq.write_table(pa.table({"messages": [text]}), tmp_path / name)
    else:
        (tmp_path / name).write_text(text)
    refused(tmp_path / name, rf'{place}: "\w+" stands in one object 2 times')
