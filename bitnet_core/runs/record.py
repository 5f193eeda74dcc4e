"""A run's folder: its record and events, whether its process is alive, and how to stop it."""

import contextlib
import dataclasses
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec

from bitnet_core import files, process
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files.regular import read_bounded
from bitnet_core.files.repeated import require_no_repeats
from bitnet_core.files.writable import is_read_only
from bitnet_core.process import ProcessIdentity
from bitnet_core.runs import clock, tolerant
from bitnet_core.runs.clock import Moment
from bitnet_core.runs.event_files import EventReader, EventWriter, each_event
from bitnet_core.runs.events import Event, Progress, RunFinished, cut
from bitnet_core.runs.experiment import is_name
from bitnet_core.runs.lines import LineReader
from bitnet_core.runs.presence import Gone
from bitnet_core.text import flat

ACTIVE = ("starting", "running")
COPIED = ".copied"
"""A file in the folder of a run that was brought from a storage target: its process is none of this folder's."""
BALLAST = ".ballast"
"""A file in the folder of a run that has recorded no end."""
_SAID = b"bitnet: "
"""Begins each line of `output.log` that is a sentence for people."""
_LAST_BYTES, _LAST_CHARS = 1 << 12, 500
_BALLAST_BYTES = 64 * 1024
START_SECONDS = 60.0
STOP_SECONDS = 20.0
KILL_SECONDS = 5.0
"""How long a process that is killed may take to be gone."""
GONE_SECONDS = 5.0
"""How long one who follows a run waits for its record, once removed: the run may record its end in a new folder."""
SILENT_SECONDS = 600.0
"""How long a run on another host may write no event before it counts as gone: its process can't be seen from here."""
RECORD_BYTES = 4 << 20
"""A longer `run.json` is not read, and none is written."""
MOST_RUNS = 10**9
_ERROR_CHARS = 1 << 16
_LAST_TRIES, _LAST_PAUSE_SECONDS = 3, 0.1

_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
_Pid = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_ExitCode = Annotated[int, msgspec.Meta(ge=-255, le=255)]
_Number = Annotated[int, msgspec.Meta(ge=1, le=MOST_RUNS)]


class NoRecord(BitnetError):
    """A run's `run.json`, or the whole folder, is not there."""


@dataclass(frozen=True)
class RunRecord:
    """`run.json`. `state` is what was written last; `Run.state` also notices that the process is gone.

    `number` counts the runs of the experiment. `folder` is where the run was started. `created`, `started` and
    `ended` are Unix seconds; beside each is the time since the boot `boot_id`, if it is known.
    """

    id: str
    stage: str
    state: str
    settings: dict[str, Any]
    origins: dict[str, str]
    argv: list[str]
    created: _Seconds
    host: str
    boot_id: str
    fingerprint: str
    number: _Number | None = None
    folder: str | None = None
    created_uptime: _Seconds | None = None
    pid: _Pid | None = None
    process_start: float | None = None
    oom_kills: int | None = None
    """`process.oom_kills()` when it started."""
    started: _Seconds | None = None
    started_uptime: _Seconds | None = None
    ended: _Seconds | None = None
    ended_uptime: _Seconds | None = None
    exit_code: _ExitCode | None = None
    error: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def process(self) -> ProcessIdentity | None:
        if self.pid is None or self.process_start is None:
            return None
        return ProcessIdentity(self.pid, self.process_start, self.boot_id, self.host)

    @property
    def began(self) -> Moment:
        """When it started, or when it was created if it never started."""
        if self.started is None:
            return Moment(self.created, self.created_uptime)
        return Moment(self.started, self.started_uptime)

    @property
    def gone(self) -> str:
        """The clause for a process that is gone without an end, with what this machine knows of the reason."""
        if self.boot_id != process.boot_id():
            restarted = self.host == socket.gethostname()
            return f"its process is gone{', as this machine was restarted' if restarted else ''}"
        killed = process.oom_kills()
        if killed is None or self.oom_kills is None or killed <= self.oom_kills:
            return "its process is gone"
        return "its process is gone, and since it began the system has killed processes because memory ran out"

    @property
    def starter(self) -> str:
        """The id of the run that started this one: a pipeline its stages, a stage its upload. Empty if people did."""
        stage, _, run = self.argv[0].partition(" ") if len(self.argv) == 1 else ("", "", "")
        return run if run.startswith(f"{stage}-") and is_name(run) else ""

    def seconds(self, now: Moment | None = None) -> float | None:
        """How long it took or, if it has not ended, has taken until `now`; None if neither is known."""
        end = Moment(self.ended, self.ended_uptime) if self.ended is not None else now
        return self.began.until(end) if end else None


