"""How work reports what it does, and learns that it should stop. Used by stages and by notebooks.

It never prints. The code that calls it needs no run folder and does not know whether there is one.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from bitnet_core import files
from bitnet_core.errors import Stopped
from bitnet_core.runs.events import Alert, Artifact, Event, Log, Progress, Table

_PROGRESS_SECONDS = 0.25
_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Part:
    """One of `parts` of the work: the progress that is reported meanwhile is that of this part alone.

    Of a training's preparation, `rest` is the time of its later parts as a multiple of this one's.
    """

    number: int
    parts: int
    rest: float | None = None


@dataclass
class _Pace:
    """When the work with this label began, how much was done then, and when progress was last reported."""

    label: str
    started: float
    first: float
    reported: float = 0.0


class Reporter:
    """Passes events to `on_event`. Safe to use from threads."""

    def __init__(
        self,
        on_event: Callable[[Event], object] = lambda _: None,
        *,
        name: str = "the work",
        level: str = "info",
        resumes: bool = True,
    ) -> None:
        """`name` is the work's name in messages; log messages below `level` are dropped."""
        self.resumes = resumes
        """Whether work that is stopped now goes on where it was when it is started again."""
        self.part: Part | None = None
        """Which part of the work is done now, where it has several."""
        self._on_event = on_event
        self._name = name
        self._level = _LEVELS.index(level)
        self._stop = threading.Event()
        self._pace: _Pace | None = None
        self._newest = Progress(done=0)
        self._label_told = 0.0

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def request_stop(self) -> None:
        """Ask the work to stop: its next call of `check_stop` raises `Stopped`."""
        self._stop.set()

    def check_stop(self) -> None:
        """Raise `Stopped` if a stop was requested. Call it in every loop."""
        if self.stopping:
            kept = "its work is kept, and starting it again continues it"
            again = kept if self.resumes else "starting it again runs it from the beginning"
            raise Stopped(f"{self._name} was stopped; {again}.")

    def secret(self, name: str) -> str | None:
        """The key under a setting's name; outside a stage, which brings its own keys, from the environment."""
        return os.environ.get(name) or None

    def emit(self, event: Event) -> None:
        self._on_event(event)

    def log(self, message: str, level: str = "info") -> None:
        if _LEVELS.index(level) >= self._level:
            self.emit(Log(level=level, message=message))

    def alert(self, severity: str, code: str, message: str, advice: str = "") -> None:
        self.emit(Alert(severity=severity, code=code, message=message, advice=advice))

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        self.emit(Table(name=name, columns=columns, rows=rows))

    def artifact(self, path: Path, role: str) -> None:
        """Announce a file that is complete on disk."""
        size, digest = path.stat().st_size, files.sha256_file(path)
        self.emit(Artifact(path=str(path), bytes=size, sha256=digest, role=role))

    def progress(
        self, done: float, total: float | None, unit: str, label: str = "", *, at: tuple[int, int] | None = None
    ) -> None:
        """Report progress, a few times a second at most. The rate counts from the first call with this label.

        `at`: the step of a training and the tokens that it has seen then.
        """
        now = time.monotonic()
        if self._pace is None or self._pace.label != label:
            self._pace = _Pace(label, now, done)
        pace = self._pace
        finished = total is not None and done >= total
        if now - pace.reported < _PROGRESS_SECONDS and not finished:
            return
        pace.reported = now
        spent = now - pace.started
        # One step of unknown length, and the first bytes of a download that has yet to begin, tell no pace.
        tells = total is None or (total > 1 and (unit != "bytes" or done >= total / 100))
        rate = (done - pace.first) / spent if tells and spent > 0 and done > pace.first else None
        eta = (total - done) / rate if rate and total is not None else None
        step, seen = (UNSET, UNSET) if at is None else at
        self._newest = Progress(
            done=done, total=total, unit=unit, rate=rate, eta_s=eta, label=label, step=step, seen_tokens=seen
        )
        if self.part is not None:
            of, rest = self.part, self.part.rest
            later = UNSET if rest is None or not rate or total is None or eta is None else eta + rest * total / rate
            self._newest = replace(self._newest, part=of.number, parts=of.parts, first_step_in_s=later)
        self.emit(self._newest)

    def meanwhile(self, label: str) -> None:
        """Say what is done while the progress stands still: the newest one again with this label.

        Call it as often as `progress`; the pace of the work goes on.
        """
        now = time.monotonic()
        if now - self._label_told >= _PROGRESS_SECONDS:
            self._label_told = now
            self.emit(replace(self._newest, label=label))
