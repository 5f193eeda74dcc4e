"""Sync: bring the copy up to date while stages run, and once more when they have ended.

What waits is on disk (`State.waiting`), so an uploader that was killed, or a push by hand, continues it. Nothing here
can slow a stage: it is another process, with a low priority (`stages/upload.py`).
"""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from bitnet_core.errors import BitnetError, Stopped, UsageError
from bitnet_core.runs.catalog import UPLOAD
from bitnet_core.runs.companion import push_command
from bitnet_core.runs.events import Upload
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History, RecordCache
from bitnet_core.runs.record import ACTIVE
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.storage import target_mark
from bitnet_core.storage.apart import require_no_experiment
from bitnet_core.storage.copy import copy_name
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.opening import open_target
from bitnet_core.storage.patient import Patient
from bitnet_core.storage.push import Conflict, Push, Pushed
from bitnet_core.storage.snapshot import LocalFile
from bitnet_core.storage.state import Busy, State, exclusive, opened
from bitnet_core.storage.status import copy_status
from bitnet_core.storage.steps import complete_steps, step_of
from bitnet_core.storage.target import Target, Unreachable
from bitnet_core.storage.under import Under
from bitnet_core.text import duration, size

_POLL_SECONDS = 0.5
_TRIED_AGAIN = "The stage continues; storing is tried again while it runs, and when it has ended."


@dataclass(frozen=True)
class Pace:
    """How often things happen, in seconds. `tries` is how often a failed last push is tried again."""

    tick: float = 5.0
    growing: float = 300.0
    """At most this often, files that grow all the while are sent: logs, the journal."""
    share: float = 20.0
    """And not before this many times as long as sending them took."""
    first_retry: float = 30.0
    longest_retry: float = 600.0
    behind: float = 900.0
    """How long a file may wait before that is an alert."""
    quiet: float = 15.0
    """How long a note about a failed call keeps further notes back."""
    tries: int = 6


