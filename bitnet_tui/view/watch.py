"""Reads one experiment from its files and returns a frozen picture of it. Not thread-safe."""

import math
import os
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from msgspec import structs

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files.regular import version
from bitnet_core.results.curves import joined
from bitnet_core.runs.around import Load, LoadReader, machine
from bitnet_core.runs.catalog import PIPELINE, STAGES, UPLOAD
from bitnet_core.runs.chain import of_one_training
from bitnet_core.runs.changes import changes
from bitnet_core.runs.diverged import has_diverged
from bitnet_core.runs.elapsed import Elapsed
from bitnet_core.runs.events import Table
from bitnet_core.runs.experiment import unreadable_words
from bitnet_core.runs.finding import Finding
from bitnet_core.runs.health import UNKNOWN_MACHINE
from bitnet_core.runs.history import Entry, History, RecordCache
from bitnet_core.runs.learning import finished
from bitnet_core.runs.outlook import continues
from bitnet_core.runs.record import ACTIVE, Run, RunRecord
from bitnet_core.runs.spent import begins_after, seconds_before
from bitnet_core.runs.stage_health import health, unreadable
from bitnet_core.runs.vitals import Plan
from bitnet_core.runs.whole_training import whole_vitals
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import FlipOptions, InitOptions, StudentOptions, TeacherOptions
from bitnet_core.text import crop, flat
from bitnet_tui.labels import provider_words
from bitnet_tui.services.settings import experiment_at, require_experiment
from bitnet_tui.view.bounded import cut_text
from bitnet_tui.view.copy import Comparison, CopyView, KnownCopy, Upload, ended_since, place_of, target_of
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.run_reading import RunReading, being_read
from bitnet_tui.view.stage_rows import StageRow, last_progress, running, stage_rows
from bitnet_tui.view.training import on
from bitnet_tui.view.workspace import teacher_name

_LONGEST_SOURCE = 40
"""Cells of the model that a student starts from, in the head."""


@dataclass(frozen=True)
class RunShown:
    """The run on the screen: number `position` of `of` runs of its stage, the newest being 1."""

    id: str
    stage: str
    state: str
    view: RunView
    error: str
    output: Path | None
    """The file with its output, unless that is empty."""
    elapsed: float | None
    """How long it took, with the runs that it goes on with."""
    position: int
    of: int
    flip: FlipOptions | None
    """The token budget and where the activations flip; None if neither the record nor the run has said."""
    health: tuple[Finding, ...] = ()
    """How it is doing, the worst first."""
    plan: Plan = field(default_factory=Plan)
    load: Load = field(default_factory=Load)
    """What its machine does, while it is active."""
    keeps: bool = True
    """Whether the next run goes on with what this one has saved."""
    since: tuple[Table, ...] = ()
    """The tables of an evaluation that succeeded after this pipeline."""

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
    """Its provider."""
    preset: str = ""
    problem: str = ""
    copy: CopyView = field(default_factory=CopyView)
    changes: tuple[str, ...] = ()
    """What has changed since the stage was done, if it is outdated and the records tell."""
    model: str = ""
    """The teacher's."""

    @property
    def teacher_words(self) -> str:
        """The teacher's model, if it has a name, and its provider."""
        provider = provider_words(self.teacher)
        return provider if self.model in ("", self.teacher) else f"{crop(self.model, _LONGEST_SOURCE)} · {provider}"

    def row(self, name: str) -> StageRow | None:
        return next((row for row in self.rows if row.name == name), None)

    @property
    def active(self) -> bool:
        return any(row.active for row in self.rows)

    @property
    def outdated(self) -> bool:
        """Whether what the shown run depends on has changed since."""
        row = self.row(self.stage)
        return row is not None and self.run is not None and (row.state, row.run_id) == ("outdated", self.run.id)


