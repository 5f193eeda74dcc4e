"""What a stage is given: its experiment, settings, secrets, and the one way to say something: events."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.config import Settings
from bitnet_core.errors import Stopped
from bitnet_core.events import EventWriter
from bitnet_core.experiment import Experiment
from bitnet_core.secrets import Redactor

_PROGRESS_SECONDS = 0.25
_LEVELS = ("debug", "info", "warning", "error")


@dataclass
class _Progress:
    label: str
    started: float
    first: float
    emitted: float = 0.0


@dataclass
class StageContext:
    """Passed to every stage's `run`. Never prints; safe to use from threads."""

    stage: str
    run_id: str
    run_dir: Path
    experiment: Experiment
    settings: Settings
    events: EventWriter
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event)
    _progress: _Progress | None = None

    @classmethod
    def for_tests(
        cls,
        root: Path,
        stage: str = "train",
        values: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
    ) -> "StageContext":
        """A context outside a worker process, on an experiment at `root`."""
        settings = Settings.from_values({"DRIVE_ROOT": str(root), **(values or {})})
        experiment = Experiment.from_settings(settings)
        experiment.ensure()
        run_dir = experiment.logs / f"{stage}-test-{time.monotonic_ns():x}"
        run_dir.mkdir()
        secrets = dict(secrets or {})
        writer = EventWriter(run_dir / "events.jsonl", Redactor(secrets.values()))
        return cls(stage, run_dir.name, run_dir, experiment, settings, writer, secrets)

    @cached_property
    def redact(self) -> Redactor:
        """Masks this stage's keys; what is written past `events` and `report` goes through it."""
        return Redactor(self.secrets.values())

    def secret(self, name: str) -> str | None:
        return self.secrets.get(name) or None

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    def request_stop(self) -> None:
        self._stop.set()

    def check_stop(self) -> None:
        """Raise `Stopped` once the user has asked for it; call it in every loop."""
        if self.stopping:
            raise Stopped(f"{self.stage} was stopped; what it had made is kept, and starting it again resumes.")

    def emit(self, kind: str, **fields: Any) -> None:
        self.events.emit(kind, **fields)

    def log(self, message: str, level: str = "info") -> None:
        if _LEVELS.index(level) >= _LEVELS.index(self.settings.text("LOG_LEVEL").lower()):
            self.emit("log", level=level, message=message)

    def alert(self, severity: str, code: str, message: str, advice: str = "") -> None:
        self.emit("alert", severity=severity, code=code, message=message, advice=advice)

    def metric(self, **fields: Any) -> None:
        self.emit("metric", **fields)

    def table(self, name: str, columns: list[str], rows: list[list[Any]]) -> None:
        self.emit("table", name=name, columns=columns, rows=rows)

    def progress(self, done: float, total: float | None, unit: str, label: str = "") -> None:
        """Report progress; the rate is measured from the first call with this label, and the rest follows."""
        now = time.monotonic()
        if self._progress is None or self._progress.label != label:
            self._progress = _Progress(label, now, done)
        state = self._progress
        finished = total is not None and done >= total
        if now - state.emitted < _PROGRESS_SECONDS and not finished:
            return
        state.emitted = now
        spent = now - state.started
        rate = (done - state.first) / spent if spent > 0 and done > state.first else None
        eta = (total - done) / rate if rate and total is not None else None
        self.emit("progress", done=done, total=total, unit=unit, rate=rate, eta_s=eta, label=label)

    def artifact(self, path: Path, role: str) -> None:
        self.emit("artifact", path=str(path), bytes=path.stat().st_size, sha256=files.sha256_file(path), role=role)

    def report(self, name: str, payload: dict[str, Any]) -> Path:
        """Write `reports/<name>` as strict JSON, whole or not at all and without keys, and announce it."""
        path = self.experiment.reports / name
        files.write_json(path, self.redact.tree(payload))
        self.artifact(path, "report")
        return path
