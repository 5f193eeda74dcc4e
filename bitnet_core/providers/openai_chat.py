"""The wire format of OpenAI's chat completions, which most servers speak, and the dialects of those that differ."""

from collections.abc import Mapping
from typing import Any

from bitnet_core.providers import quick_reply
from bitnet_core.providers.chat import ChatRequest, Fold, HttpChat
from bitnet_core.providers.replies import ChatResult, parse_chat
from bitnet_core.traces.steps import TokenTable


class OpenAIChat(HttpChat):
    """POST /chat/completions."""

    @staticmethod
    def headers(key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def path(self, *, stream: bool) -> str:  # noqa: ARG002 - the body says it
        return "/chat/completions"

    def payload(self, request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
        name = self.provider.name
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in request.messages],
            self.provider.limit_field: request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stream": stream,
        }
        if stream and self.provider.usage_in_stream:
            body["stream_options"] = {"include_usage": True}
        if request.seed is not None and self.provider.seeds:
            body["seed"] = request.seed
        if name == "deepseek":
            # It thinks first unless told not to, and thinking ignores the temperature without a word.
            body["thinking"] = {"type": "disabled"}
        if request.top_logprobs <= 0:
            return body
        if self.provider.integer_logprobs:
            body["logprobs"] = request.top_logprobs
        else:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if name == "openrouter":
            # Else it may route to an upstream that leaves the logprobs out without a word.
            body["provider"] = {"require_parameters": True}
        if name == "openai" and self.model.startswith("gpt-5"):
            # These models have logprobs only when they don't reason.
            body["reasoning_effort"] = "none"
        return body

    @staticmethod
    def parse(payload: Any, body: bytes, table: TokenTable) -> ChatResult:
        return parse_chat(payload, body, table)

    @classmethod
    def read(cls, body: bytes, table: TokenTable) -> ChatResult:
        return quick_reply.read(body, table)

    def fold(self) -> Fold:
        return _Chunks()

    async def models(self) -> list[str]:
        payload = await self._listed("/models")
        # Together answers with the bare list.
        listed = payload.get("data") if isinstance(payload, dict) else payload
        entries = listed if isinstance(listed, list) else []
        return sorted(str(entry["id"]) for entry in entries if isinstance(entry, dict) and entry.get("id"))


class _Chunks(Fold):
    """`chat.completion.chunk` objects; the last ones bring usage and timings."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._text: list[str] = []
        self._content: list[Any] = []
        self._finish: str | None = None
        self._saw_logprobs = False

    def add(self, event: Mapping[str, Any]) -> str:
        for field in ("model", "usage", "timings"):
            if event.get(field):
                self._head[field] = event[field]
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else None
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self._saw_logprobs = True
            self._content += logprobs["content"]
        if choice.get("finish_reason"):
            self._finish = choice["finish_reason"]
            self.complete = True
        if isinstance(text, str):
            self._text.append(text)
            return text
        return ""

    def payload(self) -> dict[str, Any]:
        choice = {
            "message": {"role": "assistant", "content": "".join(self._text)},
            "finish_reason": self._finish,
            "logprobs": {"content": self._content} if self._saw_logprobs else None,
        }
        return {**self._head, "choices": [choice]}
