"""Texts to score: their kinds, what they are held out by, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.prompts.prompt import Given, Prompt, iter_prompts
from bitnet_core.prompts.texts import PLAIN_PROMPT, iter_texts


def lines(path: Path, *records: object) -> Path:
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_answers_with_prompts_conversations_and_plain_text(tmp_path: Path) -> None:
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    file = lines(
        tmp_path / "a.jsonl",
        {"prompt": "Why?", "answer": "Because."},
        {"messages": [*talk, {"role": "assistant", "content": "Hello."}]},
        {"prompt": "Why?", "answer": "Because."},
        {"prompt": "Why?", "answer": "So."},
    )
    question = ({"role": "user", "content": "Why?"},)
    assert list(iter_texts(file)) == [
        Prompt(question, Given("Because.", ends=True)),
        Prompt(tuple(talk), Given("Hello.", ends=True)),
        Prompt(question, Given("So.", ends=True)),
    ]
    plain = tmp_path / "b.txt"
    plain.write_text("The sea was calm.\n\nIt rained.\nThe sea was calm.\n")
    asked = ({"role": "user", "content": PLAIN_PROMPT},)
    found = list(iter_texts(plain))
    assert found == [Prompt(asked, Given(text, ends=False)) for text in ("The sea was calm.", "It rained.")]
    assert len({one.folded_hash for one in found}) == 2
    pq.write_table(pa.table({"text": [one.given.text for one in found if one.given]}), tmp_path / "b.parquet")
    assert list(iter_texts(tmp_path / "b.parquet")) == found
    pq.write_table(pa.table({"prompt": ["Why?"] * 2, "answer": ["Because.", "So."]}), tmp_path / "a.parquet")
    assert list(iter_texts(tmp_path / "a.parquet")) == [one for one in iter_texts(file) if one.messages == question]


def test_answers_to_one_prompt_are_held_out_together_and_prompts_keep_their_hashes() -> None:
    asked = ({"role": "user", "content": "Why?"},)
    one, other = (Prompt(asked, Given(text, ends=True)) for text in ("Because.", "So."))
    assert one.folded_hash == other.folded_hash == Prompt(asked).folded_hash
    assert len({one.hash, other.hash, Prompt(asked).hash}) == 3


def test_a_record_may_name_its_group_and_is_the_same_text_in_any(tmp_path: Path) -> None:
    record = {"prompt": "Why?", "answer": "So.", "split_group": "why"}
    pq.write_table(pa.table({name: [value] for name, value in record.items()}), tmp_path / "a.parquet")
    lines(tmp_path / "a.jsonl", record, record | {"split_group": "another"}, record | {"split_group": None})
    for name in ("a.jsonl", "a.parquet"):
        for read in (iter_texts, lambda path: iter_prompts(path, "")):
            (one,) = read(tmp_path / name)
            assert one.group == "why"
            assert one.hash == replace(one, group="").hash


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "Why?"}, "a message has no text content"),
        ({"prompt": "Why?", "answer": " "}, "a message is blank"),
        ({"prompt": "Why?", "answer": 3}, "a message has no text content"),
        ({"prompt": "Why?", "answer": "a\0"}, "it has a NUL character, so this is no text"),
        ({"answer": "So."}, 'it has no text in "prompt" and no list of messages in "messages"'),
        ({"messages": [{"role": "user", "content": "Hi"}]}, "the last message is not an answer to the user's"),
        ({"messages": [{"role": "assistant", "content": "Hi"}]}, "the last message is not an answer to the user's"),
        ({"prompt": "Why?", "answer": "So.", "split_group": 1}, 'its "split_group" is not text'),
        ([1], "this is not a JSON object"),
    ],
)
def test_what_is_no_text_to_score_is_refused_with_its_place(tmp_path: Path, record: object, reason: str) -> None:
    file = lines(tmp_path / "a.jsonl", {"prompt": "Why?", "answer": "Because."}, record)
    with pytest.raises(BitnetError) as caught:
        list(iter_texts(file))
    assert f"a.jsonl, line 2: {reason}; write" in str(caught.value)
    assert str(caught.value).endswith("one text a line.")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(BitnetError, match=r"holds none; put at least one line into it\."):
        list(iter_texts(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", None, "The file of texts {} does not exist; correct its path."),
        ("a.txt", b"\xff\xfe", "The file of texts {} is not UTF-8 text; save it as UTF-8."),
        ("a.txt", b"\n \n", "The file of texts {} holds none; put at least one line into it."),
        ("a.txt.gz", b"\x1f\x8b\x08", "The file of texts {} is not a complete gzip file; pack it again."),
        (
            "a.csv",
            b"a,b",
            "The file of texts {} is not of a kind that is read; save its texts as .txt (one a line), ",
        ),
        ("a.jsonl", b"[" * 99_999, '{}, object 1: this is nested too deeply; write {{"prompt": "…", "answer": '),
        ("a.jsonl", b"{", '{}, line 1: this is not JSON; write {{"prompt": "…", "answer": '),
        ("a.txt", b"x" * 4_200_000, "{}, line 1: this has more than 4,194,304 characters, the most for a text; "),
    ],
)
def test_errors_speak_of_texts(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BitnetError) as caught:
        list(iter_texts(path))
    assert str(caught.value).startswith(words.format(path))
    assert "prompts file" not in str(caught.value)
