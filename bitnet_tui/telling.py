"""Tells in the app that a run has ended or alarms: a message, the terminal's title, its bell, the desktop.

The files are read in a thread, one look at a time.
"""

import time
from typing import TYPE_CHECKING

from textual import events

from bitnet_tui.driver import AnyTerminal
from bitnet_tui.noticing import Noticing

if TYPE_CHECKING:
    from pathlib import Path

    from textual.notifications import SeverityLevel

    from bitnet_tui.view.news import News, NewsReader

_LOOK_SECONDS = 2.0


class Telling(Noticing):
    """The part of the app that tells."""

    _opened: "Path | None" = None
    _reader: "NewsReader | None" = None
    _reading = False

    def begin_telling(self, opened: "Path | None") -> None:
        """From now on tell what happens in the workspace and in the experiment `opened`."""
        self._opened = opened
        self.call_after_refresh(self.look_for_news)
        self.set_interval(_LOOK_SECONDS, self.look_for_news)

    def look_for_news(self) -> None:
        if not self._reading:
            self._reading = True
            self.run_worker(self._read, thread=True, group="news", description="look for runs that have ended")

    def _read(self) -> None:
        from bitnet_tui.view.news import NewsReader  # after the first paint, which need not wait for it

        try:
            self._reader = self._reader or NewsReader(self.home, self._opened)
            for news in self._reader.look():
                self.call_later(self.tell, news)
        finally:
            self._reading = False

    def person_is_there(self, event: events.InputEvent) -> None:
        """As in `Noticing`, and the title has done its work."""
        super().person_is_there(event)
        if isinstance(self._driver, AnyTerminal):
            self._driver.set_title()

    def tell(self, news: "News") -> None:
        """Show the news unless the screen does; the terminal tells somebody who looks elsewhere. A stop is none."""
        notice = news.notice
        if notice.kind == "end":
            self.take_back(notice.run)
            if notice.run in self.confirmed:
                self.confirmed.remove(notice.run)
                if notice.state == "cancelled":
                    return
        severity: SeverityLevel = "information"
        if notice.is_bad:
            severity = "warning" if notice.kind == "alarm" else "error"
        if not self._is_in_sight(notice.run):
            self.notify_beside(notice.text, title=notice.title, severity=severity)
        terminal = self._driver
        if not isinstance(terminal, AnyTerminal):
            return
        terminal.set_title(notice.title)
        bell, desktop = bell_and_desktop(news, time.localtime().tm_hour)
        if bell:
            self.bell()
        if desktop:
            terminal.tell_desktop(notice.title, notice.text)

    def _is_in_sight(self, run: str) -> bool:
        """Whether the screen that is looked at shows the run, and so what there is to tell of it."""
        shows = getattr(self.screen, "shows_run", None)
        return shows is not None and not getattr(self.screen, "too_small", False) and bool(shows(run))


def bell_and_desktop(news: "News", hour: int) -> tuple[bool, bool]:
    """Whether the bell rings and the desktop is told, in this hour; not of what somebody has stopped."""
    from bitnet_core.runs.notices import is_quiet  # the first paint does not need what it reads

    if news.notice.state == "cancelled" or is_quiet(news.options, hour):
        return False, False
    return news.options.terminal != "off", news.options.terminal == "all"
