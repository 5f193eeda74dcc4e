"""The runs of one experiment, read once: which is the latest, what is done, what is out of date."""

import contextlib
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs import catalog
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.record import ACTIVE, Run, RunRecord


class Entry(NamedTuple):
    """A run and its record, as it was when the history was read."""

    run: Run
    record: RunRecord

    @property
    def state(self) -> str:
        return self.run.state(self.record)


@dataclass(frozen=True)
class StageStatus:
    """How a stage stands. `state` is `new`, `done`, `outdated`, or the state of its last run."""

    stage: str
    state: str
    last: Entry | None


@dataclass
class RecordCache:
    """Keeps the records that were read: one that did not change on disk is not parsed again. For one thread."""

    _known: dict[Path, tuple[tuple[int, int], RunRecord]] = field(default_factory=dict)

    def read(self, run: Run) -> RunRecord:
        """The run's record. BitnetError or OSError when there is none."""
        status = run.record_path.stat()
        version = (status.st_mtime_ns, status.st_ino)
        known = self._known.get(run.path)
        if known is None or known[0] != version:
            known = self._known[run.path] = (version, run.record())
        return known[1]


@dataclass(frozen=True)
class History:
    """A snapshot: every run of an experiment with its record, the newest first."""

    experiment: Experiment
    entries: tuple[Entry, ...]

    @classmethod
    def read(cls, experiment: Experiment, cache: RecordCache | None = None) -> "History":
        """Read every run. Folders without a readable record are left out."""
        cache = cache or RecordCache()
        found: list[Entry] = []
        for folder in experiment.logs.iterdir() if experiment.logs.is_dir() else ():
            with contextlib.suppress(OSError, BitnetError):
                found.append(Entry(Run(folder), cache.read(Run(folder))))
        return cls(experiment, tuple(sorted(found, key=lambda entry: entry.record.created, reverse=True)))

    def latest(self, stage: str, wanted: Callable[[RunRecord], bool] = lambda _: True) -> Entry | None:
        """The newest run of a stage that `wanted` accepts."""
        return next((entry for entry in self.entries if entry.record.stage == stage and wanted(entry.record)), None)

    def active(self, stage: str | None = None) -> Run | None:
        """The newest run that has not ended, of one stage or of any."""
        entries = (entry for entry in self.entries if stage in (None, entry.record.stage))
        return next((entry.run for entry in entries if entry.state in ACTIVE), None)

    def find(self, name: str) -> Run:
        """The run with that id, or the newest whose id starts with `name` (a stage's name will do)."""
        for matches in (str.__eq__, str.startswith):
            for run, _ in self.entries:
                if matches(run.id, name):
                    return run
        if not self.entries:
            raise UsageError(f"{self.experiment.root} has no run yet; `bitnet pipeline` starts the first.")
        known = ", ".join(run.id for run, _ in self.entries[:5])
        raise UsageError(f"{self.experiment.root} has no run {name!r}; its latest runs: {known}.")

    def fingerprint(self, stage: str, known: Container[str] | None = None) -> str:
        """The fingerprint that a run of the stage would get now, if it knew only the settings `known`."""
        inputs = {name: self.latest(name, lambda r: r.state == "succeeded") for name in catalog.stage(stage).needs}
        upstream = {name: entry.run.id if entry else None for name, entry in inputs.items()}
        return catalog.fingerprint(stage, self.experiment.settings, upstream, known)

    def status(self, stage: str) -> StageStatus:
        """`done` means: the last run succeeded, its outputs exist, and nothing that it depends on has changed."""
        last = self.latest(stage)
        state = last.state if last else "new"
        if last and state == "succeeded":
            outputs = catalog.stage(stage).outputs
            complete = all(any(getattr(self.experiment, at).glob(pattern)) for at, pattern in outputs)
            unchanged = complete and last.record.fingerprint == self.fingerprint(stage, last.record.settings)
            state = "done" if unchanged else "outdated"
        return StageStatus(stage, state, last)
