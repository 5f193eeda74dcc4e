"""Shapes of answers, written after what vendors document and users report, and what becomes of each of them."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.teachers.answers.quick import read
from bitnet_core.teachers.answers.read import BadReply, ChatResult, parse_chat
from bitnet_core.teachers.answers.tokens import columns, mended
from bitnet_core.tokenizer.steps import TeacherStep, TokenTable
from tests.teachers.server import chat_body, entry


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


ENDS = ["<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>", "<eos>", "[EOS]", "<｜end▁of▁sentence｜>"]


@pytest.mark.parametrize("index", [None, 7])
@pytest.mark.parametrize("name", ENDS)
def test_an_end_that_is_spelled_out_is_an_end_wherever_it_is_a_candidate(name: str, index: int | None) -> None:
    hi, end = entry("hi", -0.1), entry(name, -2.5, index=index)
    for shown in ("", name):  # some servers show it in the text, too
        result = parse(chat_body("hi" + shown, [with_top(hi, hi, end), with_top(end, end, hi)]))
        assert result.text == "hi"
        assert [step.data for step in steps_of(result)] == [b"hi", b""]
        assert [step.top_bytes for step in steps_of(result)] == [(b"hi", b""), (b"hi", b"")]
        assert result.repairs == {"spelled_end": 1}


@pytest.mark.parametrize("name", [*ENDS, "<|python_tag|>", "<pad>", "<unused17>"])
def test_a_special_token_is_never_read_as_text_where_the_end_is_not_known(name: str) -> None:
    hi, special = entry("hi", -0.1), entry(name, -2.5)
    result = parse(chat_body("hi", [with_top(hi, hi, special)], finish_reason="length"))
    assert [step.top_bytes for step in steps_of(result)] == [(b"hi",)]
    assert result.repairs == {"special_candidates": 1}


def test_words_in_angle_brackets_are_text() -> None:
    tokens = [entry(text, -0.1) for text in ("<div>", "<", "|x|", ">", "<br>", "[1]", "[EOS")]
    others = [entry(text, -3.0) for text in ("<b>", "<td>", "<T>", "[0]")]
    text = "<div><|x|><br>[1][EOS"
    result = parse(chat_body(text, [with_top(token, token, *others) for token in tokens]))
    assert [len(step.top_bytes) for step in steps_of(result)] == [5] * len(tokens)
    assert b"".join(step.data for step in steps_of(result)) == text.encode()
    assert result.repairs == {}


def test_a_special_token_that_the_text_shows_in_its_middle_is_text_there_alone() -> None:
    pad, hi = entry("<pad>", -0.1), entry("hi", -0.2)
    result = parse(chat_body("<pad>hi", [with_top(pad, pad, hi), with_top(hi, hi, pad)]))
    assert [step.top_bytes for step in steps_of(result)] == [(b"<pad>", b"hi"), (b"hi",)]


def test_what_is_read_does_not_depend_on_what_was_read_before() -> None:
    hi, end = entry("hi", -0.1), entry("<|eot_id|>", -2.5)
    ended = chat_body("hi", [with_top(hi, hi, end), with_top(end, end)])
    cut = chat_body("hi", [with_top(hi, hi, end)], finish_reason="length")
    table = TokenTable()
    first = parse_chat(cut, b"", table)
    parse_chat(ended, b"", table)
    again = parse_chat(cut, b"", table)
    assert steps_of(first) == steps_of(again)
    assert first.repairs == again.repairs


def test_mends_of_tokens_and_of_their_end_combine() -> None:
    spelled = [entry(token, -0.1) for token in ("Ġthe", "Ã©", "<｜end▁of▁sentence｜>")]
    result = parse(chat_body(" theé", [with_top(token, *spelled) for token in spelled]))
    assert [step.data for step in steps_of(result)] == [b" the", "é".encode(), b""]
    assert all(set(step.top_bytes) == {b" the", "é".encode(), b""} for step in steps_of(result))
    assert result.repairs == {"raw_tokens": 3, "spelled_end": 1}


def test_trimmed_text_is_counted_and_blanks_without_a_token_are_not() -> None:
    spaced, bare = entry(" hi", -0.1), entry("hi", -0.1)
    trimmed = parse(chat_body("hi", [with_top(spaced, spaced)]))
    assert trimmed.text_matches_bytes
    assert trimmed.repairs == {"trimmed_text": 1}
    assert not parse(chat_body(" hi", [with_top(bare, bare)])).text_matches_bytes


def test_bytes_that_are_no_text_match_only_where_the_text_says_so() -> None:
    a, half = entry("a", -0.1), entry("\ufffd", -0.1, data=b"\xf0\x9f")
    for text, matches in (("aa", False), ("a\ufffda", True), ("a\ufffd\ufffda", False)):
        result = parse(chat_body(text, [with_top(a, a), with_top(half, half), with_top(a, a)]))
        assert result.text_matches_bytes == matches


def test_a_text_cut_inside_its_last_character_matches() -> None:
    whole, half = entry("a", -0.1), entry("\ufffd", -0.1, data=b"\xf0\x9f")
    for text in ("a", "a\ufffd", "a\ufffd\ufffd"):
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


LOST = [
    {"token": "\ufffd", "logprob": -1.0, "bytes": [239, 191, 189]},  # vLLM, Ollama
    {"token": "\ufffd", "logprob": -1.0},
    {"token": " \ufffd", "logprob": -1.0, "bytes": None},
    {"token": "", "logprob": -1.0, "bytes": []},  # some versions of vLLM
    {"token": "\ud83d", "logprob": -1.0},
]


@pytest.mark.parametrize("lost", LOST)
def test_half_a_character_without_its_bytes_is_no_candidate_and_its_mass_is_in_other(lost: dict[str, Any]) -> None:
    said = entry("a", -0.5)
    result = parse(chat_body("a", [with_top(said, said, lost, {**lost, "logprob": -2.0})], finish_reason="length"))
    assert [step.top_bytes for step in steps_of(result)] == [(b"a",)]
    assert result.repairs == {"unknown_candidates": 2}
    assert result.text_matches_bytes


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("text", ["ax", "a\ufffd", "a"])
def test_half_a_character_that_was_said_without_its_bytes_is_refused(lost: dict[str, Any], text: str) -> None:
    said = entry("a", -0.5)
    with pytest.raises(BadReply) as caught:
        parse(chat_body(text, [with_top(said, said), with_top(lost, lost)], finish_reason="length"))
    assert caught.value.reason == "bytes_missing"


def test_a_token_that_really_is_the_replacement_character_is_believed_by_its_id() -> None:
    said = entry("\ufffd", -0.5, index=7)
    result = parse(chat_body("\ufffd", [with_top(said, said)]))
    assert [(step.data, step.top_bytes) for step in steps_of(result)] == [(b"\xef\xbf\xbd", (b"\xef\xbf\xbd",))]
    with pytest.raises(BadReply):
        parse(chat_body("x", [with_top(said, said)]))


def test_an_end_without_bytes_or_id_is_known_where_the_answer_ends_with_one() -> None:
    hi, end = entry("hi", -0.1), entry("", -2.0)
    result = parse(chat_body("hi", [with_top(hi, hi, end), with_top(end, end, hi)]))
    assert [step.top_bytes for step in steps_of(result)] == [(b"hi", b""), (b"hi", b"")]
    assert result.repairs == {}
    two = with_top(hi, hi, end, {**end, "logprob": -3.0})
    assert parse(chat_body("hi", [two, with_top(end, end)])).repairs == {"unknown_candidates": 2}


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


def test_one_candidate_twice_is_one_or_a_fault() -> None:
    a, b = entry("a", -0.5), entry("b", -2.0)
    nearly = parse(chat_body("a", [with_top(a, a, b, {**b, "logprob": -2.001})]))
    assert [step.top_logprobs for step in steps_of(nearly)] == [(-0.5, -2.0)]
    assert nearly.repairs == {"repeated_candidates": 1}
    with pytest.raises(BadReply) as caught:
        parse(chat_body("a", [with_top(a, a, b, {**b, "logprob": -2.5})]))
    assert caught.value.reason == "malformed_logprobs"


@pytest.mark.parametrize("name", ["eos", "end_turn", "stop", "EOS", "STOP"])
def test_every_name_of_an_end_is_one(name: str) -> None:
    a = entry("a", -0.5)
    assert parse(chat_body("a", [with_top(a, a)], finish_reason=name)).finish_reason == "stop"


def test_a_failure_on_the_way_is_no_answer() -> None:
    a = entry("a", -0.5)
    failed = chat_body("a", [with_top(a, a)])
    failed["choices"][0]["error"] = {"code": 502, "message": "upstream broke"}
    bodies = [failed] + [
        chat_body("a", [with_top(a, a)], finish_reason=name) for name in ("error", "insufficient_system_resource")
    ]
    for body in bodies:
        for reader in (parse, lambda body: read(json.dumps(body).encode(), TokenTable())):
            with pytest.raises(BadReply) as caught:
                reader(body)
            assert caught.value.reason == "error"
            assert caught.value.passing


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
    {"token": _NAMES, "logprob": st.one_of(st.floats(-9, 0), st.none(), st.just(-9999.0), st.just(-1.0))},
    optional={
        "id": st.one_of(st.integers(-1, 3), st.none()),
        "bytes": st.one_of(st.none(), st.binary(max_size=4).map(list), st.just([65]), st.just([239, 191, 189])),
    },
)
_CONTENT = st.lists(
    st.tuples(_ENTRY, st.lists(_ENTRY, max_size=4)).map(lambda pair: {**pair[0], "top_logprobs": pair[1]}),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300)
@given(_CONTENT, st.sampled_from(["stop", "length"]))
def test_the_columns_say_what_one_entry_at_a_time_says(content: list[dict[str, Any]], finish: str) -> None:
    text = b"".join(token(one)[1] for one in content).decode(errors="replace")
    wanted = slow_steps(content, text, finish)
    table = TokenTable()
    for _ in range(2):  # the second time every token was met before
        try:
            steps = mended(columns(content, table), text, finish).steps
            assert steps is not None
            found: Any = [sorted_step(steps.step(row)) for row in range(len(steps))]
        except BadReply as error:
            found = error.reason
        assert found == (wanted if isinstance(wanted, str) else [sorted_step(one) for one in wanted])


@settings(max_examples=300)
@given(_CONTENT, st.sampled_from(["a", " the", "é東", "AA", "", None]), st.sampled_from(["stop", "length", "eos"]))
def test_the_quick_reader_says_what_the_slow_one_says(
    content: list[dict[str, Any]], text: str | None, finish: str
) -> None:
    if text is None:
        text = b"".join(token(one)[1] for one in content).decode(errors="replace")
    body = json.dumps(chat_body(text, content, finish_reason=finish)).encode()
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


def token(one: dict[str, Any]) -> tuple[int, bytes, float]:
    """An entry read on its own."""
    index, data, value = one.get("id"), one.get("bytes"), one["logprob"]
    return (
        -1 if index is None else index,
        one["token"].encode() if data is None else bytes(data),
        math.nan if value is None else float(value),
    )


def slow_steps(content: list[dict[str, Any]], text: str, finish: str) -> list[TeacherStep] | str:
    """All entries, or the reason why they can't be used, straight from the rules and one candidate at a time."""

    def lost(index: int, data: bytes) -> bool:
        return b"\xef\xbf\xbd" in data or (not data and index < 0)

    def known_again(one: dict[str, Any]) -> tuple[int, bytes, float]:
        index, data, logprob = token(one)
        listed = [token(other)[:2] for other in one["top_logprobs"]]
        others = [other for other in listed if other[1] == data and (other[0] < 0) != (index < 0)]
        return (*others[0], logprob) if data and others and (index, data) not in listed else (index, data, logprob)

    sampled = [known_again(one) for one in content]
    last_id, last, _ = sampled[-1]
    end: tuple[int, bytes] | None = None
    if not last:
        if finish == "length":
            return "bytes_missing" if last_id < 0 else "control_token"
        end = last_id, last
    elif last == b"<|end|>" and finish == "stop":
        end = last_id, last
    steps: list[TeacherStep] = []
    if any(lost(i, d) and not (i >= 0 and d) for i, d, _ in (sampled if end is None else sampled[:-1])):
        return "bytes_missing"
    for row, (one, (index, data, logprob)) in enumerate(zip(content, sampled, strict=True)):
        final = end is not None and row == len(content) - 1
        tops = [token(other) for other in one["top_logprobs"]]
        nameless = sum(i < 0 and not d for i, d, _ in tops)
        kept: dict[tuple[int, bytes], float] = {}
        for i, d, p in tops:
            is_end = end is not None and d == end[1] and (i == end[0] or (i < 0 and d != b""))
            if not d and i < 0:
                if not is_end or nameless > 1:
                    continue
            elif (lost(i, d) or d == b"<|end|>") and not is_end and (i, d) != (index, data):
                continue
            if is_end and (final or (i, d) != (index, data)):
                i, d = (end or (-1, b""))[0], b""
            if (i, d) in kept:
                if abs(kept[i, d] - p) > 0.01:
                    return "malformed_logprobs"
                p = math.nan if math.isnan(p + kept[i, d]) else max(p, kept[i, d])
            kept[i, d] = p
        steps.append(
            TeacherStep(
                index,
                b"" if final else data,
                logprob,
                tuple(i for i, _ in kept),
                tuple(d for _, d in kept),
                tuple(kept.values()),
            )
        )
    return steps


def sorted_step(step: TeacherStep) -> tuple[object, ...]:
    tops = zip(step.top_ids, step.top_bytes, map(repr, step.top_logprobs), strict=True)
    # A candidate without a number rejects its sequence, however often it stands there.
    found = list(tops)
    sound = [one for one in found if one[2] != "nan"]
    return step.token_id, step.data, repr(step.logprob), sorted(sound) + sorted(set(found) - set(sound))
