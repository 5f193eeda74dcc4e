"""The app: its first screen, its themes, and how a stage is started. A screen is imported when first shown."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import ScreenStackError
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.signal import Signal
from textual.widget import MountError

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Workspace
from bitnet_core.secrets.known import redactor
from bitnet_core.text import crop, flat, number, printable
from bitnet_tui import actions, bindings, key_names, themes
from bitnet_tui.cells import Cells
from bitnet_tui.garbage import Tidying
from bitnet_tui.keystrokes import Keystrokes, Typed
from bitnet_tui.leaving import Leaving
from bitnet_tui.opening import Opening
from bitnet_tui.remedies import offering
from bitnet_tui.rules import Rules
from bitnet_tui.screens.base import ShellScreen
from bitnet_tui.sequences import MOST_PASTED
from bitnet_tui.services import preferences
from bitnet_tui.widgets.words import Ellipses, SafeLines

if TYPE_CHECKING:
    from textual.binding import Binding
    from textual.command import Provider
    from textual.driver import Driver
    from textual.filter import LineFilter

    from bitnet_tui.keymap import Keymap
    from bitnet_tui.services.launching import Launch


_MOST_COPIED = 70_000
"""Bytes of UTF-8. Terminals pass over what is longer."""
_COPIED_CELLS = 40
_SLOW_CALLS = 64
"""How many threads may wait at once for disks, keyrings, commands and servers, any of which may hang."""
_HERE = Path(__file__).parent
_PALETTE = "--command-palette"
_DIALOGS = frozenset({"themes", "keys", "keymap", "app_settings"})
"""What opens a dialog of the app's own."""


def _copy_of(text: str) -> str:
    """Without keys, and safe to paste: what one sees, not what a shell would do. Tabs stay, for code."""
    return "\t".join(map(printable, redactor()(text).split("\t")))


def _commands() -> "type[Provider]":
    from bitnet_tui.palette import ActionCommands

    return ActionCommands


