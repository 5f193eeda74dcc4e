"""Tokens told by text, bytes and id at once: what each is worth where they don't fit together."""

import json
from typing import Any

import pytest

from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.answers.token_names import contradicts
from bitnet_core.tokenizer.steps import TokenTable
from tests.teachers.server import chat_body, entry, read_payload, steps_of, with_top

HELLO = entry("Hello", -0.1)


def answer(own: dict[str, Any], *tops: dict[str, Any]) -> dict[str, Any]:
    """Two steps; the second one is in question."""
    return chat_body("Hello" + own["token"], [with_top(HELLO, HELLO), with_top(own, own, *tops)])


def listed(body: dict[str, Any], row: int = 1, table: TokenTable | None = None) -> dict[bytes, float]:
    step = steps_of(read_payload(body, table))[row]
    return dict(zip(step.top_bytes, step.top_logprobs, strict=True))


# -- bytes against text -------------------------------------------------------------------------------------

COPIED = [
    (" a", b" ne"),  # those of the sampled token
    (" x", b"Hello"),  # those of the token before
    ("a", b"b"),
    (" a", b"a"),  # without the blank
    ("a", b" a"),
    ("the", b"The"),
    ("\n", b" "),
    ("é", b"e"),
    ("東", "京".encode()),
    (" fini", b" finished"),
    ("7", b"8"),
    ("Ġa", b" b"),
    ("▁a", b" b"),
    ("a", b"\xe6\x9d"),
    ("да", "да"[:1].encode()),
]


@pytest.mark.parametrize("index", [None, 7])
@pytest.mark.parametrize(("text", "data"), COPIED)
def test_bytes_of_another_token_than_the_text_reject_the_answer(text: str, data: bytes, index: int | None) -> None:
    sampled, table = entry(" ne", -0.5), TokenTable()
    read_payload(answer(sampled, entry(data.decode(errors="replace"), -2.0, data=data, index=index)), table)
    for _ in range(2):  # also where the bytes were seen before
        with pytest.raises(BadReply) as caught:
            read_payload(answer(sampled, entry(text, -1.5, data=data, index=index)), table)
        assert caught.value.reason == "contradictory_bytes"


def test_bytes_that_are_all_the_sampled_tokens_are_not_added_up() -> None:
    sampled = entry(" ne", -0.5)
    with pytest.raises(BadReply) as caught:
        read_payload(answer(sampled, entry(" a", -1.5, data=b" ne"), entry(" x", -2.0, data=b" ne")))
    assert caught.value.reason == "contradictory_bytes"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("\ufffd", b"\xe6\x9d"),
        ("", b"\xe6\x9d"),  # llama.cpp
        (" a", b" a\xe6"),  # llama.cpp cuts it off
        (" a\ufffd", b" a\xe6"),
        ("bytes:\\xe6\\x9d", b"\xe6\x9d"),  # OpenAI
        ("æĿ", b"\xe6\x9d"),
        ("Ġthe", b" the"),
        ("Ċ", b"\n"),
        ("▁the", b" the"),
        ("<0xE6>", b"\xe6"),
        ("<0x0A>", b"\n"),
        ("token_id:271", b" the"),
        ("\\n", b"\n"),
        ("<|im_end|>", b"</s>"),
        ("\ud83d", b"\xf0\x9f"),
        ("a", b"a"),
    ],
)
def test_another_way_to_write_a_token_is_no_contradiction(text: str, data: bytes) -> None:
    assert not contradicts(text, data)
    sampled = entry(" ne", -0.5)
    assert listed(answer(sampled, entry(text, -1.5, data=data)))[b" ne"] == -0.5


def test_bytes_are_right_where_the_sampled_tokens_are_written_in_a_strange_way_too() -> None:
    def strange(text: str, logprob: float) -> dict[str, Any]:
        return entry(text.replace(" ", "·"), logprob, data=text.encode())

    steps = [with_top(HELLO, HELLO), with_top(strange(" ne", -0.5), strange(" ne", -0.5), strange(" a", -1.5))]
    assert listed(chat_body("Hello ne", steps)) == {b" ne": -0.5, b" a": -1.5}


