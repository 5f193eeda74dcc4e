"""The runs of one experiment, read once: which is the latest, what is done, what is out of date."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs import catalog
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.record import ACTIVE, Run, RunRecord


@dataclass(frozen=True)
class StageStatus:
    """How a stage stands: `state` is `new`, `done`, `outdated`, or the state of its last run."""

    stage: str
    state: str
    run: Run | None


@dataclass(frozen=True)
class History:
    """A snapshot: every run of an experiment with its record, the newest first."""

    experiment: Experiment
    entries: tuple[tuple[Run, RunRecord], ...]

    @classmethod
    def read(cls, experiment: Experiment) -> "History":
        """Read every run. Folders without a readable record are passed over."""
        found: list[tuple[Run, RunRecord]] = []
        if experiment.logs.is_dir():
            for folder in experiment.logs.iterdir():
                if (folder / "run.json").is_file():
                    with contextlib.suppress(BitnetError):
                        found.append((Run(folder), Run(folder).record()))
        return cls(experiment, tuple(sorted(found, key=lambda entry: entry[1].created, reverse=True)))

    def latest(self, stage: str, wanted: Callable[[RunRecord], bool] = lambda _: True) -> Run | None:
        """The newest run of a stage that `wanted` accepts."""
        return next((run for run, record in self.entries if record.stage == stage and wanted(record)), None)

    def active(self, stage: str | None = None) -> Run | None:
        """The newest run that still goes on, of one stage or of any."""
        return next(
            (run for run, record in self.entries if stage in (None, record.stage) and run.state_of(record) in ACTIVE),
            None,
        )

    def find(self, name: str) -> Run:
        """The run of that id, or the newest whose id starts with `name` (a stage's name will do)."""
        for matches in (str.__eq__, str.startswith):
            for run, _ in self.entries:
                if matches(run.id, name):
                    return run
        if not self.entries:
            raise UsageError(f"{self.experiment.root} has no run yet; `bitnet pipeline` starts the first.")
        known = ", ".join(run.id for run, _ in self.entries[:5])
        raise UsageError(f"{self.experiment.root} has no run {name!r}; its latest runs: {known}.")

    def upstream(self, stage: str) -> dict[str, str | None]:
        """The newest successful run of each stage that `stage` reads from."""
        runs = {name: self.latest(name, lambda r: r.state == "succeeded") for name in catalog.stage(stage).needs}
        return {name: run.id if run else None for name, run in runs.items()}

    def fingerprint(self, stage: str) -> str:
        return catalog.fingerprint(stage, self.experiment.settings, self.upstream(stage))

    def status(self, stage: str) -> StageStatus:
        """`done` means: the last run succeeded, what it made is there, and nothing it depends on has changed."""
        run = self.latest(stage)
        if run is None:
            return StageStatus(stage, "new", None)
        record = next(record for candidate, record in self.entries if candidate == run)
        state = run.state_of(record)
        if state != "succeeded":
            return StageStatus(stage, state, run)
        made = all(any(getattr(self.experiment, at).glob(what)) for at, what in catalog.stage(stage).outputs)
        return StageStatus(
            stage, "done" if made and record.fingerprint == self.fingerprint(stage) else "outdated", run
        )
