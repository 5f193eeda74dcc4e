"""What the full screens share: the head line, creating an experiment, and reading files in a thread."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar, Generic, TypeVar, cast

from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import BindingType
from textual.events import Click, Event, Resize
from textual.geometry import Size
from textual.message import Message
from textual.messages import Prune
from textual.reactive import Reactive
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Button

from bitnet_core.errors import BitnetError
from bitnet_tui import bindings
from bitnet_tui.shell import Shell
from bitnet_tui.theme import paint
from bitnet_tui.view.spans import Line, cells_of
from bitnet_tui.widgets.looking import Looking
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_Result = TypeVar("_Result")
_View = TypeVar("_View")
_Answer = TypeVar("_Answer")
_WAYS_OUT = frozenset({"dialog.close", "dialog.no", "keys.close"})
TOO_SMALL = "This window is too small.\nbitnet-tui needs 60 columns and 15 rows."


class ShellScreen(Screen[_Result], Generic[_Result]):
    """A screen that knows the app as its shell. Nothing happens to it before it is there or after it is gone.

    A button's `name` is the action of its own screen that it runs.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.next_part", "app.focus_next"),
        bindings.shared("move.previous_part", "app.focus_previous"),
    ]
    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    """As in Textual, which draws the whole screen again with each focus. The two widgets draw themselves."""
    _questions: tuple[Callable[[], None], ...] = ()
    """Those that wait until it is on top."""

    @property
    def shell(self) -> Shell:
        return cast("Shell", self.app)

    @property
    def complete(self) -> bool:
        """Whether everything that its keys act on is there."""
        return self.is_mounted

    @property
    def ready(self) -> bool:
        """Whether what a key acts on is there to be seen. Until then, keys wait for a while, in order."""
        return self.complete

    @property
    def on_stack(self) -> bool:
        """Whether it is one of the app's screens still. One that was closed, or whose app ends, loses its widgets."""
        return self in self.app.screen_stack and self.app.is_running and not self.app._exit

    @property
    def too_small(self) -> bool:
        """Whether the window has no room for the screen, which then hides all that it has."""
        return self.has_class("-thin") or self.has_class("-flat")

    @property
    def in_sight(self) -> bool:
        """Whether it is on top, or only dialogs are above it."""
        return self.is_active or (self.is_current and self.app.screen.styles.background.a < 1)

    def shows_run(self, run: str) -> bool:  # noqa: ARG002 - for screens that show one
        """Whether it shows how the run with this id is doing, so that nothing else need tell its end."""
        return False

    def ask_on_top(self, dialog: Screen[_Answer], answered: Callable[[_Answer | None], None], late: str) -> None:
        """Ask in a dialog; while another screen is above this one, the question waits, and `late` says that it does.

        Keys that are meant for that screen would answer it.
        """
        if self.is_active:
            self.app.push_screen(dialog, answered)
        elif self.on_stack:
            self._questions += (partial(self.ask_on_top, dialog, answered, late),)
            self.app.notify(late, severity="warning")

    def on_screen_resume(self) -> None:
        if self._questions:
            first, *others = self._questions
            self._questions = tuple(others)
            self.call_later(first)

    async def take_in(self, text: str) -> bool:  # noqa: ARG002 - see the guide
        """Whether the screen itself takes a pasted text, so that it does not go into the field with the focus."""
        return False

    async def stops_paste(self, text: str) -> bool:
        """Whether a pasted text goes no further: the screen took it, or nothing here takes one, which is said."""
        taken = await self.take_in(text)
        if taken or hasattr(self.focused, "_on_paste") or not text.strip():  # a field of any kind takes it itself
            return taken
        self.app.notify("Nothing was pasted: no field has the focus.", severity="warning")
        return True

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Until the screen is complete, its keys do nothing but close it."""
        if self.is_mounted and (self.complete or action in ("dismiss", "leave")):
            return super().check_action(action, parameters)
        return None

    def dismiss(self, result: _Result | None = None) -> AwaitComplete:
        """Close this screen and what is above it, once."""
        if not self.on_stack:
            return AwaitComplete()
        while not self.is_active:
            self.app.pop_screen()
        return super().dismiss(result)

    def action_copy_text(self) -> None:
        """Textual's ctrl+c, which sends what the mouse has selected to the terminal, however long it is."""
        selected = self.get_selected_text()
        if not selected:
            raise SkipAction
        self.shell.copy_text(selected)

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.name:
            await self.run_action(event.button.name)

    async def _on_message(self, message: Message) -> None:
        """Drop what reaches a closed screen late: an answer from a thread, or of a widget of its own.

        Textual's events, and its request to remove the screen, are still needed. Of another size it is known first
        what is hidden in it.
        """
        if isinstance(message, Resize) and self.is_mounted:
            self._take_breakpoints(message.size)
        if self.on_stack or isinstance(message, Event | Prune):
            await super()._on_message(message)

    async def _message_loop_exit(self) -> None:
        """As in Textual, which leaves what was drawn of a closed screen to the garbage collection: most of it all."""
        for one in self.walk_children(Widget, with_self=True):
            one._styles_cache.clear()
        await super()._message_loop_exit()

    def _refresh_layout(self, size: Size | None = None, scroll: bool = False) -> None:
        """As in Textual, which lays out in a new size first and learns then what is hidden in it.

        So nothing is laid out, and scrolled, in a window without room for it; also below a dialog.
        """
        if size is not None and self.is_mounted:
            self._take_breakpoints(size)
        super()._refresh_layout(size, scroll)

    def _screen_resized(self, size: Size) -> None:
        """As in Textual, but a screen that has just been laid out, as it came up, is not drawn once more for that."""
        if size != self._size:
            super()._screen_resized(size)

    def _take_breakpoints(self, size: Size) -> None:
        ways = (size.width, self.app.HORIZONTAL_BREAKPOINTS), (size.height, self.app.VERTICAL_BREAKPOINTS)
        hold = {name for cells, steps in ways for name in self._get_breakpoint_classes(cells, steps or [])}
        self.update_classes({name: name in hold for _, steps in ways for _, name in steps or []}, animate=False)

    def _reset_focus(self, widget: Widget, avoiding: list[Widget] | None = None) -> None:
        """As in Textual, but what a window that is too small hides keeps the focus until there is room again."""
        if avoiding or not self.too_small:
            super()._reset_focus(widget, avoiding)

    def _on_timer_update(self) -> None:
        """As in Textual, which forgets the layout that a covered screen needs while changes are made in a batch."""
        super()._on_timer_update()
        if self._layout_required and self.app._batch_count:
            self._update_timer.resume()

    def _compositor_refresh(self) -> None:
        """Draw what has changed; while another screen covers this one, only what can be seen through that one.

        Textual's method would also draw a covered screen that can't be seen, and mark the whole of it as changed each
        time, so that it is drawn for ever. In a batch it would forget what it has not drawn.
        """
        if self.app._batch_count:
            return
        if self.is_active:
            super()._compositor_refresh()
            return
        regions = self._compositor._dirty_regions
        if regions and self.in_sight:
            self.app.screen.refresh(*regions)
        regions.clear()
        self._dirty_widgets.clear()


