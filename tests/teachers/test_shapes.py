"""Answers in files, written after what vendors document and users report: each is kept, repaired or refused.

Whole sequences go through the projection too, so that nothing wrong can be stored as good.
"""

import math

import numpy as np
import pytest

from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.chat import HttpChat
from bitnet_core.teachers.wire.anthropic import AnthropicMessages
from bitnet_core.teachers.wire.gemini import GeminiContent
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.mass import step_fault
from bitnet_core.tokenizer.steps import TeacherStep, TokenTable
from bitnet_core.traces.answer import check_answer
from bitnet_core.traces.project import project
from bitnet_core.traces.vocabulary import Vocabulary
from tests.teachers.server import FIXTURES, steps_of
from tests.traces.samples import small_tokenizer


def parsed(name: str, wire: type[HttpChat] = OpenAIChat) -> ChatResult:
    body = (FIXTURES / name).read_bytes()
    return wire.read_answer(body, TokenTable())


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
def test_an_answer_that_is_kept_has_the_text_byte_for_byte(name: str, text: str, repairs: dict[str, int]) -> None:
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


def test_candidates_that_were_not_sampled_are_all_kept() -> None:
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
def test_missing_and_sentinel_logprobs_are_faults(name: str, reason: str) -> None:
    assert reason in [step_fault(step) for step in steps_of(parsed(name))]


@pytest.mark.parametrize("name", ["text_of_other_tokens.json", "vllm_lost_bytes.json"])
def test_tokens_of_another_text_are_detected(name: str) -> None:
    try:
        assert not parsed(name).text_matches_bytes
    except BadReply as error:
        assert error.reason == "bytes_missing"


def test_the_end_keeps_its_mass_wherever_it_is_listed() -> None:
    for name, second in (("spelled_end.json", (b"!", b"")), ("together_lists.json", (b"!", b""))):
        steps = steps_of(parsed(name))
        assert steps[1].top_bytes == second
        assert steps[1].top_logprobs == (-0.1, -3.2)
        assert (steps[2].data, steps[2].top_bytes[0]) == (b"", b"")
    # Not recognized as the end: in no list, so that its mass is in Other.
    for name in ("spelled_end_cut.json", "deepseek_reasoning_field.json"):
        assert steps_of(parsed(name))[1].top_bytes == (b"!",)
    assert parsed("mistral_model_length.json").finish_reason == "length"
    assert parsed("together_lists.json").finish_reason == "stop"


@pytest.mark.parametrize("name", ["spelled_end.json", "spelled_end_cut.json", "ollama_half_candidates.json"])
def test_no_mass_of_special_tokens_goes_to_a_token_of_the_student(name: str) -> None:
    tokenizer, table, body = small_tokenizer(), TokenTable(), (FIXTURES / name).read_bytes()
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


def test_null_means_no_logprobs() -> None:
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
def test_an_unusable_answer_has_a_reason(name: str, wire: type[HttpChat], reason: str) -> None:
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


def test_anthropic_prompts_read_from_its_cache_are_counted() -> None:
    result = parsed("anthropic_message.json", AnthropicMessages)
    assert (result.text, result.steps, result.finish_reason) == ("Hi! My name is Claude.", None, "stop")
    assert (result.prompt_tokens, result.completion_tokens) == (2110, 503)


def test_a_mass_above_one_is_a_fault() -> None:
    step = steps_of(parsed("openai_plain.json"))[0]
    assert (
        step_fault(TeacherStep(-1, b"a", 0.0, (-1, -1), (b"a", b"b"), (math.log(0.9), math.log(0.2))))
        == "mass_above_one"
    )
    assert step_fault(step) is None
