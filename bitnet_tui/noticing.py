"""Short notices over the head line, where nothing can be pressed: how long they stay, and what takes them away.

A notice goes when its reading time is over, or at the next key or click. While nobody is there it waits.
"""

import time
from typing import TYPE_CHECKING

from textual import events
from textual.notifications import Notification, Notify
from textual.widgets._toast import Toast

from bitnet_core.text import printable
from bitnet_tui.remedies import in_app
from bitnet_tui.shell import Shell

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

_MARKS = {"information": "", "warning": "! ", "error": "✗ "}
_AWAY_SECONDS = 60.0
"""Without a key or the mouse for so long, nobody is there."""
_GLANCE_SECONDS = 1.0
"""A key this soon after a notice was not an answer to it."""
_KEPT_SECONDS = 24 * 3600.0
_MOST_WAITING = 20


def reading_seconds(text: str) -> float:
    """How long a notice stays for somebody who is there."""
    return 3 + len(text) / 20


class Noticing(Shell):
    """The part of the app that shows notices."""

    _acted = _came = 0.0
    """When somebody last used the keyboard or the mouse, and since when somebody has been there; `_now`."""

    @staticmethod
    def _now() -> float:
        return time.time()  # as Textual dates its notifications

    @property
    def _away(self) -> bool:
        return abs(self._now() - self._acted) > _AWAY_SECONDS

    def on_load(self) -> None:
        self._acted = self._came = self._now()

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: "SeverityLevel" = "information",
        timeout: float | None = None,
        markup: bool = False,  # noqa: ARG002 - a widget passes True if it was not told
    ) -> None:
        """As in Textual, but in one line if there is room, never with markup, and for as long as it takes to read."""
        text = _MARKS[severity] + ": ".join(filter(None, (printable(title), printable(in_app(message)))))
        seconds = _KEPT_SECONDS if self._away else max(timeout or 0.0, reading_seconds(text))
        super().notify(text, severity=severity, timeout=seconds, markup=False)

    def on_notify(self, event: Notify) -> None:
        """One more is about to be added: the one that said the same goes, and the oldest of too many."""
        waiting = list(self._notifications)
        same = [one for one in waiting if one.message == event.notification.message]
        for one in (*same, *waiting[: 1 - _MOST_WAITING]):
            self._dismiss(one)

    def person_is_there(self, event: events.InputEvent) -> None:
        """Somebody types or uses the mouse: what waited for them is read now, and what was read goes."""
        now = self._now()
        if self._away:
            self._came = now
            for waiting in self._notifications:
                self.set_timer(reading_seconds(waiting.message), lambda one=waiting: self._dismiss(one))
        self._acted = now
        if isinstance(event, events.Key | events.Paste | events.MouseDown):
            for one in list(self._notifications):
                if abs(now - max(one.raised_at, self._came)) > _GLANCE_SECONDS:
                    self._dismiss(one)

    def _dismiss(self, notification: Notification) -> None:
        for toast in self.screen.query(Toast) if self.screen_stack else ():
            if toast._notification is notification:
                toast._expire()
        self._unnotify(notification)
