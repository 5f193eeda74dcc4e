"""Why an answer ended: one name for what each provider calls it. Pure."""

from collections.abc import Iterable
from typing import Any

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
_WORSE = ("length", FILTERED, "error")
"""Reasons why an answer is not whole, the worst last."""
_NOT_YET = ("null", "none")
_FINISH_BY_NAME = {name: common for common, names in _FINISHES.items() for name in names}


def common_finish(reason: str) -> str | None:
    """The common name of a provider's own, None if it is unknown."""
    # Gemini, asked in OpenAI's format, names the filter behind a colon.
    return _FINISH_BY_NAME.get(reason.lower().partition(":")[0].strip())


def has_ended(reason: Any) -> bool:
    """Whether a finish reason says that the answer has ended: some servers write "null" until then."""
    return bool(reason) and not (isinstance(reason, str) and reason.strip().lower() in _NOT_YET)


def worse_finish(one: Any, other: Any) -> Any:
    """Of two reasons that a server gives for one answer the worse one, else the later: `stop` may end any stream."""
    ranks = [_WORSE.index(name) if (name := common_finish(str(reason))) in _WORSE else -1 for reason in (one, other)]
    return one if ranks[0] > ranks[1] else other


def cut_by_filter(reasons: Iterable[str | None]) -> list[bool]:
    """Which of these answers a filter cut. An earlier version kept them, with the provider's own name for it."""
    return [common_finish(reason or "") == FILTERED for reason in reasons]