@dataclass(frozen=True)
class Run:
    """A run's folder. Only `write`, `kill` and `stop` change it."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def events_path(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def output_path(self) -> Path:
        return self.path / "output.log"

    @property
    def record_path(self) -> Path:
        return self.path / "run.json"

    def record(self) -> RunRecord:
        """Read `run.json`, less odd optional fields; NoRecord if it is missing, BitnetError if it is no record."""
        try:
            data = read_bounded(self.record_path, RECORD_BYTES)
            record = tolerant.decode(data, RunRecord)
            require_no_repeats(data)
            return record
        except FileNotFoundError as error:
            problem = f"{self.record_path} does not exist; if the run was removed, start it again."
            raise NoRecord(problem) from error
        except OSError as error:
            problem = f"{self.record_path} can't be read ({error.strerror}); correct it or move {self.path} away."
            raise BitnetError(problem) from error
        except ValueError as error:
            raise BitnetError(
                f"{self.record_path} is not a run's record ({error}); move {self.path} away."
            ) from error

    def write(self, record: RunRecord) -> None:
        """Write `run.json`. BitnetError for a record that is too long to be read."""
        data = files.json_bytes(dataclasses.asdict(record))
        if len(data) > RECORD_BYTES:
            raise BitnetError(
                f"The settings or results of {self.id} are longer than {RECORD_BYTES >> 20} MiB, "
                "too long to be recorded; shorten the longest setting."
            )
        files.write_bytes(self.record_path, data)

    def state(self, record: RunRecord | None = None) -> str:
        """The state in the record, read now unless given; `interrupted` if the process is gone without an end."""
        record = record or self.record()
        return "interrupted" if record.state in ACTIVE and self._is_gone(record) else record.state

    def _is_gone(self, record: RunRecord) -> bool:
        if (self.path / COPIED).exists() or self.is_copy(record):
            return True
        here, now = record.host == socket.gethostname(), clock.now(record.boot_id)
        if record.process is None:
            rebooted = here and record.boot_id != process.boot_id()
            return rebooted or record.began.until(now) > START_SECONDS
        if process.is_alive(record.process):
            return False
        return here or self._silent_for(record, now) > SILENT_SECONDS

    def is_copy(self, record: RunRecord) -> bool:
        """Whether the run was copied with its folder while it was at work: its process works in the original."""
        with contextlib.suppress(OSError, ValueError):  # the folder is gone, so it was renamed
            return record.folder is not None and not self.path.samefile(record.folder)
        return False

    def _silent_for(self, record: RunRecord, now: Moment) -> float:
        try:
            changed = self.events_path.stat().st_mtime
        except OSError:
            return float("inf")
        return clock.seconds_since_change(changed, record.began, now)

    def child(self, name: str) -> "Run | None":
        """The run of that name beside this one, if it is there and its record can be read."""
        child = Run(self.path.parent / name)
        with contextlib.suppress(BitnetError):
            return child if is_name(name) and child.record() else None
        return None

    def active_children(self) -> list["Run"]:
        """The runs that this one, a pipeline, has started and that have not ended."""
        events = each_event(self.events_path)
        names = {event.run for event in events if isinstance(event, Progress) and event.run}
        children = map(self.child, sorted(names))
        return [child for child in children if child and child.is_active()]

    def has_output(self) -> bool:
        """Whether its process has written anything beside its events."""
        try:
            return self.output_path.stat().st_size > 0
        except OSError:
            return False

    def last_words(self) -> str:
        """What its process said last beside its events, without the full stop: why it can't record its end, if so."""
        said: list[bytes] = []
        with contextlib.suppress(OSError):
            for line in LineReader(self.output_path, last_bytes=_LAST_BYTES).read_new():
                is_said = (line.data or b"").startswith(_SAID)
                said = [*said, (line.data or b"").removeprefix(_SAID)] if is_said else []
        return cut(flat(b" ".join(said).decode(errors="replace")), _LAST_CHARS).removesuffix(".")

    def gone(self, record: RunRecord | None = None) -> str:
        """The clause for a run whose process is gone without an end: where none can be recorded, it says so."""
        clause = (record or self.record()).gone
        if words := self.last_words():
            return f"{clause}; it said: {words}"
        return f"{clause}, and its disk is read-only now" if is_read_only(self.path) else clause

    def is_active(self) -> bool:
        return self.state() in ACTIVE

    def reader(self) -> EventReader:
        """A reader that also says what it can't read."""
        return EventReader(self.events_path, remark=True)

    def follow(
        self,
        until: Callable[[], bool] = lambda: False,
        poll_seconds: float = 0.2,
        idle: Callable[[], object] = lambda: None,
    ) -> Iterator[Event]:
        """Yield the run's events from the first, until the run has ended or `until` returns True.

        `idle` is called whenever all events so far were yielded and the run goes on.

        BitnetError if the run is removed and does not soon record its end in a new folder.
        """
        reader = self.reader()
        record = self.record()
        while True:
            # Checked before reading: the last event is written before the record says that the run ended.
            record = self._record_after(record)
            active = self.state(record) in ACTIVE and not until()
            events = reader.read_new()
            yield from events
            if not active and not events and reader.at_end:
                return
            if not events and reader.at_end:
                idle()
                time.sleep(poll_seconds)

    def _record_after(self, last: RunRecord) -> RunRecord:
        """The record now; if it was removed, the one that the run may write soon."""
        deadline = time.monotonic() + GONE_SECONDS
        while True:
            try:
                return self.record()
            except NoRecord as error:
                if time.monotonic() >= deadline:
                    raise self._removed(last) from error
            time.sleep(0.05)

    def _removed(self, last: RunRecord) -> BitnetError:
        """Gone if the process is there: whatever else is gone, it has to be stopped."""
        what, again = f"{self.path} was removed while a command followed the run", f"start {last.stage} again"
        if not (last.process and process.is_alive(last.process)):
            return BitnetError(f"{what}; {again}.")
        stop = f"its process still runs: wait until it ends or stop it with `kill {last.process.pid}`, then"
        return Gone(f"{what}; {stop} {again}.")

    def foreign_host(self, record: RunRecord | None = None) -> str:
        """The host it was started on if its process can't be reached from here; else empty."""
        record = record or self.record()
        reachable = record.process is not None and process.is_alive(record.process)
        return "" if reachable or record.host == socket.gethostname() else record.host

    def request_stop(self) -> None:
        """Send SIGTERM and return: the stage saves what it can and ends as cancelled. UsageError on another host."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill its process group and those of the runs it started, and record that it was cancelled."""
        record = self.record()
        self._signal(signal.SIGKILL)
        for child in self.active_children():
            child.kill()
        deadline = time.monotonic() + KILL_SECONDS
        while record.process and process.is_alive(record.process) and time.monotonic() < deadline:
            time.sleep(0.02)
        left = self.record()
        if left.state in ACTIVE and left.created == record.created:  # not of an export that has waited for its end
            message = f"{record.stage} was killed before it could save; only what it had saved before is kept."
            end(self, "cancelled", 130, message)

    def stop(self, seconds: float = STOP_SECONDS) -> str:
        """Request a stop, wait, and kill the run if it has not ended by then. Returns its last state."""
        self.request_stop()
        deadline = time.monotonic() + seconds
        while self.is_active() and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.is_active():
            self.kill()
        return self.state()

    def _signal(self, number: signal.Signals) -> None:
        record = self.record()
        if self.is_copy(record):
            raise UsageError(f"{self.id} is a copy of a run in {record.folder}; stop it there.")
        if record.process and process.is_alive(record.process):
            try:
                with contextlib.suppress(ProcessLookupError):
                    # An export that a script has begun leads no group.
                    leads = os.getpgid(record.process.pid) == record.process.pid
                    send = os.killpg if leads and number == signal.SIGKILL else os.kill
                    send(record.process.pid, number)
            except PermissionError:
                owner = process.owner(record.process.pid)
                raise UsageError(
                    f"{self.id} runs as {owner} (process {record.process.pid}); stop it as that user."
                ) from None
        elif host := self.foreign_host(record):
            raise UsageError(f"{self.id} runs on {host}; stop it there.")


