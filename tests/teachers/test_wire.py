"""The wire formats against a real local server: what each sends, streams, refusals and lists of models."""

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.chat import ChatRequest, HttpChat
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import ContextExceeded, KeyRefused, NoLogprobs, QuotaSpent
from tests.teachers.server import Canned, ChatServer, canned, serving

REQUEST = ChatRequest([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], 8, 0.8, 0.9, 2)
KEY = "sk-very-secret-1234567890"


def client(server: ChatServer, provider: str, model: str = "m") -> HttpChat:
    profile = PROVIDERS[provider]
    return WIRES[profile.wire](profile, server.base_url, model, KEY, first_wait=0.01)


@pytest.mark.parametrize(
    ("name", "status", "provider", "kind", "said"),
    [
        ("openai_quota.json", 429, "openai", QuotaSpent, "quota at openai is spent"),
        ("deepseek_balance.json", 402, "deepseek", QuotaSpent, "add credit"),
        ("gemini_day_spent.json", 429, "gemini", QuotaSpent, "quota at gemini is spent"),
        ("openai_gpt5_refuses.json", 400, "openai", NoLogprobs, "choose another model, or .*embedded"),
        ("groq_refuses.json", 400, "groq", NoLogprobs, "embedded"),
        ("gemini_no_logprobs.json", 400, "gemini", NoLogprobs, "not enabled for models/gemini-3.5-flash"),
        ("gemini_key_refused.json", 400, "gemini", KeyRefused, "GEMINI_API_KEY"),
        ("openrouter_error_in_200.json", 200, "openrouter", BitnetError, "Provider returned error"),
        ("gateway_page.html", 200, "openai", BitnetError, "a web page instead of JSON"),
        ("anthropic_overloaded.json", 529, "anthropic", BitnetError, "keeps failing .*Overloaded"),
    ],
)
async def test_each_refusal_has_its_own_error(
    name: str, status: int, provider: str, kind: type[BitnetError], said: str
) -> None:
    with serving(canned(name, status)) as server:
        async with client(server, provider) as chat:
            with pytest.raises(kind, match=said) as caught:
                await chat.chat(REQUEST, attempts=2)
    assert KEY not in str(caught.value)
    passing = status == 529 or name in ("openrouter_error_in_200.json", "gateway_page.html")
    assert len(server.asked) == (2 if passing else 1)


async def test_a_rate_limit_that_calls_itself_a_quota_is_waited_for() -> None:
    with serving(canned("gemini_rate_limited.json", 429), canned("gemini_logprobs.json")) as server:
        async with client(server, "gemini") as chat:
            assert (await chat.chat(REQUEST)).text == "Hello!"
        assert chat._http.pace.refusals == 1


@pytest.mark.parametrize(
    ("name", "provider", "pieces", "tokens"),
    [
        ("openai_stream.sse", "openai", ["Hello", "!"], (19, 2)),
        ("anthropic_stream.sse", "anthropic", ["Hello", "!"], (25, 15)),
        ("gemini_stream.sse", "gemini", ["Hel", "lo!"], (4, 2)),
    ],
)
async def test_a_stream_gives_its_pieces_and_the_whole(
    name: str, provider: str, pieces: list[str], tokens: tuple[int, int]
) -> None:
    said: list[str] = []
    with serving(canned(name)) as server:
        async with client(server, provider) as chat:
            result = await chat.chat(REQUEST, on_text=said.append)
    assert said == pieces
    assert result.text == "Hello!"
    assert (result.prompt_tokens, result.completion_tokens) == tokens
    assert result.finish_reason == "stop"
    assert (result.steps is not None) == (provider == "openai")


@pytest.mark.parametrize("hang_up", [False, True])
async def test_a_stream_cut_in_the_middle_is_not_an_answer(hang_up: bool) -> None:
    name = "openai_stream.sse" if hang_up else "openai_stream_cut.sse"
    with serving(canned(name, hang_up=hang_up)) as server:
        async with client(server, "openai") as chat:
            with pytest.raises(BadReply) as caught:
                await chat.chat(REQUEST, on_text=lambda _text: None)
    assert caught.value.reason == "stream_cut"


async def test_an_error_inside_a_stream_and_a_server_that_does_not_stream() -> None:
    with serving(canned("openai_stream_error.sse")) as server:
        async with client(server, "openai") as chat:
            with pytest.raises(BadReply, match="HTTP 500") as caught:
                await chat.chat(REQUEST, on_text=lambda _text: None)
    assert caught.value.reason == "stream_cut"
    assert len(server.asked) == 1
    with serving(canned("openai_plain.json")) as server:
        async with client(server, "openai") as chat:
            assert (await chat.chat(REQUEST, on_text=lambda _text: None)).text == "Hello!"


def sse(*events: Any) -> Canned:
    body = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)
    return Canned(body.encode(), headers={"Content-Type": "text/event-stream"})


async def test_a_server_overloaded_before_its_first_event_is_asked_again() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with serving(sse(error), canned("anthropic_stream.sse")) as server:
        async with client(server, "anthropic") as chat:
            assert (await chat.chat(REQUEST, on_text=lambda _text: None)).text == "Hello!"
    assert len(server.asked) == 2


def chunk(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **more}]}


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([chunk("Hi"), "[DONE]"], "stream_cut"),
        ([chunk("Hi"), chunk("", finish_reason="error"), "[DONE]"], "error"),
        ([chunk("Hi"), chunk("", finish_reason="stop", error={"code": 502, "message": "broke"}), "[DONE]"], "error"),
        ([chunk("", delta={"refusal": "I can't."}), chunk("", finish_reason="stop"), "[DONE]"], "refused"),
        ([chunk("Hi"), "{not JSON"], "not_json"),
        ([chunk("Hi \ud83d"), chunk("", finish_reason="stop"), "[DONE]"], "malformed_text"),
    ],
)
async def test_a_stream_that_is_not_an_answer_has_a_reason(events: list[Any], reason: str) -> None:
    with serving(sse(*events)) as server:
        async with client(server, "openai") as chat:
            with pytest.raises(BadReply) as caught:
                await chat.chat(REQUEST, on_text=lambda _text: None)
    assert caught.value.reason == reason


