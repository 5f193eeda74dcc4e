"""What is sent of the sampling, and what happens when a server refuses a part of it."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http.retries import Failure
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.probe import plain_answer, probe
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import PromptRefused, SettingsRefused
from bitnet_core.teachers.teacher import Teacher
from tests.teachers.server import Asked, Canned, ChatServer, chat_body, entry, with_top

A, B = entry("A", -0.5), entry("B", -2.0)
GOOD = Canned(chat_body("A", [with_top(A, A, B)]))
MESSAGES = [{"role": "user", "content": "Hi"}]


@contextlib.asynccontextmanager
async def client(server: ChatServer, provider: str = "custom") -> AsyncIterator[Teacher]:
    profile = PROVIDERS[provider]
    async with WIRES[profile.wire](profile, server.base_url, "m", "a-key", first_wait=0.01) as chat:
        yield Teacher(chat)


def request(temperature: float = 1.0, top_p: float = 1.0) -> ChatRequest:
    return ChatRequest(MESSAGES, 8, temperature, top_p, 2)


def refusing(message: str, status: int = 400, **more: Any) -> Any:
    """A server that refuses every request with a field that the message names."""
    name = next(name for name in ("temperature", "top_p", "min_p", "top_k", "repetition_penalty") if name in message)

    def answer(_number: int, asked: Asked) -> Canned:
        return Canned({"error": {"message": message, **more}}, status) if name in asked.body else GOOD

    return answer


# -- what is sent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["custom", "openai", "mistral", "together", "fireworks", "ollama", "openrouter"])
async def test_neutral_values_are_left_out(provider: str) -> None:
    with ChatServer(lambda *_: GOOD) as server:
        async with client(server, provider) as chat:
            await chat.chat(request())
            await chat.chat(request(0.7, 0.9))
    neutral, set_ = [asked.body for asked in server.asked]
    assert not {"temperature", "top_p", "top_k", "min_p"} & set(neutral)
    assert (set_["temperature"], set_["top_p"]) == (0.7, 0.9)


@pytest.mark.parametrize(
    ("provider", "off"),
    [
        ("llamacpp", {"top_k": 0, "min_p": 0.0}),
        ("embedded", {"top_k": 0, "min_p": 0.0}),
        ("vllm", {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}),
    ],
)
async def test_a_servers_own_sampling_is_switched_off(provider: str, off: dict[str, float]) -> None:
    with ChatServer(lambda *_: GOOD) as server:
        async with client(server, provider) as chat:
            await chat.chat(request())
            sent = chat.requested_sampling(request(0.8))
    assert server.asked[0].body | off | {"temperature": 1.0, "top_p": 1.0} == server.asked[0].body
    assert sent == {"temperature": 0.8, "top_p": 1.0, **off}


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ("Input validation error: `top_p` must be > 0.0 and < 1.0", 422),
        ("top_p: Input should be less than 1", 422),
        ("min_p is not supported", 400),
        ("Unsupported parameter: top_k", 400),
        ("Unrecognized request argument supplied: min_p", 400),
        ("body.repetition_penalty: Extra inputs are not permitted", 422),
        ("property 'min_p' is unsupported", 400),
        ("unknown field `top_k`", 400),
        ("temperature is deprecated for this model", 400),
        ("top_p can't be used together with other samplers", 400),
        ("You may not set repetition_penalty", 403),
        ("min_p is not implemented", 501),
    ],
)
async def test_a_neutral_field_that_is_refused_by_name_is_left_out(message: str, status: int) -> None:
    with ChatServer(refusing(message, status)) as server:
        async with client(server, "vllm") as chat:
            for _ in range(2):
                assert (await chat.chat(request(), attempts=1)).text == "A"
        assert len(server.asked) == 4  # a neutral request is refused, too; then the verdict is kept
        assert len(chat.left_out) == 1


@pytest.mark.parametrize(
    "message",
    [
        "Unsupported value: 'temperature' does not support 0.7 with m. Only the default (1) value is supported.",
        "Unsupported parameter: 'temperature' is not supported with this model.",
        "`temperature` is deprecated for this model.",
        "`temperature` may only be set to 1 when thinking is enabled.",
        "invalid temperature: only 0.6 is allowed for this model",
        "temperature: Extra inputs are not permitted",
        "Unknown parameter: temperature",
        "temperature is not configurable for this model",
        "temperature can not be used with this model",
        "temperature cannot be set",
        "temperature must be 1.0",
    ],
)
async def test_a_model_that_fixes_its_temperature_is_asked_without_it(message: str) -> None:
    with ChatServer(refusing(message)) as server:
        async with client(server) as chat:
            assert (await chat.chat(request(0.7))).text == "A"
            assert chat.requested_sampling(request(0.7)) == {"temperature": None}
            assert chat.requested_sampling(request(1.0)) == {}


@pytest.mark.parametrize(
    "message",
    [
        "temperature must be between 0 and 0.5",
        "temperature: Input should be less than or equal to 0.5",
        "0.7 is greater than the maximum of 0.5 - 'temperature'",
        "Invalid value for temperature",
        "temperature 0.7 is outside the range [0, 0.5], which is not supported",
        "temperature must be 0.5 or less",
        "`temperature` must be 1 or lower",
        "Only temperature values between 0 and 0.5 are supported",
        "temperature 0.7 is not supported; choose 0 to 0.5",
        "Value 0.7 is not allowed for parameter temperature",
        "0.7 not accepted for temperature (allowed: [0, 0.5])",
    ],
)
async def test_a_value_outside_the_servers_range_is_a_mistake_in_the_settings(message: str) -> None:
    with ChatServer(refusing(message)) as server:
        async with client(server) as chat:
            with pytest.raises(SettingsRefused, match="correct the teacher's settings: KD_TEACHER_TEMPERATURE"):
                await chat.chat(request(0.7))
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("unknown field `top_k`, expected one of `model`, `temperature`, `top_p`, `top_k`", None),
        ("Unsupported parameter. Supported are temperature, top_p.", "top_k"),
    ],
)
async def test_only_the_field_that_is_refused_is_left_out(message: str, param: str | None) -> None:
    with ChatServer(
        lambda _, asked: (
            Canned({"error": {"message": message, "param": param}}, 400) if "top_k" in asked.body else GOOD
        )
    ) as server:
        async with client(server, "vllm") as chat:
            await chat.chat(request(0.7, 0.9))
        assert chat.left_out == {"top_k"}
        assert {"temperature", "top_p", "min_p"} <= set(server.asked[-1].body)


async def test_a_parameter_that_was_not_sampled_with_is_not_taken_for_one() -> None:
    refusal = {"error": {"message": "Unsupported parameter; temperature is supported.", "param": "stop"}}
    with ChatServer(lambda *_: Canned(refusal, 400)) as server:
        async with client(server) as chat:
            with pytest.raises(PromptRefused):
                await chat.chat(request(0.7))
        assert (len(server.asked), chat.left_out) == (1, frozenset())


async def test_requests_that_were_sent_together_are_all_sent_again() -> None:
    with ChatServer(refusing("top_p is not supported")) as server:
        async with client(server) as chat:
            answers = await asyncio.gather(*(chat.chat(request(0.7, 0.9)) for _ in range(6)))
    assert [one.text for one in answers] == ["A"] * 6


async def test_a_refusal_that_stays_leaves_nothing_out() -> None:
    with ChatServer(lambda *_: Canned({"error": {"message": "top_p is not supported"}}, 400)) as server:
        async with client(server, "vllm") as chat:
            with pytest.raises(PromptRefused, match="top_p is not supported"):
                await chat.chat(request())
        assert (len(server.asked), chat.left_out) == (3, frozenset())


async def test_after_a_good_answer_a_temperature_is_not_given_up() -> None:
    refusal = Canned({"error": {"message": "temperature is not supported"}}, 400)
    with ChatServer(lambda number, _: GOOD if number == 0 else refusal) as server:
        async with client(server) as chat:
            await chat.chat(request(0.7))
            with pytest.raises(PromptRefused, match="it answers others, so change this prompt"):
                await chat.chat(request(0.7))
        assert len(server.asked) == 2


async def test_each_sending_is_accounted_for() -> None:
    class Account:
        said: list[object] = []  # noqa: RUF012 - one account a test

        async def sent(self) -> None:
            self.said.append("sent")

        async def failed(self, how: Failure) -> None:
            self.said.append(how)

    with ChatServer(refusing("`top_p` must be < 1.0", 422)) as server:
        async with client(server, "vllm") as chat:
            await chat.chat(request(), watch=Account())
    assert Account.said == ["sent", Failure.REFUSED, "sent"]


async def test_the_probe_finds_out_and_its_verdict_is_kept() -> None:
    with ChatServer(refusing("temperature is not supported")) as server:
        async with client(server) as chat:
            verdict = await probe(chat, 2)
        assert (verdict.refused, verdict.record()["refused"]) == (("temperature",), ["temperature"])
        asked = len(server.asked)
        async with client(server) as chat:
            await probe(chat, 2, verdict)
        assert not any("temperature" in one.body for one in server.asked[asked:])


async def test_what_a_plain_answer_found_out_is_not_forgotten_by_the_probe() -> None:
    with ChatServer(refusing("temperature is not supported")) as server:
        async with client(server) as chat:
            await plain_answer(chat)
            assert (await probe(chat, 2)).refused == ("temperature",)


async def test_a_model_that_takes_no_temperature_above_one_is_compared_at_another() -> None:
    def answer(_number: int, asked: Asked) -> Canned:
        high = asked.body.get("temperature", 1) > 1
        return Canned({"error": {"message": "temperature must be between 0 and 1"}}, 400) if high else GOOD

    with ChatServer(answer) as server:
        async with client(server) as chat:
            assert (await probe(chat, 2)).mode == "raw"


async def test_a_server_that_scales_its_logprobs_is_sent_the_neutral_temperature() -> None:
    """Otherwise its own default would scale them: a model's configuration may say 0.6."""

    def answer(_number: int, asked: Asked) -> Canned:
        logits = {
            text: value / asked.body.get("temperature", 0.6) for text, value in zip("ABC", (0, -2, -4), strict=True)
        }
        whole = math.log(sum(map(math.exp, logits.values())) * 1.1)
        tops = [entry(text, value - whole) for text, value in logits.items()]
        return Canned(chat_body("A", [with_top(tops[0], *tops)]))

    with ChatServer(answer) as server:
        async with client(server) as chat:
            assert (await probe(chat, 3)).mode == "scaled"
            await chat.chat(request())
            assert chat.requested_sampling(request()) == {"temperature": 1.0, "top_p": 1.0}
        assert server.asked[-1].body["temperature"] == 1.0


