"""One training and what was measured of it: the runs that belong together, their tables, curves and settings.

Reads files, and keeps what it has read, so that looking again costs what is new. Not thread-safe.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.results.curves import CurveFold, Training, joined
from bitnet_core.results.paired import Answers
from bitnet_core.runs.catalog import EVALUATION_REPORT, STAGES
from bitnet_core.runs.chain import Beginning, counted, of_one_training
from bitnet_core.runs.diverged import has_diverged
from bitnet_core.runs.event_files import EventReader
from bitnet_core.runs.events import Event, Metric, RunStarted, Table
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import Entry, History, RecordCache
from bitnet_core.runs.record import ACTIVE, RunRecord
from bitnet_core.runs.spent import beginning, seconds, seconds_of, together
from bitnet_core.runs.trend import RUINED
from bitnet_core.text import finite, flat, significant

TRAIN, EVAL = "train", "eval"
_MOST_TABLES = 40
_TABLE_CELLS = 4000


@dataclass(frozen=True)
class StageRun:
    """One run of a stage, as its record and its events tell it. `outdated`: its input has changed since."""

    id: str
    record: RunRecord
    state: str
    outdated: bool
    seconds: float | None
    events: Path
    begins: Beginning | None = None
    """Where its curves begin; what runs before it did after that was lost."""
    started: RunStarted | None = None
    tables: tuple[Table, ...] = ()

    @property
    def spent(self) -> dict[str, Any]:
        """What collecting has spent of the teacher; empty where that is not recorded."""
        found = self.record.summary.get("spent")
        return found if isinstance(found, dict) else {}

    def rows(self, table: str) -> list[list[Any]]:
        return next((one.rows for one in self.tables if one.name == table), [])


@dataclass(frozen=True)
class Subject:
    """What is compared or reported. `runs` are by stage: the training, what it read from, and what measured it.

    `named`: the training is an older one that was asked for, not what the experiment has now.
    """

    name: str
    root: Path
    experiment: Experiment
    runs: Mapping[str, StageRun]
    training: Training
    trained: tuple[StageRun, ...]
    """The runs that make up the training, newest first."""
    named: bool = False
    answers: Answers = field(default_factory=Answers)
    """The held-out answers that the evaluation scored, one by one, if its report is still there."""
    lacking: tuple[str, ...] = ()
    """The stages that an evaluation reads from and that have left nothing yet."""
    problem: str = ""
    """A sentence on each run that can't be read, one a line: what is told here may not be the newest."""

    @property
    def active(self) -> bool:
        return any(run.state in ACTIVE for run in self.runs.values())

    @property
    def trains(self) -> bool:
        return TRAIN in self.runs and self.runs[TRAIN].state in ACTIVE

    @property
    def evaluates(self) -> bool:
        return EVAL in self.runs and self.runs[EVAL].state in ACTIVE

    @property
    def unfinished(self) -> bool:
        """Whether its training still goes on, or ended early."""
        return TRAIN in self.runs and self.runs[TRAIN].state != "succeeded"

    @property
    def failed(self) -> bool:
        return TRAIN in self.runs and self.runs[TRAIN].state == "failed"

    @property
    def diverged(self) -> str:
        """How a training that has ended early was lost, as a clause; empty for any other."""
        run = self.runs.get(TRAIN)
        if run is None or run.state in (*ACTIVE, "succeeded"):
            return ""
        training = self.training
        held_out = [loss for x, loss in training.points("heldout_loss") if x > training.ternary_from]
        if len(held_out) > 1 and held_out[-1] > held_out[0] * RUINED:
            return f"its held-out loss rose from {significant(held_out[0])} to {significant(held_out[-1])}"
        if not has_diverged(run.record):
            return ""
        losses = [loss for _, loss in training.points("loss")]
        if losses and losses[-1] > min(losses):
            return f"its loss rose from {significant(min(losses))} to {significant(losses[-1])}"
        return "its loss or gradient was not finite"

    @property
    def counting(self) -> tuple[StageRun, ...]:
        """The runs of the training whose steps still count, oldest first."""
        found = [run for run, end in counted(self.trained) if run.begins is not None and run.begins.seam < end]
        return tuple(reversed(found))


