"""Which bodies of requests llama.cpp gets to see: JSON with the fields that are known here, written anew.

Some grammars make llama.cpp exit (50,000 brackets), and others keep it busy for ever (twelve times `(a?){99}`). It
makes a grammar of each JSON schema and each tool, so these are refused, too. Pure.
"""

import orjson

from bitnet_core.serving.request import Refused
from bitnet_core.text import flat

_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "top_n_sigma", "seed", "ignore_eos"),
    *("presence_penalty", "frequency_penalty", "repeat_penalty", "repetition_penalty", "repeat_last_n"),
    *("xtc_probability", "xtc_threshold", "dynatemp_range", "dynatemp_exponent", "logit_bias"),
    *("dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"),
)
_LENGTH = ("max_tokens", "max_completion_tokens", "n_predict", "n", "stop")
_ANSWER = (
    *("stream", "stream_options", "logprobs", "top_logprobs", "n_probs", "post_sampling_probs", "return_tokens"),
    *("timings_per_token", "return_progress", "cache_prompt", "echo", "suffix", "best_of"),
)
_CHAT = (
    *("messages", "response_format", "chat_template_kwargs", "add_generation_prompt"),
    *("reasoning_format", "reasoning_effort"),
)
_NOTES = ("user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "verbosity")
"""They change no answer."""
FIELDS = frozenset({"model", "prompt", *_SAMPLING, *_LENGTH, *_ANSWER, *_CHAT, *_NOTES})
_FORMATS = ({"type": "text"}, {"type": "json_object"})
_REASONING = ("none", "auto", "deepseek", "deepseek-legacy")
_TEXTS = ("role", "name", "reasoning_content", "tool_call_id")
"""Fields of a message."""
_MOST_BREAKERS = 16
"""llama.cpp compares each of these with every token of the vocabulary, and answers nothing meanwhile."""
_MOST_PROMPTS, _MOST_MESSAGES = 256, 2048
"""llama.cpp keeps several kB for each prompt before it answers the first, and reads many messages for minutes."""
_SHOWN = 60


def rewritten(body: bytes) -> bytes:
    """The body that is sent to llama.cpp. Refused, with the reason, if llama.cpp must not see it."""
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"The body is not JSON ({error}).") from None
    if not isinstance(asked, dict):
        raise Refused(400, "The body is not a JSON object.")
    given = {name: value for name, value in asked.items() if value is not None}
    for name in given:
        if name not in FIELDS:
            raise Refused(400, f"This server does not accept {flat(name)[:_SHOWN]!r}; leave it out.")
    if given.get("response_format", _FORMATS[0]) not in _FORMATS:
        raise Refused(400, "This server can't answer by a JSON schema; use the response_format json_object.")
    if given.get("reasoning_format", "none") not in _REASONING:
        raise Refused(400, f"reasoning_format is none of {', '.join(_REASONING)}; use one of them.")
    breakers = given.get("dry_sequence_breakers")
    if isinstance(breakers, list) and len(breakers) > _MOST_BREAKERS:
        raise Refused(400, f"dry_sequence_breakers has more than {_MOST_BREAKERS} texts; leave some out.")
    prompts = given.get("prompt")
    if isinstance(prompts, list) and sum(type(one) is not int for one in prompts) > _MOST_PROMPTS:
        raise Refused(413, f"The request has more than {_MOST_PROMPTS} prompts; send them in several.")
    if isinstance(messages := given.get("messages"), list):
        if len(messages) > _MOST_MESSAGES:
            raise Refused(413, f"The request has more than {_MOST_MESSAGES:,} messages; leave the oldest out.")
        given["messages"] = [_checked(message, number) for number, message in enumerate(messages, 1)]
    try:
        return orjson.dumps(given)
    except TypeError:  # orjson writes fewer levels than it reads
        raise Refused(400, "The body is nested too deeply.") from None


def _checked(message: object, number: int) -> dict[str, object]:
    """The message without what is null. Refused if llama.cpp would call it a fault of the server."""
    if not isinstance(message, dict):
        raise Refused(400, f"Message {number} is not a JSON object.")
    given = {name: value for name, value in message.items() if value is not None or name == "content"}
    for name in _TEXTS:
        if not isinstance(given.get(name, None if name == "role" else ""), str):
            raise Refused(400, f"The {name} of message {number} is not a text.")
    if given.get("tool_calls"):
        raise Refused(400, f"Message {number} has tool calls, and this server knows no tools; leave them out.")
    parts = given.get("content")
    for part in parts if isinstance(parts, list) else ():
        kind = part.get("type") if isinstance(part, dict) else part
        if kind != "text":
            shown = flat(str(kind))[:_SHOWN]
            raise Refused(400, f"Message {number} has a part of the type {shown!r}; this server reads text alone.")
        if not isinstance(part.get("text"), str):
            raise Refused(400, f"A part of message {number} has no text.")
    return given
