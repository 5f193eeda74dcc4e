"""The beginning of an answer, now and then, for those who watch: its tokens with the mass of Other at each."""

import codecs
import time
from collections.abc import Callable

import numpy as np
from msgspec import structs

from bitnet_core.collecting.answers import ReadAnswer
from bitnet_core.collecting.requests import Request
from bitnet_core.runs.events import Trace
from bitnet_core.text import crop, flat

_SECONDS, _PART = 2.0, 300
"""At most one in two seconds, and no more often than this part of the time that the run has taken: a long run's file
stays small, and a short one seems to be live."""
_TOKENS, _PIECE_CHARS, _PROMPT_CELLS = 120, 40, 160


class Newest:
    """Chooses the answers that are shown. `redact` masks keys in a text."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._began = time.monotonic()
        self._last = -float("inf")

    def added_to(self, event: Trace, request: Request, read: ReadAnswer) -> Trace:
        """The event with the beginning of the answer; unchanged if the answer was rejected or comes too soon.

        An answer with a key in it is not shown: it could not be masked, because tokens cut it in pieces.
        """
        now = time.monotonic()
        if read.answer is None or now - self._last < max(_SECONDS, (now - self._began) / _PART):
            return event
        pieces = _pieces(read)
        if self._redact(text := "".join(pieces)) != text:
            return event
        self._last = now
        return structs.replace(
            event,
            prompt=crop(flat(str(request.prompt.messages[-1].get("content", ""))[:1000]), _PROMPT_CELLS),
            pieces=[piece[:_PIECE_CHARS] for piece in pieces],
            piece_other=[round(float(mass), 3) for mass in np.exp(read.answer.mass.other_N[:_TOKENS])],
        )


def _pieces(read: ReadAnswer) -> list[str]:
    """The text of each of the first steps; a character in pieces is in the last of them."""
    if read.answer is None:
        return []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    steps, before = read.answer.steps, read.answer.bytes_before
    spellings = steps.table.spellings
    return [
        decoder.decode(before.get(row, b"") + spellings[number])
        for row, number in enumerate(steps.sampled_N[:_TOKENS].tolist())
    ]
