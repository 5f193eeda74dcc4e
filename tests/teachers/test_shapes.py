"""Shapes of answers, a file each, kept, mended, or refused: written after what vendors document and users report.

What becomes of a whole sequence is asked of the collection itself, so that nothing can be stored as good by the way.
"""

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.teachers.chat import (
    ChatRequest,
    ChatResult,
    ContextExceeded,
    HttpChat,
    KeyRefused,
    NoLogprobs,
    QuotaSpent,
)
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.wire.anthropic import AnthropicMessages
from bitnet_core.teachers.wire.gemini import GeminiContent
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.mass import step_fault
from bitnet_core.tokenizer.steps import TeacherStep, TokenTable
from bitnet_core.traces.answer import check_answer
from bitnet_core.traces.project import project
from bitnet_core.traces.vocabulary import Vocabulary
from tests.teachers.server import Asked, Canned, ChatServer
from tests.traces.samples import small_tokenizer

FOLDER = Path(__file__).parent / "fixtures"
REQUEST = ChatRequest([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], 8, 0.8, 0.9, 2)
KEY = "sk-very-secret-1234567890"


def canned(name: str, status: int = 200, **more: Any) -> Canned:
    data = (FOLDER / name).read_bytes()
    kind = {".json": "application/json", ".html": "text/html", ".sse": "text/event-stream"}[Path(name).suffix]
    return Canned(data, status, {"Content-Type": kind}, **more)


def parsed(name: str, wire: type[HttpChat] = OpenAIChat) -> ChatResult:
    body = (FOLDER / name).read_bytes()
    return wire.read_answer(body, TokenTable())


def steps_of(result: ChatResult) -> list[TeacherStep]:
    assert result.steps is not None
    return [result.steps.step(row) for row in range(len(result.steps))]


@pytest.mark.parametrize(
    ("name", "text", "repairs"),
    [
        ("openai_plain.json", "Hello!", {}),
        ("openai_sampled_outside.json", "Hello!", {}),
        ("openai_fewer_candidates.json", "Hello!", {}),
        ("openai_one_more_candidate.json", "Hello!", {}),
        ("openai_emoji_in_halves.json", "😀", {}),
        ("openai_filtered.json", "Hello", {}),
        ("vllm_without_bytes.json", "Hi é", {}),
        ("lmdeploy_raw_tokens.json", " the café", {"raw_tokens": 2}),
        ("llamacpp_plain.json", "A 東", {}),
        ("lmdeploy_raw_tokens_and_end.json", " the café", {"raw_tokens": 3, "spelled_end": 1}),
        ("together_lists.json", "Hello!", {"spelled_end": 1}),
        ("spelled_end.json", "Hello!", {"spelled_end": 1, "special_candidates": 1}),
        ("spelled_end_cut.json", "Hello!", {"special_candidates": 1}),
        ("ollama_half_candidates.json", "Hi é", {"unknown_candidates": 2}),
        ("mistral_model_length.json", "Hello!", {}),
        ("fireworks_token_ids.json", "Hello!", {}),
        ("deepseek_reasoning_field.json", "Hello!", {"special_candidates": 1}),
    ],
)
def test_what_is_kept_has_the_text_byte_for_byte(name: str, text: str, repairs: dict[str, int]) -> None:
    result = parsed(name)
    assert result.text == text
    assert result.text_matches_bytes
    assert b"".join(step.data for step in steps_of(result)) == text.encode()
    assert all(step_fault(step) is None for step in steps_of(result))
    assert result.repairs == repairs


def test_a_completion_cut_inside_a_character_keeps_its_bytes() -> None:
    result = parsed("openai_cut_in_a_character.json")
    assert result.text_matches_bytes
    assert b"".join(step.data for step in steps_of(result)) == b"a\xe6\x9d"
    assert result.finish_reason == "length"


def test_candidates_beside_the_sampled_token_are_all_kept() -> None:
    outside = steps_of(parsed("openai_sampled_outside.json"))[1]
    assert (outside.data, outside.logprob, outside.top_bytes) == (b"!", -6.5, (b".", b" there"))
    more = steps_of(parsed("openai_one_more_candidate.json"))[1]
    assert more.top_bytes == (b".", b" there", b"!")
    assert (parsed("openai_filtered.json").finish_reason) == "content_filter"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("openai_sentinel_sampled.json", "sentinel_logprob"),
        ("openai_sentinel_candidate.json", "sentinel_logprob"),
        ("openai_null_logprob.json", "nan_logprob"),
        ("candidate_without_logprob.json", "nan_logprob"),
        ("minus_infinity_candidate.json", "sentinel_logprob"),
    ],
)
def test_numbers_that_are_none_are_faults(name: str, reason: str) -> None:
    assert reason in [step_fault(step) for step in steps_of(parsed(name))]


@pytest.mark.parametrize("name", ["text_of_other_tokens.json", "vllm_lost_bytes.json"])
def test_tokens_of_another_text_are_told(name: str) -> None:
    try:
        assert not parsed(name).text_matches_bytes
    except BadReply as error:
        assert error.reason == "bytes_missing"


