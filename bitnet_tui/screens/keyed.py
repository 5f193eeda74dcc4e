"""What dialogs that read or change keys share: each call in a thread, and the vault opened where it is needed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from textual.message import Message
from textual.screen import ModalScreen

from bitnet_core.errors import BitnetError
from bitnet_core.secrets import VaultLocked
from bitnet_tui.app import BitnetApp

_Result = TypeVar("_Result")
_Found = TypeVar("_Found")


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[], Any]
    then: Callable[[Any], None]
    offer: str
    without: str


class Attempted(Message):
    """A call has come to its end: with what it found, with a sentence, or for want of the vault's passphrase."""

    def __init__(self, job: _Job, found: Any = None, problem: str = "", locked: VaultLocked | None = None) -> None:
        super().__init__()
        self.job = job
        self.found = found
        self.problem = problem
        self.locked = locked


class KeyedScreen(ModalScreen[_Result], Generic[_Result]):
    """One call at a time; `busy` while one is under way. A keyring may take its 5 s, the screen never waits."""

    _job: _Job | None = None

    @property
    def busy(self) -> bool:
        return self._job is not None

    def abandon(self) -> None:
        """Care no more about what the call under way finds."""
        self._job = None

    def attempt(
        self,
        work: Callable[[], _Found],
        then: Callable[[_Found], None],
        *,
        offer: str = "",
        without: str = "Nothing was changed",
    ) -> None:
        """Call `work` in a thread and `then` with what it returns.

        Where that needs the vault, `offer` says what for, and `without` what is the case when it stays closed.
        """
        self._begin(_Job(work, then, offer, without))

    def refused(self, problem: str) -> None:
        """Say why it can't be done."""
        raise NotImplementedError

    @property
    def bitnet(self) -> BitnetApp:
        return cast("BitnetApp", self.app)

    def _begin(self, job: _Job) -> None:
        self._job = job
        self.run_worker(lambda: self._attempt(job), thread=True, group="keys", description="ask for keys")

    def _attempt(self, job: _Job) -> None:
        try:
            found = job.work()
        except VaultLocked as error:
            self.post_message(Attempted(job, locked=error))
        except BitnetError as error:
            self.post_message(Attempted(job, problem=str(error)))
        else:
            self.post_message(Attempted(job, found))

    def on_attempted(self, message: Attempted) -> None:
        if message.job is not self._job:
            return
        self._job = None
        if message.locked is not None:
            self._open_vault(message.locked, message.job)
        elif message.problem:
            self.refused(message.problem)
        else:
            message.job.then(message.found)

    def _open_vault(self, locked: VaultLocked, job: _Job) -> None:
        from bitnet_tui.screens.vault import VaultScreen

        why = f"{locked.why[0].upper()}{locked.why[1:]}."

        def answered(opened: bool | None) -> None:
            if opened:
                self._begin(job)
            else:
                self.refused(f"{job.without}: {locked.why}.")

        self.app.push_screen(VaultScreen(locked.path, f"{why} {job.offer}".strip()), answered)
