"""The last export of an experiment, as a run: any process may see how far it is, how it ended, and stop it.

It is not among the runs of the experiment: its folder is in `exports/`, and the next export takes it over.
"""

import contextlib
import dataclasses
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core import files, process
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files import half_written
from bitnet_core.runs import clock, exports
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.launch import lock_path
from bitnet_core.runs.record import ACTIVE, STOP_SECONDS, Run, RunRecord, end, keep_room_for_end
from bitnet_core.text import escaped, natural

EXPORT = "export"
"""Names its lock, and its run for `bitnet stop`; it is not a stage."""
_FOLDER = f".{EXPORT}"
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class ExportRun:
    """What is known of it. `state` is that of a run; `seconds` is how long it took, or has taken until now.

    `written` are the names of the complete exports, which are then compared with the student; `problems` are what
    that has found. `why` is a sentence, or a clause if it was killed.
    """

    state: str
    pid: int
    step: int | None
    formats: tuple[str, ...]
    seconds: float
    written: tuple[str, ...] = ()
    verified: bool = False
    problems: tuple[str, ...] = ()
    why: str = ""
    host: str = ""
    """The other host that it was begun on, if it has told no end: from here its process can't be seen."""

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def has_written(self, path: Path) -> bool:
        return escaped(path.name) in self.written


class Recording:
    """The export that this process makes. What can't be recorded must not end it.

    A record is UTF-8, which names of files need not be.
    """

    def __init__(self, run: Run, record: RunRecord) -> None:
        self._run, self._record = run, record

    def tell(self, **known: Any) -> None:
        """Record what is known by now: `step`, `written`, `problems`, `verified`."""
        known = {name: [*map(escaped, one)] if isinstance(one, list) else one for name, one in known.items()}
        self._record = dataclasses.replace(self._record, summary=self._record.summary | known)
        with contextlib.suppress(OSError, BitnetError):
            self._run.write(self._record)

    def end(self, state: str, code: int, error: str | None = None) -> None:
        with contextlib.suppress(OSError, BitnetError):
            end(self._run, state, code, error and escaped(error), self._record.summary, self._record)


def latest(root: Path) -> ExportRun | None:
    """The last export of an experiment; None if there was none, or it was made where this folder is a copy of."""
    run = _run(root)
    try:
        record = run.record()
    except BitnetError:
        return None
    if run.is_copy(record):
        return None
    state, told = run.state(record), record.summary
    gone = state == "interrupted"
    return ExportRun(
        state,
        record.pid or 0,
        natural(told.get("step")),
        _texts(told.get("formats")),
        record.seconds(clock.now(record.boot_id)) or 0.0,
        _texts(told.get("written")),
        told.get("verified") is True,
        _texts(told.get("problems")),
        record.gone if gone else record.error or "",
        run.foreign_host(record) if gone else "",
    )


def stop(root: Path, *, now: bool = False) -> str:
    """Stop it, or kill it `now`, and remove what it has half written; its last state.

    UsageError if none runs, or not where this can be done.
    """
    run, found = _run(root), latest(root)
    if found is None or not (found.active or found.host):
        raise UsageError(f"No export of {root} is running, so there is nothing to stop.")
    if not now:
        run.request_stop()
        deadline = time.monotonic() + STOP_SECONDS
        while _is_active(root, found.pid) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
    if now or _is_active(root, found.pid):
        run.kill()
    clear(root)
    last = latest(root)
    return last.state if last is not None and last.pid == found.pid else "cancelled"


def _is_active(root: Path, pid: int) -> bool:
    """Whether the export of this process runs. Another one may have waited for its end, and has its place then."""
    found = latest(root)
    return found is not None and found.active and found.pid == pid


def clear(root: Path) -> None:
    """Remove what killed exports have left half written."""
    with contextlib.suppress(OSError):
        half_written.remove_leftovers(root / exports.FOLDER)


@contextlib.contextmanager
def export_lock(experiment: Experiment, on_wait: Callable[[], object]) -> Iterator[None]:
    """Hold an experiment while it is exported: it is neither renamed nor deleted. One export waits for another.

    Where the lock can't be made that must not prevent the export.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(files.locked(lock_path(experiment, EXPORT), on_wait=on_wait))
        yield


@contextlib.contextmanager
def recorded(
    experiment: Experiment, formats: Sequence[str], argv: list[str], explain: Callable[[Exception], str]
) -> Iterator[Recording]:
    """Record the export that is made in this context by this process, and its end. `explain` tells a failure.

    SIGTERM ends it as Ctrl-C does, so that it removes what it has half written.
    """
    recording = _begun(experiment, formats, argv)
    with _stopped_by_signal():
        try:
            yield recording
        except KeyboardInterrupt:
            recording.end("cancelled", 130)
            raise
        except Exception as error:
            recording.end("failed", 1, explain(error))
            raise
    recording.end("succeeded", 0)


def _begun(experiment: Experiment, formats: Sequence[str], argv: list[str]) -> Recording:
    run, me, boot = _run(experiment.root), process.identify(os.getpid()), process.boot_id()
    now = clock.now(boot)
    record = RunRecord(
        id=run.id,
        stage=EXPORT,
        state="running",
        settings={},
        origins={},
        argv=argv,
        created=now.wall,
        created_uptime=now.uptime,
        started=now.wall,
        started_uptime=now.uptime,
        host=socket.gethostname(),
        boot_id=boot,
        pid=os.getpid(),
        process_start=me.start if me else None,
        fingerprint="",
        folder=escaped(str(run.path.resolve())),
        oom_kills=process.oom_kills(),
        summary={"formats": list(formats)},
    )
    with contextlib.suppress(OSError):
        run.path.mkdir(parents=True, exist_ok=True)
        run.events_path.unlink(missing_ok=True)
        run.write(record)
        keep_room_for_end(run)
    return Recording(run, record)


@contextlib.contextmanager
def _stopped_by_signal() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone may say what a signal does
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(root: Path) -> Run:
    return Run(root / exports.FOLDER / _FOLDER)


def _texts(found: object) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, list) else ()
