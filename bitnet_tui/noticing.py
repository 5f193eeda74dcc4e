"""Short notices beside or below the title, where nothing can be pressed: how long they stay, what takes them away.

A notice goes when its reading time is over, or at the next key or click. While the user is away it waits. One that
was not asked for takes one line beside the title of the screen, and waits while there is another one.
"""

import re
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, cast

from textual import events
from textual.css.query import NoMatches
from textual.geometry import Region
from textual.notifications import Notification, Notify
from textual.scroll_view import ScrollView
from textual.widget import Widget
from textual.widgets._toast import Toast, ToastHolder, ToastRack

from bitnet_core.text import printable, width, wrap
from bitnet_tui.remedies import in_app
from bitnet_tui.shell import Shell

if TYPE_CHECKING:
    from textual.notifications import SeverityLevel

_MARKS = {"information": "", "warning": "! ", "error": "✗ "}
_AWAY_SECONDS = 60.0
"""Without a key or the mouse for this long, the user counts as away."""
_GLANCE_SECONDS = 1.0
"""A key this soon after a notice was not an answer to it."""
_KEPT_SECONDS = 24 * 3600.0
_MOST_WAITING = 20
_FEWEST_CELLS = 40
"""For a notice beside a long title."""
_GAP = 3
_EDGES = 2
"""Cells of a notice beside its words."""
_CLAUSE_END = re.compile(r"[.;,] ")
_MOST_LINES = 6
"""As the stylesheet has it; more are scrolled."""
_PRESSED = "Button, Input, TextArea, Tabs, StageList, Foot, Titles"
_READ = "#title, #health, #alerts, Table, #checkpoints-heading"
"""What must be in sight while something happens."""


def reading_seconds(text: str) -> float:
    """How long a notice stays for somebody who is there."""
    return 3 + len(text) / 20


class _Notice(Notification):
    """One that is dated by the monotonic clock: the other may be set while it is shown."""

    @property
    def time_left(self) -> float:
        return self.raised_at + self.timeout - monotonic()


