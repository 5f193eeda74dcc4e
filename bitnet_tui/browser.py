"""The driver of an app whose screen is a page in a browser; `web/server.py` passes its bytes on."""

import codecs
import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from textual.drivers._byte_stream import ByteStream
from textual.drivers.web_driver import WebDriver, _ExitInput
from textual.messages import ExitApp

from bitnet_tui.flood import Bounded
from bitnet_tui.sequences import AnySequences

if TYPE_CHECKING:
    from textual.app import App

_SHARE = 4096
"""Bytes of what is typed."""


class InBrowser(Bounded, WebDriver):
    """As Textual's, but any sequence may be typed, and the app ends when the server that it talks to is gone."""

    def __init__(self, app: "App[Any]", **options: Any) -> None:
        super().__init__(app, **options)
        self._write = partial(self._send)

    def _send(self, data: bytes) -> int:
        """Drop what a server that is gone does not take; what it types has ended, too, and ends the app."""
        with contextlib.suppress(OSError):
            return os.write(self.fileno, data)
        return 0

    def run_input_thread(self) -> None:
        try:
            self._read()
        except _ExitInput:
            pass
        finally:
            self._input_reader.close()
        if not self.exit_event.is_set():
            self._app.call_later(self._app.post_message, ExitApp())

    def _read(self) -> None:
        """Pass on what the server sends: what is typed ("D"), and what it tells of the page."""
        packets, parser = ByteStream(), AnySequences(self._debug)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        silent = False
        for received in self._input_reader:  # nothing after each share, and when nothing comes
            for kind, content in packets.feed(received) if received else ():
                if kind != "D":
                    self._on_meta(kind, content)
                    continue
                for start in range(0, len(content), _SHARE):
                    if self.exit_event.is_set():  # reading on takes a minute for some megabytes
                        return
                    for message in parser.feed(decoder.decode(content[start : start + _SHARE])):
                        self.process_message(message)
            if silent and not received:
                self.look_whether_it_is_over()
            silent = not received
            for message in parser.tick():
                self.process_message(message)
