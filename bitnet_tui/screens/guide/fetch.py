"""Fetches an experiment from a storage target: the form of the guide with its login and test, and two names."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Input

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.experiment import is_name
from bitnet_core.secrets.known import remember
from bitnet_core.storage.catalog import KINDS
from bitnet_tui.screens.guide.base import Made
from bitnet_tui.screens.guide.form import TargetForm, TargetStep
from bitnet_tui.screens.guide.step import label_of
from bitnet_tui.services import keys, preferences
from bitnet_tui.services.managing import Fetch
from bitnet_tui.view.guide import storing
from bitnet_tui.view.guide.draft import BACKEND, Draft
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.works import Work

_FIRST = "local"
_IF_ENDED = "What has arrived of it is kept, and fetching it again continues from there."


class _SourceStep(TargetStep):
    """The form of a target; results are kept nowhere yet."""

    TARGETS = storing.groups()[1:]
    SYNCS = False


class FetchScreen(TargetForm):
    """A form over `bitnet open`; returns the experiment that was opened, or None."""

    TITLE_WORDS = "Fetch an experiment from a storage target"
    ACT, DOES = "Fetch", "fetches it"
    HINTS = {  # noqa: RUF012
        "there": "Its name at the target; empty if it is the only one there.",
        "here": "The name of its folder on this machine; empty = as there.",
    }
    _command: Fetch | None = None

    def __init__(self, last: Mapping[str, str]) -> None:
        """`last` are the settings of the target from which an experiment was opened last."""
        draft = Draft().having(BACKEND, _FIRST)
        for name, text in last.items() if last.get(BACKEND) in KINDS else ():
            draft = draft.having(name, text)
        super().__init__(draft)

    def form(self) -> TargetStep:
        return _SourceStep()

    def more(self) -> Iterable[Widget]:
        there = SteadyInput(compact=True, id="there", placeholder="empty if it is the only one")
        here = SteadyInput(compact=True, id="here", placeholder="as there")
        rows = [
            Horizontal(label_of(words), entry, classes="row")
            for words, entry in (("Name there", there), ("Name here", here))
        ]
        yield Vertical(*rows, id="names")

    @property
    def suggested(self) -> str:
        return self.query_one("#there", Input).value.strip() or "experiment"

    @property
    def place(self) -> Path:
        name = self.query_one("#here", Input).value.strip()
        return self.shell.home / (name if is_name(name) else "experiment")

    # -- what keys and buttons do --------------------------------------------------------------------------------

    def act(self) -> None:
        shell, backend, asked = self.shell, self.draft.get(BACKEND), storing.written(self.draft)
        there, here = (self.query_one(f"#{one}", Input).value.strip() for one in ("there", "here"))
        typed = storing.typed(self.draft, self.keys)
        remember(typed.values())
        target = f"{backend}:{there}" if there else backend
        values = storing.question(self.draft, self.place)
        try:
            command = Fetch(shell.home, target, here, values, partial(shell.call_later, self._told))
        except UsageError as error:
            self.say(str(error), "bad")
            return

        def fetch() -> dict[str, Any]:
            for name, value in typed.items():
                keys.keep(shell.home, name, value)
            with shell.at_work(Work("an experiment is being fetched", _IF_ENDED, command.interrupt)):
                done = command.run()
            shell.last_target = asked
            with suppress(BitnetError):  # next time it is typed again
                preferences.keep_target(asked)
            return done

        self._command = command
        self._on_refusal = self._on_declining = self._not_opened
        self.say("Looking for it…", "label")
        self.attempt(
            fetch,
            lambda done: self.dismiss(Made(Path(str(done["root"])))),
            offer=keys.VAULT_INSTEAD["offer"],
            without="Nothing was fetched",
        )

    def _not_opened(self, problem: str) -> None:
        self.say("", "label")
        self._step.fail(problem)

    def _told(self, words: str) -> None:
        if self.on_stack and self.busy:
            self.say(words, "accent")

    def action_leave(self) -> None:
        """Stop a test, or what is being brought; the same form continues from there."""
        if self._testing is not None:
            self._step.stop()
            return
        if self._command is not None and self.busy:
            self._command.cancel()
            self.abandon()
            self.app.notify("Stopped; what has arrived is kept, and opening it again continues from there.")
        self.dismiss(None)
