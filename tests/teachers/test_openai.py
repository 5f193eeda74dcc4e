"""The client against a real local server: what is sent, what is retried, and the message of each failure."""

import socket
import time
from email.utils import formatdate
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http.retries import OnRetry
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import (
    ContextExceeded,
    KeyRefused,
    NoLogprobs,
    PromptRefused,
    QuotaSpent,
    TooManyCandidates,
)
from bitnet_core.teachers.wire.openai import OpenAIChat
from tests.teachers.server import Canned, chat_body, entry, serving

KEY = "sk-very-secret-1234567890"
GOOD = Canned(chat_body("A", [{**entry("A", -0.5), "top_logprobs": [entry("A", -0.5)]}]))
MESSAGES = [{"role": "user", "content": "Hi"}]


def error(status: int, message: str = "", code: str | None = None, **headers: str) -> Canned:
    return Canned({"error": {"message": message, "type": None, "code": code}}, status, headers)


async def ask(
    base_url: str,
    provider: str = "openai",
    key: str | None = KEY,
    on_retry: OnRetry | None = None,
    **sampling: Any,
) -> ChatResult:
    wanted = {"max_tokens": 8, "temperature": 0.8, "top_p": 0.9, "top_logprobs": 3, **sampling}
    chat = OpenAIChat(PROVIDERS[provider], base_url, "m", key, on_retry=on_retry, first_wait=0.01)
    async with chat:
        return await chat.chat(ChatRequest(MESSAGES, **wanted))