async def test_what_each_format_sends() -> None:
    with serving(canned("anthropic_message.json")) as server:
        async with client(server, "anthropic") as chat:
            await chat.chat(ChatRequest(REQUEST.messages, 8, 1.5, 0.9))
    (asked,) = server.asked
    assert asked.path == "/v1/messages"
    assert asked.headers["x-api-key"] == KEY
    assert asked.headers["anthropic-version"]
    assert asked.body["system"] == "Be brief."
    assert "temperature" not in asked.body  # at most 1 is allowed, which is the default
    assert [message["role"] for message in asked.body["messages"]] == ["user"]
    with serving(canned("gemini_logprobs.json")) as server:
        async with client(server, "gemini", "gemini-2.5-flash") as chat:
            await chat.chat(REQUEST)
    (asked,) = server.asked
    assert asked.path == "/v1/models/gemini-2.5-flash:generateContent"
    assert asked.headers["x-goog-api-key"] == KEY
    assert asked.body["generationConfig"] == {
        "temperature": 0.8,
        "topP": 0.9,
        "maxOutputTokens": 8,
        "responseLogprobs": True,
        "logprobs": 2,
        "thinkingConfig": {"thinkingBudget": 0},
    }
    assert asked.body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}


@pytest.mark.parametrize(
    ("provider", "model", "wanted"),
    [
        ("together", "m", {"logprobs": 2}),
        ("deepseek", "deepseek-chat", {"thinking": {"type": "disabled"}}),
        ("openai", "gpt-5.1", {"reasoning_effort": "none", "max_completion_tokens": 8}),
    ],
)
async def test_dialects(provider: str, model: str, wanted: dict[str, Any]) -> None:
    with serving(canned("openai_plain.json")) as server:
        async with client(server, provider, model) as chat:
            await chat.chat(REQUEST)
    body = server.asked[0].body
    assert body | wanted == body
    assert ("top_logprobs" in body) == (provider != "together")


@pytest.mark.parametrize(
    ("provider", "body", "found"),
    [
        ("openai", {"object": "list", "data": [{"id": "b"}, {"id": "a"}]}, ["a", "b"]),
        ("together", [{"id": "x", "object": "model"}], ["x"]),
        ("anthropic", {"data": [{"type": "model", "id": "claude"}], "has_more": False}, ["claude"]),
        (
            "gemini",
            {
                "models": [
                    {"name": "models/g", "supportedGenerationMethods": ["generateContent"]},
                    {"name": "models/e", "supportedGenerationMethods": ["embedContent"]},
                ]
            },
            ["g"],
        ),
        ("custom", {"data": None}, []),
    ],
)
async def test_models_are_listed(provider: str, body: Any, found: list[str]) -> None:
    with serving(Canned(body)) as server:
        async with client(server, provider) as chat:
            assert await chat.models() == found


async def test_a_prompt_that_is_too_long_is_recognized_in_every_format() -> None:
    said = {
        "openai": {
            "error": {"message": "This model's maximum context length is 8 tokens", "code": "context_length_exceeded"}
        },
        "anthropic": {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"},
        },
        "gemini": {"error": {"code": 400, "message": "The input token count (9) exceeds the maximum"}},
    }
    for provider, body in said.items():
        with serving(Canned(body, 400)) as server:
            async with client(server, provider) as chat:
                with pytest.raises(ContextExceeded):
                    await chat.chat(REQUEST)


@pytest.mark.parametrize("methods", [5, True, None, {"generateContent": 1}, "generateContent", [["generateContent"]]])
async def test_a_model_whose_methods_are_no_list_is_left_out(methods: object) -> None:
    listed = [{"name": "models/x", "supportedGenerationMethods": one} for one in (methods, ["generateContent"])]
    listed[1]["name"] = "models/good"
    with serving(Canned({"models": listed})) as server:
        async with client(server, "gemini") as chat:
            assert await chat.models() == ["good"]


@pytest.mark.parametrize("token", ["a\nb", "\x00", "a&key=b#c", "\ud800", "é", "../x"])
async def test_the_token_of_the_next_page_stays_in_its_place(token: str) -> None:
    with serving(Canned({"models": [], "nextPageToken": token}), Canned({"models": []})) as server:
        async with client(server, "gemini") as chat:
            assert await chat.models() == []
    found = parse_qs(server.asked[1].path.partition("?")[2], keep_blank_values=True)
    assert found == {"pageSize": ["1000"], "pageToken": [token.encode(errors="replace").decode()]}


@pytest.mark.parametrize("token", [5, True, ["a"], {"a": 1}, None, ""])
async def test_a_token_that_is_none_ends_the_list(token: object) -> None:
    with serving(Canned({"models": [], "nextPageToken": token})) as server:
        async with client(server, "gemini") as chat:
            assert await chat.models() == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("model", ["a\nb", "\x00", "x" * 100_000, "\ud800"])
async def test_a_model_that_makes_no_address_is_said(model: str) -> None:
    with serving(Canned({})) as server:
        async with WIRES["gemini"](PROVIDERS["gemini"], server.base_url, model, "k", first_wait=0.01) as chat:
            with pytest.raises(BitnetError, match="is not an address that can be asked"):
                await chat.chat(REQUEST)
    assert not server.asked
