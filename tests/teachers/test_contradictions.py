"""Two values for one token: which is certain, what is added up, and what can't be used."""

import json
import math
from typing import Any

import pytest

from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.wire.gemini import GeminiContent
from bitnet_core.tokenizer.steps import TokenTable
from tests.teachers.server import chat_body, entry, read_payload, steps_of, with_top

OTHERS = [entry(" a", -3.0), entry(" the", -3.5), entry(" b", -4.0)]


def body(own: dict[str, Any], *tops: dict[str, Any]) -> dict[str, Any]:
    """An answer whose second step is the one in question."""
    hello = entry("Hello", -0.1)
    return chat_body("Hello" + own["token"], [with_top(hello, hello, *OTHERS), with_top(own, *tops)])


def second_step(answer: dict[str, Any]) -> dict[bytes, float]:
    step = steps_of(read_payload(answer))[1]
    return dict(zip(step.top_bytes, step.top_logprobs, strict=True))


# -- the sampled token's own logprob ---------------------------------------------------------------------


@pytest.mark.parametrize("index", [None, 7])
@pytest.mark.parametrize("text", ["\n", " friend", "東"])
@pytest.mark.parametrize(("own", "listed"), [(-0.105, -11.5), (-0.5, -3.2), (-0.2, -4.6), (-2.5, -9.0)])
def test_a_candidate_listed_out_of_order_takes_the_sampled_tokens_own_logprob(
    text: str, own: float, listed: float, index: int | None
) -> None:
    sampled = entry(text, own, index=index)
    answer = body(sampled, {**sampled, "logprob": listed}, *OTHERS)
    assert second_step(answer)[text.encode()] == own
    assert read_payload(answer).repairs == {"corrected_candidates": 1}


def test_a_list_with_a_mass_above_one_takes_the_sampled_tokens_own_logprob() -> None:
    sampled, likely = entry("x", -3.0), entry("y", -0.1)
    answer = body(sampled, likely, {**sampled, "logprob": -0.1}, entry("z", -5.0))
    assert second_step(answer)[b"x"] == -3.0


@pytest.mark.parametrize(
    ("own", "tops"),
    [
        (-0.105, [-0.9]),  # in order with either value
        (-0.105, [-0.3, -3.0]),  # logprobs scaled by a temperature, and their likeliest
        (-3.2, [-0.1]),  # less than in the list
        (-0.01, [-2.0, -2.5]),
        (-3.7, [-3.2, -3.4]),
        (0.5, [-11.5, -3.0]),  # a logprob that none can be
        (-0.02, [-4.6, -1.0, -1.2]),  # too much mass with it
    ],
)
def test_where_neither_value_is_sure_the_answer_is_rejected(own: float, tops: list[float]) -> None:
    sampled = entry("x", own)
    listed = [{**sampled, "logprob": tops[0]}, *(entry(f"o{place}", value) for place, value in enumerate(tops[1:]))]
    with pytest.raises(BadReply) as caught:
        read_payload(body(sampled, *listed))
    assert caught.value.reason == "contradictory_logprobs"


def test_a_sampled_token_that_is_not_listed_needs_room_in_the_mass() -> None:
    hello, end = entry("Hello", -0.1), entry("!", -0.1)
    for own, fits in ((-0.1, False), (-3.0, False), (-4.0, True)):
        steps = [with_top(hello, hello), with_top(entry("x", own), entry("y", -0.03)), with_top(end, end)]
        if fits:
            assert steps_of(read_payload(chat_body("Hellox!", steps)))[1].logprob == own
        else:
            with pytest.raises(BadReply, match="no room"):
                read_payload(chat_body("Hellox!", steps))


@pytest.mark.parametrize("finish", ["length", "stop"])
@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize(("own", "fits"), [(-0.1, False), (-3.0, False), (-4.0, True)])
def test_the_last_token_needs_room_too_where_it_is_text(finish: str, before: int, own: float, fits: bool) -> None:
    hello = entry("Hello", -0.1)
    steps = [*[with_top(hello, hello)] * before, with_top(entry("x", own), entry("y", -0.03))]
    answer = chat_body("Hello" * before + "x", steps)
    answer["choices"][0]["finish_reason"] = finish
    if fits:
        assert steps_of(read_payload(answer))[before].logprob == own
    else:
        with pytest.raises(BadReply, match="no room"):
            read_payload(answer)


def test_an_end_may_be_listed_by_another_name() -> None:
    hello = entry("Hello", -0.1)
    end = {**entry("", -0.01), "token": "<|im_end|>", "bytes": None}
    answer = chat_body("Hello", [with_top(hello, hello), with_top(end, entry("</s>", -0.01))])
    assert len(steps_of(read_payload(answer))) == 2


