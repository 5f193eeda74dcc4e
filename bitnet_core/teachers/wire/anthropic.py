"""The wire format of Anthropic's Messages API. It has no logprobs, so it serves chat and the baseline only."""

from collections.abc import Mapping
from typing import Any

from bitnet_core.teachers.answers.json_body import as_object, decode
from bitnet_core.teachers.answers.parts import text_of
from bitnet_core.teachers.answers.result import BadReply, ChatResult, finish_of, no_text, short_name, token_count
from bitnet_core.teachers.chat import ChatRequest, Fold, HttpChat
from bitnet_core.tokenizer.steps import TokenTable

_BLOCKS = {"content_block_start": "content_block", "content_block_delta": "delta"}
"""Events that hold a part of the answer, and its field."""


class _Events(Fold):
    """message_start, content_block_delta …, message_delta, message_stop."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._text: dict[int, list[str]] = {}
        """The pieces of each block's text, by its index."""

    def add(self, event: Mapping[str, Any]) -> str:
        kind = event.get("type")
        if not isinstance(kind, str | None):
            raise BadReply("malformed", "the type of an event is not a string")
        delta = as_object(event.get("delta"))
        if kind == "message_start" and isinstance(event.get("message"), dict):
            if self._message:
                raise BadReply("malformed", "a second answer begins in the middle of the stream")
            self._message = dict(event["message"])
            self._usage |= as_object(self._message.get("usage"))
            return self._add(-1, self._message.get("content"))
        if kind == "message_delta":
            self._message["stop_reason"] = delta.get("stop_reason") or self._message.get("stop_reason")
            self._usage |= as_object(event.get("usage"))
        elif kind == "message_stop":
            self.complete = True
        elif kind in _BLOCKS:
            return self._add(event.get("index"), event.get(_BLOCKS[kind]))
        return ""

    def _add(self, index: Any, part: Any) -> str:
        text = text_of(part) or ""
        self._text.setdefault(index if isinstance(index, int) else 0, []).append(text)
        return text

    def answer_body(self) -> dict[str, Any]:
        text = "".join(piece for _, pieces in sorted(self._text.items()) for piece in pieces)
        content = [{"type": "text", "text": text}]
        return {**self._message, "content": content, "usage": self._usage}


class AnthropicMessages(HttpChat):
    """POST /messages."""

    fold = _Events
    models_path = "/models?limit=1000"

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        return {"x-api-key": key, "anthropic-version": "2023-06-01"}

    def path(self, *, stream: bool) -> str:  # noqa: ARG002 - the body says it
        return "/messages"

    def request_body(self, request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
        system = "\n\n".join(message["content"] for message in request.messages if message["role"] == "system")
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in request.messages if message["role"] != "system"],
            "max_tokens": request.max_tokens,
            "stream": stream,
        }
        if system:
            body["system"] = system
        # At most 1 is allowed, and newer models take either a temperature or top_p, not both. What is left out is
        # told by `requested_sampling`.
        if request.temperature < 1:
            body["temperature"] = request.temperature
        elif request.top_p < 1:
            body["top_p"] = request.top_p
        return body

    @staticmethod
    def read_body(body: bytes, table: TokenTable | None) -> ChatResult:  # noqa: ARG004 - it reports no tokens
        payload = decode(body)
        blocks = as_object(payload).get("content")
        if not isinstance(blocks, list):
            raise BadReply("no_choice", "the answer holds no content")
        finish_reason = finish_of(payload.get("stop_reason"))
        text = text_of(blocks)
        if not text:
            raise no_text(finish_reason)
        usage = as_object(payload.get("usage"))
        cached = ("cache_read_input_tokens", "cache_creation_input_tokens")
        return ChatResult(
            text=text,
            finish_reason=finish_reason,
            prompt_tokens=sum(token_count(usage.get(name), 0) for name in ("input_tokens", *cached)),
            completion_tokens=token_count(usage.get("output_tokens"), 0),
            model=short_name(payload.get("model")),
            body=body,
        )
