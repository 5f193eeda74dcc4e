"""The app: its home, its first screen, themes, and what every screen may ask of it. Screens load when shown."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand
from textual.screen import Screen

from bitnet_core.runs.experiment import Workspace
from bitnet_tui import actions, theme

if TYPE_CHECKING:
    from textual.command import Provider

    from bitnet_tui.services.launching import Launch


_HERE = Path(__file__).parent


def _commands() -> "type[Provider]":
    from bitnet_tui.palette import ActionCommands

    return ActionCommands


def _launch_really() -> "Launch":
    from bitnet_tui.services.launching import launch

    return launch


class BitnetApp(App[None]):
    """`root` opens that experiment at once. `launch` starts a stage; tests give their own."""

    TITLE = "bitnet-tui"
    BINDINGS = actions.bindings("app")
    COMMANDS: ClassVar = {_commands}
    HORIZONTAL_BREAKPOINTS = [(0, "-thin"), (60, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (15, "-short"), (30, "-tall")]  # noqa: RUF012

    def __init__(self, home: Path, root: Path | None = None, launch: "Launch | None" = None) -> None:
        # The list's styles come with the app's: read on their own, they would be a second pass over all of them.
        super().__init__(css_path=[_HERE / "app.tcss", _HERE / "screens" / "experiments.tcss"])
        self.home = home
        self._root = root
        self._launch = launch
        self.over_ssh = bool(os.environ.get("SSH_CONNECTION"))
        self.redraw_seconds = 0.5 if self.over_ssh else 0.25
        if self.over_ssh:
            self.animation_level = "none"
        self.register_theme(theme.DARK)
        self.register_theme(theme.LIGHT)
        if not os.environ.get("TEXTUAL_THEME"):
            self.theme = theme.DARK.name

    def get_default_screen(self) -> Screen[None]:
        from bitnet_tui.screens.experiments import ExperimentsScreen

        return ExperimentsScreen()

    def on_mount(self) -> None:
        if self._root is not None:
            self.open_experiment(self._root)
        elif not Workspace(self.home).experiments():
            from bitnet_tui.screens.welcome import WelcomeScreen

            self.push_screen(WelcomeScreen())

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(theme.DEFAULTS)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:  # noqa: ARG002
        yield SystemCommand("Theme", "Choose another theme", self.action_change_theme)

    def launch(self, root: Path, stage: str) -> str:
        """Start a stage (slow: call it in a thread); return the run's id. Warnings become notifications."""
        started = (self._launch or _launch_really())(self.home, root, stage)
        for warning in started.warnings:
            self.call_from_thread(self.notify, warning, title="Settings", severity="warning", timeout=10)
        return started.run_id

    def open_experiment(self, root: Path, run: str | None = None) -> None:
        """Show an experiment over the list, and start `run` in it when given."""
        from bitnet_tui.screens.experiment import ExperimentScreen

        screen = ExperimentScreen(root.absolute(), run)
        if self.screen.has_class("welcome"):
            self.switch_screen(screen)
        else:
            self.push_screen(screen)

    def action_next_theme(self) -> None:
        self.theme = theme.LIGHT.name if self.current_theme.dark else theme.DARK.name

    def action_keys(self) -> None:
        """Over a screen; a dialog is finished first."""
        from bitnet_tui.screens.keys import KeysScreen

        if not self.screen.is_modal:
            self.push_screen(KeysScreen(getattr(self.screen, "root", None)))

    def action_help(self) -> None:
        from bitnet_tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def _fatal_error(self) -> None:
        # Textual would print a traceback with the values of local variables, keys among them.
        from bitnet_tui import crash

        if self._exception is not None and not self._exit_renderables:
            self._exit_renderables.append(crash.report(self._exception))
        self._close_messages_no_wait()
