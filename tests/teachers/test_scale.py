"""Whether logprobs depend on the sampling, measured on servers that compute them in every way there is."""

import contextlib
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.neutral import TOKENS, one_token
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.probe import Verdict, probe
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import SettingsRefused, UnusableLogprobs
from bitnet_core.teachers.teacher import Teacher
from tests.teachers.server import Asked, Canned, ChatServer, chat_body, entry

TRUE = [math.log(share) for share in (0.5, 0.25, 0.15, 0.06, 0.04)]
NAMES = ["The", " a", " b", " c", " d"]


@dataclass(frozen=True)
class Server:
    """Computes logprobs from TRUE; `accepts` says which temperatures it takes."""

    scaled: bool = False
    nucleus: bool = False
    own_temperature: float = 0.6
    accepts: Callable[[float], bool] = lambda _: True
    refusal: str = "invalid temperature: only {own} is allowed for this model"

    def __call__(self, _number: int, asked: Asked) -> Canned:
        wanted = asked.body.get("temperature")
        if wanted is not None and not self.accepts(wanted):
            return Canned({"error": {"message": self.refusal.format(own=self.own_temperature)}}, 400)
        temperature = self.own_temperature if wanted is None else wanted
        shares = [math.exp(one / (temperature if self.scaled else 1.0)) for one in TRUE]
        shares = [share / sum(shares) for share in shares]
        if self.nucleus:
            kept = 1 + sum(sum(shares[:place]) < asked.body.get("top_p", 1.0) for place in range(1, len(shares)))
            shares = [share / sum(shares[:kept]) for share in shares[:kept]]
        top = [entry(name, math.log(share)) for name, share in zip(NAMES, shares, strict=False)]
        content = [{**top[0], "top_logprobs": top[: asked.body["top_logprobs"]]}] * min(asked.body["max_tokens"], 3)
        return Canned(chat_body("The" * len(content), content))


@contextlib.asynccontextmanager
async def opened(server: ChatServer, provider: str = "custom") -> AsyncIterator[Teacher]:
    async with WIRES["openai"](PROVIDERS[provider], server.base_url, "m", None, first_wait=0.01) as chat:
        yield Teacher(chat)


async def mode_of(server: Server, temperature: float, top_p: float = 1.0, provider: str = "custom") -> str:
    sampling = Sampling(max_tokens=512, temperature=temperature, top_p=top_p)
    with ChatServer(server) as served:
        async with opened(served, provider) as teacher:
            return (await probe(teacher, 5, sampling=sampling)).mode


@pytest.mark.parametrize("temperature", [0.1, 0.2, 0.3, 0.55, 0.8, 1.2, 1.5, 2.0])
async def test_temperature_scales_or_not(temperature: float) -> None:
    assert await mode_of(Server(), temperature) == "raw"
    assert await mode_of(Server(True), temperature) == "scaled"


@pytest.mark.parametrize("own", [0.1, 0.2, 0.3, 0.6, 1.0, 1.5])
async def test_a_neutral_temperature_is_measured_whatever_the_server_would_use_without_it(own: float) -> None:
    """A model's own configuration may say any, also one that is compared with."""
    assert await mode_of(Server(own_temperature=own), 1.0) == "raw"
    assert await mode_of(Server(True, own_temperature=own), 1.0) == "scaled"
    assert await mode_of(Server(True, own_temperature=own), 1.0, provider="vllm") == "scaled"


async def test_greedy_logprobs_that_are_not_scaled_are_raw() -> None:
    assert await mode_of(Server(), 0.0) == "raw"


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("temperature", [0.3, 0.8, 1.0])
async def test_logprobs_after_the_nucleus_are_not_raw(temperature: float, top_p: float) -> None:
    """Even if the nucleus cut nothing here: 0.99 keeps all five candidates."""
    assert await mode_of(Server(nucleus=True), temperature, top_p) == "scaled"
    assert await mode_of(Server(nucleus=True), temperature) == "raw"
    assert await mode_of(Server(), temperature, top_p) == "raw"


@pytest.mark.parametrize(
    ("accepts", "refusal", "mode", "sent"),
    [
        (lambda _: False, "invalid temperature: only {own} is allowed for this model", "unmeasured", None),
        (lambda _: False, "`temperature` is deprecated for this model.", "unmeasured", None),
        (lambda one: one == 1, "Only the default (1) value of temperature is supported.", "scaled", 1.0),
        (lambda one: one == 1, "temperature must be 1", "scaled", 1.0),
    ],
)
@pytest.mark.parametrize("temperature", [0.6, 0.8, 1.0])
@pytest.mark.parametrize("provider", ["custom", "vllm"])
async def test_a_temperature_that_can_not_be_varied_is_never_called_raw(
    accepts: Callable[[float], bool], refusal: str, mode: str, sent: float | None, temperature: float, provider: str
) -> None:
    for scaled in (False, True):
        with ChatServer(Server(scaled, accepts=accepts, refusal=refusal)) as server:
            async with opened(server, provider) as teacher:
                sampling = Sampling(max_tokens=9, temperature=temperature)
                verdict = await probe(teacher, 5, sampling=sampling)
                asked = teacher.requested_sampling(one_token(5, Sampling(max_tokens=1, temperature=1.0)))
    assert verdict.mode == mode
    assert verdict.temperature(1.0) == sent
    assert asked["temperature"] == sent
    assert ("temperature" in verdict.refused) == (sent is None)


