"""Slow calls in a thread, and opening the vault when one needs it, for the screens whose actions need keys."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from bitnet_core.errors import BitnetError
from bitnet_core.text import capital
from bitnet_tui.remedies import in_app
from bitnet_tui.screens.base import DialogScreen, ShellScreen
from bitnet_tui.shell import Shell
from bitnet_tui.widgets.painted import Painted

if TYPE_CHECKING:
    from bitnet_core.secrets.addresses import NotAllowed
    from bitnet_core.secrets.places import VaultLocked

_LONG_SECONDS = 3
"""From when on it is said how long something takes."""
_Result = TypeVar("_Result")
_Value = TypeVar("_Value")


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[], Any]
    then: Callable[[Any], object]
    offer: str
    without: str
    title: str
    doing: str


class AttemptingScreen(ShellScreen[_Result], Generic[_Result]):
    """Runs one call at a time and is `busy` meanwhile. A keyring may take 5 s, and the screen never waits for it."""

    ASKS_LATE = True
    """Whether a call that matters asks for the vault's passphrase after the screen was closed."""
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
        title: str = "",
        doing: str = "",
    ) -> None:
        """Call `work` in a thread, and `then` with its result. `doing` is said meanwhile, where a dialog has a place.

        With a `title`, its end is told even if this screen is closed before: a sentence that is its result, or why it
        failed; the vault is asked for then, too.

        If that needs the vault, the user is asked for its passphrase; `offer` is added to the question where the
        vault would take the keyring's place. `without` is the outcome to report if it stays locked.
        """
        self._begin(_Job(work, then, offer, without, title, doing))

    def refused(self, problem: str) -> None:
        """Show why the call failed."""
        raise NotImplementedError

    def declined(self, problem: str) -> None:
        """Show that the call was given up because the vault stayed closed."""
        self.refused(problem)

    def vault_opened(self) -> None:
        """Update where keys are kept, as the vault is open now."""

    def _begin(self, job: _Job) -> None:
        self._job = job
        # The app's worker, and the app is told: a screen that was closed meanwhile hears nothing, and has no app.
        work = partial(self._attempt, self.shell, job)
        self.app.run_worker(work, thread=True, group="keys", description="ask for keys")

    def _attempt(self, shell: Shell, job: _Job) -> None:
        result, error = None, None
        try:
            result = job.work()
        except BitnetError as raised:
            error = raised
        shell.call_later(self._attempted, job, result, error)

    def _attempted(self, job: _Job, result: Any, error: BitnetError | None) -> None:
        """The call has ended; opening the vault resolves VaultLocked, and the user's yes resolves NotAllowed."""
        from bitnet_core.secrets.addresses import NotAllowed  # the first paint does not need them
        from bitnet_core.secrets.places import VaultLocked

        if job is not self._job:
            return
        self._job = None
        if isinstance(error, VaultLocked) and (self.on_stack or (job.title and self.ASKS_LATE)):
            self._open_vault(error, job)
        elif isinstance(error, NotAllowed) and self.on_stack:
            self._ask_to_allow(error, job)
        elif not self.on_stack:
            self._tell(job, _late_words(job, result, error), failed=error is not None)
        elif error is not None:
            self.refused(str(error))
        else:
            job.then(result)

    def _ask_to_allow(self, refused: "NotAllowed", job: _Job) -> None:
        from bitnet_core.secrets.addresses import allow
        from bitnet_tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if not yes:
                if self.on_stack:
                    self.declined(f"{job.without}: {refused}")
                return
            work = job.work

            def allowed() -> Any:
                allow(refused.name, refused.origin)
                return work()

            self._begin(replace(job, work=allowed))

        why = f"{in_app(refused.why)}. Allow it only if you know whose server that is: it can use the key as you can."
        question = ConfirmScreen("Send the key there?", why, "Allow", final=True)
        self.ask_on_top(question, answered, "No key is sent until you allow it; go back to answer.")

    def _tell(self, job: _Job, sentence: str, *, failed: bool) -> None:
        """Tell the end of a call whose screen is closed, if it matters then."""
        if job.title and sentence:
            severity: Literal["error", "information"] = "error" if failed else "information"
            self.app.notify(sentence, title=job.title, severity=severity)

    def worded(self, sentence: str) -> str:
        """A sentence of the core as this screen names things."""
        return sentence

    def _open_vault(self, locked: "VaultLocked", job: _Job) -> None:
        why = capital(self.worded(locked.why))
        question = f"{why}. {job.offer}".strip() if locked.instead else f"{why}, which is locked."

        def answered(opened: bool | None) -> None:
            problem = _closed(job, locked)
            if opened:
                self._begin(job)
                if self.on_stack:
                    self.vault_opened()
            elif self.on_stack:
                self.declined(problem)
            else:
                self._tell(job, problem, failed=True)

        self.shell.unlock_vault(locked, question, answered)


def _closed(job: _Job, locked: "VaultLocked") -> str:
    """What came of it where the vault stayed closed."""
    return f"{job.without}: {locked.why}{'' if locked.instead else ', which is locked'}."


def _late_words(job: _Job, result: Any, error: BitnetError | None) -> str:
    from bitnet_core.secrets.places import VaultLocked

    if isinstance(error, VaultLocked):
        return _closed(job, error)
    return str(error) if error is not None else result if isinstance(result, str) else ""


class KeyedScreen(DialogScreen[_Result], AttemptingScreen[_Result], Generic[_Result]):
    """A dialog that reads or changes keys, and reports it in its widget `#problem`."""

    LINKED: ClassVar[tuple[str, ...]] = ()
    """The actions, by their ids, whose keys its sentences name."""

    def say(self, text: str, style: str) -> None:
        self.query_one("#problem", Painted).say(text, style, *self.LINKED)

    def _begin(self, job: _Job) -> None:
        super()._begin(job)
        if job.doing:
            self.say(job.doing, "label")
            self.tell_seconds(lambda: self._job is job, lambda taken: self.say(f"{job.doing} {taken} s", "label"))

    def tell_seconds(self, runs: Callable[[], bool], tell: Callable[[int], object]) -> None:
        """`tell` each second how long something has taken, once that is longer than one expects, while it `runs`."""
        begun = time.monotonic()

        def tick() -> None:
            if not runs() or not self.on_stack:
                timer.stop()
            elif (taken := int(time.monotonic() - begun)) >= _LONG_SECONDS:
                tell(taken)

        timer = self.set_interval(1.0, tick)
