"""What the full screens share: head line, word of a terminal too small, one look at the files at a time."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, cast

from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from bitnet_tui.app import BitnetApp
from bitnet_tui.theme import paint
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.painted import Painted

_View = TypeVar("_View")
TOO_SMALL = "This window is too small.\nbitnet-tui needs 60 columns and 15 rows."


class Looked(Message):
    """A worker has looked at the files."""

    def __init__(self, view: Any) -> None:
        super().__init__()
        self.view = view


class BaseScreen(Screen[None]):
    """First paint is `compose`; `furnish` adds what is heavy after it."""

    @property
    def bitnet(self) -> BitnetApp:
        return cast("BitnetApp", self.app)

    def compose(self) -> ComposeResult:
        yield Painted(paint([self.head()]), classes="head", id="head")
        yield from self.skeleton()
        yield Static(TOO_SMALL, classes="too-small")

    def skeleton(self) -> Iterable[Widget]:
        return ()

    def head(self) -> Line:
        raise NotImplementedError

    def on_mount(self) -> None:
        self.call_after_refresh(self._furnish)

    async def _furnish(self) -> None:
        from textual.widgets import Footer

        if self.is_attached:
            await self.furnish()
            await self.mount(Footer(show_command_palette=False))

    async def furnish(self) -> None:
        """Mount what the first paint can do without."""


class LookingScreen(BaseScreen, Generic[_View]):
    """Reads files in a thread, at most one look at a time; what was asked for meanwhile is looked at once more."""

    _looking = False
    _again = False

    def start_looking(self, seconds: float) -> None:
        self.set_interval(seconds, self.look)
        self.look()

    def looker(self) -> Callable[[], _View]:
        """What to do in the thread, bound to the state of now."""
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
        self.draw(message.view)
        if self._again:
            self._again = False
            self.look()

    def draw(self, view: _View) -> None:
        raise NotImplementedError
