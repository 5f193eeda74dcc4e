"""The text of an answer while it grows: whole characters, up to the first stop string. It knows no model."""

import codecs
from collections.abc import Sequence

from bitnet_core.errors import UsageError


class TextStream:
    """Takes an answer's bytes as they come, and gives its text as soon as that is certain.

    Half a character is held back, and so is what may be the beginning of a stop string. The text ends before the stop
    string that is complete first; of those that end at the same character, before the longest. Bytes that are not
    UTF-8 become U+FFFD. UsageError for an empty stop string.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        if not all(stops):
            raise UsageError("A stop string is empty; give at least one character, or leave it out.")
        self.text = ""
        """What was given so far."""
        self.stopped = False
        self._stops = sorted(stops, key=len, reverse=True)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    def feed(self, data: bytes, *, last: bool = False) -> str:
        """The text that is certain now and was not before; after the `last` bytes, all that is left."""
        if self.stopped:
            return ""
        given = "".join(map(self._step, self._decoder.decode(data, final=last)))
        if last and not self.stopped:
            given, self._held = given + self._held, ""
        self.text += given
        return given

    def _step(self, char: str) -> str:
        """What one character makes certain."""
        if self.stopped:
            return ""
        self._held += char
        for stop in self._stops:
            if self._held.endswith(stop):
                self.stopped = True
                return self._held[: -len(stop)]
        kept = self._possible()
        certain, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        return certain

    def _possible(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        most = min(len(self._held), len(self._stops[0]) - 1) if self._stops else 0
        ends = (size for size in range(most, 0, -1) if any(one.startswith(self._held[-size:]) for one in self._stops))
        return next(ends, 0)