class BitnetApp(Opening, Leaving, Tidying):
    """`root` is an experiment to open at once. `launch` starts a stage; tests pass their own."""

    TITLE = "bitnet-tui"
    BINDINGS = bindings.of("app")
    COMMANDS: ClassVar = {_commands}
    HORIZONTAL_BREAKPOINTS = [(0, "-thin"), (60, "-narrow"), (116, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (15, "-short"), (30, "-tall"), (36, "-high")]  # noqa: RUF012

    def __init__(self, home: Path, root: Path | None = None, launch: "Launch | None" = None) -> None:
        # With the list's styles loaded here, showing it needs no second pass over all styles.
        super().__init__(css_path=[_HERE / "app.tcss", _HERE / "screens" / "experiments.tcss"])
        # The foot names the first key that works, and Textual's own `ctrl+q` would come before ours.
        by_key = self._bindings.key_to_bindings
        self._bindings.key_to_bindings = {"q": by_key["q"], **by_key}
        self.home = home
        key_names.use({})
        self.stops_sent = {}
        self.confirmed = set()
        self.played = {}
        self.works, self.exports, self.exports_waiting, self.scorings, self.places = [], {}, {}, {}, {}
        kept = preferences.read()
        self.last_target = kept.target
        self.few_colours = self.console.color_system in themes.FEW
        self._root = root
        self.keymap_signal = Signal(self, "keymap")
        self._safe_lines, self._ellipses = SafeLines(), Ellipses()
        self._cells = Cells()
        self.keystrokes = Keystrokes(self, self._type)
        self._launch = launch
        over_ssh = bool(os.environ.get("SSH_CONNECTION"))
        self.redraw_seconds = 0.5 if over_ssh else 0.25
        if over_ssh:
            self.animation_level = "none"
        for made, _ in themes.THEMES.values():
            self.register_theme(made)
        wanted = os.environ.get("TEXTUAL_THEME") or kept.theme(few_colours=self.few_colours)
        usual = themes.TERMINAL if self.few_colours else themes.DARK
        self.theme = "textual-dark"  # a theme of ours that the variable names is not applied before it is known
        self.theme = wanted if wanted in self.available_themes else usual.name
        self._first_variables: dict[str, str] | None = self.get_css_variables()
        self.stylesheet = Rules(variables=self._first_variables)

    def refresh_css(self, animate: bool = True) -> None:
        """As in Textual, but not for the first theme: the styles were read with its variables."""
        first, self._first_variables = self._first_variables, None
        if first is None or self.get_css_variables() != first:
            super().refresh_css(animate=animate)

    def get_driver_class(self) -> "type[Driver]":
        if "web_driver" in os.environ.get("TEXTUAL_DRIVER", ""):
            from bitnet_tui.browser import InBrowser

            return InBrowser

        from bitnet_tui.driver import AnyTerminal

        return AnyTerminal

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        """As in Textual, but only cells that have changed are written."""
        super()._display(screen, self._cells.changes(renderable))

    def get_default_screen(self) -> Screen[None]:
        from bitnet_tui.screens.experiments import ExperimentsScreen

        return ExperimentsScreen()

    def on_mount(self) -> None:
        # Python's own pool has four threads more than processors: a few calls that hang would hold up all others.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_SLOW_CALLS))
        self.begin_telling(self._root)
        if self._root is not None:
            self.show_experiment(self._root)
        self.call_after_refresh(self._read_files)

    def _read_files(self) -> None:
        """In threads: the list is drawn before a slow disk has answered, and before what reads is imported."""
        self.run_worker(self._read_keymap, thread=True, group="keymap", description="read the user's keys")
        if self._root is None:
            self.run_worker(self._look_for_experiments, thread=True, description="look for experiments")

    def _look_for_experiments(self) -> None:
        if not Workspace(self.home).experiments():
            self.call_later(self._welcome)

    def _welcome(self) -> None:
        from bitnet_tui.screens.welcome import WelcomeScreen

        if len(self.screen_stack) == 1:  # nothing was opened meanwhile
            self.push_screen(WelcomeScreen())

    async def on_event(self, event: events.Event) -> None:
        """As in Textual, but in a window that is too small to draw, what is typed does nothing but leave the app."""
        if isinstance(event, events.InputEvent) and not event.is_forwarded:
            self.person_is_there(event)
        if isinstance(event, events.Paste) and len(event.text) > MOST_PASTED:
            event.text = event.text[:MOST_PASTED]
            self.notify(f"Only the first {number(MOST_PASTED)} characters were pasted.", severity="warning")
        if isinstance(event, events.Key | events.Paste) and self.screen_stack and self._too_small:
            if self.leaves(event):
                await self.run_action("quit")
        elif isinstance(event, Typed) and not event.is_forwarded and self.screen_stack:
            if self.keystrokes.take(event):
                await self._type(event)
        else:
            await super().on_event(event)

    async def _type(self, event: Typed) -> None:
        focused, screen = self.focused, self.screen
        if not (
            isinstance(event, events.Paste)
            and isinstance(screen, ShellScreen)
            and await screen.stops_paste(event.text)
        ):
            await super().on_event(event)
        self.keystrokes.sent(focused)

    @property
    def typed_at(self) -> float:
        return self.keystrokes.arrived or time.monotonic()

    def leaves(self, event: object) -> bool:
        keys = self.keymap.keys.get("app.quit", actions.by_id("app.quit").keys)
        return isinstance(event, events.Key) and event.key in keys.split(",")

    @property
    def _too_small(self) -> bool:
        return isinstance(self.screen, ShellScreen) and self.screen.too_small

    def get_line_filters(self) -> "Sequence[LineFilter]":
        return [*super().get_line_filters(), self._safe_lines, *([self._ellipses] if self.plain else [])]

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(themes.DEFAULTS)

    def get_key_display(self, binding: "Binding") -> str:
        """Each of an action's keys by its own name: where the first is typed into a field, the foot shows another."""
        return key_names.shown(binding.key)

    def get_css_variables(self) -> dict[str, str]:
        """As in Textual, with other colours where the terminal has few or none."""
        few = self.console.color_system in themes.FEW
        variables = super().get_css_variables() | themes.instead(self.current_theme, no_color=self.no_color, few=few)
        self.theme_variables = variables
        return variables

    @property
    def native_ansi_color(self) -> bool:
        """As in Textual; without colours, the terminal's own are turned into greys, else they would all be black."""
        return super().native_ansi_color and not self.no_color

    def launch(self, root: Path, stage: str, values: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """As `Shell.launch`; warnings about the settings become notifications."""
        from bitnet_tui.services import launching

        launch = self._launch or launching.launch
        warnings = launch(self.home, root, stage, values).warnings
        for warning in warnings:
            self.call_from_thread(self.notify, offering(warning), title="Settings", severity="warning")
        return warnings

    def use_theme(self, name: str) -> None:
        self.theme = name
        keep = partial(self._keep_theme, name)
        self.run_worker(keep, thread=True, group="preferences", description="keep the theme")

    def _keep_theme(self, name: str) -> None:
        try:
            preferences.keep_theme(name, few_colours=self.few_colours)
        except BitnetError as error:
            self.call_later(partial(self.notify, str(error), title="Theme", severity="warning"))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The app's dialogs open over a screen, and not over another dialog."""
        if action in _DIALOGS and any(one.is_modal and one.id != _PALETTE for one in self.screen_stack):
            return False
        return super().check_action(action, parameters)

    def action_command_palette(self) -> None:
        """Textual's method, with the app's own palette: from Help, that of the screen below."""
        from bitnet_tui.screens.help import HelpScreen
        from bitnet_tui.screens.palette import Palette

        if isinstance(self.screen, HelpScreen):
            self.pop_screen()
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(placeholder="Find actions, experiments, settings…", id=_PALETTE))

    def action_help_quit(self) -> None:
        """Textual's ctrl+c where nothing is selected, without markup."""
        for key, active in self.active_bindings.items():
            if active.binding.action == "quit":
                self.notify(f"Press {key_names.shown(key)} to quit; runs continue.")
                return

    def action_themes(self) -> None:
        """Let the user choose another theme."""
        self.open_dialog("themes")

    def action_keys(self) -> None:
        """Show the API keys."""
        self.open_dialog("keys")

    def action_app_settings(self) -> None:
        """Show what the app itself is set to."""
        from bitnet_tui.screens.app_settings import AppSettingsScreen

        self.push_screen(AppSettingsScreen())

    def _read_keymap(self) -> None:
        from bitnet_tui import keymap

        self.call_later(self._use_keymap, keymap.read())

    def _use_keymap(self, found: "Keymap") -> None:
        self.keymap = found
        key_names.use(found.keys)
        if found.keys:
            self.set_keymap(dict(found.keys))
            self.keymap_signal.publish(found)
        for problem in found.problems:
            self.notify(problem, title="Keys", severity="warning")

    def action_keymap(self) -> None:
        """Show every action with its keys."""
        self.open_dialog("keymap")

    def action_copy(self) -> None:
        """Copy what the mouse has selected, else what the focus is on, else what the screen shows."""
        from bitnet_tui.widgets.copying import text_of

        focused, screen = self.focused, self.screen
        self.copy_text(screen.get_selected_text() or (text_of(focused) if focused else "") or text_of(screen))

    def copy_text(self, text: str) -> None:
        if not text.strip():
            return
        fits = len(text) <= _MOST_COPIED
        if fits:
            text = _copy_of(text)
            fits = len(text.encode()) <= _MOST_COPIED
        if fits:
            self.copy_to_clipboard(text)
        keep = partial(self._keep_copy, text, fits=fits)
        self.run_worker(keep, thread=True, group="copy", description="keep the copy")

    def _keep_copy(self, text: str, *, fits: bool) -> None:
        from bitnet_tui.services import copied

        lines = text.count("\n") + 1
        what = f"Copied {lines} lines." if lines > 1 else f"Copied “{crop(flat(text), _COPIED_CELLS)}”."
        try:
            place = copied.keep(text if fits else _copy_of(text))
            said = f"{what} If your terminal doesn't accept copies, it is in {place}."
            if not fits:
                said = f"This is too long for a terminal's clipboard; it is in {place}."
        except BitnetError as error:
            said = f"{what} {error}" if fits else str(error)
        self.call_later(self.notify, said)

    def action_help(self) -> None:
        from bitnet_tui.screens.help import HelpScreen, places_of

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(places_of(self.screen)))

    def _handle_exception(self, error: Exception) -> None:
        # A signal may end the app while a screen is still being filled; then it has no place for a widget.
        if not (self._exit and isinstance(error, MountError | NoMatches | ScreenStackError)):
            super()._handle_exception(error)

    def _fatal_error(self) -> None:
        # Textual would print a traceback with the values of local variables, keys among them.
        from bitnet_tui import crash

        if self._exception is not None and not self._exit_renderables:
            self._exit_renderables.append(crash.report(self._exception))
        self._close_messages_no_wait()
