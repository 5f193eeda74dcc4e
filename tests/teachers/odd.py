"""One odd reply, and what is made of it: the text of an answer."""

import json
from typing import Any

from bitnet_core.teachers.chat import CallOptions, ChatRequest
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.profiles import PROVIDERS
from tests.teachers.server import Canned, chat_body, serving

REQUEST = ChatRequest(({"role": "user", "content": "Hi"},), 16, 0.7, 1.0)
NAMES = {"openai": "custom", "anthropic": "anthropic", "gemini": "gemini"}
GOOD = chat_body("Hello", None)
SSE = {"Content-Type": "text/event-stream"}


def piece(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish, **more}]}


def events(*found: dict[str, Any], before: bytes = b"") -> bytes:
    return before + b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in found)


async def text_of(canned: Canned, wire: str = "openai", **options: Any) -> str:
    chosen: CallOptions = {"attempts": 1, **options}
    key = None if wire == "openai" else "k"
    with serving(canned) as server:
        async with WIRES[wire](PROVIDERS[NAMES[wire]], server.base_url, "m", key, first_wait=0.01) as chat:
            return (await chat.chat(REQUEST, **chosen)).text


async def streamed(body: bytes, wire: str = "openai", status: int = 200, kind: str = SSE["Content-Type"]) -> str:
    return await text_of(Canned(body, status, {"Content-Type": kind}), wire, on_text=lambda _: None)