# -- a text without bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [None, 7, 200000])
@pytest.mark.parametrize("text", [" a", "a", "\n", " ", "é", "東", "<div>", "[1]", "1", "</p>", "ne", "  "])
def test_a_text_with_empty_bytes_is_that_text_and_no_end(text: str, index: int | None) -> None:
    sampled = entry(" ne", -0.5, index=5)
    body = answer(sampled, entry(text, -1.5, index=index, data=b""), entry(" x", -2.0, index=9, data=b""))
    assert listed(body) == {b" ne": -0.5, text.encode(): -1.5, b" x": -2.0}
    without = json.loads(json.dumps(body).replace("[]", "null"))
    assert listed(without) == listed(body)


@pytest.mark.parametrize("name", ["<pad>", "<|im_start|>", "[INST]", "<unused7>", "\ufffd"])
def test_a_name_with_empty_bytes_is_no_end_unless_the_text_ends_with_it(name: str) -> None:
    sampled = entry(" ne", -0.5, index=5)
    assert listed(answer(sampled, entry(name, -1.5, index=7, data=b""))) == {b" ne": -0.5}


@pytest.mark.parametrize("name", ["<|im_end|>", "</s>", "<eos>", "<sop>", "[EOS]"])
def test_a_named_end_with_empty_bytes_is_the_end(name: str) -> None:
    end = entry(name, -0.7, index=2, data=b"")
    body = chat_body("Hello", [with_top(HELLO, HELLO, {**end, "logprob": -3.0}), with_top(end, end, HELLO)])
    assert listed(body, 0) == {b"Hello": -0.1, b"": -3.0}
    assert steps_of(read_payload(body))[1].data == b""


# -- an id that is no id -------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1, 7, 151643])
@pytest.mark.parametrize(
    ("own", "others"),
    [
        (" né", ["é", " x"]),
        ("né", ["né!", "x"]),
        (" a", [" b", " c"]),
        ("\n", ["a", "b"]),
        ("東京", ["京", "x"]),
        ("é", ["ñ", "ü"]),
        ("1", ["2", "3"]),
        ("<div>", ["a", "b"]),
        ("да", ["а", "нет"]),
        (" the", ["the", "then"]),
        ("!", ["?", "."]),
        ("😀", ["😁", "a"]),
    ],
)
def test_one_id_for_several_texts_counts_as_none(own: str, others: list[str], index: int) -> None:
    def body(index: int | None) -> dict[str, Any]:
        hello = entry("Hello", -0.1, index=index)
        sampled = entry(own, -0.5, index=index)
        tops = [entry(text, -2.0 - place, index=index) for place, text in enumerate(others)]
        return chat_body("Hello" + own, [with_top(hello, hello), with_top(sampled, sampled, *tops)])

    assert steps_of(read_payload(body(index))) == steps_of(read_payload(body(None)))


def test_a_rank_is_no_id() -> None:
    def body(*ranks: int | None) -> dict[str, Any]:
        hello = [entry(text, -1.0 - place, index=ranks[place]) for place, text in enumerate(("Hello", "Hi"))]
        name = [entry(text, -1.0 - place, index=ranks[place]) for place, text in enumerate((" you", " all"))]
        return chat_body("Hello you", [with_top(hello[0], *hello), with_top(name[0], *name)])

    assert steps_of(read_payload(body(0, 1))) == steps_of(read_payload(body(None, None)))


@pytest.mark.parametrize("index", [None, 0])
@pytest.mark.parametrize(("own", "other"), [("Hello", "Hi"), ("né", "é"), ("é", "né"), ("a", "b")])
def test_an_id_that_is_no_id_lists_no_token(own: str, other: str, index: int | None) -> None:
    tops = [entry(other, -0.01, index=index), entry("Hey", -5.0, index=index)]
    with pytest.raises(BadReply, match="no room"):
        read_payload(chat_body(own, [with_top(entry(own, -0.5, index=index), *tops)]))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("é".encode(), b"\xa9"),  # llama.cpp held a byte back
        ("é".encode(), "ũ".encode()),  # twice
        ("é a".encode(), "ũ a".encode()),
        (b" the", b"the"),  # at the beginning of a text
        (b"</s>", b"<|im_end|>"),
        ("é".encode(), "\ufffd".encode()),
    ],
)
def test_an_id_with_two_spellings_of_one_token_stays_an_id(first: bytes, second: bytes) -> None:
    one = entry(first.decode(errors="replace"), -0.5, index=7, data=first)
    two = entry(second.decode(errors="replace"), -3.0, index=7, data=second)
    other = entry("x", -1.5, index=8)
    body = chat_body(
        one["token"] + "x", [with_top(one, one, other), with_top(other, other, two)], finish_reason="length"
    )
    assert [step.token_id for step in steps_of(read_payload(body))] == [7, 8]
