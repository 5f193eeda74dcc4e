"""Keys and clicks one after the other: the next one waits until the one before has done its work.

A key goes through the queues of the focused widget and of all around it before its action runs. In a burst (a paste,
a slow connection) the next keys would meanwhile go to the widget that had the focus before that action moved it, and
a click would take the focus before what was typed has reached its field.
"""

import contextlib
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from textual import events
from textual.dom import DOMNode
from textual.errors import NoWidget
from textual.message_pump import MessagePump

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import App
    from textual.screen import Screen

Typed = events.Key | events.Paste | events.MouseDown | events.MouseUp
_ROUNDS = 2
"""In the first one its action runs; in the second what that has sent, such as that a field was submitted."""
_LONGEST_SECONDS = 0.5
"""A key waits no longer, unless it acts on a screen that is opening: the one before may have gone to a widget that is
gone."""
_OPENING_SECONDS = 3.0
"""A key that acts on a screen that is opening waits no longer: its disk may hang."""
_LOOK_SECONDS = 0.01
"""How often it is looked whether a screen that a key has opened is ready."""


class _Waiting(NamedTuple):
    event: Typed
    screen: "Screen[Any]"


class Keystrokes:
    """`send` handles a key as Textual does, and then calls `sent`."""

    def __init__(self, app: "App[None]", send: "Callable[[Typed], object]") -> None:
        self._app = app
        self._send = send
        self._waiting: deque[_Waiting] = deque()
        self._number = 0
        """Of the key that is at work."""
        self._at_work = False
        self._begun = 0.0
        """When its work began, by the monotonic clock."""
        self.arrived: float | None = None
        """When that key came, by the monotonic clock; None while none is at work."""
        self._screen: Screen[Any] | None = None
        """The one that was shown when it began."""
        self._coming: Screen[Any] | None = None
        """The last screen that was not ready when a key came to it."""
        self._coming_since = 0.0
        """When the first such key came, by the monotonic clock."""

    def take(self, event: Typed) -> bool:
        """Whether it is its turn. If not, it is sent when it is. Escape leaves a screen that takes long to open."""
        if self._at_work and self._opening and self._key_of(event) == "escape":
            self.forget()
        if not self._at_work and not self._comes_early(event):
            self._begin(event)
            return True
        self._waiting.append(_Waiting(event, self._app.screen))
        if not self._at_work:
            self._await_screen()
        elif len(self._waiting) == 1:
            self._limit()
        return False

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def forget(self) -> None:
        """Drop those that wait, so that the next one is at once at work."""
        self._waiting.clear()
        self._at_work = False

    def say_that_some_are_lost(self) -> None:
        self._app.notify("Too many keys came at once; only the first ones were taken.", severity="warning")

    def sent(self, focused: DOMNode | None) -> None:
        """The key went to this widget, which had the focus."""
        self._follow(self._number, focused, _ROUNDS)

    def _begin(self, event: Typed) -> None:
        self._at_work, self._begun, self.arrived = True, time.monotonic(), event.time
        self._number += 1
        self._screen = self._app.screen
        if self._waiting:
            self._limit()

    def _comes_early(self, event: Typed) -> bool:
        """Whether it acts on a screen that is being made, at the start of the app or when none of its keys led there.

        It waits as if the key before it had opened that screen.
        """
        screen = self._app.screen
        if screen.is_modal or getattr(screen, "ready", True):
            self._coming = None
            return False
        if self._coming is not screen:
            self._coming, self._coming_since = screen, time.monotonic()
        late = time.monotonic() - self._coming_since >= _OPENING_SECONDS
        return not (late or self._key_of(event) == "escape" or self._of_the_app(event))

    def _await_screen(self) -> None:
        self._at_work, self._begun, self._screen = True, self._coming_since, None
        self._number += 1
        self._look(self._number)

    def _limit(self) -> None:
        self._app.set_timer(_LONGEST_SECONDS, partial(self._look, self._number))

    def _follow(self, number: int, focused: DOMNode | None, rounds: int) -> None:
        start = focused or self._app.screen
        self._pass_on(number, [*start.ancestors_with_self], rounds)

    def _pass_on(self, number: int, pumps: list[MessagePump], rounds: int) -> None:
        """Go through the queues as the key does, after it."""
        while pumps:
            if pumps.pop(0).call_later(self._pass_on, number, pumps, rounds):
                return
        if number != self._number or not self._app.screen_stack:
            return
        if rounds > 1:
            self._follow(number, self._app.focused, rounds - 1)
        else:
            self._look(number)

    def _look(self, number: int) -> None:
        """A screen that the key has opened takes what is typed next."""
        if number == self._number and self._at_work and self._app.screen_stack and self._holds:
            self._app.set_timer(_LOOK_SECONDS, partial(self._look, number))
        else:
            self._end(number)

    @property
    def _holds(self) -> bool:
        """Whether what waits is for a screen or a tab that is opening. Keys of the whole app need no screen."""
        now = time.monotonic()
        if now - self._begun >= _OPENING_SECONDS:
            return False
        if not self._opening:
            return getattr(self._app.screen, "turning", False)
        return not any(
            self._of_the_app(one.event) and (place == 0 or now - one.event.time >= _LONGEST_SECONDS)
            for place, one in enumerate(self._waiting)
        )

    def _of_the_app(self, event: Typed) -> bool:
        """Whether the key does the same on every screen. Until a screen has a focus, a field may yet take the key."""
        screen = self._app.screen
        if screen.is_modal or screen.focused is None:
            return False
        found = screen.active_bindings.get(self._key_of(event))
        return found is not None and found.node is self._app

    def _key_of(self, event: Typed) -> str:
        """The key, or the one at the foot that the mouse is pressed on; empty if it is none."""
        if isinstance(event, events.Key):
            return event.key
        if isinstance(event, events.MouseDown):
            from textual.widgets._footer import FooterKey  # after the first paint

            with contextlib.suppress(NoWidget):
                pressed = self._app.screen.get_widget_at(event.x, event.y)[0]
                return pressed.key if isinstance(pressed, FooterKey) else ""
        return ""

    @property
    def _opening(self) -> bool:
        """Whether a screen that the key at work has opened is not ready for the next one."""
        screen = self._app.screen
        if screen.is_modal:
            return not (screen.is_mounted and (screen.focused or screen is self._screen))
        return screen is not self._screen and not getattr(screen, "ready", True)

    def _end(self, number: int) -> None:
        if number != self._number or not self._at_work:
            return
        self._at_work, self.arrived, self._screen = False, None, None
        while self._waiting and not self._at_work:
            one = self._waiting.popleft()
            # What was typed at a dialog that has closed since was not meant for what is below it.
            if one.screen in self._app.screen_stack:
                self._begin(one.event)
                self._app.call_later(self._send, one.event)
