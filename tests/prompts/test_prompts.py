"""Prompts files in every format, and the packaged ones."""

import gzip
import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from bitnet_core.errors import BitnetError
from bitnet_core.prompts import files as prompt_files
from bitnet_core.prompts.prompt import Prompt, iter_prompts, load_prompts, prompts_hash
from bitnet_core.teachers.answers.json_body import decode

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def write(path: Path, **columns: list[Any]) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=2)
    return path


def test_each_line_of_text_is_a_prompt_but_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes('\ufeffFirst\r\n\r\n  Second one  \nFirst\n{"not": "json here"}\n'.encode())
    prompts = load_prompts(path, "unused")
    assert [prompt.text for prompt in prompts] == ["First", "Second one", '{"not": "json here"}']


def test_json_lines_hold_a_prompt_or_messages(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "Hi\\nthere", "id": 3}\n\n'
        '{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "x"}]}\n'
    )
    first, second = load_prompts(path, "unused")
    assert first.messages == ({"role": "user", "content": "Hi\nthere"},)
    assert second.messages == ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    assert first.hash != second.hash
    assert prompts_hash([first, second]) != prompts_hash([second, first])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken", "line 2: this is not JSON"),
        ('["a"]', "line 2: this is not a JSON object"),
        ('{"text": "a"}', 'line 2: it has no text in "prompt" and no list of messages in "messages"'),
        ('{"prompt": 1}', 'line 2: it has no text in "prompt"'),
        ('{"messages": []}', 'line 2: it has no text in "prompt"'),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "line 2: a message has no role"),
        ('{"messages": [{"role": "user", "content": 3}]}', "line 2: a message has no text"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "line 2: the last message is not the user's"),
        ('{"prompt": " "}', 'line 2: it has no text in "prompt"'),
        ('{"messages": [{"role": "user", "content": " \\n"}]}', "line 2: a message is blank"),
        ('{"messages": [{"role": "system", "content": ""}, {"role": "user", "content": "a"}]}', "a message is blank"),
        ('{"prompt": "a\\ud800b"}', "line 2: '\\ud800' is half a character"),
        ('{"messages": [{"role": "user", "content": "\\udfff"}]}', "line 2: '\\udfff' is half a character"),
        ('{"prompt": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "line 2: this is nested too deeply"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(BitnetError) as caught:
        load_prompts(path, "unused")
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


class _Endless:
    """A text without an end of line, which counts what is read of it."""

    def __init__(self, begin: str) -> None:
        self._begin, self.read_characters = begin, 0

    def readline(self, size: int) -> str:
        assert size >= 0
        self.read_characters += size
        begin, self._begin = self._begin[:size], self._begin[size:]
        return begin + "x" * (size - len(begin))

    read = readline


@pytest.mark.parametrize(
    ("name", "begin"),
    [("p.txt", ""), ("p.txt", "Write "), ("p.jsonl", ""), ("p.jsonl", '{"prompt": "'), ("p.ndjson", "   {"),
     ("p.json", '{"messages": ['), ("p.json", '["'), ("p.json", '[{"prompt": "'), ("p.json", "[ 7")],
)  # fmt: skip
def test_a_line_without_an_end_is_read_no_further_than_needed(
    tmp_path: Path, name: str, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_files, "_LONGEST", 50_000)
    text: Any = _Endless(begin)
    source = prompt_files.Source(tmp_path)
    lines = prompt_files._json(source, text) if name.startswith("p.j") else prompt_files._lines(source, text)
    with pytest.raises(BitnetError, match=r"(line|object) 1: .*(more than 50,000 characters|a comma)"):
        list(lines)
    assert text.read_characters < 200_000


def _padded(begin: str, end: str, length: int) -> str:
    return begin + "x" * (length - len(begin) - len(end)) + end


SHAPES = {
    "txt": lambda length: "First\n\n" + _padded("", "", length) + "\nLast\n",
    "jsonl": lambda length: '{"prompt": "First"}\n\n' + _padded('{"prompt": "', '"}', length) + "\n",
    "ndjson": lambda length: '{"prompt": "First"}\n\n' + _padded('{"prompt": "', '"}', length),
    "json": lambda length: '["First", "Second", ' + _padded('"', '"', length) + ', "Last"]',
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [*SHAPES, "parquet", "pq"])
@pytest.mark.parametrize("longest", [9_000, 50_000])
def test_a_prompt_that_is_too_long_is_named_and_the_longest_is_read(
    tmp_path: Path, kind: str, packed: bool, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_files, "_LONGEST", longest)
    path = tmp_path / f"p.{kind}"

    def make(length: int) -> Path:
        if kind == "pq":
            return write(path, messages=[ASKED, ASKED, [{"role": "user", "content": "x" * (length - 4)}]])
        if kind == "parquet":
            return write(path, prompt=["First", "Second", "x" * length])
        data = SHAPES[kind](length).encode()
        place = path.with_name(f"p.{kind}.gz") if packed else path
        place.write_bytes(gzip.compress(data) if packed else data)
        return place

    assert len(load_prompts(make(longest), "")) >= 2
    for length in (longest + 1, longest + 2, 2 * longest, 9 * longest):
        source = make(length)
        with pytest.raises(BitnetError) as caught:
            load_prompts(source, "")
        assert re.match(rf"{re.escape(str(source))}, (line|object|row) 3: ", str(caught.value))
        assert f"more than {longest:,} characters" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_empty_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BitnetError, match="does not exist"):
        load_prompts(tmp_path / "none.txt", "unused")
    (tmp_path / "empty.txt").write_text("\n  \n")
    with pytest.raises(BitnetError, match="holds no prompt"):
        load_prompts(tmp_path / "empty.txt", "unused")
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    with pytest.raises(BitnetError, match="not UTF-8"):
        load_prompts(tmp_path / "latin.txt", "unused")
    with pytest.raises(BitnetError, match="can't be read"):
        load_prompts(tmp_path, "unused")


