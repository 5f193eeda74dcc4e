"""Drives a page of Chromium in tests."""

import base64
import re
from typing import Any

_DRAWN = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_PLACED = re.compile(rb"\x1b\[(\d+);\d+H")


class Browser:
    """A page of Chromium, driven over its debugging socket. It sees what the page's websocket brings."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._number = 0
        self.drawn = b""
        self.requested: list[str] = []
        self.row = 0
        """Of the text that was waited for."""

    async def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        await self._connection.send_json(message | ({"sessionId": session} if session else {}))
        while True:
            told = await self._next()
            if told.get("id") == number:
                assert "error" not in told, told
                result: dict[str, Any] = told["result"]
                return result

    async def _next(self) -> dict[str, Any]:
        told: dict[str, Any] = await self._connection.receive_json(timeout=60)
        parameters = told.get("params", {})
        if told.get("method") == "Network.webSocketFrameReceived":
            frame = parameters["response"]
            if frame["opcode"] == 2:
                self.drawn += base64.b64decode(frame["payloadData"])
        elif told.get("method") == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        return told

    async def press(self, key: str, session: str) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", session, type=kind, key=key, text=key)

    async def click(self, x: int, y: int, session: str) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", session, type=kind, x=x, y=y, button="left", clickCount=1)

    async def until(self, text: str) -> None:
        """Wait until the app has drawn the text since the last call."""
        while text.encode() not in _DRAWN.sub(b"", self.drawn):
            await self._next()
        before = self.drawn[: self.drawn.rindex(text.encode())]
        if placed := list(_PLACED.finditer(before)):
            self.row = int(placed[-1][1]) - 1 + before[placed[-1].end() :].count(b"\n")
        self.drawn = b""