@dataclass
class Uploader:
    """Pushes an experiment again and again while other runs of it are active."""

    experiment: Experiment
    keys: Keys
    report: Reporter
    pace: Pace = field(default_factory=Pace)
    _growing_due: float = 0.0
    _mark: str = ""
    """Of the copy that it pushes; empty before the first push."""
    _alerted: set[str] = field(default_factory=set)
    _failures: int = 0
    _quiet_until: float = 0.0
    _last: Pushed | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _records: RecordCache = field(default_factory=RecordCache)
    """It looks twice a second whether others still run."""

    def run(self) -> Pushed | None:
        """Push until no other run is active and everything is stored. BitnetError if the last push fails for good."""
        try:
            return self._until_stored()
        except Stopped:
            push = push_command(self.experiment)
            raise Stopped(f"The upload was stopped; what has arrived is kept, and `{push}` continues.") from None

    def _until_stored(self) -> Pushed | None:
        with self._watching():
            while True:
                active, before = self._others_active(), self._runs()
                if self._attempt(last=not active):
                    if not active and before == self._runs():
                        return self._last
                    self._wait(self.pace.tick)
                else:
                    self._wait(self._retry_wait())

    # -- one attempt -----------------------------------------------------------------------------------------

    def _attempt(self, *, last: bool) -> bool:
        """One push. False if it failed and is worth another try."""
        try:
            with open_target(self.experiment.settings, self.keys) as target:
                patient = Patient(target, on_retry=self._on_retry, stop=self._stop)
                while True:
                    self._push(Under(patient, f"{copy_name(self.experiment)}/"), last=last)
                    self._failures = 0
                    self._alerted &= set(self._last.left if self._last else ())
                    if last or not self._others_active():
                        return True
                    self._wait(self.pace.tick)
        except Busy:  # a push by hand, which does the same
            return False
        except (Stopped, UsageError):
            raise
        except BitnetError as error:
            self._failures += 1
            if last and (self._failures >= self.pace.tries or not isinstance(error, Unreachable)):
                raise
            code = "storage_unreachable" if isinstance(error, Unreachable) else "storage_refused"
            if isinstance(error, Conflict):
                code = "storage_conflict"
            self._alert(code, str(error), "" if last else _TRIED_AGAIN)
            self.report.log(f"The copy is not up to date; next try in {duration(self._retry_wait())}.")
            return False

    def _push(self, place: Target, *, last: bool) -> None:
        self._mark = target_mark(self.experiment.settings, copy_name(self.experiment))
        with exclusive(self.experiment.root), opened(self.experiment.root, place.place, self._mark) as state:
            require_no_experiment(place)
            began = time.monotonic()
            with_growing = last or began >= self._growing_due
            push = Push(
                self.experiment,
                place,
                state,
                stop=self._stop,
                choose=list if last else partial(_chosen, with_growing=with_growing),
                on_bytes=lambda file, done: self._on_bytes(place, state, file, done),
                lenient=True,
            )
            self._last = push.run()
        for sentence in self._last.left:
            self._alert("not_stored", sentence)
        if with_growing:
            spent = time.monotonic() - began
            self._growing_due = time.monotonic() + max(self.pace.growing, self.pace.share * spent)

    # -- reporting -------------------------------------------------------------------------------------------

    def _on_bytes(self, place: Target, state: State, file: LocalFile, done: int) -> None:
        self.report.check_stop()
        how = "done" if done >= file.size else "sending"
        self.report.emit(Upload(path=file.name, target=place.name, bytes=file.size, done=done, state=how))
        self._warn_if_behind(state.waiting())

    def _on_retry(self, reason: str, seconds: float) -> None:
        """Several threads meet the same outage, so it is said once for a while."""
        quiet = time.monotonic() < self._quiet_until
        if not quiet:
            self._quiet_until = time.monotonic() + max(seconds, self.pace.quiet)
        self.report.log(f"{reason} Trying again in {duration(seconds)}.", "debug" if quiet else "info")

    def _warn_if_behind(self, waiting: dict[str, float]) -> None:
        late = time.time() - min(waiting.values(), default=time.time())
        if late > self.pace.behind:
            self._alert(
                "storage_behind",
                f"The copy is behind: {len(waiting)} files wait, the first for {duration(late)}.",
                "Choose a larger CHECKPOINT_INTERVAL, or a faster target.",
                topic="behind",
            )

    def _alert(self, code: str, message: str, advice: str = "", topic: str = "") -> None:
        """Once for each topic, which is the message if there is none, until a push succeeds again."""
        if (topic or message) not in self._alerted:
            self._alerted.add(topic or message)
            self.report.alert("warning", code, message, advice)

    # -- waiting ---------------------------------------------------------------------------------------------

    def _runs(self) -> set[tuple[str, str]]:
        """The runs beside this one, with their states."""
        entries = History.read(self.experiment, self._records).entries
        return {(entry.run.id, entry.state) for entry in entries if entry.record.stage != UPLOAD.name}

    def _others_active(self) -> bool:
        return any(state in ACTIVE for _, state in self._runs())

    def _retry_wait(self) -> float:
        """Short after a push by hand was in the way."""
        if not self._failures:
            return self.pace.tick
        return min(self.pace.longest_retry, self.pace.first_retry * float(2 ** min(self._failures - 1, 10)))

    def _wait(self, seconds: float) -> None:
        """Wait, no longer than until the other runs end. Raises Stopped if a stop is asked for meanwhile."""
        active = self._others_active()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._others_active() == active:
            self.report.check_stop()
            time.sleep(min(_POLL_SECONDS, seconds))

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Pass a stop on to the calls that wait, and tell when the copy is behind although nothing arrives."""
        done, looked = threading.Event(), time.monotonic()

        def watch() -> None:
            nonlocal looked
            while not done.wait(0.2):
                if self.report.stopping:
                    self._stop.set()
                if time.monotonic() - looked >= self.pace.tick:
                    looked = time.monotonic()
                    self._warn_if_behind(dict(copy_status(self.experiment.root, self._mark).waiting))

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            done.set()


def _chosen(files: list[LocalFile], *, with_growing: bool) -> list[LocalFile]:
    """While stages run: of the checkpoints only the newest complete one, and what grows only now and then."""
    newest = complete_steps([file.name for file in files])[:1]

    def is_due(file: LocalFile) -> bool:
        if (step := step_of(file.name)) is not None:  # those that were set aside leave the state, so they are sent
            return step in newest
        return with_growing or not (file.grows or file.is_database)

    return [file for file in files if is_due(file)]


def summary(pushed: Pushed | None) -> dict[str, object]:
    """What a run's record says of its last push."""
    if pushed is None:
        return {}
    return {
        "manifest": pushed.key,
        "files": pushed.files,
        "bytes": pushed.total_bytes,
        "total": size(pushed.total_bytes),
        "left": pushed.left,
    }
