"""What a terminal sends, read as keys, mouse and pastes. A sequence that makes no sense does nothing.

Textual's parser ends the app at key codes that are not characters, at the sub-parameters of kitty's keyboard
protocol, which another program may have left switched on. It takes what follows an escape sequence inside a paste for
keys, keeps a paste of any length, and waits for its end for ever. It believes any size of the window that is typed,
which the kernel knows better.
"""

import re
from collections.abc import Iterable
from time import monotonic

from textual._xterm_parser import BRACKETED_PASTE_END, BRACKETED_PASTE_START, XTermParser
from textual.events import AppBlur, AppFocus, Key, Paste, Resize
from textual.keys import Keys
from textual.message import Message
from textual.messages import InBandWindowResize

MOST_PASTED = 20_000
"""Characters. A field that holds more is slow."""
PASTE_SECONDS = 3.0
"""After this time without a byte, the end of a paste counts as lost. On a slow line it may still come."""
_KEY = re.compile(
    r"\x1b\[(?P<code>\d*)(?P<others>:[\d:]*)?"
    r"(?:;(?P<modifiers>\d*)(?P<event>:\d*)?(?P<text>;[\d:]*)?)?(?P<end>[u~A-S])",
    re.ASCII,
)
"""kitty's `CSI code:shifted:base ; modifiers:event ; text u`, or another end."""
_RELEASED = ":3"


class AnySequences(XTermParser):
    """As Textual's parser, for any sequence. Of a paste it yields one character more than MOST_PASTED at most.

    A paste that is longer, or whose end does not come, is told without its end; the rest is not read as keys either.
    """

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._before = ""
        """The last characters outside of a paste: its mark may be cut."""
        self._pasted: list[str] | None = None
        """What has come of a paste, while one comes."""
        self._mark = ""
        """What may be the beginning of the mark that ends it."""
        self._told = False
        """Whether the paste was told before its end."""
        self._heard = 0.0
        """When something came of a paste, by `monotonic`."""
        self._ended_late = False
        """Whether the end of the last paste is still to come, if it ever does."""

    def feed(self, data: str) -> Iterable[Message]:
        """As in Textual, but of reports of the focus that follow one another only the last.

        For each of them every widget is styled again, and a flood of them keeps the app busy for half a minute.
        """
        focus: AppFocus | AppBlur | None = None
        for message in self._messages(data):
            if isinstance(message, AppFocus | AppBlur):
                focus = message
                continue
            if focus:
                yield focus
            focus = None
            yield message
        if focus:
            yield focus

    def _messages(self, data: str) -> Iterable[Message]:
        """The parser itself never sees what is pasted."""
        if self._ended_late and BRACKETED_PASTE_END in data.partition(BRACKETED_PASTE_START)[0]:
            self._pasted, self._ended_late = [], False
        while data:
            if self._pasted is None:
                head, begun, data = self._until_paste(data)
                for message in super().feed(head + (BRACKETED_PASTE_END if begun else "")):
                    if not isinstance(message, Paste | Resize | InBandWindowResize):
                        yield message
                if begun:
                    self._pasted, self._told, self._ended_late = [], False, False
                    self._heard = monotonic()
            else:
                self._heard = monotonic()
                data = self._mark + data
                text, ended, data = data.partition(BRACKETED_PASTE_END)
                self._mark = "" if ended else _beginning_of_mark(text)
                self._keep(text.removesuffix(self._mark), self._pasted)
                if ended or self._is_full:
                    yield from self._tell()
                if ended:
                    self._pasted = None

    def tick(self) -> Iterable[Message]:
        """As in Textual, and a paste whose end does not come is over."""
        yield from super().tick()
        if self._pasted is not None and monotonic() - self._heard >= PASTE_SECONDS:
            yield from self._tell()
            self._told = self._is_full
            self._pasted, self._mark, self._ended_late = None, "", True

    @property
    def waits(self) -> bool:
        """Whether `tick` may have something to tell before more is typed."""
        return self._timeout_time is not None or self._pasted is not None

    @property
    def _is_full(self) -> bool:
        return sum(map(len, self._pasted or ())) > MOST_PASTED

    def _tell(self) -> Iterable[Paste]:
        if not self._told:
            yield Paste("".join(self._pasted or ()))
        self._told = True

    def _until_paste(self, data: str) -> tuple[str, bool, str]:
        """What comes up to the end of the mark of a paste, whether there is one, and the rest."""
        seen = self._before + data
        head, begun, rest = seen.partition(BRACKETED_PASTE_START)
        head = (head + begun)[len(self._before) :]
        self._before = "" if begun else seen[1 - len(BRACKETED_PASTE_START) :]
        return head, bool(begun), rest

    @staticmethod
    def _keep(text: str, pasted: list[str]) -> None:
        room = MOST_PASTED + 1 - sum(map(len, pasted))
        if kept := text.replace("\x00", "")[:room]:
            pasted.append(kept)

    def _sequence_to_key_events(self, sequence: str, alt: bool = False) -> Iterable[Key]:
        found = _KEY.fullmatch(sequence)
        if found and (found["others"] or found["event"]):
            if found["event"] == _RELEASED:
                return [Key(Keys.Ignore, sequence)]
            sequence = f"\x1b[{found['code']};{found['modifiers'] or ''}{found['text'] or ''}{found['end']}"
        try:
            return list(super()._sequence_to_key_events(sequence, alt))
        except (ValueError, OverflowError):
            return [Key(Keys.Ignore, sequence)]

    def parse_mouse_code(self, code: str) -> Message | None:
        self.mouse_pixels = False
        return super().parse_mouse_code(code)


def _beginning_of_mark(text: str) -> str:
    """The end of the text that may be the beginning of what ends a paste."""
    place = text.rfind("\x1b", 1 - len(BRACKETED_PASTE_END))
    return text[place:] if place >= 0 and BRACKETED_PASTE_END.startswith(text[place:]) else ""
