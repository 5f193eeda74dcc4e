"""What reads files in a thread, one read at a time: whole screens, and the tabs that read what only they show."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from textual.message import Message
from textual.widget import Widget

_View = TypeVar("_View")


class Looked(Message, bubble=False):
    """A worker has read the files; `view` is what it found."""

    def __init__(self, view: Any) -> None:
        super().__init__()
        self.view = view


# Textual finds the styles of a class by its first base, so this is the second one of a tab.
class Looking(Generic[_View], Widget):
    """A request during a read causes one more read after it."""

    _looking = False
    _again = False
    undrawn = False
    """Whether something was read that was not drawn, as the window had no room for it."""

    def looker(self) -> Callable[[], _View]:
        """What the thread will call. It must not use the widget, whose state may change meanwhile."""
        raise NotImplementedError

    def look(self) -> None:
        if self._looking:
            self._again = True
            return
        self._looking = True
        job = self.looker()
        self.run_worker(lambda: self._work(job), thread=True, group="look", description="read the experiment's files")

    def _work(self, job: Callable[[], _View]) -> None:
        self.post_message(Looked(job()))

    def on_looked(self, message: Looked) -> None:
        self._looking = False
        self.undrawn = getattr(self.screen, "too_small", False)
        if self.undrawn:  # what is hidden has no size: it would be drawn for a narrow one, and stand so at first
            self._again = False
            return
        self.draw(message.view)
        if self._again:
            self._again = False
            self.look()

    def draw(self, view: _View) -> None:
        raise NotImplementedError
