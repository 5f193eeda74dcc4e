"""The runs of one experiment, read once: which is the latest, what is done, what is out of date."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files.regular import version
from bitnet_core.runs import catalog
from bitnet_core.runs.diverged import has_diverged
from bitnet_core.runs.experiment import Experiment, last_change
from bitnet_core.runs.record import ACTIVE, MOST_RUNS, Run, RunRecord
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DataOptions

_MOST_PROBLEMS = 2
_COLLECT, _TRAIN = "collect", "train"


class Entry(NamedTuple):
    """A run and its record, as it was when the history was read."""

    run: Run
    record: RunRecord

    @property
    def state(self) -> str:
        return self.run.state(self.record)

    @property
    def error(self) -> str:
        """Why it ended, as it recorded, or a clause if its process is gone; empty if it runs or succeeded."""
        return self.run.gone(self.record) if self.state == "interrupted" else self.record.error or ""

    @property
    def place(self) -> tuple[bool, int, float]:
        """Where it is among the runs: greater is newer. The wall clock counts only for records without a number."""
        return self.state in ACTIVE, self.record.number or 0, self.record.created


class Unreadable(NamedTuple):
    """A run whose record can't be read, or that is a copy of another one; `problem` is a sentence."""

    run: Run
    problem: str


@dataclass(frozen=True)
class StageStatus:
    """How a stage stands. `state` is `new`, `done`, `outdated`, or the state of its last run."""

    stage: str
    state: str
    last: Entry | None


@dataclass
class RecordCache:
    """Keeps what was read: a record that did not change on disk is not parsed again. For one thread."""

    _known: dict[Path, tuple[tuple[int, ...], RunRecord | BitnetError]] = field(default_factory=dict)

    def read(self, run: Run) -> RunRecord:
        """The run's record. BitnetError if it can't be read, FileNotFoundError if there is none."""
        try:
            now = version(run.record_path.stat())
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(run.record_path) from None
        except OSError:
            return run.record()
        known = self._known.get(run.path)
        if known is None or known[0] != now:
            known = self._known[run.path] = (now, _record_or_error(run))
        if isinstance(known[1], BitnetError):
            raise known[1]
        return known[1]


def _record_or_error(run: Run) -> RunRecord | BitnetError:
    try:
        return run.record()
    except BitnetError as error:
        return error


