"""The terminal as Textual's driver sees it, for any bytes typed and any encoding of the output.

It knows nothing of screens. Textual's driver reads UTF-8 strictly, and ends in a traceback with the values of
variables; it writes what the encoding lacks as escapes of up to ten cells, which push the rest of the line away.
"""

import codecs
import os
import selectors
import unicodedata

from rich.cells import cell_len
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

from bitnet_core.terminal import SIGNS

_READ_BYTES = 4096
_READ_SECONDS = 0.1
_NARROW = {"→": ">", "←": "<", "≤": "<", "≥": ">", "…": "."}
_PLAIN_CELLS = "bitnet-plain-cells"


class AnyTerminal(LinuxDriver):
    """Typed bytes that are not UTF-8 become `�`; what the output's encoding lacks becomes a sign just as wide."""

    def run_input_thread(self) -> None:
        """As in Textual, but nothing that is typed can't be decoded."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        parser = XTermParser(self._debug)
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if selector.select(_READ_SECONDS):
                    text = decoder.decode(os.read(self.fileno, _READ_BYTES))
                    for message in parser.feed(text) if text else ():
                        self.process_message(message)
                for message in parser.tick():
                    self.process_message(message)

    def _run_input_thread(self) -> None:
        """As in Textual, but what fails is reported as any other bug of the app is."""
        try:
            self.run_input_thread()
        except Exception as error:  # noqa: BLE001 - a thread's exception reaches nobody else
            self._app.call_later(self._app._handle_exception, error)

    def write(self, data: str) -> None:
        super().write(in_cells(data, getattr(self._file, "encoding", "utf-8")))


def in_cells(text: str, encoding: str) -> str:
    """The text with a plain sign of the same width for each that the encoding lacks."""
    if text.isascii() or encoding.lower().startswith("utf"):
        return text
    return text.encode(encoding, _PLAIN_CELLS).decode(encoding)


def _plain_cells(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_sign(char) * cell_len(char) for char in missing), error.end


def _sign(char: str) -> str:
    """One plain character in the place of this one."""
    if (sign := _NARROW.get(char) or SIGNS.get(char, "")) and len(sign) == 1:
        return sign
    words = unicodedata.name(char, "").split()
    if words[:2] == ["BRAILLE", "PATTERN"]:  # a curve
        return " " if words[2] == "BLANK" else "*"
    if words[:2] == ["BOX", "DRAWINGS"]:
        lies, stands = {"HORIZONTAL", "LEFT", "RIGHT"} & {*words}, {"VERTICAL", "UP", "DOWN"} & {*words}
        return "+" if lies and stands else "|" if stands else "-"
    if "BLOCK" in words or "EIGHTH" in words:  # an edge, or a filled cell
        return "-" if {"UPPER", "LOWER"} & {*words} else "|" if {"LEFT", "RIGHT"} & {*words} else "#"
    if "TRIANGLE" in words:
        return "v" if "DOWN-POINTING" in words else "^" if "UP-POINTING" in words else ">"
    return "?"


codecs.register_error(_PLAIN_CELLS, _plain_cells)