@dataclass
class ExperimentWatcher:
    """Keeps the fold of every run it has shown, so that no event is read twice."""

    root: Path
    home: Path
    elapsed: Elapsed = field(default_factory=Elapsed)
    stops_sent: Container[str] = ()
    """The runs that were asked to stop: how much time their work would need says nothing any more."""
    _cache: RecordCache = field(default_factory=RecordCache)
    _readings: dict[str, RunReading] = field(default_factory=dict)
    _deadline: float = math.inf
    _known: KnownCopy = field(default_factory=KnownCopy)
    _comparison: Comparison = field(default_factory=Comparison)
    _load: LoadReader = field(default_factory=LoadReader)
    _at_work: tuple[Entry, ...] = ()
    """The runs without an end, when they were read last."""
    _taken: Callable[[], tuple[float | None, float]] = lambda: (None, 0.0)
    """How long the shown run has taken by now, and for how long it has been silent, in seconds."""
    _seen: tuple[object, ExperimentView] | None = None
    """What `_mark` said before the last look, and what that found."""

    def glance(self, stage: str | None, back: int = 0, seconds: float = math.inf) -> ExperimentView:
        """As `look`, at little cost while no run writes anything: what else may have changed is as it was then.

        It is the same object as the last one unless something that is shown differs.
        """
        if self._seen is None or self._seen[0] != self._mark(stage, back):
            return self.look(stage, back, seconds)
        mark, view = self._seen
        if view.run is not None and view.run.active:
            view = _newer(view, replace(view, run=replace(view.run, elapsed=self._taken()[0])))
            self._seen = mark, view
        return view

    def look(self, stage: str | None, back: int = 0, seconds: float = math.inf) -> ExperimentView:
        """The experiment with one run of `stage`, `back` before the newest; None = the stage most worth seeing.

        After `seconds` the rest of a long run is left for the next look. An error in reading the experiment becomes
        the view's `problem`.
        """
        self._deadline = time.perf_counter() + seconds
        mark, at_work, seen = self._mark(stage, back), self._at_work, self._seen
        self._seen = None
        try:
            view = self._read(stage, back)
        except BitnetError as error:
            return ExperimentView(self.root, problem=str(error))
        except (OSError, ValueError, RecursionError) as error:
            return ExperimentView(self.root, problem=unreadable_words(self.root, error))
        view = view if seen is None else _newer(seen[1], view)
        if at_work and at_work == self._at_work and not (view.run and view.run.view.unread):
            self._seen = mark, view
        return view

    def _read(self, stage: str | None, back: int) -> ExperimentView:
        require_experiment(self.root)
        experiment, problem = experiment_at(self.root, self.home)
        history = History.read(experiment, self._cache)
        self._at_work = tuple(entry for entry in history.entries if entry.record.state in ACTIVE)
        rows = stage_rows(history)
        stage = stage or worth_seeing(rows, history)
        teacher, preset = _teacher_and_preset(experiment.settings)
        problem = "\n".join(filter(None, (problem, history.problem)))
        stopping = any(row.active and row.run_id in self.stops_sent for row in rows)
        shown, copy = self._shown(history, stage, back, stopping=stopping), self._copied(history, problem)
        rows = tuple(_as_shown(row, shown) for row in rows)
        if shown is not None:
            shown = replace(shown, keeps=next((row.keeps and row.used for row in rows if row.name == stage), True))
        rows = tuple(replace(row, eta="") for row in rows) if stopping else rows
        outdated = any((row.name, row.state) == (stage, "outdated") for row in rows)
        changed = changes(history, stage) if outdated else ()
        model = teacher_name(experiment.settings)
        return ExperimentView(self.root, rows, stage, shown, teacher, preset, problem, copy, changed, model)

    def _copied(self, history: History, problem: str) -> CopyView:
        """How the copy stands, by its files here and by its newest upload."""
        backend, sync = target_of(history.experiment.settings)
        if not backend:
            return CopyView(problem=problem)
        status = self._known.of(history.experiment)
        latest, upload = history.latest(UPLOAD.name), None
        if latest is not None:
            findings = health(UPLOAD.name, latest.state, self._view(latest.run, whole=True).vitals, Plan())
            upload = Upload(latest.state, cut_text(latest.record.error or ""), findings)
        ended = ended_since(history, status.at)
        rests = status.at is not None and not (status.waiting or ended or (upload and upload.state in ACTIVE))
        place = "" if status.place else place_of(history.experiment.settings, backend)
        copy = CopyView(backend, sync, status, upload, ended, place=place)
        if not rests:
            return copy
        found = self._comparison.of(history.experiment, status)
        return replace(copy, unlike=found.unlike, older=found.older, exports=found.exports)

    def active_runs(self, names: Iterable[str]) -> list[Run]:
        """The runs of these stages that are active now."""
        history = History.read(experiment_at(self.root, self.home)[0], self._cache)
        return [run for name in names if (run := history.active(name)) is not None]

    def _shown(self, history: History, stage: str, back: int, *, stopping: bool) -> RunShown | None:
        runs = [entry for entry in history.entries if entry.record.stage == stage]
        if not runs:
            return None
        place = max(0, min(back, len(runs) - 1))
        run, record = runs[place]
        state = runs[place].state
        view = self._view(run)
        if stopping and state in ACTIVE:
            view = _without_eta(view)
        before = seconds_before(history, runs[place])
        self._taken = partial(_with_before, before, partial(self.elapsed.of, record, state, view.newest))
        elapsed, silent = self._taken()
        plan = Plan.of(record.settings)
        around = machine(self.root, record.host) if state in ACTIVE else UNKNOWN_MACHINE
        load = self._load.read(around, (run.id, view.revision), gpu=view.device.startswith("cuda"))
        findings = () if view.unread else unreadable(record, state, view.vitals)
        if stage == "train" and not findings:
            view = self._with_earlier_runs(view, history, runs[place:])
        if not view.unread:
            diverged = has_diverged(record)
            findings = findings or health(stage, state, view.vitals, plan, around, silent, diverged=diverged)
        if place == 0 and any(one.code == "gates" for one in findings):
            findings = (*self._trained(history), *findings)
        return RunShown(
            id=run.id,
            stage=stage,
            state=state,
            view=view,
            error=cut_text(runs[place].error),
            output=run.output_path if run.has_output() else None,
            elapsed=elapsed,
            position=place + 1,
            of=len(runs),
            flip=plan.decided(view.vitals.budget).flip,
            health=(*findings, being_read(view.unread)) if view.unread else findings,
            plan=plan,
            load=load,
            since=self._evaluated_since(history, record) if stage == PIPELINE.name else (),
        )

    def _mark(self, stage: str | None, back: int) -> tuple[object, ...]:
        """Differs once something else is asked, or a run has written something, ended or begun."""
        runs = [(run.id in self.stops_sent, run.state(record)) for run, record in self._at_work]
        files = {path for run, _ in self._at_work for path in (run.path.parent, run.record_path, run.events_path)}
        return stage, back, runs, {path: _version(path) for path in files}

    def _trained(self, history: History) -> tuple[Finding, ...]:
        """How the training went whose student was judged: gates alone would tell nothing good of it."""
        runs = [entry for entry in history.entries if entry.record.stage == "train"]
        if not runs or runs[0].state != "succeeded":
            return ()
        view = self._view(runs[0].run)
        if view.unread or unreadable(runs[0].record, runs[0].state, view.vitals):
            return ()
        view = self._with_earlier_runs(view, history, runs)
        return () if view.unread else finished(view.vitals, "Training: held-out")

    def _evaluated_since(self, history: History, pipeline: RunRecord) -> tuple[Table, ...]:
        """The tables of the newest evaluation, if it ended after the pipeline."""
        made = history.latest("eval", lambda record: record.state == "succeeded")
        if made is None or pipeline.ended is None or (made.record.ended or 0.0) <= pipeline.ended:
            return ()
        return self._view(made.run, whole=True).tables

    def _view(self, run: Run, *, whole: bool = False) -> RunView:
        if run.id not in self._readings:
            self._readings[run.id] = RunReading(run)
        return self._readings[run.id].view(math.inf if whole else self._deadline)

    def _with_earlier_runs(self, view: RunView, history: History, runs: Sequence[Entry]) -> RunView:
        """The view of the first of these with the curves of its whole training."""
        newest, *earlier = runs
        begins = view.begins or begins_after(history, newest)
        if begins is None and not continues(history, newest):
            return view
        pieces = of_one_training(self._views(replace(view, begins=begins), earlier))
        if len(pieces) == 1:
            return view
        whole = on(joined(pieces), view)
        if view.begins is not None or newest.state not in ACTIVE:  # one that reads its traces still says so
            whole = replace(whole, vitals=whole_vitals([one.vitals for one in pieces]))
        held_out = view.held_out if view.unread else whole.held_out
        return replace(whole, held_out=held_out, unread=max(one.unread for one in pieces))

    def _views(self, view: RunView, earlier: Sequence[Entry]) -> Iterator[RunView]:
        """The view, then those of earlier runs, as long as it is known where each of them began."""
        yield view
        for run, _ in earlier:
            if view.unread and view.begins is None:
                return
            yield (view := self._view(run))