def keep_room_for_end(run: Run) -> None:
    """Write what is freed when the run ends, so that its end can be recorded even on a full disk."""
    (run.path / BALLAST).write_bytes(os.urandom(_BALLAST_BYTES))


def end(
    run: Run,
    state: str,
    exit_code: int,
    error: str | None,
    summary: dict[str, Any] | None = None,
    record: RunRecord | None = None,
) -> None:
    """Record a run's end in its record and its events, by its own process or by the one that saw it end.

    The run's own process gives its `record`: the run's folder may have been removed.
    """
    error = cut(error, _ERROR_CHARS) if error else error
    ending: dict[str, Any] = {"state": state, "exit_code": exit_code, "error": error, "summary": summary or {}}
    (run.path / BALLAST).unlink(missing_ok=True)
    if record is not None:
        run.path.mkdir(parents=True, exist_ok=True)
    # The event first, so that a reader who sees the ended record finds the event.
    with contextlib.suppress(OSError):  # an end that can't be announced must still be recorded
        writer = EventWriter(run.events_path)
        writer.emit(RunFinished(**ending))
        writer.close()
    if record is None or run.record_path.exists():
        record = run.record()
    now = clock.now(record.boot_id)
    ended = dataclasses.replace(record, ended=now.wall, ended_uptime=now.uptime, **ending)
    try:
        _write_last(run, ended)
    except BitnetError:  # too long: a run without its results has ended all the same
        _write_last(run, dataclasses.replace(ended, summary={}))


def _write_last(run: Run, record: RunRecord) -> None:
    """Write the record of an end. A disk that fails once may not fail again, and nothing else tells the end."""
    for _ in range(_LAST_TRIES - 1):
        with contextlib.suppress(OSError):
            return run.write(record)
        time.sleep(_LAST_PAUSE_SECONDS)
    return run.write(record)