def test_the_end_keeps_its_mass_wherever_it_is_told() -> None:
    for name, second in (("spelled_end.json", (b"!", b"")), ("together_lists.json", (b"!", b""))):
        steps = steps_of(parsed(name))
        assert steps[1].top_bytes == second
        assert steps[1].top_logprobs == (-0.1, -3.2)
        assert (steps[2].data, steps[2].top_bytes[0]) == (b"", b"")
    # Not known to be the end: in nobody's list, so that its mass is in Other.
    for name in ("spelled_end_cut.json", "deepseek_reasoning_field.json"):
        assert steps_of(parsed(name))[1].top_bytes == (b"!",)
    assert parsed("mistral_model_length.json").finish_reason == "length"
    assert parsed("together_lists.json").finish_reason == "stop"


@pytest.mark.parametrize("name", ["spelled_end.json", "spelled_end_cut.json", "ollama_half_candidates.json"])
def test_no_mass_of_what_is_no_text_goes_to_a_token_of_the_student(name: str) -> None:
    tokenizer, table, body = small_tokenizer(), TokenTable(), (FOLDER / name).read_bytes()
    result = OpenAIChat.read_answer(body, table)
    assert result.steps is not None
    vocabulary = Vocabulary(tokenizer, table)
    projection = project(check_answer(result.steps, vocabulary), result.finish_reason, vocabulary)
    candidates = set(projection.topk_ids_RK[projection.topk_ids_RK >= 0].tolist())
    wrong = {tokenizer.encode_bytes(data)[0] for data in (b"<", "\ufffd".encode())}
    assert not candidates & wrong
    assert (tokenizer.eos_id in candidates) == (name == "spelled_end.json")
    kept = np.exp(projection.topk_logprobs_RK).sum(axis=1) + np.exp(projection.other_R)
    assert np.allclose(kept, 1, atol=1e-9)
    assert np.exp(projection.other_R).max() < 0.6


def test_a_silent_null_is_no_logprobs() -> None:
    assert parsed("openrouter_silent_null.json").steps is None


@pytest.mark.parametrize(
    ("name", "wire", "reason"),
    [
        ("openai_refusal.json", OpenAIChat, "refused"),
        ("gemini_blocked.json", GeminiContent, "refused"),
        ("gemini_uneven.json", GeminiContent, "malformed_logprobs"),
        ("anthropic_overloaded.json", AnthropicMessages, "no_choice"),
        ("deepseek_out_of_resources.json", OpenAIChat, "error"),
        ("openrouter_error_in_choice.json", OpenAIChat, "error"),
        ("gemini_blocked.json", OpenAIChat, "no_choice"),
    ],
)
def test_what_can_not_be_used_has_a_reason(name: str, wire: type[HttpChat], reason: str) -> None:
    with pytest.raises(BadReply) as caught:
        parsed(name, wire)
    assert caught.value.reason == reason


def test_gemini_has_ids_and_no_bytes() -> None:
    result = parsed("gemini_logprobs.json", GeminiContent)
    first, second = steps_of(result)
    assert (first.token_id, first.data, first.top_ids) == (9259, b"Hello", (9259, 2151))
    assert (second.token_id, second.logprob, second.top_bytes) == (236888, -6.5, (b".", b" there"))
    assert (result.prompt_tokens, result.completion_tokens, result.finish_reason) == (4, 2, "stop")
    assert result.text_matches_bytes


def test_anthropic_counts_what_was_read_from_its_cache() -> None:
    result = parsed("anthropic_message.json", AnthropicMessages)
    assert (result.text, result.steps, result.finish_reason) == ("Hi! My name is Claude.", None, "stop")
    assert (result.prompt_tokens, result.completion_tokens) == (2110, 503)


@contextlib.contextmanager
def serving(*answers: Canned) -> Iterator[ChatServer]:
    def answer(number: int, _asked: Asked) -> Canned:
        return answers[min(number, len(answers) - 1)]

    with ChatServer(answer) as server:
        yield server


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
async def test_each_refusal_is_told_apart(
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
async def test_a_stream_cut_in_the_middle_is_no_answer(hang_up: bool) -> None:
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


async def test_a_server_that_is_overloaded_before_it_has_said_anything_is_asked_again() -> None:
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
async def test_a_stream_that_is_no_answer_has_a_reason(events: list[Any], reason: str) -> None:
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
    assert asked.body["temperature"] == 1.0
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
        ("custom", {"nothing": 1}, []),
    ],
)
async def test_models_are_listed(provider: str, body: Any, found: list[str]) -> None:
    with serving(Canned(body)) as server:
        async with client(server, provider) as chat:
            assert await chat.models() == found


async def test_a_prompt_that_is_too_long_is_told_in_every_format() -> None:
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


def test_a_mass_above_one_is_a_fault() -> None:
    step = steps_of(parsed("openai_plain.json"))[0]
    assert (
        step_fault(TeacherStep(-1, b"a", 0.0, (-1, -1), (b"a", b"b"), (math.log(0.9), math.log(0.2))))
        == "mass_above_one"
    )
    assert step_fault(step) is None