def test_the_packaged_prompts_are_many_and_differ_between_stages() -> None:
    collect, baseline = load_prompts(None, "collect.txt"), load_prompts(None, "baseline.txt")
    assert len(collect) >= 250
    assert len(baseline) >= 20
    assert not {prompt.hash for prompt in collect} & {prompt.hash for prompt in baseline}
    first = " ".join(prompt.text for prompt in collect[:100])
    assert first.count("JSON") >= 5
    assert max(len(prompt.text) for prompt in collect) < 200


def test_deeply_nested_json_of_a_server_is_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        decode(b"[" * 200_000)


# -- other formats -----------------------------------------------------------------------------------


def spelled(messages: Any) -> str:
    return json.dumps(list(messages), sort_keys=True)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1).filter(str.strip)
message = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": texts})
asked = st.tuples(st.lists(message, max_size=3), texts).map(
    lambda parts: [*parts[0], {"role": "user", "content": parts[1]}]
)


@settings(max_examples=60)
@given(st.lists(st.one_of(texts, asked), min_size=1, max_size=12), st.data())
def test_every_format_holds_the_same_prompts(tmp_path_factory: Any, given_: list[Any], data: st.DataObject) -> None:
    """Against a twin that keeps every prompt in a dictionary. The places where reading stops vary."""
    folder = tmp_path_factory.mktemp("formats")
    rows = [{"messages": row} if isinstance(row, list) else {"prompt": row} for row in given_]
    spoken = [row if isinstance(row, list) else [{"role": "user", "content": row}] for row in given_]
    wanted = list(dict.fromkeys(spelled(messages) for messages in spoken))
    lines = "".join(json.dumps(row, ensure_ascii=data.draw(st.booleans())) + "\n" for row in rows)
    (folder / "a.jsonl").write_text(lines, encoding="utf-8")
    (folder / "b.json").write_text(json.dumps(rows, indent=data.draw(st.sampled_from([None, 3]))), encoding="utf-8")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    write(folder / "d.parquet", messages=spoken)
    write(folder / "e.pq", id=list(range(len(rows))), messages=[json.dumps(messages) for messages in spoken])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt_files, "_CHUNK", data.draw(st.integers(1, 30)))
        for path in sorted(folder.iterdir()):
            assert [spelled(prompt.messages) for prompt in iter_prompts(path, "")] == wanted, path.name


