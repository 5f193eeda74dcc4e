"""Probes that ask once more, after a token that shows nothing or after thinking; contradictory answers."""

from typing import Any

import pytest

from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.neutral import TOKENS
from bitnet_core.teachers.probe import Verdict, probe
from bitnet_core.teachers.refusals import UnusableLogprobs
from tests.teachers.server import Asked, Canned, ChatServer, chat_body
from tests.teachers.test_scale import Server, opened

SAMPLING = Sampling(max_tokens=600, temperature=0.8)
HALF: list[dict[str, Any]] = [
    chat_body("\ufffd", None, finish_reason="length"),
    chat_body("", None, finish_reason="length"),
    {"choices": [{"message": {"content": None}, "finish_reason": "length"}]},
]
"""What llama.cpp and others send for half a character."""
SOUND = {"token": "The", "bytes": list(b"The"), "logprob": -0.5}


async def probed(server: Any, sampling: Sampling = SAMPLING) -> tuple[Verdict, list[dict[str, Any]]]:
    with ChatServer(server) as served:
        async with opened(served) as teacher:
            verdict = await probe(teacher, 5, sampling=sampling)
        return verdict, [asked.body for asked in served.asked]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("silent", [0, 1, 2])
@pytest.mark.parametrize("temperature", [0.8, 1.0])
async def test_a_token_without_logprobs_is_asked_for_with_another_prompt(
    silent: int, half: dict[str, Any], scaled: bool, temperature: float
) -> None:
    sound = Server(scaled)
    prompts: list[str] = []

    def answer(number: int, asked: Asked) -> Canned:
        prompt = asked.body["messages"][0]["content"]
        if prompt not in prompts:
            prompts.append(prompt)
        short = asked.body["max_tokens"] == 1 and asked.body["temperature"] != 0.8
        return Canned(half) if short and len(prompts) <= silent else sound(number, asked)

    verdict, _ = await probed(answer, Sampling(max_tokens=600, temperature=temperature))
    assert verdict.mode == ("scaled" if scaled else "raw")
    assert len(prompts) == 1 + silent


@pytest.mark.parametrize("half", HALF)
async def test_where_no_prompt_shows_anything_logprobs_may_be_scaled(half: dict[str, Any]) -> None:
    sound = Server()
    verdict, asked = await probed(lambda n, one: Canned(half) if one.body["max_tokens"] == 1 else sound(n, one))
    assert verdict.mode == "scaled"
    assert len({one["messages"][0]["content"] for one in asked}) == 3
    assert len(asked) <= 32


@pytest.mark.parametrize("most", [9, 100, 512, 4096])
@pytest.mark.parametrize("scaled", [False, True])
async def test_a_teacher_that_thinks_first_is_asked_for_more_tokens(most: int, scaled: bool) -> None:
    sound, wanted = Server(scaled), min(512, most)

    def answer(number: int, asked: Asked) -> Canned:
        return Canned(HALF[2]) if asked.body["max_tokens"] < wanted else sound(number, asked)

    verdict, asked = await probed(answer, Sampling(max_tokens=most, temperature=0.8))
    assert verdict.thinking_tokens == wanted
    assert verdict.mode == ("scaled" if scaled else "raw")
    assert sum(one["max_tokens"] > TOKENS for one in asked) == 2
    assert verdict.record()["thinking_tokens"] == wanted


async def test_thinking_without_end_is_asked_for_once() -> None:
    bodies: list[dict[str, Any]] = []

    def answer(_number: int, asked: Asked) -> Canned:
        bodies.append(asked.body)
        return Canned(HALF[2])

    with pytest.raises(UnusableLogprobs, match=r"first 512 tokens have no text, .*thinking; switch its thinking off"):
        await probed(answer)
    assert [one["max_tokens"] for one in bodies if one["max_tokens"] > TOKENS] == [512]


async def test_a_teacher_that_does_not_think_records_none() -> None:
    verdict, _ = await probed(Server())
    assert verdict.thinking_tokens == 0
    assert "thinking_tokens" not in verdict.record()


CONTRADICTIONS = [
    ({**SOUND, "token": " b", "logprob": -2.0}, "bytes of a candidate are not those"),
    ({"token": " b", "bytes": [999], "logprob": -2.0}, "bytes of a token are not bytes"),
    ({"token": None, "bytes": None, "logprob": -2.0}, "neither bytes nor text"),
]


@pytest.mark.parametrize(("candidate", "said"), CONTRADICTIONS)
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("temperature", [0.8, 1.0])
async def test_a_contradiction_is_named_in_whatever_answer(
    candidate: dict[str, Any], said: str, late: bool, temperature: float
) -> None:
    sound = Server()
    bad = chat_body("The", [{**SOUND, "top_logprobs": [SOUND, candidate]}])

    def answer(number: int, asked: Asked) -> Canned:
        return sound(number, asked) if late and asked.body["max_tokens"] > 1 else Canned(bad)

    with pytest.raises(UnusableLogprobs, match=said):
        await probed(answer, Sampling(max_tokens=600, temperature=temperature))


async def test_logprobs_without_a_meaning_are_told_from_none() -> None:
    bad = chat_body("The", [{**SOUND, "logprob": 3.0, "top_logprobs": [{**SOUND, "logprob": 3.0}]}])
    with pytest.raises(UnusableLogprobs, match="add up to more than 1 in its first token"):
        await probed(lambda *_: Canned(bad))