def worth_seeing(rows: tuple[StageRow, ...], history: History) -> str:
    """The stage that is running, else the one that ran last; a pipeline that succeeded comes before its stages.

    So what is shown stays where a pipeline was stopped or failed, and while it goes on to the next stage. That may be
    a run that had begun before the pipeline, which waited for it.
    """
    at_work = running(rows)
    if at_work and at_work.name != PIPELINE.name:
        return at_work.name
    pipeline = history.latest(PIPELINE.name)
    newest = next((entry for entry in history.entries if entry.record.stage in STAGES), None)
    if newest is None or pipeline is None:
        return newest.record.stage if newest else PIPELINE.name
    started = newest.record.argv == [f"pipeline {pipeline.run.id}"]  # what a pipeline starts says so
    if not started and newest.place > pipeline.place:
        return newest.record.stage
    if pipeline.state == "succeeded":
        return PIPELINE.name
    return _ended_with(history, pipeline) or (newest.record.stage if started else PIPELINE.name)


def _ended_with(history: History, pipeline: Entry) -> str:
    """The stage that the pipeline waited for last, unless it succeeded; else empty."""
    progress = last_progress(pipeline.run.events_path)
    awaited = next((entry for entry in history.entries if progress and entry.run.id == progress.run), None)
    return awaited.record.stage if awaited and awaited.state != "succeeded" else ""


