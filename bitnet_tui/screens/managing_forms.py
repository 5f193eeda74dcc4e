"""The two small forms of the table of experiments: a new name, and a storage target to open an experiment from."""

import shlex
from functools import partial
from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input

from bitnet_core.errors import UsageError
from bitnet_core.text import flat
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.screens.keyed import KeyedScreen
from bitnet_tui.services import managing
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words


class NameScreen(DialogScreen[str | None]):
    """Returns the name that was typed, or None."""

    CSS_PATH = ["cards.tcss", "dialogs.tcss", "vault.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#name"
    BINDINGS = [  # noqa: RUF012
        Binding("escape", "dismiss", "Cancel", id="name.cancel"),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._before = name

    def compose(self) -> ComposeResult:
        with Vertical(classes="card message vault"):
            yield Words(f"Rename {flat(self._before)}", classes="title")
            yield SteadyInput(flat(self._before), compact=True, id="name")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", name="dismiss")
                yield Button("Rename", id="rename", name="save")

    def on_input_submitted(self) -> None:
        self.action_save()

    def action_save(self) -> None:
        self.dismiss(self.query_one("#name", Input).value.strip())


class FetchScreen(KeyedScreen[Path | None]):
    """A small form over `bitnet open TARGET`; returns the folder of the experiment that was opened."""

    CSS_PATH = ["cards.tcss", "dialogs.tcss", "vault.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#target"
    ASKS_LATE = False
    BINDINGS = [  # noqa: RUF012
        Binding("escape", "leave", "Cancel", id="fetch.cancel"),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]
    _command: managing.Fetch | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="card message vault fetch"):
            yield Words("Open an experiment from a storage target", classes="title")
            yield Words("Target, and its name there unless it is the only one", classes="label")
            yield SteadyInput(compact=True, id="target", placeholder="s3:demo, gdrive, local:demo …")
            yield Words("Name here (empty: as there)", classes="label")
            yield SteadyInput(compact=True, id="name")
            yield Words("Settings of the target, if they are not set for all experiments", classes="label")
            yield SteadyInput(
                compact=True, id="settings", placeholder="S3_BUCKET=my-distil  STORAGE_LOCAL_DIR=/mnt/x"
            )
            yield Painted(id="problem", classes="-empty")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", name="leave")
                yield Button("Open", id="open", name="open")

    def on_input_submitted(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        target, name, settings = (self.query_one(f"#{one}", Input).value for one in ("target", "name", "settings"))
        if self.busy:
            return
        shell = self.shell
        try:
            words = shlex.split(settings)
            show = partial(shell.call_later, self._told)
            self._command = command = managing.Fetch(shell.home, target.strip(), name.strip(), words, show)
        except (UsageError, ValueError) as error:
            self.say(str(error) if isinstance(error, UsageError) else "A quote in the settings is not closed.", "bad")
            return
        self.say("Looking for it…", "label")
        self.attempt(command.run, lambda done: self.dismiss(Path(str(done["root"]))), without="Nothing was opened")

    def _told(self, words: str) -> None:
        if self.on_stack and self.busy:
            self.say(words, "accent")

    def refused(self, problem: str) -> None:
        self.say(problem, "bad")

    def action_leave(self) -> None:
        """Stop what is being brought; the same form goes on from there."""
        if self._command is not None and self.busy:
            self._command.cancel()
            self.abandon()
            self.app.notify("Stopped; what has arrived is kept, and opening it again goes on from there.")
        self.dismiss(None)