@dataclass
class _Events:
    """What has been read of one run's events."""

    reader: EventReader
    curves: CurveFold = field(default_factory=CurveFold)
    started: RunStarted | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    newest: float | None = None
    """When the last event was written."""

    def read(self) -> "_Events":
        while (events := self.reader.read_new()) or not self.reader.at_end:
            metrics: list[Metric] = []  # most events are; many at once cost much less
            for event in events:
                if event.seq == 0:  # the file was replaced
                    metrics.clear()
                    self.curves, self.started, self.tables = CurveFold(), None, {}
                if type(event) is Metric:
                    metrics.append(event)
                else:
                    self._take(event)
            self.curves.feed_metrics(metrics)
            self.newest = next((t for one in reversed(events) if (t := finite(one.t))), self.newest)
        return self

    def _take(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.started = event
        elif isinstance(event, Table):
            if len(event.rows) * max(1, len(event.columns)) <= _TABLE_CELLS and len(self.tables) < _MOST_TABLES:
                self.tables[event.name] = event
        else:
            self.curves.feed(event)


def older_trainings(history: History) -> list[Entry]:
    """The last run of each training before the one that the experiment has now, newest first.

    A training that was resumed is one, though it has several runs; one without figures is left out.
    """
    runs = [_Run(one, beginning(one)) for one in history.entries if one.record.stage == TRAIN]
    left = [one for one in runs if one.begins is not None or one.entry.state in ACTIVE]
    last: list[Entry] = []
    while left:
        last.append(left[0].entry)
        left = left[len(of_one_training(left)) :]
    return last[1:]


@dataclass(frozen=True)
class _Run:
    entry: Entry
    begins: Beginning | None


@dataclass
class SubjectReader:
    """Reads one subject again and again. `opened` gives the experiment with its settings as they are now.

    `run` names a run of a training or of an evaluation; empty = the one that the experiment has now.
    """

    opened: Callable[[], Experiment]
    run: str = ""
    _cache: RecordCache = field(default_factory=RecordCache)
    _events: dict[str, _Events] = field(default_factory=dict)
    _scored: tuple[int, Answers] | None = None

    def read(self) -> Subject:
        """BitnetError if the runs can't be read, UsageError if the named run is of no use here."""
        experiment = self.opened()
        history = History.read(experiment, self._cache)
        chosen = _named(history, self.run) if self.run else _present(history, self._has_figures)
        runs = {stage: self._stage_run(history, entry, bool(self.run)) for stage, entry in chosen.items()}
        pieces = together(history, chosen[TRAIN]) if TRAIN in chosen else []
        training = joined([self._read(entry).curves for entry in pieces])
        took = seconds_of(pieces, self._read(pieces[0]).newest) if pieces else ()
        trained = tuple(
            replace(self._stage_run(history, entry, bool(self.run)), seconds=one)
            for entry, one in zip(pieces, took, strict=True)
        )
        name = flat(experiment.root.name) + (f" {flat(chosen[TRAIN].run.id)}" if self.run and TRAIN in chosen else "")
        answers = self._answers_of(history, chosen.get(EVAL))
        return Subject(
            name,
            experiment.root,
            experiment,
            runs,
            training,
            trained,
            bool(self.run),
            answers,
            history.lacking(EVAL),
            history.problem,
        )

    def _answers_of(self, history: History, evaluation: Entry | None) -> Answers:
        """From the report, which is that of the newest evaluation that succeeded."""
        newest = history.latest(EVAL, lambda record: record.state == "succeeded")
        if evaluation is None or newest is None or evaluation.run != newest.run:
            return Answers()
        path = history.experiment.reports / EVALUATION_REPORT
        try:
            changed = path.stat().st_mtime_ns
            if self._scored is None or self._scored[0] != changed:
                self._scored = changed, Answers.of_report(files.read_json(path))
        except (OSError, ValueError, BitnetError):
            return Answers()
        return self._scored[1]

    def _read(self, entry: Entry) -> _Events:
        return self._events.setdefault(entry.run.id, _Events(EventReader(entry.run.events_path))).read()

    def _has_figures(self, entry: Entry) -> bool:
        return self._read(entry).curves.begins is not None

    def _stage_run(self, history: History, entry: Entry, named: bool) -> StageRun:
        found, record = self._read(entry), entry.record
        return StageRun(
            entry.run.id,
            record,
            entry.state,
            not named and history.status(record.stage).state == "outdated",
            seconds(entry, found.newest),
            entry.run.events_path,
            found.curves.begins,
            found.started,
            tuple(found.tables.values()),
        )


def _present(history: History, has_figures: Callable[[Entry], bool]) -> dict[str, Entry]:
    """For each stage the run whose result the experiment has, else its newest one.

    Of trainings the newest that is at work or has figures: one that failed before its first step changed nothing.
    """
    chosen: dict[str, Entry] = {}
    for stage in STAGES:
        status = history.status(stage)
        made = history.latest(stage, lambda record: record.state == "succeeded")
        if stage == TRAIN:
            runs = [one for one in history.entries if one.record.stage == TRAIN]
            made = next((one for one in runs if one.state in ACTIVE or has_figures(one)), status.last)
        if (found := made or status.last) is not None:
            chosen[stage] = found
    measured, trained, newest = chosen.get(EVAL), chosen.get(TRAIN), history.status(EVAL).last
    if measured and trained and newest and measured.place < trained.place:  # of another training
        del chosen[EVAL]
        if newest.place > trained.place:
            chosen[EVAL] = newest
    return chosen


def _named(history: History, name: str) -> dict[str, Entry]:
    """The named training with the evaluation that followed it, or the named evaluation with what it evaluated."""
    run = history.find(name)
    entry = next(one for one in history.entries if one.run.id == run.id)
    if entry.record.stage not in (TRAIN, EVAL):
        raise UsageError(
            f"{run.id} is a run of {entry.record.stage}; name one of train or eval, or the experiment alone."
        )
    newer = sorted(history.entries, key=lambda one: one.place)
    if entry.record.stage == TRAIN:
        trained, after = entry, [one for one in newer if one.place > entry.place]
        until = next((n for n, one in enumerate(after) if one.record.stage == TRAIN), len(after))
        measured = [one for one in after[:until] if one.record.stage == EVAL and one.state == "succeeded"][-1:]
    else:
        before = [one for one in newer if one.record.stage == TRAIN and one.place < entry.place]
        if not before:
            raise UsageError(f"No training came before {run.id}; name a run of train.")
        trained, measured = before[-1], [entry]
    chosen = {TRAIN: trained}
    if measured:
        chosen[EVAL] = measured[-1]
    for stage in STAGES:
        made = [one for one in newer if one.record.stage == stage and one.state == "succeeded"]
        made = [one for one in made if one.place < trained.place] or made[:1]
        if made and stage not in (TRAIN, EVAL):
            chosen[stage] = made[-1]
    return chosen
