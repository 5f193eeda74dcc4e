"""Looks at one experiment from its files alone and gives a frozen picture of it. One thread at a time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.runs.catalog import PIPELINE
from bitnet_core.runs.events import AnyEvent
from bitnet_core.runs.history import History, RecordCache
from bitnet_core.runs.record import Run, RunRecord
from bitnet_core.settings.values import FlipOptions
from bitnet_tui.view.records import experiment_at
from bitnet_tui.view.run_fold import RunFold, RunView
from bitnet_tui.view.stage_rows import StageRow, running, stage_rows
from bitnet_tui.view.states import ACTIVE


@dataclass(frozen=True)
class RunShown:
    """The run on the screen. `position` 1 is the newest of `of` runs of that stage."""

    id: str
    stage: str
    state: str
    view: RunView
    error: str
    output: Path
    elapsed: float | None
    position: int
    of: int
    budget_tokens: float | None
    flip_at: int | None
    """Seen tokens at which the activations flip."""

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


@dataclass(frozen=True)
class ExperimentView:
    """Everything that the experiment's screen draws."""

    root: Path
    rows: tuple[StageRow, ...] = ()
    stage: str = PIPELINE.name
    run: RunShown | None = None
    teacher: str = ""
    preset: str = ""
    problem: str = ""

    def row(self, name: str) -> StageRow | None:
        return next((row for row in self.rows if row.name == name), None)

    @property
    def active_names(self) -> tuple[str, ...]:
        return tuple(row.name for row in self.rows if row.active)


@dataclass
class ExperimentWatcher:
    """Keeps the folds of the runs it has shown, so that each event is read once."""

    root: Path
    home: Path
    clock: Callable[[], float] = time.time
    _cache: RecordCache = field(default_factory=RecordCache)
    _folds: dict[str, tuple[RunFold, Callable[[], list[AnyEvent]]]] = field(default_factory=dict)

    def look(self, stage: str | None, back: int = 0) -> ExperimentView:
        """The experiment with that stage's run, `back` runs before the newest; None = what is most worth seeing."""
        experiment, problem = experiment_at(self.root, self.home)
        history = History.read(experiment, self._cache)
        rows = stage_rows(history)
        stage = stage or worth_seeing(rows, history)
        return ExperimentView(
            self.root,
            rows,
            stage,
            self._shown(history, stage, back),
            experiment.settings.text("TEACHER_PROVIDER"),
            experiment.settings.text("MINI_PRESET"),
            problem,
        )

    def active_runs(self, names: tuple[str, ...]) -> list[Run]:
        """The runs of these stages that are still at work, as the files say now."""
        history = History.read(experiment_at(self.root, self.home)[0], self._cache)
        return [run for name in names if (run := history.active(name)) is not None]

    def _shown(self, history: History, stage: str, back: int) -> RunShown | None:
        runs = [entry for entry in history.entries if entry.record.stage == stage]
        if not runs:
            return None
        place = max(0, min(back, len(runs) - 1))
        run, record = runs[place]
        state = runs[place].state
        fold, read_new = self._folds.setdefault(run.id, (RunFold(), run.reader().read_new))
        while events := read_new():
            fold.feed(events)
        return RunShown(
            id=run.id,
            stage=stage,
            state=state,
            view=fold.view(),
            error=record.error or "",
            output=run.output_path,
            elapsed=self._elapsed(record, state),
            position=place + 1,
            of=len(runs),
            budget_tokens=_number(record, "BUDGET_TOKENS"),
            flip_at=_flip_at(record),
        )

    def _elapsed(self, record: RunRecord, state: str) -> float | None:
        if record.started is None:
            return None
        end = record.ended or (self.clock() if state in ACTIVE else None)
        return end - record.started if end else None


def worth_seeing(rows: tuple[StageRow, ...], history: History) -> str:
    """What runs; else what ran last, a pipeline before the stages that it ran."""
    at_work = running(rows)
    if at_work:
        return at_work.name
    if not history.entries:
        return PIPELINE.name
    newest = max((record.ended or record.created) for _, record in history.entries)
    pipeline = history.latest(PIPELINE.name)
    if pipeline and (pipeline.record.ended or pipeline.record.created) >= newest - 2:
        return PIPELINE.name
    return max(history.entries, key=lambda entry: entry[1].ended or entry[1].created)[1].stage


def _number(record: RunRecord, name: str) -> float | None:
    value = record.settings.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _flip_at(record: RunRecord) -> int | None:
    """The trainer's own threshold, from the settings that the run was started with."""
    budget, fraction = _number(record, "BUDGET_TOKENS"), _number(record, "FLIP_FRACTION")
    if budget is None or fraction is None:
        return None
    return FlipOptions(budget_tokens=int(budget), fraction=fraction).threshold