async def test_the_request() -> None:
    with serving(GOOD) as server:
        result = await ask(server.base_url, seed=7)
    assert result.text == "A"
    (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.body == {
        "model": "m",
        "messages": MESSAGES,
        "max_completion_tokens": 8,
        "temperature": 0.8,
        "top_p": 0.9,
        "stream": False,
        "logprobs": True,
        "top_logprobs": 3,
        "seed": 7,
    }


async def test_logprobs_and_seeds_are_requested_only_if_wanted_and_accepted() -> None:
    with serving(GOOD) as server:
        await ask(server.base_url, provider="mistral", top_logprobs=0, seed=7)
        await ask(server.base_url, provider="vllm", key=None)
        await ask(server.base_url, provider="openrouter")
    mistral, keyless, openrouter = server.asked
    assert not {"logprobs", "top_logprobs", "seed"} & set(mistral.body)
    assert "Authorization" not in keyless.headers
    assert openrouter.body["provider"] == {"require_parameters": True}


@pytest.mark.parametrize(
    "passing",
    [
        error(408),
        error(409),
        error(500),
        error(502),
        error(503),
        error(429, "slow down"),
        Canned(GOOD.body, hang_up=True),
    ],
)
@pytest.mark.usefixtures("soon_asked_again")
async def test_transient_failures_are_retried(passing: Canned) -> None:
    reasons: list[str] = []
    with serving(passing, passing, GOOD) as server:
        result = await ask(server.base_url, on_retry=lambda error: reasons.append(error.reason))
    assert result.text == "A"
    assert len(server.asked) == 3
    assert len(reasons) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_permanent_failures_are_not_retried(status: int) -> None:
    with serving(error(status, "no")) as server, pytest.raises(BitnetError):
        await ask(server.base_url)
    assert len(server.asked) == 1


async def test_a_spent_quota_is_not_retried_although_it_is_429() -> None:
    spent = error(429, "You exceeded your current quota", "insufficient_quota")
    with serving(spent) as server, pytest.raises(BitnetError, match="quota at openai is spent"):
        await ask(server.base_url)
    assert len(server.asked) == 1


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_respected(as_date: bool) -> None:
    began = time.monotonic()
    wait = formatdate(time.time() + 2, usegmt=True) if as_date else "0.6"
    with serving(error(429, "slow down", **{"Retry-After": wait}), GOOD) as server:
        await ask(server.base_url)
    assert time.monotonic() - began >= 0.5


async def test_it_gives_up_after_six_attempts() -> None:
    with serving(error(503, "overloaded")) as server, pytest.raises(BitnetError, match=r"keeps failing .*overloaded"):
        await ask(server.base_url)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("canned", "kind", "said"),
    [
        (error(401, "Incorrect API key provided: " + KEY), BitnetError, "refuses the key in OPENAI_API_KEY"),
        (error(403, "forbidden"), KeyRefused, r"forbidden.*bitnet keys set OPENAI_API_KEY"),
        (error(403, "Country, region, or territory not supported"), PromptRefused, "Country, region, or territory"),
        (
            Canned(b"<html>Attention</html>", 403, {"Content-Type": "text/html"}),
            PromptRefused,
            "HTTP 403: a web page",
        ),
        (error(403, "m requires moderation and your input was flagged"), PromptRefused, "input was flagged"),
        (error(400, "Content Exists Risk", "invalid_request_error"), PromptRefused, "Content Exists Risk"),
        (
            Canned({"detail": "Not Found"}, 404),
            BitnetError,
            "has no /chat/completions .*CUSTOM_BASE_URL|OPENAI_BASE_URL",
        ),
        (Canned(b"<html>404</html>", 404), BitnetError, "has no /chat/completions"),
        (Canned(b"", 307, {"Location": "https://else.where/v1"}), BitnetError, "OPENAI_BASE_URL .* answers"),
        (
            error(400, "Could not finish the message because max_tokens or model output limit was reached"),
            BadReply,
            "think",
        ),
        (error(400, "inputs tokens + max_new_tokens must be <= 4097"), ContextExceeded, "prompt this long"),
        (error(400, "Invalid value", "Invalid value"), PromptRefused, r"\(HTTP 400: Invalid value\)"),
        (
            Canned({"detail": [{"loc": ["body", "top_logprobs"], "msg": "Extra inputs are not permitted"}]}, 422),
            NoLogprobs,
            r"body\.top_logprobs: Extra inputs",
        ),
        (
            Canned(
                {
                    "object": "error",
                    "message": {"detail": [{"loc": ["body", "logprobs"], "msg": "Extra inputs are not permitted"}]},
                    "type": "invalid_request_error",
                },
                422,
            ),
            NoLogprobs,
            r"body\.logprobs: Extra inputs are not permitted invalid_request_error\)",
        ),
        (Canned({"detail": "logprobs is not supported"}, 400), NoLogprobs, "logprobs is not supported"),
        (
            Canned({"statusCode": 400, "message": ["top_logprobs is unknown"], "error": "Bad Request"}, 400),
            NoLogprobs,
            "top_logprobs is unknown",
        ),
        (
            Canned(
                {
                    "error": {
                        "message": "Provider returned error",
                        "metadata": {"raw": '{"detail": "no logprobs here"}'},
                    }
                },
                400,
            ),
            NoLogprobs,
            "no logprobs here",
        ),
        (error(404, "The model `m` does not exist"), BitnetError, "has no model m"),
        (error(400, "too long", "context_length_exceeded"), ContextExceeded, "prompt this long"),
        (
            Canned(
                {"error": {"code": 400, "message": "the request exceeds", "type": "exceed_context_size_error"}}, 400
            ),
            ContextExceeded,
            "TEACHER_CTX_LEN",
        ),
        (
            error(400, "logprobs are not supported with reasoning models"),
            NoLogprobs,
            "choose another model, or .*embedded",
        ),
        (Canned({"error": "bad thing"}, 200), BitnetError, "bad thing"),
        (Canned({"message": "Extra inputs are not permitted", "type": "invalid"}, 422), BitnetError, "Extra inputs"),
        (
            Canned(b"<!DOCTYPE html><html>Welcome</html>", 200, {"Content-Type": "text/html"}),
            BitnetError,
            "a web page instead of JSON",
        ),
        (Canned(b"", 200), BitnetError, "an empty body instead of JSON; correct OPENAI_BASE_URL"),
        (error(400, f"strange {KEY} echo"), BitnetError, r"strange \*\*\* echo"),
    ],
)
async def test_each_failure_is_one_sentence_without_the_key(canned: Canned, kind: type[Exception], said: str) -> None:
    with serving(canned) as server, pytest.raises(kind, match=said) as caught:
        await ask(server.base_url)
    message = str(caught.value)
    assert KEY not in message
    assert message.endswith(".") == issubclass(kind, BitnetError)
    assert "\n" not in message


