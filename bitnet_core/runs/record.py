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
from typing import Any

import msgspec

from bitnet_core import files, process
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.process import ProcessIdentity
from bitnet_core.runs.events import Event, EventReader, EventWriter, Progress, RunFinished, read_events
from bitnet_core.runs.tolerant import without_odd_fields

ACTIVE = ("starting", "running")
START_SECONDS = 60.0
STOP_SECONDS = 20.0
SILENT_SECONDS = 600.0
"""How long a run on another host may write no event before it counts as gone: its process can't be seen from here."""


@dataclass(frozen=True)
class RunRecord:
    """`run.json`. `state` is what was written last; `Run.state` also notices that the process is gone."""

    id: str
    stage: str
    state: str
    settings: dict[str, Any]
    origins: dict[str, str]
    argv: list[str]
    created: float
    host: str
    boot_id: str
    fingerprint: str
    pid: int | None = None
    process_start: float | None = None
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    error: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def process(self) -> ProcessIdentity | None:
        if self.pid is None or self.process_start is None:
            return None
        return ProcessIdentity(self.pid, self.process_start, self.boot_id, self.host)


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
        """Read `run.json`, less odd optional fields; BitnetError when it is missing or is not a run's record."""
        data = files.read_json(self.record_path)
        try:
            try:
                return msgspec.convert(data, RunRecord)
            except msgspec.ValidationError:
                if not isinstance(data, dict):
                    raise
                return without_odd_fields(data, RunRecord)
        except msgspec.ValidationError as error:
            raise BitnetError(
                f"{self.record_path} is not a run's record ({error}); move {self.path} away."
            ) from error

    def write(self, record: RunRecord) -> None:
        files.write_json(self.record_path, dataclasses.asdict(record))

    def state(self, record: RunRecord | None = None) -> str:
        """The state in the record, read now unless given; `interrupted` if the process is gone without an end."""
        record = record or self.record()
        if record.state not in ACTIVE:
            return record.state
        if record.process is None:
            gone = time.time() - record.created > START_SECONDS
        elif process.is_alive(record.process):
            gone = False
        else:
            gone = record.host == socket.gethostname() or self._silent_for() > SILENT_SECONDS
        return "interrupted" if gone else record.state

    def _silent_for(self) -> float:
        try:
            return time.time() - self.events_path.stat().st_mtime
        except OSError:
            return float("inf")

    def active_children(self) -> list["Run"]:
        """The runs that this one, a pipeline, has started and that have not ended."""
        events = read_events(self.events_path)
        names = {event.run for event in events if isinstance(event, Progress) and event.run}
        children = [Run(self.path.parent / name) for name in sorted(names)]
        return [child for child in children if child.record_path.exists() and child.is_active()]

    def has_output(self) -> bool:
        """Whether its process has written anything beside its events."""
        try:
            return self.output_path.stat().st_size > 0
        except OSError:
            return False

    def is_active(self) -> bool:
        return self.state() in ACTIVE

    def reader(self) -> EventReader:
        return EventReader(self.events_path)

    def follow(self, until: Callable[[], bool] = lambda: False, poll_seconds: float = 0.2) -> Iterator[Event]:
        """Yield the run's events from the first, until the run has ended or `until` returns True."""
        reader = self.reader()
        while True:
            # Checked before reading: the last event is written before the record says that the run ended.
            active = self.is_active() and not until()
            events = reader.read_new()
            yield from events
            if not active and not events:
                return
            if not events:
                time.sleep(poll_seconds)

    def request_stop(self) -> None:
        """Send SIGTERM and return: the stage saves its work and ends as cancelled. UsageError on another host."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill its process group and those of the runs it started, and record that it was cancelled."""
        record = self.record()
        self._signal(signal.SIGKILL)
        for child in self.active_children():
            child.kill()
        deadline = time.monotonic() + 5
        while record.process and process.is_alive(record.process) and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.record().state in ACTIVE:
            message = f"{record.stage} was killed before it could save; its last checkpoint is kept."
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
        if record.process and process.is_alive(record.process):
            send = os.killpg if number == signal.SIGKILL else os.kill
            with contextlib.suppress(ProcessLookupError):
                send(record.process.pid, number)
        elif record.host != socket.gethostname():
            raise UsageError(f"{self.id} runs on {record.host}; stop it there.")


def end(run: Run, state: str, exit_code: int, error: str | None, summary: dict[str, Any] | None = None) -> None:
    """Record a run's end in its record and its events, by its own process or by the one that saw it end."""
    ending: dict[str, Any] = {"state": state, "exit_code": exit_code, "error": error, "summary": summary or {}}
    (run.path / ".ballast").unlink(missing_ok=True)
    # The event first, so that a reader who sees the ended record finds the event.
    writer = EventWriter(run.events_path)
    writer.emit(RunFinished(**ending))
    writer.close()
    run.write(dataclasses.replace(run.record(), ended=time.time(), **ending))
