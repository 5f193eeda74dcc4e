"""The wire format of OpenAI's chat completions, which most servers speak, and the dialects of those that differ."""

import re
from collections.abc import Mapping
from typing import Any

from bitnet_core.teachers.answers.body import read_chat_completion
from bitnet_core.teachers.answers.json_body import OneOfSeveral, as_object
from bitnet_core.teachers.answers.parts import text_of
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.chat import ChatRequest, Fold, HttpChat
from bitnet_core.teachers.wire.prompt_logprobs import scored_body
from bitnet_core.tokenizer.finish import has_ended, worse_finish

_REASONING = re.compile(r"(?:gpt-5(?!.*chat)|o\d)")
"""From litellm's and the AI SDK's tables of 2026: gpt-5-chat is not a reasoning model."""


class _Chunks(Fold):
    """`chat.completion.chunk` objects; the last ones bring usage and timings."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._failure: Any = None
        self._content: list[Any] = []
        self._finish: Any = None
        self._saw_logprobs = False
        self._choice = OneOfSeveral()
        self._name: Any = None
        self._name_is_the_answers = False

    def add(self, event: Mapping[str, Any]) -> str:
        for field in ("model", "provider", "system_fingerprint", "usage", "timings"):
            if event.get(field):
                self._head[field] = event[field]
        choice = self._choice.own(event, "choices")
        delta = as_object(choice.get("delta"))
        text, refusal = text_of(delta.get("content")), delta.get("refusal")
        if refusal:
            self._refusal.append(refusal if isinstance(refusal, str) else "refused")
        self._failure = self._failure or choice.get("error")
        content = as_object(choice.get("logprobs")).get("content")
        if isinstance(content, list):
            self._saw_logprobs = True
            self._content += content
        if text:
            self._require_same_answer(event.get("id"))
        if text and self.complete:  # this server gives a reason before the end
            self.ends_once = False
        if has_ended(choice.get("finish_reason")):
            self._finish = worse_finish(self._finish, choice["finish_reason"])
            self.complete = True
        self._text.append(text or "")
        return text or ""

    def _require_same_answer(self, name: Any) -> None:
        """BadReply for a piece of another answer, as a gateway sends that asks again in the middle of one.

        Some servers give each piece an id of its own, so only one that came twice is the answer's.
        """
        if self._name_is_the_answers and name and name != self._name:
            raise BadReply("malformed", "a second answer begins in the middle of the stream")
        self._name_is_the_answers = self._name_is_the_answers or (bool(name) and name == self._name)
        self._name = self._name if self._name_is_the_answers else name

    def answer_body(self) -> dict[str, Any]:
        choice = {
            "message": {
                "role": "assistant",
                "content": "".join(self._text),
                "refusal": "".join(self._refusal) or None,
            },
            "finish_reason": self._finish,
            "error": self._failure,
            "logprobs": {"content": self._content} if self._saw_logprobs else None,
        }
        return {**self._head, "choices": [choice]}


class OpenAIChat(HttpChat):
    """POST /chat/completions."""

    fold = _Chunks

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def path(self, *, stream: bool) -> str:  # noqa: ARG002 - the body says it
        return "/chat/completions"

    def request_body(self, request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
        name = self.provider.name
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in request.messages],
            self.provider.limit_field: request.max_tokens,
            "stream": stream,
        }
        if request.top_logprobs > 0 or not self._reasons():
            body |= self._sampling(request)
        if stream and self.provider.usage_in_stream:
            body["stream_options"] = {"include_usage": True}
        if request.seed is not None and self.provider.seeds:
            body["seed"] = request.seed
        if name == "deepseek":
            # By default it thinks first, and then it silently ignores the temperature.
            body["thinking"] = {"type": "disabled"}
        if name == "openrouter" and (self.upstream or request.top_logprobs > 0):
            # Otherwise it may route to an upstream that silently omits logprobs, or to another one than was probed.
            only = {"order": [self.upstream], "allow_fallbacks": False} if self.upstream else {}
            body["provider"] = {**only, "require_parameters": True}
        if request.given is not None:
            said = {"role": "assistant", "content": request.given.text}
            scoring = {"prompt_logprobs": request.top_logprobs, "add_generation_prompt": False}
            return body | {"messages": [*body["messages"], said], self.provider.limit_field: 1, **scoring}
        if request.top_logprobs <= 0:
            return body
        if self.provider.integer_logprobs:
            body["logprobs"] = request.top_logprobs
        else:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if self._reasons() and self.model.startswith("gpt-5"):
            # These models give logprobs, and take a temperature, only if they don't reason.
            body["reasoning_effort"] = "none"
        return body

    def _sampling(self, request: ChatRequest) -> dict[str, float]:
        own = self.provider.own_sampling
        meant = {"temperature": request.temperature, "top_p": request.top_p}
        return {**own, **{name: value for name, value in meant.items() if value != 1 or name in own or self.explicit}}

    def _reasons(self) -> bool:
        """Whether it is one of OpenAI's reasoning models, which refuse any sampling but their own."""
        return self.provider.name == "openai" and _REASONING.match(self.model) is not None

    def answer_of(self, body: bytes, request: ChatRequest) -> bytes:
        return body if request.given is None else scored_body(body, request.given, request.max_tokens)

    read_body = staticmethod(read_chat_completion)
