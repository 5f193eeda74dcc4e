"""Why an answer ended, in one vocabulary: OpenAI's `stop`, `length`, `content_filter`, …

The names come from the vendors' references: `eos` is Together's, `eos_token` and `stop_sequence` TGI's,
`model_length` Mistral's, `insufficient_system_resource` DeepSeek's, `abort` vLLM's and SGLang's, `end_turn` and
`max_tokens` Anthropic's; Gemini writes its own in capitals.
"""

from typing import Any

from bitnet_core.teachers.answers.errors import BadReply

_NAMES = {
    "stop": ("stop", "eos", "eos_token", "stop_sequence", "end_turn", "end", "complete"),
    "length": (
        *("length", "max_tokens", "max_output_tokens", "max_length", "model_length"),
        "model_context_window_exceeded",
    ),
    "content_filter": (
        *("content_filter", "content-filter", "refusal", "safety", "recitation", "language", "blocklist"),
        *("prohibited_content", "spii", "image_safety"),
    ),
    "error": (
        *("error", "failed", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource"),
        *("malformed_function_call", "other", "finish_reason_unspecified"),
    ),
}
_BY_NAME = {name: common for common, names in _NAMES.items() for name in names}


def finish_of(reason: Any) -> str:
    """The common name, "" for None, the server's own name if it is unknown. BadReply if it means a failure."""
    if reason is None:
        return ""
    if not isinstance(reason, str):
        raise BadReply("malformed", "the finish reason is not a string")
    name = _BY_NAME.get(reason.lower(), reason)
    if name == "error":
        raise BadReply("error", f"the server reports that it failed while answering ({reason})")
    return name
