"""What can be done with whole experiments from the table: rename, archive, delete, fetch from a storage target."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input

from bitnet_core.errors import UsageError
from bitnet_core.text import flat
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.screens.dialogs import ConfirmScreen, MessageScreen
from bitnet_tui.screens.keyed import AttemptingScreen, KeyedScreen
from bitnet_tui.services import managing
from bitnet_tui.view import going
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words


class ManagingScreen(AttemptingScreen[None]):
    """Works on `chosen`, one call at a time; whatever fails is told in a dialog."""

    @property
    def chosen(self) -> tuple[Path, ...]:
        raise NotImplementedError

    def changed(self, root: Path | None = None) -> None:
        """Look again; `root` is the experiment to go to."""
        raise NotImplementedError

    def refused(self, problem: str) -> None:
        self.app.push_screen(MessageScreen("That can't be done", problem))

    def _free(self) -> bool:
        if self.busy:
            self.notify("The change before is still being made.", severity="warning")
        return self.is_active and not self.busy

    def _names(self) -> list[str]:
        return [root.name for root in self.chosen]

    def action_rename(self) -> None:
        if not self.chosen or not self._free():
            return
        if len(self.chosen) > 1:
            self.notify("Only one experiment can be renamed at a time; esc takes the marks away.", severity="warning")
            return
        (root,) = self.chosen
        self.app.push_screen(NameScreen(root.name), partial(self._rename, root))

    def _rename(self, root: Path, name: str | None) -> None:
        if name and name != root.name:
            work = partial(managing.rename, self.shell.home, root, name)
            self.attempt(work, self._renamed, title="Rename")

    def _renamed(self, done: dict[str, Any]) -> None:
        for remark in done.get("remarks", ()):
            self.notify(flat(str(remark)), title="Renamed", timeout=12)
        self.changed(Path(str(done.get("folder", ""))))

    def archive(self, *, archived: bool) -> None:
        if self.chosen and self._free():
            action = "archive" if archived else "unarchive"
            work = partial(managing.change, self.shell.home, action, self._names())
            self.attempt(work, lambda _: self.changed(), title="Archive")

    def action_delete(self) -> None:
        """Ask what would go, and then the user."""
        if self.chosen and self._free():
            work = partial(managing.change, self.shell.home, "delete", self._names())
            self.attempt(work, self._ask_to_delete, title="Delete")

    def _ask_to_delete(self, found: dict[str, Any]) -> None:
        experiments: Sequence[dict[str, Any]] = found["experiments"]
        if problem := going.running(experiments):
            self.refused(problem)
            return
        title, why, yes, no = going.question(experiments)
        names = [str(one["name"]) for one in experiments]
        self.app.push_screen(ConfirmScreen(title, why, yes, no), partial(self._delete, names))

    def _delete(self, names: Sequence[str], yes: bool | None) -> None:
        if yes:
            self.notify(f"Deleting {', '.join(map(flat, names[:3]))}{' …' if len(names) > 3 else ''}")
            work = partial(managing.change, self.shell.home, "delete", names, "--yes")
            self.attempt(work, lambda _: self.changed(), title="Delete")

    def action_fetch(self) -> None:
        if self._free():
            self.app.push_screen(FetchScreen(), lambda root: self.changed(root) if root else None)


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