class Noticing(Shell):
    """The part of the app that shows notices."""

    _acted = _came = 0.0
    """When somebody last used the keyboard or the mouse, and since when somebody has been there."""
    _beside: Notification | None = None
    """The notice beside the title."""
    _shown: tuple[str, str, "SeverityLevel"]
    """As in `_next`, what it says as far as there was room."""

    @property
    def idle_seconds(self) -> float:
        return monotonic() - self._acted

    @property
    def _away(self) -> bool:
        return self.idle_seconds > _AWAY_SECONDS

    def on_load(self) -> None:
        self._next: deque[tuple[str, str, SeverityLevel]] = deque(maxlen=_MOST_WAITING)
        self._of_runs: dict[str, Notification] = {}
        self._taken_back: deque[str] = deque(maxlen=_MOST_WAITING)
        self._acted = self._came = monotonic()

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
        self.post_message(Notify(self._made(_text(title, message, severity), severity, timeout or 0.0)))

    def _made(self, text: str, severity: "SeverityLevel" = "information", least: float = 0.0) -> Notification:
        seconds = _KEPT_SECONDS if self._away else max(least, reading_seconds(text))
        return _Notice(text, severity=severity, timeout=seconds, raised_at=monotonic())

    def notify_of(self, run: str, message: str) -> None:
        self.take_back(run)
        self._of_runs[run] = self._made(_text("", message, "information"))
        self.post_message(Notify(self._of_runs[run]))

    def take_back(self, run: str) -> None:
        if (one := self._of_runs.pop(run, None)) is not None:
            self._taken_back.append(one.identity)
            self._dismiss(one)

    def notify_beside(self, message: str, *, title: str, severity: "SeverityLevel") -> None:
        """Show an unasked notice, as far as one line has room for whole clauses of it."""
        self._next.append((title, message, severity))
        self._show_next()

    def _show_next(self) -> None:
        if self._next and self._beside is None and not self._notifications:
            title, message, severity = self._shown = self._next.popleft()
            least = len(_text(title, " ", severity))
            text = whole_clauses(_text(title, message, severity), least, self.size.width - self._left - _EDGES)
            both = cast("SeverityLevel", f"{severity} -beside")  # Textual makes classes of it
            self._beside = self._made(text, both)
            self.post_message(Notify(self._beside))

    def _unnotify(self, notification: Notification, refresh: bool = True) -> None:
        """As in Textual, and what waited for its place comes."""
        super()._unnotify(notification, refresh)
        if notification is self._beside:
            self._beside = None
        self.call_later(self._show_next)
        self.call_later(self._place)

    def _refresh_notifications(self) -> None:
        """As in Textual, and the title stays in sight.

        Of a notice that went while another screen was above, Textual leaves the empty place, which would cover it.
        """
        kept = {ToastRack._toast_id(one) for one in self._notifications}
        for holder in self.screen.query(ToastHolder) if self.screen_stack else ():
            if holder.id not in kept:
                holder.remove()
        super()._refresh_notifications()
        self.call_later(self._place)

    @property
    def _title(self) -> int:
        """The cells of the title in sight."""
        return next((cells for one in reversed(self.screen_stack) if (cells := getattr(one, "title_cells", 0))), 0)

    @property
    def _left(self) -> int:
        """The cell at which a notice beside the title begins."""
        return max(0, min(self._title + _GAP, self.size.width - _FEWEST_CELLS))

    def _place(self) -> None:
        """Put the notices beside the title if one line does, else below it, where they cover nothing to press."""
        if not self.screen_stack:
            return
        try:
            rack = self.screen.get_child_by_type(ToastRack)
        except NoMatches:
            return
        beside = self._title + _GAP
        room = self.size.width - beside
        messages = [one.message for one in self._notifications]
        if self._beside:
            top, left = 0, self._left
        elif room >= _FEWEST_CELLS and sum(_lines(one, room) for one in messages) <= 1:
            top, left = 0, beside
        else:
            top, left = self._free_place(messages)
        rack.styles.margin = (top, 0, 0, left)

    def _free_place(self, messages: Sequence[str]) -> tuple[int, int]:
        """The first line and cell below the head from which on notices cover nothing to press or to know, or (1, 0).

        Where there is no such place, they may cover what is only to be read.
        """
        for what in (f"{_PRESSED}, {_READ}", _PRESSED):
            things = [_written(one) for one in self.screen.query(what) if one.region]
            high = [one.right for one in things if one.x == 0 and one.height > self.size.height // 2]
            for left in (0, *high):
                wide = self.size.width - left
                lines = min(_MOST_LINES, sum(_lines(one, wide) for one in messages))
                for top in range(1, self.size.height - lines):
                    if not any(Region(left, top, wide, lines).overlaps(one) for one in things):
                        return top, left
        return 1, 0

    def on_table_rows_changed(self) -> None:
        """Notices may stand where there are rows now."""
        self.call_later(self._place)

    def on_notify(self, event: Notify) -> None:
        """One more is about to be added: the one that said the same goes, and the oldest of too many.

        An unasked notice gives way, and comes again. One that was taken back on its way here is not shown.
        """
        if event.notification.identity in self._taken_back:
            event.prevent_default()
            return
        if self._beside is not None and event.notification is not self._beside:
            self._next.appendleft(self._shown)
            self._dismiss(self._beside)
        waiting = list(self._notifications)
        same = [one for one in waiting if one.message == event.notification.message]
        for one in (*same, *waiting[: 1 - _MOST_WAITING]):
            self._dismiss(one)

    def person_is_there(self, event: events.InputEvent) -> None:
        """Somebody types or uses the mouse: what waited for them is read now, and what was read goes."""
        now = monotonic()
        if self._away:
            self._came = now
            for waiting in self._notifications:
                self.set_timer(reading_seconds(waiting.message), lambda one=waiting: self._dismiss(one))
        self._acted = now
        if isinstance(event, events.Key | events.Paste | events.MouseDown):
            for one in list(self._notifications):
                if now - max(one.raised_at, self._came) > _GLANCE_SECONDS:
                    self._dismiss(one)

    def _dismiss(self, notification: Notification) -> None:
        for toast in self.screen.query(Toast) if self.screen_stack else ():
            if toast._notification is notification:
                toast._expire()
        self._unnotify(notification)


def _written(widget: Widget) -> Region:
    """Where something stands in it; what is empty below the rows of a table may be covered."""
    region = widget.region
    if isinstance(widget, ScrollView):
        return Region(region.x, region.y, region.width, min(region.height, widget.virtual_size.height))
    return region


def whole_clauses(text: str, least: int, cells: int) -> str:
    """As many clauses of a text as fit into the cells, beyond its first `least` signs; all of it if none does."""
    if width(text) <= cells:
        return text
    ends = [found.start() for found in _CLAUSE_END.finditer(text, least) if width(text[: found.start()]) < cells]
    return f"{text[: ends[-1]]}." if ends else text


def _lines(text: str, cells: int) -> int:
    """How many lines of a notice so wide a text takes."""
    return len(wrap(text, cells - _EDGES))


def _text(title: str, message: str, severity: "SeverityLevel") -> str:
    between = ". " if ": " in title else ": "
    return _MARKS[severity] + between.join(filter(None, (printable(title), printable(in_app(message)))))