@pytest.mark.parametrize("column", ["prompt", "text"])
def test_a_column_of_text_is_enough(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "p.parquet", **{"label": [1, 2, 3], column: ["One", "Two", "One"]})
    assert [prompt.text for prompt in iter_prompts(path, "")] == ["One", "Two"]


def test_a_column_called_prompt_may_hold_messages(tmp_path: Path) -> None:
    assert load_prompts(write(tmp_path / "p.parquet", prompt=[ASKED]), "") == [Prompt(tuple(ASKED))]


def test_an_array_may_hold_plain_texts(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('\n[ "One",\n {"prompt": "Two"} ]\n\n')
    assert [prompt.text for prompt in load_prompts(tmp_path / "p.json", "")] == ["One", "Two"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["a", {]', "object 2: this is not JSON"),
        ('["a" "b"]', "object 1: neither a comma nor the array's end"),
        ('["a", 3]', "object 2: this is not a JSON object"),
        ('["a",', "object 2: this is not JSON"),
        ('["a"', "object 1: neither a comma"),
        ('["a"]\n["b"]', "after the array: there is more"),
        ("[]", "holds no prompt"),
        ('["a", ' + "[" * 100_000, "object 2: this is nested too deeply"),
        ('{"prompt": "a"}\n"b"', "line 2: this is not a JSON object"),
    ],
)
def test_what_is_wrong_with_an_array_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BitnetError, match=said) as caught:
        load_prompts(tmp_path / "p.json", "")
    assert str(tmp_path / "p.json") in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"question": ["a"]}, "no column prompt, messages or text, but question"),
        ({"prompt": ["a", None]}, 'row 2: it has no text in "prompt"'),
        ({"prompt": [3]}, "column prompt holds int64, not text alone"),
        ({"messages": ["[]", "{"]}, 'row 1: it has no text in "prompt"'),
        ({"messages": [json.dumps(ASKED), "{"]}, "row 2: its messages are not JSON"),
        ({"messages": ["[" * 100_000]}, "row 1: this is nested too deeply"),
        ({"messages": [ASKED, [{"role": "robot", "content": "a"}]]}, "row 2: a message has no role"),
        ({"messages": [ASKED, [{"role": "user", "content": None}]]}, "row 2: a message has no text"),
        ({"prompt": pa.array([], pa.string())}, "holds no prompt"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, columns: Any, said: str) -> None:
    path = write(tmp_path / "p.parquet", **columns)
    with pytest.raises(BitnetError, match=said) as caught:
        load_prompts(path, "")
    assert str(path) in str(caught.value)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "p.parquet", prompt=["word " * 99 + str(n) for n in range(50)]).read_bytes()
    packed = gzip.compress(b'{"prompt": "a"}\n' * 9)
    damaged = {"a.parquet": whole[:-9], "b.parquet": b"", "c.jsonl.gz": packed[:-9], "d.txt.gz": b"no gzip at all"}
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BitnetError, match=r"not a complete gzip|not a complete Parquet"):
            load_prompts(tmp_path / name, "")
    with pytest.raises(BitnetError, match="does not exist"):
        load_prompts(tmp_path / "none.parquet", "")
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(BitnetError, match="can't be read"):
        load_prompts(tmp_path / "folder.parquet", "")


@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    """5 MB of prompts are read; only their digests stay in memory."""
    count, said = 10_000, [f"{n} " + "word " * 100 for n in range(10_000)]
    path = tmp_path / f"p.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table({"prompt": said}), path, row_group_size=1000)
    elif kind == "json":
        path.write_text(json.dumps(said))
    else:
        lines = (text if kind == "txt" else json.dumps({"prompt": text}) for text in said)
        path.write_text("\n".join(lines))
    del said
    next(iter_prompts(path, ""))  # so that imports don't count
    tracemalloc.start()
    read = sum(1 for _ in iter_prompts(path, ""))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert read == count
    assert peak < 1_500_000 + 72 * count
