"""Gives an existing experiment a storage target, another one, or none: the form of the guide over its `.env`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from bitnet_core.secrets.known import remember
from bitnet_tui.screens.guide.form import TargetForm
from bitnet_tui.services import keys
from bitnet_tui.services.config import save_storage
from bitnet_tui.view.guide import storing
from bitnet_tui.view.guide.draft import BACKEND, HERE, Draft


class TargetScreen(TargetForm):
    """`draft` has the settings that the experiment has now; `told` is called with a sentence on what was saved."""

    TITLE_WORDS = "Where a copy of this experiment is kept"
    ACT, DOES = "Save", "saves it"

    def __init__(self, root: Path, draft: Draft, told: Callable[[str], object]) -> None:
        super().__init__(draft)
        self._root, self._before, self._told = root, draft, told

    @property
    def suggested(self) -> str:
        return self._root.name

    @property
    def place(self) -> Path:
        return self._root

    def act(self) -> None:
        backend = self.draft.get(BACKEND)
        if backend != HERE and self._step.lacks():
            return
        shell, root = self.shell, self._root
        typed = storing.typed(self.draft, self.keys)
        remember(typed.values())
        before, after = (storing.written(one) for one in (self._before, self.draft))

        def save() -> str:
            for name, value in typed.items():
                keys.keep(shell.home, name, value, root)
            return save_storage(shell.home, root, before, after)

        self._on_refusal = self._on_declining = partial(self._not_saved, backend)
        self.say("Saving…", "label")
        self.attempt(save, self._saved, offer=keys.VAULT_INSTEAD["offer"], without="Nothing was saved")

    def _saved(self, sentence: str) -> None:
        self._told(sentence)
        self.dismiss(None)

    def _not_saved(self, backend: str, problem: str) -> None:
        self.say("" if backend != HERE else problem, "bad")
        if backend != HERE:
            self._step.fail(problem)

    def action_leave(self) -> None:
        """Stop a test, or leave everything as it was."""
        if self._testing is not None:
            self._step.stop()
        else:
            self.dismiss(None)