async def test_an_unusable_answer_is_not_a_failure() -> None:
    with serving(Canned({"choices": []})) as server, pytest.raises(BadReply):
        await ask(server.base_url)


async def test_the_read_timeout_is_an_hour_for_local_servers_and_two_minutes_for_others() -> None:
    for name, seconds in (("openai", 120), ("embedded", 3600), ("llamacpp", 3600)):
        chat = OpenAIChat(PROVIDERS[name], "http://127.0.0.1:9/v1", "m", None)
        async with chat:
            timeout = chat._http._client.timeout
        assert (timeout.connect, timeout.read) == (10, seconds)


async def test_an_unreachable_address_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(BitnetError, match="can't be reached") as caught:
            await ask(base_url)
        assert base_url in str(caught.value)
        again: list[str] = []
        chat = OpenAIChat(PROVIDERS["custom"], base_url, "m", None, on_retry=lambda error: again.append(error.reason))
        async with chat:
            with pytest.raises(BitnetError, match="can't be reached"):
                await chat.models()
        assert again == []  # a person waits for it


@pytest.mark.parametrize(
    ("message", "most"),
    [
        ("Requested sample logprobs of 20, which is greater than max allowed: 5", 5),
        ("Invalid 'top_logprobs': integer above maximum value. Expected a value <= 5, but got 20 instead.", 5),
        ("top_logprobs must be less than or equal to 3", 3),
        ("logprobs must be between 0 and 5", 5),
        ("body.top_logprobs: Input should be less than or equal to 8", 8),
        ("top_logprobs: 20 is greater than the maximum of 10", 10),
        ("Input validation error: `top_n_tokens` must be >= 0 and <= 5. Given: 20", 5),
        ("n_probs must be no more than 10", 10),
        ("n_probs is limited to 8", 8),
        ("top_logprobs must be in [0, 5]", 5),
        ("logprobs: supported values are 0-5", 5),
        ("logprobs: 20 is not in 1..8", 8),
        ("Maximum number of log probs is 5, you asked for 20", 5),
        ("top_n_tokens must be smaller than 6", 5),
        ("'top_logprobs': must be one of 0,1,2,3,4,5", 5),
    ],
)
async def test_too_many_candidates_is_not_no_logprobs(message: str, most: int) -> None:
    with serving(error(400, message)) as server, pytest.raises(TooManyCandidates) as caught:
        await ask(server.base_url, top_logprobs=20)
    assert caught.value.most == most
    assert f"set TEACHER_TOP_LOGPROBS={most}" in str(caught.value)


NO_ACCESS = "gives this key no access to m"