# Textual finds the styles of a class by its first base, so that has to be ModalScreen.
class DialogScreen(ModalScreen[_Result], ShellScreen[_Result], Generic[_Result]):
    """A dialog: the screen below it can be seen around it. Textual keeps the app's keys from it, so it has these."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("app.copy", "app.copy"),
        bindings.shared("app.help", "app.help"),
        bindings.shared("app.actions", "app.command_palette"),
    ]

    AROUND: ClassVar[int] = 10
    """Rows around what is long and scrolls, so that what is below it stays in sight."""

    LOW: ClassVar[int] = 20
    """With fewer rows a form leaves out its blank lines."""

    def on_resize(self) -> None:
        self.set_class(self.size.height < self.LOW, "-low")
        for one in self.query(".long"):
            one.styles.max_height = max(3, self.size.height - self.AROUND)

    def action_scroll(self, way: str) -> None:
        """Scroll what is long. `way` ends the name of one of Textual's methods, such as `page_down`."""
        getattr(self.query_one(".long"), f"scroll_{way}")(animate=False)

    def action_view(self, tab: str) -> None:
        """Close without an answer, and open a tab of the screen below that the dialog names."""
        below = self.app.screen_stack[-2]
        self.dismiss(None)
        below.call_later(below.run_action, f"view({tab!r})")

    async def on_click(self, event: Click) -> None:
        """A click beside its card closes what asks for no typing. Not the second one of those that opened it."""
        if event.chain == 1 and self.get_widget_at(*event.screen_offset)[0] is self:
            ways = (one for _, one in self._bindings if one.id in _WAYS_OUT)
            if (way := next(ways, None)) is not None:
                await self.run_action(way.action)