async def test_a_server_that_takes_only_the_temperature_that_is_set_may_scale() -> None:
    server = Server(True, accepts=lambda one: one == 0.6)
    assert await mode_of(server, 0.6) == "scaled"


async def test_what_an_earlier_run_found_out_about_the_temperature_is_not_asked_again() -> None:
    with ChatServer(Server(accepts=lambda _: False)) as server:
        async with opened(server) as teacher:
            await probe(teacher, 5, Verdict("unmeasured", 5, refused=("temperature",)))
            assert teacher.left_out == {"temperature"}
        assert not any("temperature" in one.body for one in server.asked)


# -- what is asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["custom", "vllm", "openai", "llamacpp"])
async def test_the_first_request_is_the_one_that_collecting_sends(provider: str) -> None:
    answer = Server()

    def served(number: int, asked: Asked) -> Canned:
        limit = asked.body.get("max_completion_tokens") or asked.body["max_tokens"]
        return answer(number, Asked(asked.path, asked.headers, {**asked.body, "max_tokens": limit}))

    with ChatServer(served) as server:
        async with opened(server, provider) as teacher:
            await probe(teacher, 5, sampling=Sampling(max_tokens=512, temperature=0.7, top_p=0.9))
    first = server.asked[0].body
    assert (first["temperature"], first["top_p"], first["top_logprobs"]) == (0.7, 0.9, 5)
    assert ("seed" in first) == PROVIDERS[provider].seeds
    assert max(one.body.get("max_completion_tokens") or one.body["max_tokens"] for one in server.asked) == TOKENS


@pytest.mark.parametrize(
    ("message", "refuses", "settings"),
    [
        (
            "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
            lambda body: {"temperature", "top_p"} <= set(body),
            "KD_TEACHER_TEMPERATURE or KD_TEACHER_TOP_P",
        ),
        ("top_p must be at least 0.95", lambda body: body.get("top_p", 1) < 0.95, "KD_TEACHER_TOP_P"),
        (
            "temperature: must be less than 0.5",
            lambda body: body.get("temperature", 0) >= 0.5,
            "KD_TEACHER_TEMPERATURE",
        ),
        (
            "max_tokens is too large: 8. This model supports at most 4 completion tokens",
            lambda body: body["max_tokens"] > 4,
            "KD_MAX_TOKENS_PER_PROMPT",
        ),
    ],
)
async def test_settings_that_are_refused_are_named_before_anything_is_spent(
    message: str, refuses: Callable[[dict[str, Any]], bool], settings: str
) -> None:
    answer = Server()

    def served(number: int, asked: Asked) -> Canned:
        return Canned({"error": {"message": message}}, 400) if refuses(asked.body) else answer(number, asked)

    with ChatServer(served) as server:
        async with opened(server) as teacher:
            with pytest.raises(SettingsRefused, match=f"correct the teacher's settings: {settings}\\.$"):
                await probe(teacher, 5, sampling=Sampling(max_tokens=512, temperature=0.7, top_p=0.9))
        assert len(server.asked) == 1


# -- how it is judged ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["", "Hello", " you"], "control token"),
        (["Hello", "", " you"], "control token"),
        (["", "", "Hello"], "control token"),
        (["Hello", " you", ""], None),
        (["Hello", " you"], None),
    ],
)
async def test_the_first_answer_is_judged_by_what_traces_demand(tokens: list[str], said: str | None) -> None:
    """A control token with an id and no text may stand before the answer, as in gpt-oss."""
    others = [entry(name, -2.0 - index, index=7000 + index) for index, name in enumerate(NAMES[1:4])]

    def served(_number: int, asked: Asked) -> Canned:
        kept = ["Hello"] if asked.body["max_tokens"] == 1 else tokens
        steps = [entry(text, -0.3, index=9000 + place) for place, text in enumerate(kept)]
        content = [{**step, "top_logprobs": [step, *others]} for step in steps]
        return Canned(chat_body("".join(kept), content))

    with ChatServer(served) as server:
        async with opened(server) as teacher:
            if said is None:
                assert (await probe(teacher, 4)).mode == "raw"
            else:
                with pytest.raises(UnusableLogprobs, match=said):
                    await probe(teacher, 4)