def _teacher_and_preset(settings: Settings) -> tuple[str, str]:
    """Empty where the settings are wrong; the experiment's problem then says so."""
    try:
        start = InitOptions.of(settings)
        shape = f"from {crop(flat(start.source), _LONGEST_SOURCE)}" if start.gives_shape else ""
        return TeacherOptions.of(settings).chosen, shape or StudentOptions.of(settings).preset
    except UsageError:
        return "", ""


def _version(path: Path) -> tuple[int, ...]:
    """Differs once the file has been written to; empty if it can't be seen."""
    try:
        return version(os.stat(path))  # noqa: PTH116 - asked again and again
    except OSError:
        return ()


def _with_before(before: float, taken: Callable[[], tuple[float | None, float]]) -> tuple[float | None, float]:
    elapsed, silent = taken()
    return None if elapsed is None else elapsed + before, silent


def _newer(before: ExperimentView, now: ExperimentView) -> ExperimentView:
    """The view now; the one before if it shows an active run, and the same of it to the second."""
    was, run = before.run, now.run
    if was is None or run is None or not run.active or was.elapsed is None or run.elapsed is None:
        return now
    same = round(was.elapsed) == round(run.elapsed) and replace(now, run=replace(run, elapsed=was.elapsed)) == before
    return before if same else now


def _without_eta(view: RunView) -> RunView:
    told, heard = view.progress, view.vitals.progress
    vitals = replace(view.vitals, progress=heard and structs.replace(heard, eta_s=None))
    return replace(view, progress=told and structs.replace(told, eta_s=None), vitals=vitals)


def _as_shown(row: StageRow, shown: RunShown | None) -> StageRow:
    """The row of the run that is shown, with the progress that is shown: it was read a moment later."""
    if shown is None or not row.active or row.run_id != shown.id or shown.view.unread:
        return row
    return row.at_work(shown.view.progress)
