"""What the full screens share: the head line, creating an experiment, and reading files in a thread."""

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, cast

from textual.app import ComposeResult
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget

from bitnet_core.errors import BitnetError
from bitnet_core.runs.catalog import PIPELINE
from bitnet_tui.shell import Shell
from bitnet_tui.theme import paint
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_Result = TypeVar("_Result")
_View = TypeVar("_View")
TOO_SMALL = "This window is too small.\nbitnet-tui needs 60 columns and 15 rows."


class Looked(Message):
    """A worker has read the files; `view` is what it found."""

    def __init__(self, view: Any) -> None:
        super().__init__()
        self.view = view


class ShellScreen(Screen[_Result], Generic[_Result]):
    """A screen that knows the app as its shell."""

    @property
    def shell(self) -> Shell:
        return cast("Shell", self.app)


class BaseScreen(ShellScreen[None]):
    """`compose` is for the first paint; `furnish` adds heavier widgets after it."""

    def compose(self) -> ComposeResult:
        yield Painted(paint([self.head()]), classes="head", id="head")
        yield from self.skeleton()
        yield Words(TOO_SMALL, classes="too-small")

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
        """Mount what the first paint does not need."""

    # -- creating an experiment ------------------------------------------------------------------------------------

    def action_new(self) -> None:
        self.shell.new_experiment()

    def action_demo(self) -> None:
        """Open the demo, and run it if it is new."""
        from bitnet_core.runs.experiment import Workspace

        try:
            root, new = Workspace(self.shell.home).demo()
        except BitnetError as error:
            from bitnet_tui.screens.dialogs import MessageScreen

            self.app.push_screen(MessageScreen("The demo can't be created", str(error)))
        else:
            self.shell.open_experiment(root, PIPELINE.name if new else None)


class LookingScreen(BaseScreen, Generic[_View]):
    """Reads files in a thread, one read at a time. A request during a read causes one more read after it."""

    _looking = False
    _again = False

    def looker(self) -> Callable[[], _View]:
        """What the thread will call. It must not use the screen, whose state may change meanwhile."""
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