@dataclass(frozen=True)
class History:
    """A snapshot: every run of an experiment with its record, what is active first, then the newest."""

    experiment: Experiment
    entries: tuple[Entry, ...]
    unreadable: tuple[Unreadable, ...] = ()
    resumed_after: dict[str, int | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By a run's id, what `outlook.resumes_after` has found: it reads every checkpoint's health, and many ask."""

    @classmethod
    def read(cls, experiment: Experiment, cache: RecordCache | None = None) -> "History":
        """Read every run. Folders without a record are left out; BitnetError if the runs can't be listed."""
        return cls(experiment, *_read(experiment.logs, cache or RecordCache()))

    @property
    def next_number(self) -> int:
        """The number for the next run, which is unique while the caller keeps others from creating a run."""
        numbers = (entry.record.number or 0 for entry in self.entries)
        return 1 + max((number for number in numbers if number < MOST_RUNS), default=0)

    @property
    def problem(self) -> str:
        """A sentence on each of the first runs that can't be read, one a line; empty if all can be."""
        problems = [problem for _, problem in self.unreadable]
        more = len(problems) - _MOST_PROBLEMS
        rest = [f"{more} more runs can't be read; `bitnet runs` lists them."] if more > 0 else []
        return "\n".join(problems[:_MOST_PROBLEMS] + rest)

    def latest(self, stage: str, wanted: Callable[[RunRecord], bool] = lambda _: True) -> Entry | None:
        """The newest run of a stage that `wanted` accepts."""
        return next((entry for entry in self._runs_of(stage) if wanted(entry.record)), None)

    def active(self, stage: str | None = None, besides: str = "") -> Run | None:
        """The newest run that has not ended, of one stage or of any but the upload, which runs beside others.

        The run with the id `besides` does not count.
        """
        entries = (entry for entry in self.entries if (stage or entry.record.stage) == entry.record.stage)
        wanted = (entry for entry in entries if stage or entry.record.stage != catalog.UPLOAD.name)
        return next((entry.run for entry in wanted if entry.state in ACTIVE and entry.run.id != besides), None)

    def newest(self) -> Run:
        """The run that people mean when they name none: the newest that is no upload. UsageError if there is none."""
        own = (run for run, record in self.entries if record.stage != catalog.UPLOAD.name)
        return next(own, None) or self._first("", str.startswith)

    def find(self, name: str) -> Run:
        """The run with that id, or the newest whose id starts with `name` (a stage's name will do).

        UsageError if there is none, BitnetError if its record can't be read.
        """
        if not name:  # `bitnet stop "$RUN"` with RUN unset must not stop whatever is running
            raise UsageError("The name of the run is empty; give its id, or its stage.")
        return self._first(name, str.__eq__, str.startswith)

    def _first(self, name: str, *ways: Callable[[str, str], bool]) -> Run:
        for matches in ways:
            for run, _ in self.entries:
                if matches(run.id, name):
                    return run
            for run, problem in self.unreadable:
                if matches(run.id, name):
                    raise BitnetError(problem)
        if not self.entries and self.unreadable:
            raise BitnetError(self.problem)
        if not self.entries:
            raise UsageError(f"{self.experiment.root} has no run yet; `bitnet pipeline` starts the first.")
        known = ", ".join(run.id for run, _ in self.entries[:5])
        raise UsageError(f"{self.experiment.root} has no run {name!r}; its latest runs: {known}.")

    def fingerprint(self, stage: str, made: Settings | None = None) -> str:
        """The fingerprint that a run of the stage would get now, or one that was `made` with older settings."""
        inputs = {name: self.latest(name, _succeeded) for name in catalog.stage(stage).needs}
        upstream = {name: entry.run.id if entry else None for name, entry in inputs.items()}
        return catalog.fingerprint(stage, self.experiment.settings, upstream, made)

    def status(self, stage: str) -> StageStatus:
        """`done` means: the last run succeeded, its outputs exist, and nothing that it depends on has changed.

        A later run that did not succeed undoes that only if it had the same settings or has written something: one
        with `--set` says nothing of what is there.
        """
        last = self.latest(stage)
        if last is None:
            return StageStatus(stage, "new", None)
        if last.state in ACTIVE:
            return StageStatus(stage, last.state, last)
        if last.state == "succeeded":
            return StageStatus(stage, "done" if self._is_current(last) else "outdated", last)
        made = self._made_before_trials(stage)
        return StageStatus(stage, "done", made) if made else StageStatus(stage, last.state, last)

    def _made_before_trials(self, stage: str) -> Entry | None:
        """The run whose result is there, if it is current and the later ones had other settings and wrote nothing."""
        made, changed = self.latest(stage, _succeeded), self._last_written(stage)
        if made is None:
            return None
        for _, record in itertools.takewhile(lambda entry: entry.run != made.run, self._runs_of(stage)):
            if self._would_repeat(record) or record.began.wall <= changed:
                return None
        return made if self._is_current(made) else None

    def _is_current(self, made: Entry) -> bool:
        """Whether what a run made is there, and a run of the same stage would make the same now."""
        stage = made.record.stage
        return (
            self.is_complete(stage)
            and self._would_repeat(made.record)
            and all(self._is_unchanged_since(made, need) for need in catalog.stage(stage).needs)
        )

    def diverged(self) -> Entry | None:
        """The training that diverged with the settings and the input that one would have now, if any did.

        A later one with the same that succeeded takes that back.
        """
        runs = (entry for entry in self._runs_of(_TRAIN) if _succeeded(entry.record) or has_diverged(entry.record))
        last = next((entry for entry in runs if self._would_repeat(entry.record)), None)
        return last if last is not None and has_diverged(last.record) else None

    def _would_repeat(self, record: RunRecord) -> bool:
        """Whether a run of the same stage would have the settings and the input of this one."""
        now, made = self.experiment.settings, Settings(record.settings, record.origins)
        needs = catalog.stage(record.stage).needs
        return any(
            record.fingerprint == catalog.fingerprint(record.stage, now, dict(zip(needs, inputs, strict=True)), made)
            for inputs in itertools.product(*map(self._makers, needs))
        )

    def _makers(self, stage: str) -> list[str | None]:
        """The runs that may have made what is there: the newest, and earlier ones if it wrote nothing."""
        found: list[str | None] = []
        for entry in self._runs_of(stage):
            if _succeeded(entry.record):
                found.append(entry.run.id)
                if self.has_written(entry):
                    break
        return found or [None]

    def _is_unchanged_since(self, made: Entry, need: str) -> bool:
        """Whether a stage that the run read from is current, and no later run of it has changed what is there."""
        later = (entry for entry in self._runs_of(need) if entry.place > made.place)
        if any(map(self.has_written, later)):
            return False
        source = self.latest(need, _succeeded)
        if source is None and self.is_complete(need):  # of a run that was stopped
            source = self.latest(need)
        return source is None or self._is_current(source)

    def is_complete(self, stage: str) -> bool:
        """Whether each kind of file that the stage leaves is there."""
        return self.experiment.holds(catalog.stage(stage).outputs)

    def lacking(self, stage: str) -> tuple[str, ...]:
        """The stages without whose files this one can't work and that have left none, in their order."""
        needed = list(catalog.stage(stage).needs)
        for name in needed:  # grows on the way: an evaluation reads the traces of its training
            needed += [one for one in catalog.stage(name).needs if one not in needed]
        given = DataOptions.of(self.experiment.settings).path
        shards = given is not None and any(given.glob(catalog.stage(_COLLECT).outputs[0][1]))
        return tuple(
            name
            for name in catalog.STAGES
            if name in needed and not (shards if given and name == _COLLECT else self.is_complete(name))
        )

    def has_written(self, entry: Entry) -> bool:
        """Whether any output of the run's stage is newer than its beginning. A copied folder's files are all new."""
        return self._last_written(entry.record.stage) >= entry.record.began.wall

    def _last_written(self, stage: str) -> float:
        """When an output of the stage was last written, in Unix seconds; 0 if there is none."""
        outputs = catalog.stage(stage).outputs
        files = (path for at, pattern in outputs for path in getattr(self.experiment, at).glob(pattern))
        return max(map(last_change, files), default=0.0)

    def _runs_of(self, stage: str) -> Iterator[Entry]:
        return (entry for entry in self.entries if entry.record.stage == stage)


def before(run: Run) -> list[Entry]:
    """The earlier runs of the same stage, newest first. BitnetError if they can't be listed, or the run is gone."""
    itself, (entries, _) = Entry(run, run.record()), _read(run.path.parent, RecordCache())
    return [one for one in entries if one.record.stage == itself.record.stage and one.place < itself.place]


def _succeeded(record: RunRecord) -> bool:
    return record.state == "succeeded"


def _read(logs: Path, cache: RecordCache) -> tuple[tuple[Entry, ...], tuple[Unreadable, ...]]:
    """The runs in a folder, the newest first, and those that can't be read."""
    found: list[Entry] = []
    unreadable: list[Unreadable] = []
    for run in _runs_in(logs):
        try:
            found.append(Entry(run, cache.read(run)))
        except BitnetError as error:
            unreadable.append(Unreadable(run, str(error)))
        except FileNotFoundError:
            if os.path.lexists(run.events_path):
                unreadable.append(Unreadable(run, f"{run.record_path} is missing; move {run.path} away."))
    originals: dict[tuple[object, ...], Run] = {}
    for entry in sorted(found, key=lambda entry: (entry.run.id != entry.record.id, entry.run.id)):
        original = originals.setdefault(_launch(entry.record), entry.run)
        if original is not entry.run:  # copied by hand: its time, tokens and money would count twice
            problem = f"{entry.run.path} is a copy of {original.id}; move it out of {logs}."
            unreadable.append(Unreadable(entry.run, problem))
    found = [entry for entry in found if originals[_launch(entry.record)] is entry.run]
    newest_first = sorted(found, key=lambda entry: entry.place, reverse=True)
    return tuple(newest_first), tuple(sorted(unreadable, key=lambda one: one.run.id))


def _launch(record: RunRecord) -> tuple[object, ...]:
    """What only one launch has written; the end is not in it, as a run may be copied before."""
    return record.id, record.stage, record.number, record.created


def _runs_in(logs: Path) -> list[Run]:
    try:
        return [Run(folder) for folder in logs.iterdir()]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise BitnetError(f"{logs} is not a folder, so no run can be read; move it away.") from None
    except OSError as error:
        raise BitnetError(f"{logs} can't be read {explained(error, 'check its permissions')}.") from error