@pytest.mark.parametrize(
    ("status", "message", "kind", "said"),
    [
        (403, "You are not allowed to request logprobs from this model", NoLogprobs, "gives no logprobs for m"),
        (401, "Your plan does not include logprobs", NoLogprobs, "gives no logprobs for m"),
        (403, "top_logprobs must be <= 1", TooManyCandidates, "TEACHER_TOP_LOGPROBS=1"),
        (403, "top_n_tokens must be <= 2", TooManyCandidates, "TEACHER_TOP_LOGPROBS=2"),
        (403, "Project `p` does not have access to model `m`", BitnetError, NO_ACCESS),
        (401, "This key may not use the model m", BitnetError, NO_ACCESS),
        (403, "model not available on your plan", BitnetError, NO_ACCESS),
        (403, "The `models` permission is required to access this endpoint", KeyRefused, "refuses the key"),
        (403, "Missing scopes: model.request", KeyRefused, "refuses the key"),
        (403, "Invalid API key. See our policy.", KeyRefused, "refuses the key"),
        (403, "logprobs are disabled for your region", NoLogprobs, "gives no logprobs for m"),
        (501, "logprobs are not implemented for this backend", NoLogprobs, "gives no logprobs for m"),
        (400, "messages[0] contains an invalid token sequence", PromptRefused, "invalid token sequence"),
        (403, "Access denied: your IP address is not allowed", PromptRefused, "a rule of the network"),
        (403, "This model's maximum context length is 8 tokens", ContextExceeded, "prompt this long"),
        (403, "Your credit balance is too low", QuotaSpent, "quota at openai is spent"),
        (401, "Incorrect API key provided for this model", KeyRefused, "refuses the key"),
        (403, "Invalid API key", KeyRefused, "refuses the key"),
        (400, "invalid x-api-key", KeyRefused, "refuses the key"),
        (401, "", KeyRefused, "refuses the key"),
        (401, "Unauthorized", KeyRefused, "refuses the key"),
        (403, "Forbidden", KeyRefused, "refuses the key"),
    ],
)
async def test_what_the_words_name_comes_before_the_status(
    status: int, message: str, kind: type[BitnetError], said: str
) -> None:
    with serving(error(status, message)) as server, pytest.raises(kind, match=said) as caught:
        await ask(server.base_url, top_logprobs=20)
    assert isinstance(caught.value, KeyRefused) == (kind is KeyRefused)
    assert len(server.asked) == 1


async def test_the_address_is_blamed_only_before_its_first_good_answer() -> None:
    page = Canned(b"<html>busy</html>", 200, {"Content-Type": "text/html"})
    with serving(GOOD, page) as server:
        chat = OpenAIChat(PROVIDERS["openai"], server.base_url, "m", KEY, first_wait=0.01)
        async with chat:
            request = ChatRequest(MESSAGES, 8, 0.8, 0.9, 3)
            await chat.chat(request)
            with pytest.raises(BadReply) as caught:
                await chat.chat(request, attempts=2)
    assert (caught.value.reason, caught.value.retryable, caught.value.body) == ("not_json", True, page.body)


@pytest.mark.parametrize(
    ("model", "logprobs", "sampling", "effort"),
    [
        ("gpt-4.1", 0, True, None),
        ("gpt-5-mini", 0, False, None),
        ("gpt-5.1", 0, False, None),
        ("gpt-5.1", 3, True, "none"),
        ("gpt-5-chat-latest", 0, True, None),
        ("gpt-5-chat-latest", 3, True, None),
        ("o3-mini", 0, False, None),
        ("omni-moderation", 0, True, None),
    ],
)
async def test_reasoning_models_get_no_sampling(
    model: str, logprobs: int, sampling: bool, effort: str | None
) -> None:
    request = ChatRequest(MESSAGES, 8, 0.8, 0.9, logprobs)
    body = OpenAIChat(PROVIDERS["openai"], "http://127.0.0.1:9", model, None).request_body(request)
    assert ({"temperature", "top_p"} <= set(body), body.get("reasoning_effort")) == (sampling, effort)
    same = OpenAIChat(PROVIDERS["vllm"], "http://127.0.0.1:9", model, None).request_body(request)
    assert {"temperature", "top_p"} <= set(same)


@pytest.mark.parametrize(
    "base_url",
    ["", "localhost:8000", "ftp://x", "http://", "http://[::1", "http://localhost:abc/v1", "http://x:99999/v1"],
)
async def test_a_malformed_address_is_named(base_url: str) -> None:
    with pytest.raises(BitnetError, match="not an http"):
        await ask(base_url)


async def test_a_key_with_a_line_break_is_refused_without_showing_it() -> None:
    with pytest.raises(BitnetError, match="characters that no key has") as caught:
        await ask("http://127.0.0.1:9/v1", key="sk-abc\ndef")
    assert "sk-abc" not in str(caught.value)