async def test_the_probe_asks_with_a_seed_where_collecting_does() -> None:
    with ChatServer(refusing_seed) as server:
        async with client(server, "openai") as chat:
            assert (await probe(chat, 2)).refused == ("seed",)


def refusing_seed(_number: int, asked: Asked) -> Canned:
    return Canned({"error": {"message": "Unsupported parameter: 'seed'"}}, 400) if "seed" in asked.body else GOOD


async def test_other_wire_formats_leave_out_too() -> None:
    said = {"type": "error", "error": {"type": "invalid_request_error", "message": "`temperature` is deprecated."}}
    answer = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn", "usage": {}}
    with ChatServer(lambda _, asked: Canned(said, 400) if "temperature" in asked.body else Canned(answer)) as server:
        async with client(server, "anthropic") as chat:
            assert (await chat.chat(request(0.5))).text == "Hi"
    said = {"error": {"code": 400, "message": "topP is not supported by this model"}}
    answer = {"candidates": [{"content": {"parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]}

    def gemini(_number: int, asked: Asked) -> Canned:
        return Canned(said, 400) if "topP" in asked.body["generationConfig"] else Canned(answer)

    with ChatServer(gemini) as server:
        async with client(server, "gemini") as chat:
            assert (await chat.chat(request(0.5))).text == "Hi"
            assert chat.requested_sampling(request(0.5, 0.9)) == {"temperature": 0.5, "top_p": None}


async def test_a_missing_field_is_not_blamed() -> None:
    with ChatServer(lambda *_: Canned({"error": {"message": "top_p is not supported"}}, 400)) as server:
        async with client(server) as chat:
            with pytest.raises(BitnetError, match="refuses the request"):
                await chat.chat(request())
        assert len(server.asked) == 1
