"""Why an answer ended: one name for what each provider calls it. Pure."""

from collections.abc import Iterable

_FINISHES = {
    "stop": ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "end", "complete"),
    "length": (
        *("length", "max_tokens", "max_output_tokens", "max_length", "model_length"),
        "model_context_window_exceeded",
    ),
    "content_filter": (
        *("content_filter", "content-filter", "refusal", "safety", "recitation", "language", "blocklist"),
        *("prohibited_content", "spii", "image_safety", "model_armor", "sensitive", "error_toxic", "blacklist"),
        *("content_filtered", "guardrail_intervened"),
    ),
    "error": (
        *("error", "failed", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource"),
        *("malformed_function_call", "other", "finish_reason_unspecified"),
    ),
}
"""Why an answer ended, in OpenAI's words, and what the vendors' references call it: `eos` is Together's, `eos_token`
and `stop_sequence` TGI's, `model_length` Mistral's, `insufficient_system_resource` DeepSeek's, `abort` vLLM's and
SGLang's, `end_turn` and `max_tokens` Anthropic's; Gemini writes its own in capitals. `sensitive` is Zhipu's,
`error_toxic` Cohere's, `blacklist` GigaChat's; `content_filtered` and `guardrail_intervened` are Bedrock's."""
FILTERED = "content_filter"
"""A filter cut the answer: what there is of it is not all that the teacher would have said."""
_FINISH_BY_NAME = {name: common for common, names in _FINISHES.items() for name in names}


def common_finish(reason: str) -> str | None:
    """The common name of a provider's own, None if it is unknown."""
    # Gemini, asked in OpenAI's format, names the filter behind a colon.
    return _FINISH_BY_NAME.get(reason.lower().partition(":")[0].strip())


def cut_by_filter(reasons: Iterable[str | None]) -> list[bool]:
    """Which of these answers a filter cut. An earlier version kept them, with the provider's own name for it."""
    return [common_finish(reason or "") == FILTERED for reason in reasons]
