"""The probe: what it accepts, and the sentence for each thing that it does not."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.providers.openai_chat import OpenAIChat
from bitnet_core.providers.probe import Verdict, probe
from bitnet_core.providers.table import PROVIDERS
from bitnet_core.providers.teacher import Teacher
from tests.providers.server import Asked, Canned, ChatServer, chat_body, entry
from tests.traces.samples import small_tokenizer

TOKENIZER = small_tokenizer()
RAW = [-0.5, -1.5, -2.5, -4.0]
WORDS = ["a", "the", "r", "t"]


def body(logprobs: list[float], *, ids: bool = True, words: list[str] | None = None, **more: Any) -> dict[str, Any]:
    top = [
        entry(word, logprob, index=TOKENIZER.ids_by_bytes.get(word.encode(), 3) if ids else None)
        for word, logprob in zip(words or WORDS, logprobs, strict=True)
    ]
    return chat_body(top[0]["token"], [{**top[0], "top_logprobs": top}], **more)


@contextlib.contextmanager
def teacher(*answers: Any) -> Iterator[Teacher]:
    def answer(number: int, _asked: Asked) -> Canned:
        return Canned(answers[min(number, len(answers) - 1)])

    with ChatServer(answer) as server:
        yield Teacher(OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.01))


async def test_logprobs_that_do_not_depend_on_the_temperature_are_raw() -> None:
    nearly = [logprob + shift for logprob, shift in zip(RAW, (0.1, -0.1, 0.05, -0.2), strict=True)]
    with teacher(body(RAW), body(nearly)) as one:
        verdict = await probe(one, 4)
    assert (verdict.mode, verdict.candidates, verdict.token_ids, verdict.exact_bytes) == ("raw", 4, True, True)
    assert verdict.latency_s is not None


async def test_logprobs_that_do_are_scaled() -> None:
    flat = [logprob / 7.5 - 1.2 for logprob in RAW]
    with teacher(body(RAW), body(flat)) as one:
        verdict = await probe(one, 4)
    assert verdict.mode == "scaled"
    assert (verdict.temperature(0.8), Verdict("raw", 4).temperature(0.8)) == (0.8, 1.0)


@pytest.mark.parametrize("answer", [chat_body("a", None), chat_body("a", [{**entry("a", -0.5), "top_logprobs": []}])])
async def test_no_logprobs_names_who_has_them(answer: dict[str, Any]) -> None:
    with teacher(answer) as one, pytest.raises(BitnetError, match="TEACHER_PROVIDER that has them: embedded"):
        await probe(one, 4)


async def test_sentinels_are_named() -> None:
    with teacher(body([-0.5, -1.0, -2.0, -9999.0])) as one, pytest.raises(BitnetError, match="sentinel logprob"):
        await probe(one, 4)


async def test_what_comes_with_the_tokens_is_told() -> None:
    bare = body(RAW, ids=False)
    for token in bare["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        del token["bytes"]
    del bare["choices"][0]["logprobs"]["content"][0]["bytes"]
    with teacher(bare) as one:
        verdict = await probe(one, 4)
    assert (verdict.token_ids, verdict.exact_bytes) == (False, False)


async def test_a_provider_without_logprobs_is_refused_before_anything_is_sent() -> None:
    with ChatServer(lambda *_: Canned({})) as server:
        one = Teacher(OpenAIChat(PROVIDERS["groq"], server.base_url, "m", "gsk-key"))
        with pytest.raises(BitnetError, match=r"groq gives no logprobs .*embedded"):
            await probe(one, 4)
        assert server.asked == []


async def test_an_unreadable_answer_is_said_in_one_sentence() -> None:
    with teacher({"choices": []}) as one, pytest.raises(BitnetError, match="can't be used"):
        await probe(one, 4)
