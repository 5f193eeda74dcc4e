"""Bodies as vendors document and users report them, and what the reader makes of each."""

import json
import math
from typing import Any

import pytest

from bitnet_core.teachers.answers.body import read_chat_completion
from bitnet_core.teachers.answers.result import BadReply, read_checked
from bitnet_core.teachers.opening import WIRES
from bitnet_core.tokenizer.steps import TokenTable
from tests.teachers.server import chat_body, entry, read_payload, steps_of, with_top


def test_llama_cpp_with_ids_bytes_and_an_end_without_bytes() -> None:
    a, c = entry("A", -1.69, index=49), entry("C", -1.93, index=51)
    end = entry("", -0.2, index=2)
    result = read_payload(
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
    result = read_payload(chat_body("Hi", [with_top(a, a, entry(" Hi", -2.0))]))
    (step,) = steps_of(result)
    assert step.token_id == -1
    assert step.top_ids == (-1, -1)


def test_halves_of_a_character_are_joined_by_their_bytes() -> None:
    first = entry("\ufffd", -0.1, data=b"\xf0\x9f")
    second = entry("\ufffd", -0.1, data=b"\x98\x80")
    result = read_payload(chat_body("😀", [with_top(first, first), with_top(second, second)]))
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
    result = read_payload(chat_body(text, content))
    assert b"".join(step.data for step in steps_of(result)) == text.encode()
    assert all(step.top_bytes == (step.data,) for step in steps_of(result))
    assert result.text_matches_bytes
    assert result.repairs == {repair: len(spellings)}


ENDS = ["<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>", "<eos>", "[EOS]", "<｜end▁of▁sentence｜>"]


@pytest.mark.parametrize("index", [None, 7])
@pytest.mark.parametrize("name", ENDS)
def test_a_named_end_is_the_end_wherever_it_is_a_candidate(name: str, index: int | None) -> None:
    hi, end = entry("hi", -0.1), entry(name, -2.5, index=index)
    for shown in ("", name):  # some servers show it in the text, too
        result = read_payload(chat_body("hi" + shown, [with_top(hi, hi, end), with_top(end, end, hi)]))
        assert result.text == "hi"
        assert [step.data for step in steps_of(result)] == [b"hi", b""]
        assert [step.top_bytes for step in steps_of(result)] == [(b"hi", b""), (b"hi", b"")]
        assert result.repairs == {"spelled_end": 1}


@pytest.mark.parametrize("name", [*ENDS, "<|python_tag|>", "<pad>", "<unused17>"])
def test_a_special_token_is_never_read_as_text_if_the_end_is_unknown(name: str) -> None:
    hi, special = entry("hi", -0.1), entry(name, -2.5)
    result = read_payload(chat_body("hi", [with_top(hi, hi, special)], finish_reason="length"))
    assert [step.top_bytes for step in steps_of(result)] == [(b"hi",)]
    assert result.repairs == {"special_candidates": 1}


def test_words_in_angle_brackets_are_text() -> None:
    tokens = [entry(text, -0.1) for text in ("<div>", "<", "|x|", ">", "<br>", "[1]", "[EOS")]
    others = [entry(text, -3.0) for text in ("<b>", "<td>", "<T>", "[0]")]
    text = "<div><|x|><br>[1][EOS"
    result = read_payload(chat_body(text, [with_top(token, token, *others) for token in tokens]))
    assert [len(step.top_bytes) for step in steps_of(result)] == [5] * len(tokens)
    assert b"".join(step.data for step in steps_of(result)) == text.encode()
    assert result.repairs == {}


def test_a_special_token_in_the_middle_of_the_text_is_text_only_there() -> None:
    pad, hi = entry("<pad>", -0.1), entry("hi", -0.2)
    result = read_payload(chat_body("<pad>hi", [with_top(pad, pad, hi), with_top(hi, hi, pad)]))
    assert [step.top_bytes for step in steps_of(result)] == [(b"<pad>", b"hi"), (b"hi",)]


def test_a_result_does_not_depend_on_earlier_answers() -> None:
    hi, end = entry("hi", -0.1), entry("<|eot_id|>", -2.5)
    ended = chat_body("hi", [with_top(hi, hi, end), with_top(end, end)])
    cut = chat_body("hi", [with_top(hi, hi, end)], finish_reason="length")
    table = TokenTable()
    first = read_payload(cut, table)
    read_payload(ended, table)
    again = read_payload(cut, table)
    assert steps_of(first) == steps_of(again)
    assert first.repairs == again.repairs


def test_repairs_of_tokens_and_of_the_end_combine() -> None:
    spelled = [entry(token, -0.1) for token in ("Ġthe", "Ã©", "<｜end▁of▁sentence｜>")]
    result = read_payload(chat_body(" theé", [with_top(token, *spelled) for token in spelled]))
    assert [step.data for step in steps_of(result)] == [b" the", "é".encode(), b""]
    assert all(set(step.top_bytes) == {b" the", "é".encode(), b""} for step in steps_of(result))
    assert result.repairs == {"raw_tokens": 3, "spelled_end": 1}


def test_trimmed_text_is_repaired_but_blanks_without_a_token_are_not() -> None:
    spaced, bare = entry(" hi", -0.1), entry("hi", -0.1)
    trimmed = read_payload(chat_body("hi", [with_top(spaced, spaced)]))
    assert trimmed.text_matches_bytes
    assert trimmed.repairs == {"trimmed_text": 1}
    assert not read_payload(chat_body(" hi", [with_top(bare, bare)])).text_matches_bytes


def test_invalid_bytes_match_only_if_the_text_has_a_replacement_character() -> None:
    a, half = entry("a", -0.1), entry("\ufffd", -0.1, data=b"\xf0\x9f")
    for text, matches in (("aa", False), ("a\ufffda", True), ("a\ufffd\ufffda", False)):
        result = read_payload(chat_body(text, [with_top(a, a), with_top(half, half), with_top(a, a)]))
        assert result.text_matches_bytes == matches


def test_a_text_cut_inside_its_last_character_matches() -> None:
    whole, half = entry("a", -0.1), entry("\ufffd", -0.1, data=b"\xf0\x9f")
    for text in ("a", "a\ufffd", "a\ufffd\ufffd"):
        assert read_payload(chat_body(text, [with_top(whole, whole), with_top(half, half)])).repairs == {}


def test_a_text_that_differs_from_the_joined_bytes_is_flagged() -> None:
    other = entry("cat", -0.1)
    assert not read_payload(chat_body("dog", [with_top(other, other)])).text_matches_bytes


def test_the_older_shape_of_parallel_lists() -> None:
    body = chat_body("A b", None)
    body["choices"][0]["logprobs"] = {
        "tokens": ["A", " b"],
        "token_logprobs": [-0.5, -1.5],
        "top_logprobs": [{"A": -0.5, "C": -2.0}, {" c": -0.3, " b": -1.5}],
        "token_ids": [5, 6],
    }
    first, second = steps_of(read_payload(body))
    assert (first.token_id, first.data, first.top_bytes) == (5, b"A", (b"A", b"C"))
    assert (second.logprob, second.top_bytes, second.top_logprobs) == (-1.5, (b" c", b" b"), (-0.3, -1.5))
    body["choices"][0]["logprobs"]["token_logprobs"] = [-0.5]
    with pytest.raises(BadReply):
        read_payload(body)


@pytest.mark.parametrize("remove", ["missing", "null"])
def test_tokens_without_bytes_are_read_from_their_text(remove: str) -> None:
    token = entry("é", -0.1)
    if remove == "missing":
        del token["bytes"]
    else:
        token["bytes"] = None
    result = read_payload(chat_body("é", [with_top(token, token)]))
    assert steps_of(result)[0].data == "é".encode()


LOST = [
    {"token": "\ufffd", "logprob": -1.0, "bytes": [239, 191, 189]},  # vLLM, Ollama
    {"token": "\ufffd", "logprob": -1.0},
    {"token": " \ufffd", "logprob": -1.0, "bytes": None},
    {"token": "", "logprob": -1.0, "bytes": []},  # some versions of vLLM
    {"token": "\ud83d", "logprob": -1.0},
]


@pytest.mark.parametrize("lost", LOST)
def test_a_candidate_that_is_half_a_character_without_bytes_goes_to_other(lost: dict[str, Any]) -> None:
    said = entry("a", -0.5)
    result = read_payload(
        chat_body("a", [with_top(said, said, lost, {**lost, "logprob": -2.0})], finish_reason="length")
    )
    assert [step.top_bytes for step in steps_of(result)] == [(b"a",)]
    assert result.repairs == {"unknown_candidates": 2}
    assert result.text_matches_bytes


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("text", ["ax", "a\ufffd", "a"])
def test_a_sampled_half_character_without_bytes_is_refused(lost: dict[str, Any], text: str) -> None:
    said = entry("a", -0.5)
    with pytest.raises(BadReply) as caught:
        read_payload(chat_body(text, [with_top(said, said), with_top(lost, lost)], finish_reason="length"))
    assert caught.value.reason == "bytes_missing"


def test_a_real_replacement_character_is_accepted_by_its_id() -> None:
    said = entry("\ufffd", -0.5, index=7)
    result = read_payload(chat_body("\ufffd", [with_top(said, said)]))
    assert [(step.data, step.top_bytes) for step in steps_of(result)] == [(b"\xef\xbf\xbd", (b"\xef\xbf\xbd",))]
    with pytest.raises(BadReply):
        read_payload(chat_body("x", [with_top(said, said)]))


def test_an_end_without_bytes_or_id_is_recognized_if_the_answer_ends_with_one() -> None:
    hi, end = entry("hi", -0.1), entry("", -2.0)
    result = read_payload(chat_body("hi", [with_top(hi, hi, end), with_top(end, end, hi)]))
    assert [step.top_bytes for step in steps_of(result)] == [(b"hi", b""), (b"hi", b"")]
    assert result.repairs == {}
    two = with_top(hi, hi, end, {**end, "logprob": -3.0})
    assert read_payload(chat_body("hi", [two, with_top(end, end)])).repairs == {"unknown_candidates": 2}


def test_sentinels_and_nulls_stay_visible() -> None:
    token = with_top(entry("a", -9999.0), entry("b", -0.1), {**entry("c", 0.0), "logprob": None})
    (step,) = steps_of(read_payload(chat_body("a", [token])))
    assert step.logprob == -9999.0
    assert step.top_logprobs[0] == -0.1
    assert math.isnan(step.top_logprobs[1])


def test_fewer_more_and_repeated_candidates() -> None:
    a, b, c = entry("a", -0.5), entry("b", -1.5), entry("c", -7.0)
    fewer, more, repeated = with_top(a, a), with_top(c, a, b, c), with_top(a, a, b, a)
    result = read_payload(chat_body("aca", [fewer, more, repeated]))
    steps = steps_of(result)
    assert result.repairs == {"repeated_candidates": 1}
    assert [step.top_bytes for step in steps] == [(b"a",), (b"a", b"b", b"c"), (b"a", b"b")]


def test_a_repeated_candidate_counts_once() -> None:
    """The sampled token, which some servers put at the end again, and any token that has an id."""
    a, b = entry("a", -0.5), entry("b", -2.0, index=4)
    nearly = read_payload(chat_body("a", [with_top(a, a, b, {**b, "logprob": -2.001}, {**a, "logprob": -0.501})]))
    assert [step.top_logprobs for step in steps_of(nearly)] == [(-0.5, -2.0)]
    assert nearly.repairs == {"repeated_candidates": 2}


@pytest.mark.parametrize("name", ["eos", "end_turn", "stop", "EOS", "STOP"])
def test_every_name_of_an_end_is_read_as_stop(name: str) -> None:
    a = entry("a", -0.5)
    assert read_payload(chat_body("a", [with_top(a, a)], finish_reason=name)).finish_reason == "stop"


def test_a_failure_while_answering_is_not_an_answer() -> None:
    a = entry("a", -0.5)
    failed = chat_body("a", [with_top(a, a)])
    failed["choices"][0]["error"] = {"code": 502, "message": "upstream broke"}
    bodies = [failed] + [
        chat_body("a", [with_top(a, a)], finish_reason=name) for name in ("error", "insufficient_system_resource")
    ]
    for body in bodies:
        with pytest.raises(BadReply) as caught:
            read_payload(body)
        assert caught.value.reason == "error"
        assert caught.value.retryable


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}])
def test_no_logprobs_in_any_spelling(logprobs: Any) -> None:
    body = chat_body("hi", None)
    body["choices"][0]["logprobs"] = logprobs
    assert read_payload(body).steps is None
    del body["choices"][0]["logprobs"]
    assert read_payload(body).steps is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"choices": []}, "no_choice"),
        ({"object": "chat.completion"}, "no_choice"),
        ([], "no_choice"),
        ({"choices": [{"message": {"content": None}}]}, "no_text"),
        ({"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}, "refused"),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "SAFETY"}]}, "refused"),
        ({"choices": [{"message": {"content": None, "refusal": "I can't."}}]}, "refused"),
        ({"choices": [{"message": None}]}, "no_text"),
        (chat_body("a", ["a"]), "malformed_logprobs"),  # type: ignore[list-item]
        (chat_body("a", [{"logprob": -1.0}]), "malformed_logprobs"),
        (chat_body("a", [{"token": "a", "logprob": -1.0, "bytes": [900]}]), "malformed_logprobs"),
        (chat_body("a", [{"token": "a", "logprob": -1.0, "bytes": ["a"]}]), "malformed_logprobs"),
        (chat_body("a", [{**entry("a", -1.0), "top_logprobs": [3]}]), "malformed_logprobs"),
    ],
)
def test_a_body_that_is_not_an_answer_is_refused_with_a_reason(body: Any, reason: str) -> None:
    with pytest.raises(BadReply) as caught:
        read_payload(body)
    assert caught.value.reason == reason


