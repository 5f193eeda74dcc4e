"""vLLM's logprobs of a prompt, as the body of an answer: the prompt ends with an answer that is to be scored.

`prompt_logprobs` has an object for each token of the prompt, null for the first: ids as keys, the prompt's own token
first, then the likeliest ones (vllm/logprobs.py, `append_logprobs_for_next_position`). Where the answer begins is
found by its text, so a chat template that changes the text makes the answer unusable. It must not know a request.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bitnet_core.prompts.prompt import Given
from bitnet_core.teachers.answers.json_body import as_list, as_object, decode
from bitnet_core.teachers.answers.result import BadReply, as_bad_reply
from bitnet_core.teachers.answers.token_names import looks_special

_MOST_AFTER = 4
"""Tokens that a template may put after an answer: the end of the turn, a line break."""


def scored_body(body: bytes, given: Given, max_tokens: int) -> bytes:
    """The given answer's tokens as a chat completion of at most `max_tokens`. BadReply if they are not there."""
    with as_bad_reply(body):
        payload = as_object(decode(body))
        told = [as_object(entry) for entry in as_list(payload.get("prompt_logprobs"))]
        if not told:
            raise BadReply("no_logprobs", "the server does not tell the logprobs of a prompt")
        begin, end = _place([_own(entry)[1] for entry in told], given.text)
        kept = told[begin : min(end, begin + max_tokens)]
        text = "".join(_own(entry)[1] for entry in kept)
        whole = given.ends and len(kept) == end - begin < max_tokens and end < len(told)
        if whole and looks_special(_own(told[end])[1]):
            kept.append(told[end])
        else:
            whole = False
        usage = as_object(payload.get("usage"))
        choice = {
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop" if whole else "length",
            "logprobs": {"content": [_step(entry) for entry in kept]},
        }
        made = {
            "model": payload.get("model"),
            "choices": [choice],
            "usage": {"prompt_tokens": usage.get("prompt_tokens"), "completion_tokens": len(kept)},
        }
        return json.dumps(made).encode()


def _place(tokens: Sequence[str], text: str) -> tuple[int, int]:
    """Where the tokens of `text` are: the last ones, but for a few. Templates may strip an answer."""
    for wanted in dict.fromkeys((text, text.strip())):
        for end in range(len(tokens), max(0, len(tokens) - _MOST_AFTER - 1), -1):
            begin, length = end, 0
            while begin > 0 and length < len(wanted):
                begin -= 1
                length += len(tokens[begin])
            if wanted and "".join(tokens[begin:end]) == wanted:
                return begin, end
    raise BadReply("text_differs", "the prompt's tokens don't end with the text that was to be scored")


def _own(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Id and text of the prompt's token; empty for the first, of which nothing is told."""
    index = next(iter(entry), "")
    return index, str(as_object(entry.get(index)).get("decoded_token") or "")


def _step(entry: Mapping[str, Any]) -> dict[str, Any]:
    tokens = [_token(index, as_object(told)) for index, told in entry.items()]
    return {**tokens[0], "top_logprobs": tokens}


def _token(index: str, told: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": int(index), "token": told.get("decoded_token"), "logprob": told.get("logprob")}
