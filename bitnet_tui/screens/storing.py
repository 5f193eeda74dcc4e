"""What can be done with the copy of an experiment: push it, verify it, pull it. Each is a process of its own."""

import os
import shlex
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Literal, cast

from textual.app import SuspendNotSupported

from bitnet_tui.screens.keyed import AttemptingScreen
from bitnet_tui.services.copying import Action, StoreCommand
from bitnet_tui.shell import Shell
from bitnet_tui.view.copy import CopyView, Said

_EDITORS = ("nano", "vim", "vi")
_QUESTIONS: dict[Action, tuple[str, str, str, str]] = {
    "pull": (
        "Pull the copy into this experiment?",
        "Files that are stored and missing here are brought, and older ones here are replaced by what was stored "
        "after them. What was changed here since stays as it is.",
        "Pull it",
        "Leave it",
    ),
    "replace": (
        "Replace what was changed here by the copy?",
        "Files that differ here are moved aside, and those of the copy take their place.",
        "Replace them",
        "Leave them",
    ),
    "repair": (
        "Repair the copy from what is here?",
        "Every stored byte is read and compared, which takes as long as pulling all of it. What is damaged is sent "
        "again.",
        "Repair it",
        "Leave it",
    ),
    "overwrite": (
        "Make the copy what is here?",
        "What another machine has stored is no longer part of the copy, and what is damaged there and missing here "
        "is given up. Every stored byte is compared first.",
        "Push over it",
        "Leave it",
    ),
}
_NAMES: dict[Action, str] = {
    "verify": "Verify",
    "pull": "Pull",
    "repair": "Repair",
    "overwrite": "Push over",
    "replace": "Pull over",
}
"""As the buttons call them."""


class StoringScreen(AttemptingScreen[None]):
    """Holds what the last command said."""

    root: Path
    said: Said | None = None
    _command: StoreCommand | None = None

    @property
    def copy_shown(self) -> CopyView:
        raise NotImplementedError

    def show_storage(self) -> None:
        """Open the tab of the copy."""
        raise NotImplementedError

    def draw_storage(self) -> None:
        raise NotImplementedError

    def start_upload(self) -> None:
        """Start the run that brings the copy up to date."""
        raise NotImplementedError

    def action_store(self, what: str) -> None:
        self.show_storage()
        if not self.copy_shown.backend:
            return
        if self._command is not None:
            self.notify(f"{_NAMES[self._command.action]} is still running.", severity="warning")
        elif what == "push":
            if self.copy_shown.sending:
                self.notify("The copy is being brought up to date already.")
            else:
                self.start_upload()
        elif what == "verify":
            self._run("verify")
        else:
            self._ask_to(cast("Action", what))

    def _ask_to(self, action: Action) -> None:
        from bitnet_tui.screens.dialogs import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if yes:
                self._run(action)

        self.app.push_screen(ConfirmScreen(*_QUESTIONS[action]), answered)

    def _run(self, action: Action) -> None:
        self._command = command = StoreCommand(self.shell.home, self.root, action)
        name = _NAMES[action]
        self._say("value", f"{name}: starting…")
        self.attempt(command.start, self._follow, without=f"{name} was not started", title=f"Storage: {name}")

    def store_refused(self, problem: str) -> bool:
        """Whether it was a command about the copy that could not be started; then that is said."""
        if self._command is None:
            return False
        self._command = None
        self._say("bad", problem)
        return True

    def _follow(self, command: StoreCommand) -> None:
        work = partial(self._followed, self.shell, command)
        self.app.run_worker(work, thread=True, group="store", description=f"{command.action} the copy")

    def _followed(self, shell: Shell, command: StoreCommand) -> None:
        well, sentence = command.follow(lambda words: shell.call_later(self._say, "value", words))
        shell.call_later(self._ended, command, well, sentence)

    def _ended(self, command: StoreCommand, well: bool, sentence: str) -> None:
        self._command, name = None, _NAMES[command.action]
        self._say("good" if well else "bad", f"{name}: {sentence}")
        if not self.on_stack:
            title, severity = f"Storage: {name}", "information" if well else "error"
            self.app.notify(sentence, title=title, severity=severity)  # type: ignore[arg-type]

    def _say(self, style: Literal["good", "bad", "value"], words: str) -> None:
        self.said = style, words
        if self.on_stack:
            self.draw_storage()

    def action_edit_settings(self) -> None:
        """Open the experiment's settings in the user's editor, and come back when it is closed."""
        path = self.root / ".env"
        named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
        editor = shlex.split(named) or [found for one in _EDITORS if (found := shutil.which(one))][:1]
        if not editor:
            self.notify(f"No editor was found; set EDITOR, or edit {path}.", severity="warning")
            return
        try:
            with self.app.suspend():
                subprocess.run([*editor, str(path)], check=False)
        except (SuspendNotSupported, OSError) as error:
            why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
            self.notify(f"The editor can't be opened here{why}; edit {path}.", severity="warning")