def test_missing_usage_and_strange_timings_do_no_harm() -> None:
    body = chat_body("a", [with_top(entry("a", -0.1), entry("a", -0.1))], timings={"a": "fast", "b": float("inf")})
    del body["usage"]
    result = read_payload(body)
    assert (result.prompt_tokens, result.completion_tokens) == (0, 1)
    assert result.timings == {}


HUGE = ["1" + "0" * 400, "-1" + "0" * 400, "9" * 5000, "-" + "9" * 5000, "1" + "0" * 309, "1e400", "-1e999", "NaN"]


@pytest.mark.parametrize("number", [*HUGE, "Infinity", "true", '"fast"', "[1]", "{}", "null"])
def test_no_statistic_throws_an_answer_away(number: str) -> None:
    a = entry("a", -0.1)
    body = json.dumps(chat_body("a", [with_top(a, a)], timings={"predicted_n": 2, "odd": "ODD"}, extra="ODD"))
    result = read_checked(read_chat_completion, body.replace('"ODD"', number).encode(), TokenTable())
    assert result.text == "a"
    assert result.timings["predicted_n"] == 2.0
    assert set(result.timings) <= {"predicted_n", "odd"}
    assert all(map(math.isfinite, result.timings.values()))


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("name", ["completion_tokens", "prompt_tokens", "total_tokens", "cached"])
def test_no_count_throws_an_answer_away(name: str, number: str) -> None:
    a = entry("a", -0.1)
    body = json.dumps(chat_body("a", [with_top(a, a)]) | {"usage": {name: "ODD"}})
    result = read_checked(read_chat_completion, body.replace('"ODD"', number).encode(), TokenTable())
    assert (result.text, result.completion_tokens, result.prompt_tokens) == ("a", 1, 0)


@pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
def test_a_text_in_the_place_of_a_name_is_cut(wire: str) -> None:
    long = "x" * 1_000_000
    choice = {"message": {"content": "Hi"}, "finish_reason": long}
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": long}
    bodies: dict[str, Any] = {
        "openai": {"choices": [choice], "model": long, "provider": long},
        "anthropic": {"content": [{"type": "text", "text": "Hi"}], "stop_reason": long, "model": long},
        "gemini": {"candidates": [candidate], "modelVersion": long},
    }
    result = WIRES[wire].read_answer(json.dumps(bodies[wire]).encode(), None)
    assert result.text == "Hi"
    assert len(result.finish_reason + result.model + result.upstream) < 1000
