"""What comes from a terminal or a page is bounded: of a flood of keys only the first are taken."""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, cast

from textual.driver import Driver
from textual.events import InputEvent

if TYPE_CHECKING:
    from textual.message import Message

MOST_WAITING = 1000
"""More keys than anybody types: they are a text whose paste is not marked, or a file shown by mistake."""


class _Keystrokes(Protocol):
    def __len__(self) -> int: ...
    def forget(self) -> None: ...
    def say_that_some_are_lost(self) -> None: ...


class _Typist(Protocol):
    """The app, as far as it knows of keys."""

    keystrokes: "_Keystrokes"

    def leaves(self, event: "Message") -> bool: ...


class Bounded(Driver):
    """A driver that takes no more keys than the app can work on."""

    _flooded = False
    _sent = _posted = 0
    """Messages to the app, and those of them that are in its queue or have been."""

    def process_message(self, message: "Message") -> None:
        """As in Textual, but of a flood of keys only the first are taken, until all have done their work.

        One that ends the app is taken, and the others that wait are dropped: each needs about 1.6 kB and 2 ms.
        """
        if isinstance(message, InputEvent):
            typist = cast("_Typist", self._app)
            if not self._flooded and self._waiting >= MOST_WAITING:
                self._flooded = True
                self._loop.call_soon_threadsafe(typist.keystrokes.say_that_some_are_lost)
            if self._flooded and not typist.leaves(message):
                return
            if self._flooded:
                self._loop.call_soon_threadsafe(typist.keystrokes.forget)
        super().process_message(message)

    def look_whether_it_is_over(self) -> None:
        """To be called when nothing is typed: keys are taken again once all have done their work."""
        self._flooded = self._flooded and self._waiting > 0

    def send_message(self, message: "Message") -> None:
        """As in Textual."""
        self._sent += 1
        posted = asyncio.run_coroutine_threadsafe(self._app._post_message(message), self._loop)
        posted.add_done_callback(self._count_posted)

    def _count_posted(self, _posted: object) -> None:
        self._posted += 1

    @property
    def _waiting(self) -> int:
        """How many messages from the terminal have not done their work, about."""
        app: Any = self._app
        return int(self._sent - self._posted + app._message_queue.qsize() + len(app.keystrokes))
