"""A fast teacher behind real HTTP: the embedded tokenizer's ids with made-up but consistent logprobs."""

import math
import random
import time
from collections.abc import Callable
from typing import Any

from bitnet_core.teachers.neutral import MESSAGES
from bitnet_core.tokenizer.steps import TeacherStep
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.teachers.server import Asked, Canned, chat_body

_ANSWERS = (
    "The answer is simple.",
    '{"name": "Bob", "list": [1, 2]}',
    "```python\nprint(1)\n```",
    "Naïve café in 東京 at 10.",
)

Twist = Callable[[int, Asked, dict[str, Any]], Canned | None]


class FakeTeacher:
    """Called by ChatServer. `twist` may change an answer's body in place or return another answer."""

    def __init__(self, tokenizer: StudentTokenizer, twist: Twist | None = None, seconds: float = 0.0) -> None:
        self._tokenizer = tokenizer
        self._twist = twist
        self._seconds = seconds

    def __call__(self, number: int, asked: Asked) -> Canned:
        time.sleep(self._seconds)
        body = self._body(asked)
        changed = self._twist(number, asked, body) if self._twist else None
        return changed or Canned(body)

    def _body(self, asked: Asked) -> dict[str, Any]:
        prompt = asked.body["messages"][-1]["content"]
        # Without the seed: the probe's answer must not depend on it.
        draw = random.Random(prompt)
        text = draw.choice(_ANSWERS) + f" You asked: {prompt[:20]}"
        ids = [*self._tokenizer.encode_plain(text), self._tokenizer.eos_id]
        limit = longest(asked)
        kept = ids[:limit]
        content = [token_json(step(index, self._tokenizer, draw, asked.body["top_logprobs"])) for index in kept]
        said = b"".join(map(self._tokenizer.text_bytes, kept)).decode("utf-8", errors="replace")
        usage = {
            "prompt_tokens": len(self._tokenizer.encode(self._tokenizer.render_prompt(asked.body["messages"]))),
            "completion_tokens": len(kept),
        }
        return chat_body(said, content, usage=usage, finish_reason="length" if len(ids) > limit else "stop")


def step(index: int, tokenizer: StudentTokenizer, draw: random.Random, top_k: int) -> TeacherStep:
    others = draw.sample(range(100, min(40000, tokenizer.vocab_size)), top_k - 1)
    ids = [index, *(other for other in others if other != index)]
    weights = [0.6, *(0.3 * 0.5**place for place in range(1, len(ids)))]
    return TeacherStep(
        token_id=index,
        data=tokenizer.text_bytes(index),
        logprob=math.log(weights[0]),
        top_ids=tuple(ids),
        top_bytes=tuple(tokenizer.text_bytes(other) for other in ids),
        top_logprobs=tuple(map(math.log, weights)),
    )


def token_json(one: TeacherStep) -> dict[str, Any]:
    def token(index: int, data: bytes, logprob: float) -> dict[str, Any]:
        return {"id": index, "token": data.decode(errors="replace"), "bytes": list(data), "logprob": logprob}

    top = zip(one.top_ids, one.top_bytes, one.top_logprobs, strict=True)
    return {**token(one.token_id, one.data, one.logprob), "top_logprobs": [token(*entry) for entry in top]}


def corrupt_second_step(body: dict[str, Any], **fields: Any) -> None:
    """Change fields of an answer's second step (NaN goes over the wire as Python writes it)."""
    body["choices"][0]["logprobs"]["content"][1].update(fields)


def is_probe(asked: Asked) -> bool:
    return list(asked.body["messages"]) == list(MESSAGES)


def longest(asked: Asked) -> int:
    """The request's limit of tokens, under either of its names."""
    return int(asked.body.get("max_completion_tokens") or asked.body["max_tokens"])