@pytest.mark.parametrize("listed", [-0.105, -0.1051, -0.114])
def test_a_difference_of_rounding_is_no_contradiction(listed: float) -> None:
    sampled = entry("x", -0.105)
    answer = body(sampled, {**sampled, "logprob": listed}, *OTHERS)
    assert second_step(answer)[b"x"] == listed
    assert not read_payload(answer).repairs


def test_parallel_lists_and_gemini_are_compared_too() -> None:
    lists = {
        "tokens": ["Hello", "\n"],
        "token_logprobs": [-0.1, -0.105],
        "top_logprobs": [{"Hello": -0.1}, {"\n": -11.5, " a": -3.0}],
    }
    answer = {
        "choices": [{"message": {"content": "Hello\n"}, "logprobs": lists, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 2},
    }
    assert second_step(answer)[b"\n"] == -0.105
    chosen = {"token": "Hi", "tokenId": 5, "logProbability": -0.1}
    other = {"token": "Ho", "tokenId": 6, "logProbability": -3.0}
    result = {
        "chosenCandidates": [chosen],
        "topCandidates": [{"candidates": [chosen | {"logProbability": -9}, other]}],
    }
    candidate = {"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP", "logprobsResult": result}
    found = GeminiContent.read_answer(json.dumps({"candidates": [candidate]}).encode(), TokenTable())
    assert found.repairs == {"corrected_candidates": 1}


# -- two candidates of one text --------------------------------------------------------------------------


def both(*logprobs: float) -> float:
    return math.log(math.fsum(map(math.exp, logprobs)))


@pytest.mark.parametrize("text", ["\n", "the", " x", "é"])
@pytest.mark.parametrize("values", [(-0.105, -11.5), (-1.0, -1.5), (-1.0, -2.0, -3.0), (-2.0, -0.5)])
def test_without_ids_the_masses_of_one_text_are_added(text: str, values: tuple[float, ...]) -> None:
    sampled = entry(text, values[0])
    answer = body(sampled, *({**sampled, "logprob": value} for value in values), entry("other", -7.0))
    assert second_step(answer)[text.encode()] == pytest.approx(both(*values), abs=1e-12)
    assert read_payload(answer).repairs == {"merged_candidates": len(values) - 1}


def test_a_text_that_was_not_sampled_is_added_up_too() -> None:
    sampled = entry("x", -0.5)
    answer = body(sampled, sampled, entry("the", -3.0), entry("a", -3.2), entry("the", -4.0))
    found = second_step(answer)
    assert list(found) == [b"x", b"the", b"a"]
    assert found[b"the"] == pytest.approx(both(-3.0, -4.0), abs=1e-12)


@pytest.mark.parametrize("second", [-3.0, -3.005, -3.2])
def test_two_unsampled_tokens_of_one_text_are_two_even_if_equally_likely(second: float) -> None:
    sampled = entry("x", -0.5)
    found = second_step(body(sampled, sampled, entry("the", -3.0), entry("the", second)))
    assert found[b"the"] == pytest.approx(both(-3.0, second), abs=1e-12)


def test_of_two_candidates_with_the_sampled_text_the_one_with_its_logprob_was_sampled() -> None:
    sampled = entry("x", -5.0)
    answer = body(sampled, entry("x", -0.1, index=10), entry("x", -5.0, index=11))
    assert steps_of(read_payload(answer))[1].token_id == 11


def test_more_mass_than_one_is_still_a_fault() -> None:
    sampled = entry("x", -0.1)
    step = steps_of(read_payload(body(sampled, sampled, {**sampled, "logprob": -0.7})))[1]
    assert sum(map(math.exp, step.top_logprobs)) > 1.01  # rejected by the rule for mass


@pytest.mark.parametrize("odd", [-9999.0, None])
def test_what_is_not_a_logprob_is_not_added_away(odd: float | None) -> None:
    sampled = entry("x", -0.5)
    found = second_step(body(sampled, sampled, entry("the", -3.0), {**entry("the", 0.0), "logprob": odd}))
    assert not found[b"the"] > -9000


def test_with_an_id_two_logprobs_of_one_token_contradict_each_other() -> None:
    sampled, the = entry("x", -0.5, index=1), entry("the", -3.0, index=2)
    with pytest.raises(BadReply) as caught:
        read_payload(body(sampled, sampled, the, {**the, "logprob": -4.0}))
    assert caught.value.reason == "malformed_logprobs"
    assert second_step(body(sampled, sampled, the, entry("the", -4.0, index=3)))[b"the"] in (-3.0, -4.0)
