"""Why an answer ended, in one vocabulary: OpenAI's `stop`, `length`, `content_filter`, …

The names are from the vendors' references: `eos` is Together's, `eos_token` and `stop_sequence` TGI's, `model_length`
Mistral's, `insufficient_system_resource` DeepSeek's, `abort` vLLM's and SGLang's, `end_turn` and `max_tokens`
Anthropic's, those in capitals Gemini's.
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


def finish_of(told: Any) -> str:
    """The common name, "" for none told, the server's own for one that is not known. BadReply for a failure."""
    if told is None:
        return ""
    if not isinstance(told, str):
        raise BadReply("malformed", "the reason of the answer's end is no text")
    name = _BY_NAME.get(told.lower(), told)
    if name == "error":
        raise BadReply("error", f"the server says that it failed on the way ({told})")
    return name
