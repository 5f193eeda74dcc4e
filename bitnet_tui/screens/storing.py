"""What can be done with the copy of an experiment: push it, verify it, pull it. Each is a process of its own."""

import os
import shlex
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Literal, cast

from textual.app import SuspendNotSupported

from bitnet_core.errors import BitnetError
from bitnet_core.text import capital, flat
from bitnet_tui.screens.keyed import AttemptingScreen
from bitnet_tui.services.copying import Action, StoreCommand, StoredFile, stored_files
from bitnet_tui.services.drafts import settings_of
from bitnet_tui.shell import Shell
from bitnet_tui.view.copy import CopyView, Said
from bitnet_tui.view.guide.draft import Draft, of_settings
from bitnet_tui.view.stored import Tree
from bitnet_tui.works import Work

_EDITORS = ("nano", "vim", "vi")
_QUESTIONS: dict[Action, tuple[str, str, str, str]] = {
    "pull": (
        "Pull the copy into this experiment?",
        "Stored files that are missing here are fetched, and older ones here are replaced with newer stored ones. "
        "Files that were changed here stay as they are.",
        "Pull it",
        "Nothing was pulled.",
    ),
    "replace": (
        "Replace what was changed here with the copy?",
        "Files that differ here are moved aside, and those of the copy take their place.",
        "Take copy",
        "Nothing was replaced.",
    ),
    "repair": (
        "Repair the copy from what is here?",
        "Every stored byte is read and compared, which takes as long as pulling all of it. What is damaged is sent "
        "again.",
        "Repair it",
        "Nothing was repaired.",
    ),
    "overwrite": (
        "Replace the copy with what is here?",
        "What another machine has stored is removed from the copy, and files that are damaged there and missing here "
        "are lost. Every stored byte is compared first.",
        "Push mine",
        "Nothing was replaced.",
    ),
}
_NAMES: dict[Action, str] = {
    "verify": "Verify",
    "pull": "Pull",
    "repair": "Repair",
    "overwrite": "Force push",
    "replace": "Force pull",
}
"""As the buttons call them."""
_ANEW = "A verification that is stopped starts over."
_PULLED = "What has arrived is kept, and the next pull continues from there."
_SENT = "What was sent is kept, and the next push continues from there."
_AT_WORK: dict[Action, tuple[str, str]] = {
    "verify": ("verified", _ANEW),
    "pull": ("pulled", _PULLED),
    "repair": ("repaired", _SENT),
    "overwrite": ("pushed", _SENT),
    "replace": ("pulled", _PULLED),
}
"""What is being done to the copy meanwhile, and what becomes of it if the app is left."""


class StoringScreen(AttemptingScreen[None]):
    """Holds what the last command said."""

    root: Path
    said: Said | None = None
    _command: StoreCommand | None = None
    _reading_target = False
    _listed: tuple[StoredFile, ...] | None = None
    _listed_of: tuple[object, ...] = ()
    """The state that was listed: another one is listed again."""
    _damaged: frozenset[str] | None = None
    """What the last verification of that state found damaged."""
    _asking = False
    _list_problem = ""

    @property
    def copy_shown(self) -> CopyView:
        raise NotImplementedError

    async def show_storage(self) -> None:
        """Open the tab of the copy."""
        raise NotImplementedError

    def draw_storage(self) -> None:
        raise NotImplementedError

    def start_upload(self) -> None:
        """Start the run that brings the copy up to date."""
        raise NotImplementedError

    async def action_store(self, what: str) -> None:
        await self.show_storage()
        if not self.copy_shown.backend:
            return
        if self._command is not None:
            self.notify(f"{_NAMES[self._command.action]} is still running.", severity="warning")
        elif what == "push":
            if self.copy_shown.sending:
                self.notify("The copy is already being brought up to date.")
            else:
                self.start_upload()
        elif what == "verify":
            self._run("verify")
        else:
            self._ask_to(cast("Action", what))

    # -- what is stored, as a tree -----------------------------------------------------------------------------------

    @property
    def stored_tree(self) -> Tree:
        """What is known of the files of the copy."""
        status = self.copy_shown.status
        if self._listed_of and self._listed_of != self._state_of:
            self._forget_list()
        found = self._damaged or frozenset()
        return Tree(status, self._listed, self._damaged is not None, found, self._asking, self._list_problem)

    @property
    def _state_of(self) -> tuple[object, ...]:
        status = self.copy_shown.status
        return status.place, status.counter, status.at

    def _forget_list(self) -> None:
        self._listed, self._listed_of, self._damaged, self._list_problem = None, (), None, ""

    def on_stored_tree_wanted(self) -> None:
        if self._asking:
            return
        self._asking, self._list_problem = True, ""
        work = partial(self._list, self.shell, self._state_of)
        self.app.run_worker(work, thread=True, group="list", description="list what is stored")
        self.draw_storage()

    def _list(self, shell: Shell, state: tuple[object, ...]) -> None:
        try:
            found: tuple[StoredFile, ...] | BitnetError = stored_files(shell.home, self.root)
        except BitnetError as error:
            found = error
        shell.call_later(self._list_ended, state, found)

    def _list_ended(self, state: tuple[object, ...], found: tuple[StoredFile, ...] | BitnetError) -> None:
        from bitnet_core.secrets.places import VaultLocked

        self._asking = False
        if isinstance(found, BitnetError):
            self._list_problem = str(found)
        else:
            self._listed, self._listed_of = found, state
        if not self.on_stack:
            return
        self.draw_storage()
        if isinstance(found, VaultLocked) and self.is_active:

            def answered(opened: bool | None) -> None:
                if opened and self.on_stack:
                    self.on_stored_tree_wanted()

            self.shell.unlock_vault(found, f"{capital(found.why)}, which is locked.", answered)

    # -- the target --------------------------------------------------------------------------------------------------

    async def action_target(self) -> None:
        """Ask where the experiment is to be kept as well."""
        await self.show_storage()
        if self._reading_target:
            return
        self._reading_target = True
        work = partial(self._read_target, self.shell)
        self.app.run_worker(work, thread=True, group="target", description="read the storage settings")

    def _read_target(self, shell: Shell) -> None:
        try:
            draft = of_settings(settings_of(shell.home, self.root).values, "")
            shell.call_later(self._ask_for_target, draft)
        except BitnetError as error:
            shell.call_later(self._ask_for_target, str(error))

    def _ask_for_target(self, found: Draft | str) -> None:
        from bitnet_tui.screens.guide.target import TargetScreen

        self._reading_target = False
        if isinstance(found, str):
            self._say("bad", found)
        elif self.is_active:
            self.app.push_screen(TargetScreen(self.root, found, partial(self._say, "good")))

    def _ask_to(self, action: Action) -> None:
        from bitnet_tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if yes:
                self._run(action)

        self.app.push_screen(ConfirmScreen(*_QUESTIONS[action], final=action == "overwrite"), answered)

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
        doing, if_ended = _AT_WORK[command.action]
        work = Work(f"the copy of {flat(self.root.name)} is being {doing}", if_ended, command.interrupt, self.root)
        with shell.at_work(work):
            well, sentence = command.follow(lambda words: shell.call_later(self._say, "value", words))
        shell.call_later(self._ended, command, well, sentence)

    def _ended(self, command: StoreCommand, well: bool, sentence: str) -> None:
        self._command, name = None, _NAMES[command.action]
        if command.damaged is not None:
            self._damaged = command.damaged
        else:
            self._forget_list()
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
