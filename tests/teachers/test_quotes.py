"""A server that refuses a prompt may quote it: that changes no sampling, blames no key and ends no run."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http.retries import Failure
from bitnet_core.teachers.neutral import MESSAGES
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import (
    Failing,
    KeyRefused,
    NoLogprobs,
    PromptRefused,
    QuotaSpent,
    RefusesAll,
    SettingsRefused,
    TooManyCandidates,
)
from bitnet_core.teachers.teacher import Teacher
from tests.teachers.server import Asked, Canned, ChatServer, chat_body, entry, with_top

A, B = entry("A", -0.5), entry("B", -2.0)
GOOD = Canned(chat_body("A", [with_top(A, A, B)]))
HARMLESS = "Hi"


def request(prompt: str = HARMLESS, temperature: float = 1.0) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": prompt}], 8, temperature, 0.9, 2, 7)


def said(asked: Asked) -> str:
    return str(asked.body["messages"][-1]["content"])


def refusal(message: str, status: int) -> Canned:
    return Canned({"error": {"message": message, "type": "invalid_request_error"}}, status)


def is_neutral(asked: Asked) -> bool:
    return list(asked.body["messages"]) == list(MESSAGES)


@contextlib.asynccontextmanager
async def opened(server: ChatServer, provider: str = "llamacpp") -> AsyncIterator[Teacher]:
    async with WIRES["openai"](PROVIDERS[provider], server.base_url, "m", "a-key", first_wait=0.01) as chat:
        yield Teacher(chat)


def guard(status: int, quote: Callable[[str], str]) -> Callable[[int, Asked], Canned]:
    """Refuses every prompt but the harmless ones."""

    def answer(_number: int, asked: Asked) -> Canned:
        harmless = is_neutral(asked) or said(asked) == HARMLESS
        return GOOD if harmless else refusal(quote(said(asked)), status)

    return answer


PROMPTS = [
    ("What is the boiling temperature of iron?", 400),
    ("Is `temperature` not supported by my oven?", 422),
    ("Explain top_p and min_p sampling.", 400),
    ("Which seed grows fastest?", 400),
    ("Unsupported parameter: 'top_k'", 403),
    ("Why is max_tokens too large?", 400),
    ('How do I fix "Incorrect API key provided"?', 400),
    ("My API key expired, what now?", 401),
    ("What does insufficient balance mean?", 400),
    ("Who sets the spending limit?", 403),
    ("What are logprobs?", 400),
    ("Is `top_logprobs` must be <= 1 good English?", 400),
    ("Your project has been suspended. Contact billing", 403),
    ("Which model is not available?", 403),
    ("Which model does not exist?", 404),
    ("'; DROP TABLE users; --", 403),
]
QUOTES = [
    "Input rejected by the guard: {}",
    "{!r} is not allowed",
]


@pytest.mark.parametrize("known", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(("prompt", "status"), PROMPTS)
async def test_a_quoted_prompt_is_one_refused_prompt(prompt: str, status: int, known: bool) -> None:
    for quote in QUOTES:
        with ChatServer(guard(status, quote.format)) as server:
            async with opened(server) as teacher:
                if known:
                    await teacher.chat(request())
                sent = teacher.requested_sampling(request())
                with pytest.raises(PromptRefused, match=r"so change this prompt|correct the teacher's settings"):
                    await teacher.chat(request(prompt))
                assert teacher.left_out == frozenset()
                await teacher.chat(request())
                assert {name: server.asked[-1].body[name] for name in sent} == sent


async def test_a_paraphrase_without_any_of_the_prompts_words_is_one_refused_prompt() -> None:
    with ChatServer(guard(403, lambda _: "Forbidden")) as server:
        async with opened(server) as teacher:
            with pytest.raises(PromptRefused, match="so change this prompt"):
                await teacher.chat(request("<script>"))


@pytest.mark.parametrize(
    ("message", "status", "kind"),
    [
        ("Incorrect API key provided", 401, KeyRefused),
        ("Forbidden", 403, KeyRefused),
        ("API key expired", 400, KeyRefused),
        ("insufficient balance", 403, QuotaSpent),
        ("logprobs are not supported", 400, NoLogprobs),
        ("top_logprobs must be <= 1", 400, TooManyCandidates),
        ("max_tokens is too large: 8, at most 4", 400, SettingsRefused),
        ("temperature must be between 0.1 and 0.9", 400, SettingsRefused),
        ("Your project has been suspended", 403, RefusesAll),
        ("The model `m` does not exist", 404, RefusesAll),
    ],
)
async def test_what_a_neutral_request_gets_too_is_believed(
    message: str, status: int, kind: type[BitnetError]
) -> None:
    with ChatServer(lambda *_: refusal(message, status)) as server:
        async with opened(server) as teacher:
            with pytest.raises(kind) as caught:
                await teacher.chat(request("Hello", 0.95))
    assert message in str(caught.value)
    assert [is_neutral(asked) for asked in server.asked] == [False, True]
    hello, neutral = [asked.body for asked in server.asked]
    assert {**hello, "messages": 0, "max_tokens": 0} == {**neutral, "messages": 0, "max_tokens": 0}
    assert neutral["max_tokens"] == (8 if "max_tokens" in message else 1)


@pytest.mark.parametrize("status", [402, 429])
async def test_a_status_that_no_prompt_has_needs_no_second_request(status: int) -> None:
    spent = Canned({"error": {"message": "no", "code": "insufficient_quota"}}, status)
    with ChatServer(lambda *_: spent) as server:
        async with opened(server) as teacher:
            with pytest.raises(QuotaSpent):
                await teacher.chat(request())
        assert len(server.asked) == 1


async def test_what_one_request_proved_the_others_believe() -> None:
    def answer(_number: int, _asked: Asked) -> Canned:
        time.sleep(0.05)
        return refusal("Unauthorized", 401)

    with ChatServer(answer) as server:
        async with opened(server) as teacher:
            asked = [teacher.chat(request(f"{number}")) for number in range(8)]
            found = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(one) for one in found} == {KeyRefused}
        assert sum(map(is_neutral, server.asked)) == 1


async def test_a_server_that_fails_meanwhile_proves_nothing() -> None:
    def answer(_number: int, asked: Asked) -> Canned:
        return Canned({"error": {"message": "busy"}}, 503) if is_neutral(asked) else refusal("Forbidden", 403)

    with ChatServer(answer) as server:
        async with opened(server) as teacher:
            with pytest.raises(Failing):
                await teacher.chat(request("Hello"))


# -- sampling fields, with other requests in flight -----------------------------------------------------------


@pytest.mark.parametrize("named", ["temperature", "top_k", "min_p", "top_p"])
async def test_requests_in_flight_keep_a_field_that_one_prompt_quotes(named: str) -> None:
    """Each good answer was asked for with every field, whatever was said to its neighbours."""

    def answer(number: int, asked: Asked) -> Canned:
        time.sleep(0.01 * (number % 4))
        return refusal(f"guard: {said(asked)}", 400) if named in said(asked) else GOOD

    with ChatServer(answer) as server:
        async with opened(server) as teacher:
            prompts = [f"What is {named} {number}?" if number % 3 == 0 else f"Say {number}." for number in range(24)]
            asked = [teacher.chat(request(prompt)) for prompt in prompts]
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert teacher.left_out == frozenset()
    assert [isinstance(one, PromptRefused) for one in found] == [number % 3 == 0 for number in range(24)]
    assert not any(isinstance(one, BaseException) and not isinstance(one, PromptRefused) for one in found)
    assert all(named in one.body for one in server.asked)


@pytest.mark.parametrize("named", ["temperature", "top_k", "min_p", "top_p"])
async def test_a_field_that_is_refused_is_left_out_by_all_in_flight(named: str) -> None:
    def answer(number: int, asked: Asked) -> Canned:
        time.sleep(0.01 * (number % 4))
        return refusal(f"{named} is not supported", 400) if named in asked.body else GOOD

    with ChatServer(answer) as server:
        async with opened(server) as teacher:
            asked = [teacher.chat(request(f"Say {number}.")) for number in range(12)]
            assert [one.text for one in await asyncio.gather(*asked)] == ["A"] * 12
            assert teacher.left_out == {named}
        assert sum(map(is_neutral, server.asked)) == 1


async def test_a_field_belongs_to_its_request_until_that_is_answered() -> None:
    """The second request is sent while the first is tried without the field, and the first fails in the end."""
    began = asyncio.Event()

    def answer(_number: int, asked: Asked) -> Canned:
        if "min_p" not in asked.body:
            loop.call_soon_threadsafe(began.set)
            time.sleep(0.2)
            return Canned({"error": {"message": "moderation", "code": "content_policy"}}, 400)
        return GOOD if said(asked) == HARMLESS else refusal("min_p is not supported", 400)

    loop = asyncio.get_running_loop()
    with ChatServer(answer) as server:
        async with opened(server) as teacher:
            first = asyncio.create_task(teacher.chat(request("Hello")))
            await began.wait()
            await teacher.chat(request())
            with pytest.raises(PromptRefused, match="moderation"):
                await first
            assert teacher.left_out == frozenset()
        assert [one.body.get("min_p") for one in server.asked if said(one) == HARMLESS] == [0.0]


async def test_a_field_that_is_refused_once_is_kept() -> None:
    with ChatServer(lambda number, _: GOOD if number else refusal("temperature is not supported", 400)) as server:
        async with opened(server) as teacher:
            with pytest.raises(PromptRefused):
                await teacher.chat(request("Hello"))
            await teacher.chat(request("Hello"))
        assert all("temperature" in one.body for one in server.asked)


async def test_several_refused_fields_are_found_one_after_another() -> None:
    def answer(_number: int, asked: Asked) -> Canned:
        named = next((name for name in ("min_p", "top_k", "temperature") if name in asked.body), None)
        return refusal(f"unknown field `{named}`", 422) if named else GOOD

    with ChatServer(answer) as server:
        async with opened(server) as teacher:
            assert (await teacher.chat(request())).text == "A"
            assert teacher.left_out == {"min_p", "top_k", "temperature"}


async def test_the_account_is_closed_before_the_neutral_request_and_opened_again() -> None:
    class Account:
        def __init__(self) -> None:
            self.said: list[Any] = []

        async def sent(self) -> None:
            self.said.append(len(server.asked))

        async def failed(self, how: Failure) -> None:
            self.said.append(how)

        async def answered(self, _result: Any) -> None:
            """The guard's end."""

    account, probes = Account(), Account()
    with ChatServer(lambda _, asked: refusal("`min_p` is unknown", 400) if "min_p" in asked.body else GOOD) as server:
        async with opened(server) as teacher:
            teacher.guard = lambda _: probes
            await teacher.chat(replace(request()), watch=account)
    assert account.said == [0, Failure.REFUSED, 2]
    assert probes.said == [1, Failure.REFUSED]