class BaseScreen(ShellScreen[None]):
    """`compose` is for the first paint; `furnish` adds heavier widgets after it."""

    _furnished = _making_demo = False

    def compose(self) -> ComposeResult:
        yield Painted(paint([self.head()]), classes="head", id="head")
        yield from self.skeleton()
        yield Words(TOO_SMALL, classes="too-small")

    def skeleton(self) -> Iterable[Widget]:
        return ()

    def head(self) -> Line:
        raise NotImplementedError

    @property
    def chosen_stage(self) -> str:
        """The stage whose figures are shown; empty = none in particular."""
        return ""

    @property
    def title_cells(self) -> int:
        """How many cells of the head line say what the screen shows."""
        return cells_of(self.head()[:1])

    def on_mount(self) -> None:
        self.call_after_refresh(self._furnish)

    def on_resize(self) -> None:
        if self.on_stack and not self.too_small:
            self.query_one("#head", Painted).show((self.head(),))

    @property
    def complete(self) -> bool:
        return self._furnished

    async def _furnish(self) -> None:
        from bitnet_tui.widgets.foot import Foot

        if self.on_stack:
            await self.furnish()
        if self.on_stack:
            await self.mount(Foot())
        if self.on_stack:
            self._furnished = True
            self.begin()

    async def furnish(self) -> None:
        """Mount what the first paint does not need."""

    def begin(self) -> None:
        """Start what needs everything to be mounted."""
        self.refresh_bindings()

    # -- creating an experiment ------------------------------------------------------------------------------------

    def action_new(self) -> None:
        self.shell.new_experiment()

    def action_demo(self) -> None:
        """Open the demo, and run it if it is new."""
        if not self._making_demo:
            self._making_demo = True
            work = partial(self._make_demo, self.shell)
            self.app.run_worker(work, thread=True, group="demo", description="make the demo")

    def _make_demo(self, shell: "Shell") -> None:
        from bitnet_core.runs.experiment import Workspace

        try:
            made: tuple[Path, bool] | str = Workspace(shell.home).demo()
        except BitnetError as error:
            made = str(error)
        shell.call_later(self._demo_made, made)

    def _demo_made(self, made: tuple[Path, bool] | str) -> None:
        """It is opened unless something else was opened meanwhile; or else `made` says what was wrong."""
        from bitnet_core.runs.catalog import PIPELINE
        from bitnet_tui.screens.message import MessageScreen

        self._making_demo = False
        if not self.is_active:
            return
        if isinstance(made, str):
            self.app.push_screen(MessageScreen("The demo can't be created", made))
        else:
            root, new = made
            self.shell.open_experiment(root, PIPELINE.name if new else None)


class LookingScreen(BaseScreen, Looking[_View], Generic[_View]):
    """A screen that reads files in a thread."""

    def on_resize(self) -> None:
        if self.undrawn and not self.too_small:
            self.look()
