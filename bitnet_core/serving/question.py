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
    try:
        return orjson.dumps(given)
    except TypeError:  # orjson writes fewer levels than it reads
        raise Refused(400, "The body is nested too deeply.") from None
