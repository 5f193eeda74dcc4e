"""Slow calls in a thread, and opening the vault when one needs it, for the screens whose actions need keys."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from textual.message import Message

from bitnet_core.errors import BitnetError
from bitnet_core.secrets.places import VaultLocked
from bitnet_tui.screens.base import DialogScreen, ShellScreen
from bitnet_tui.widgets.painted import Painted

_Result = TypeVar("_Result")
_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[], Any]
    then: Callable[[Any], object]
    offer: str
    without: str


class Attempted(Message):
    """A call has ended, with a result or an error; VaultLocked is one that opening the vault resolves."""

    def __init__(self, job: _Job, result: Any, error: BitnetError | None) -> None:
        super().__init__()
        self.job = job
        self.result = result
        self.error = error


class AttemptingScreen(ShellScreen[_Result], Generic[_Result]):
    """Runs one call at a time and is `busy` meanwhile. A keyring may take 5 s, and the screen never waits for it."""

    _job: _Job | None = None

    @property
    def busy(self) -> bool:
        return self._job is not None

    def abandon(self) -> None:
        """Ignore the result of the running call."""
        self._job = None

    def attempt(
        self,
        work: Callable[[], _Value],
        then: Callable[[_Value], object],
        *,
        offer: str = "",
        without: str = "Nothing was changed",
    ) -> None:
        """Call `work` in a thread, and `then` with its result.

        If that needs the vault, the user is asked for its passphrase; `offer` is added to the question where the
        vault would take the keyring's place. `without` is the outcome to report if it stays locked.
        """
        self._begin(_Job(work, then, offer, without))

    def refused(self, problem: str) -> None:
        """Show why the call failed."""
        raise NotImplementedError

    def declined(self, problem: str) -> None:
        """Show that the call was given up because the vault stayed closed."""
        self.refused(problem)

    def _begin(self, job: _Job) -> None:
        self._job = job
        self.run_worker(lambda: self._attempt(job), thread=True, group="keys", description="ask for keys")

    def _attempt(self, job: _Job) -> None:
        result, error = None, None
        try:
            result = job.work()
        except BitnetError as raised:
            error = raised
        self.post_message(Attempted(job, result, error))

    def on_attempted(self, message: Attempted) -> None:
        if message.job is not self._job:
            return
        self._job = None
        if isinstance(message.error, VaultLocked):
            self._open_vault(message.error, message.job)
        elif message.error is not None:
            self.refused(str(message.error))
        else:
            message.job.then(message.result)

    def _open_vault(self, locked: VaultLocked, job: _Job) -> None:
        why = f"{locked.why[0].upper()}{locked.why[1:]}"
        question = f"{why}. {job.offer}".strip() if locked.instead else f"{why}, which is locked."

        def answered(opened: bool | None) -> None:
            if opened:
                self._begin(job)
            else:
                self.declined(f"{job.without}: {locked.without}")

        self.shell.unlock_vault(locked.path, question, answered)


class KeyedScreen(DialogScreen[_Result], AttemptingScreen[_Result], Generic[_Result]):
    """A dialog that reads or changes keys, and reports it in its widget `#problem`."""

    def say(self, text: str, style: str) -> None:
        self.query_one("#problem", Painted).say(text, style)
