"""One run's folder: what its files say, whether its process still lives, and how to stop it."""

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
from bitnet_core.runs.events import AnyEvent, EventReader, EventWriter, Progress, RunFinished, read_events

ACTIVE = ("starting", "running")
ENDED = ("succeeded", "failed", "cancelled")
START_SECONDS = 60.0
STOP_SECONDS = 20.0
SILENT_SECONDS = 600.0
"""A run of another host that has said nothing for so long is taken to be gone; its process can't be asked."""


@dataclass(frozen=True)
class RunRecord:
    """`run.json`. `state` is what the process wrote; `Run.state` also notices that the process is gone."""

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
    """One run's folder. Reading never changes it, except that `stop` ends what it killed."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def stage(self) -> str:
        return self.id.split("-")[0]

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
        """Read `run.json`; BitnetError when it is missing or is not a run's record."""
        data = files.read_json(self.record_path)
        try:
            return msgspec.convert(data, RunRecord)
        except msgspec.ValidationError as error:
            reason = f"{self.record_path} is not a run's record ({error})"
            raise BitnetError(f"{reason}; move {self.path} away.") from error

    def write(self, record: RunRecord) -> None:
        files.write_json(self.record_path, dataclasses.asdict(record))

    def state(self) -> str:
        return self.state_of(self.record())

    def state_of(self, record: RunRecord) -> str:
        """The true state: a run whose process is gone without an end is `interrupted`."""
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

    def at_work(self) -> list["Run"]:
        """The stages' runs that a pipeline's run has started and that still go on."""
        events = read_events(self.events_path)
        names = {event.run for event in events if isinstance(event, Progress) and event.run}
        children = [Run(self.path.parent / name) for name in sorted(names)]
        return [child for child in children if child.record_path.exists() and child.is_active()]

    def is_active(self) -> bool:
        return self.state() in ACTIVE

    def reader(self) -> EventReader:
        return EventReader(self.events_path)

    def follow(self, until: Callable[[], bool] = lambda: False, poll_seconds: float = 0.2) -> Iterator[AnyEvent]:
        """Yield the run's events from its first one until it has ended, however it ended, or `until` says so."""
        reader = self.reader()
        while True:
            # Asked before reading: the end's event is written before the end's record, so none is missed.
            active = self.is_active() and not until()
            events = reader.read_new()
            yield from events
            if not active and not events:
                return
            if not events:
                time.sleep(poll_seconds)

    def request_stop(self) -> None:
        """Ask once (SIGTERM): the stage saves what it has and ends as cancelled. Returns at once."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now (SIGKILL to its process group), a pipeline's stage too, and write down that it was cancelled."""
        record = self.record()
        self._signal(signal.SIGKILL)
        for child in self.at_work():
            child.kill()
        deadline = time.monotonic() + 5
        while record.process and process.is_alive(record.process) and time.monotonic() < deadline:
            time.sleep(0.02)
        if self.record().state in ACTIVE:
            end(
                self,
                "cancelled",
                130,
                f"{record.stage} was killed before it had saved; its last checkpoint is kept.",
            )

    def stop(self, seconds: float = STOP_SECONDS) -> str:
        """Ask it to stop, wait, kill it if it will not; return the state it ended in."""
        self.request_stop()
        deadline = time.monotonic() + seconds
        while self.is_active() and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.is_active():
            self.kill()
        return self.state()

    def _signal(self, number: signal.Signals) -> None:
        record = self.record()
        alive = record.process is not None and process.is_alive(record.process)
        if not alive and record.host != socket.gethostname():
            raise UsageError(f"{self.id} runs on {record.host}; stop it there.")
        if alive and record.process:
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(record.process.pid, number)
                else:
                    os.kill(record.process.pid, number)


def end(run: Run, state: str, exit_code: int, error: str | None, summary: dict[str, Any] | None = None) -> None:
    """Write a run's end, into its record and its events, from whichever process knows of it."""
    record = run.record()
    (run.path / ".ballast").unlink(missing_ok=True)
    # The event first: whoever sees the record ended can then count on the event being there.
    writer = EventWriter(run.events_path)
    writer.emit(RunFinished(state=state, exit_code=exit_code, error=error, summary=summary or {}))
    writer.close()
    run.write(
        dataclasses.replace(
            record, state=state, ended=time.time(), exit_code=exit_code, error=error, summary=summary or {}
        )
    )
