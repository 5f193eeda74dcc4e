"""Shapes of answers, as servers of the wild were recorded to send them."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.providers.quick_reply import read
from bitnet_core.providers.replies import BadReply, ChatResult, columns, parse_chat
from bitnet_core.traces.steps import TeacherStep, TokenTable
from tests.providers.server import chat_body, entry


def parse(body: Any) -> ChatResult:
    return parse_chat(json.loads(json.dumps(body)), b"", TokenTable())


def steps_of(result: ChatResult) -> list[TeacherStep]:
    assert result.steps is not None
    return [result.steps.step(row) for row in range(len(result.steps))]


def with_top(token: dict[str, Any], *top: dict[str, Any]) -> dict[str, Any]:
    return {**token, "top_logprobs": list(top)}


def test_llama_cpp_with_ids_bytes_and_an_end_without_bytes() -> None:
    a, c = entry("A", -1.69, index=49), entry("C", -1.93, index=51)
    end = entry("", -0.2, index=2)
    result = parse(
        chat_body("A", [with_top(a, a, c), with_top(end, end, a)], timings={"predicted_n": 2, "cache_n": 0})
    )
    first, last = steps_of(result)
    assert (first.token_id, first.data, first.logprob) == (49, b"A", -1.69)
    assert (first.top_ids, first.top_bytes, first.top_logprobs) == ((49, 51), (b"A", b"C"), (-1.69, -1.93))
    assert (last.token_id, last.data) == (2, b"")
    assert result.text_matches_bytes
    assert result.timings == {"predicted_n": 2.0, "cache_n": 0.0}
    assert (result.prompt_tokens, result.completion_tokens, result.finish_reason) == (5, 2, "stop")


def test_openai_without_ids() -> None:
    a = entry("Hi", -0.5)
    result = parse(chat_body("Hi", [with_top(a, a, entry(" Hi", -2.0))]))
    (step,) = steps_of(result)
    assert step.token_id == -1
    assert step.top_ids == (-1, -1)


def test_halves_of_a_character_are_joined_by_their_bytes() -> None:
    first = entry("\ufffd", -0.1, data=b"\xf0\x9f")
    second = entry("\ufffd", -0.1, data=b"\x98\x80")
    result = parse(chat_body("😀", [with_top(first, first), with_top(second, second)]))
    assert [step.data for step in steps_of(result)] == [b"\xf0\x9f", b"\x98\x80"]
    assert result.text_matches_bytes


@pytest.mark.parametrize(
    ("spellings", "text", "repair"),
    [
        (["Ġthe", "Ġcaf", "Ã©"], " the café", "raw_tokens"),
        (["▁the", "▁", "<0xE6>", "<0x9D>", "<0xB1>"], " the 東", "pieces"),
    ],
)
def test_tokens_in_another_spelling_are_read_and_counted(spellings: list[str], text: str, repair: str) -> None:
    content = [with_top(entry(token, -0.1), entry(token, -0.1)) for token in spellings]
    result = parse(chat_body(text, content))
    assert b"".join(step.data for step in steps_of(result)) == text.encode()
    assert all(step.top_bytes == (step.data,) for step in steps_of(result))
    assert result.text_matches_bytes
    assert result.repairs == {repair: len(spellings)}


def test_an_end_that_is_spelled_out_is_an_end_and_trimmed_text_is_counted() -> None:
    hi, end = entry("hi", -0.1), entry("<|im_end|>", -0.2)
    result = parse(chat_body("hi", [with_top(hi, hi), with_top(end, end)]))
    assert [step.data for step in steps_of(result)] == [b"hi", b""]
    assert result.repairs == {"spelled_end": 1}
    spaced = entry(" hi", -0.1)
    trimmed = parse(chat_body("hi", [with_top(spaced, spaced)]))
    assert trimmed.text_matches_bytes
    assert trimmed.repairs == {"trimmed_text": 1}


def test_a_text_cut_inside_its_last_character_matches() -> None:
    whole, half = entry("a", -0.1), entry("\ufffd", -0.1, data=b"\xf0\x9f")
    for text in ("a", "a\ufffd"):
        assert parse(chat_body(text, [with_top(whole, whole), with_top(half, half)])).repairs == {}


def test_text_that_is_not_the_joined_bytes_is_flagged() -> None:
    other = entry("cat", -0.1)
    assert not parse(chat_body("dog", [with_top(other, other)])).text_matches_bytes


def test_the_older_shape_of_parallel_lists() -> None:
    body = chat_body("A b", None)
    body["choices"][0]["logprobs"] = {
        "tokens": ["A", " b"],
        "token_logprobs": [-0.5, -1.5],
        "top_logprobs": [{"A": -0.5, "C": -2.0}, {" c": -0.3, " b": -1.5}],
        "token_ids": [5, 6],
    }
    first, second = steps_of(parse(body))
    assert (first.token_id, first.data, first.top_bytes) == (5, b"A", (b"A", b"C"))
    assert (second.logprob, second.top_bytes, second.top_logprobs) == (-1.5, (b" c", b" b"), (-0.3, -1.5))
    body["choices"][0]["logprobs"]["token_logprobs"] = [-0.5]
    with pytest.raises(BadReply):
        parse(body)


@pytest.mark.parametrize("remove", ["missing", "null"])
def test_tokens_without_bytes_are_read_from_their_text(remove: str) -> None:
    token = entry("é", -0.1)
    if remove == "missing":
        del token["bytes"]
    else:
        token["bytes"] = None
    result = parse(chat_body("é", [with_top(token, token)]))
    assert steps_of(result)[0].data == "é".encode()


def test_half_a_character_without_bytes_is_refused() -> None:
    token = {"token": "\ufffd", "logprob": -0.1, "top_logprobs": []}
    with pytest.raises(BadReply) as caught:
        parse(chat_body("x", [token]))
    assert caught.value.reason == "bytes_missing"


def test_sentinels_and_nulls_stay_visible() -> None:
    token = with_top(entry("a", -9999.0), entry("b", -0.1), {**entry("c", 0.0), "logprob": None})
    (step,) = steps_of(parse(chat_body("a", [token])))
    assert step.logprob == -9999.0
    assert step.top_logprobs[0] == -0.1
    assert math.isnan(step.top_logprobs[1])


def test_fewer_more_and_repeated_candidates() -> None:
    a, b, c = entry("a", -0.5), entry("b", -1.5), entry("c", -7.0)
    fewer, more, repeated = with_top(a, a), with_top(c, a, b, c), with_top(a, a, b, a)
    result = parse(chat_body("aca", [fewer, more, repeated]))
    steps = steps_of(result)
    assert result.repairs == {"repeated_candidates": 1}
    assert [step.top_bytes for step in steps] == [(b"a",), (b"a", b"b", b"c"), (b"a", b"b")]


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}])
def test_no_logprobs_in_any_spelling(logprobs: Any) -> None:
    body = chat_body("hi", None)
    body["choices"][0]["logprobs"] = logprobs
    assert parse(body).steps is None
    del body["choices"][0]["logprobs"]
    assert parse(body).steps is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"choices": []}, "no_choice"),
        ({"object": "chat.completion"}, "no_choice"),
        ([], "no_choice"),
        ({"choices": [{"message": {"content": None}}]}, "no_text"),
        ({"choices": [{"message": {"content": None, "refusal": "I can't."}}]}, "refused"),
        ({"choices": [{"message": None}]}, "no_text"),
        (chat_body("a", ["a"]), "malformed_logprobs"),  # type: ignore[list-item]
        (chat_body("a", [{"logprob": -1.0}]), "malformed_logprobs"),
        (chat_body("a", [{"token": "a", "logprob": -1.0, "bytes": [900]}]), "malformed_logprobs"),
        (chat_body("a", [{"token": "a", "logprob": -1.0, "bytes": ["a"]}]), "malformed_logprobs"),
        (chat_body("a", [{**entry("a", -1.0), "top_logprobs": [3]}]), "malformed_logprobs"),
    ],
)
def test_what_is_no_answer_is_refused_with_a_reason(body: Any, reason: str) -> None:
    with pytest.raises(BadReply) as caught:
        parse(body)
    assert caught.value.reason == reason


def test_missing_usage_and_strange_timings_do_no_harm() -> None:
    body = chat_body("a", [with_top(entry("a", -0.1), entry("a", -0.1))], timings={"a": "fast", "b": float("inf")})
    del body["usage"]
    result = parse_chat(body, b"", TokenTable())
    assert (result.prompt_tokens, result.completion_tokens) == (0, 1)
    assert result.timings == {}


_NAMES = st.sampled_from(["a", " the", "é", "東", "\ufffd", "", "Ġx", "<|end|>", "▁b"])
_ENTRY = st.fixed_dictionaries(
    {"token": _NAMES, "logprob": st.one_of(st.floats(-9, 0), st.none(), st.just(-9999.0))},
    optional={
        "id": st.one_of(st.integers(-1, 3), st.none()),
        "bytes": st.one_of(st.none(), st.binary(max_size=4).map(list), st.just([65])),
    },
)
_CONTENT = st.lists(
    st.tuples(_ENTRY, st.lists(_ENTRY, max_size=4)).map(lambda pair: {**pair[0], "top_logprobs": pair[1]}),
    min_size=1,
    max_size=4,
)


@given(_CONTENT, st.sampled_from(["a", " the", "é東", "AA", ""]))
def test_the_quick_reader_and_the_columns_say_what_one_entry_at_a_time_says(
    content: list[dict[str, Any]], text: str
) -> None:
    try:
        wanted = [slow_step(one) for one in content]
    except BadReply as error:
        with pytest.raises(BadReply) as caught:
            columns(content, TokenTable())
        assert caught.value.reason == error.reason
        return
    table = TokenTable()
    for _ in range(2):  # the second time every token was met before
        found = columns(content, table)
        assert [sorted_step(found.step(row)) for row in range(len(found))] == [sorted_step(one) for one in wanted]
    body = json.dumps(chat_body(text, content)).encode()
    try:
        slow = parse_chat(json.loads(body), body, TokenTable())
    except BadReply:
        with pytest.raises(BadReply):
            read(body, TokenTable())
        return
    table = TokenTable()
    for _ in range(2):
        quick = read(body, table)
        assert (quick.text, quick.text_matches_bytes, quick.repairs, quick.finish_reason) == (
            slow.text,
            slow.text_matches_bytes,
            slow.repairs,
            slow.finish_reason,
        )
        assert list(map(sorted_step, steps_of(quick))) == list(map(sorted_step, steps_of(slow)))


def slow_step(entry: dict[str, Any]) -> TeacherStep:
    """An entry read on its own, straight from the rules."""

    def token(one: dict[str, Any]) -> tuple[int, bytes, float]:
        index = one.get("id")
        data = one.get("bytes")
        if data is None:
            if "\ufffd" in one["token"]:
                raise BadReply("bytes_missing", "")
            data = one["token"].encode()
        value = one["logprob"]
        return (-1 if index is None else index), bytes(data), math.nan if value is None else float(value)

    index, data, logprob = token(entry)
    tops = list(dict.fromkeys((i, d, repr(p)) for i, d, p in map(token, entry["top_logprobs"])))
    return TeacherStep(
        index,
        data,
        logprob,
        tuple(i for i, _, _ in tops),
        tuple(d for _, d, _ in tops),
        tuple(float(p) for *_, p in tops),
    )


def sorted_step(step: TeacherStep) -> tuple[object, ...]:
    tops = zip(step.top_ids, step.top_bytes, map(repr, step.top_logprobs), strict=True)
    # A candidate without a number rejects its sequence, however often it stands there.
    found = list(tops)
    sound = [one for one in found if one[2] != "nan"]
    return step.token_id, step.data, repr(step.logprob), sorted(sound) + sorted(set(found) - set(sound))
