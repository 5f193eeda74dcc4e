"""All five stages in order, each as a run of its own. A stage that is done and unchanged is skipped.

At the end it judges the evaluation's report by the present gates: their limits may have changed since.

The stages' own processes do the work; this one waits for them, passes a stop on, and summarises.
"""

import time
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError, GateFailed, Stopped
from bitnet_core.evaluation import gates
from bitnet_core.evaluation.gates import Gate
from bitnet_core.pretrained.wanted import require_possible
from bitnet_core.runs.catalog import EVALUATION_REPORT, STAGES
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.event_files import each_event
from bitnet_core.runs.events import Progress, Table
from bitnet_core.runs.history import History
from bitnet_core.runs.launch import launch
from bitnet_core.runs.record import Run
from bitnet_core.settings.values import GateOptions

_POLL_SECONDS = 0.2


def run(ctx: StageContext) -> dict[str, Any]:
    """Run the stages that are not done, then judge the result by the gates.

    BitnetError names the first stage that fails; GateFailed, with GATE_ENFORCE, the gates.
    """
    require_possible(ctx.settings)  # what training would refuse is told before the teacher has worked for it
    found = History.read(ctx.experiment)
    for run, problem in found.unreadable:
        ctx.alert("warning", "unreadable_run", f"{run.id} is left out: {problem}")
    for name in STAGES:
        if found.status(name).state != "done":
            ctx.require_writable(name)
    rows: list[dict[str, Any]] = []
    for position, stage in enumerate(STAGES.values()):
        ctx.check_stop()
        history = History.read(ctx.experiment)
        before = history.status(stage.name)
        if before.state == "done" and before.last is not None:
            ctx.log(f"{stage.name} is done and unchanged ({before.last.run.id}); skipped.")
            _progress(ctx, position + 1, stage.name, before.last.run)
            rows.append(_row(stage.name, before.last.run, skipped=True))
            continue
        # A run of the stage that is already going on is waited for, not started twice.
        child = history.active(stage.name)
        if child is not None:
            _await_success(ctx, position, stage.name, child)
            if History.read(ctx.experiment).status(stage.name).state != "done":
                ctx.log(f"{child.id} had other settings or input than {stage.name} has here, so it is run again.")
                child = None
        if child is None:
            child = launch(ctx.settings, stage.name, ctx.secrets, [f"pipeline {ctx.run_id}"])
            _await_success(ctx, position, stage.name, child)
        rows.append(_row(stage.name, child, skipped=False))
    _progress(ctx, len(STAGES), "done", None)
    # What was skipped took no time of this run; the summary has what it took then.
    table = [
        [row["stage"], *(("skipped", None) if row["skipped"] else (row["state"], row["seconds"])), row["run"]]
        for row in rows
    ]
    ctx.table("pipeline", ["stage", "result", "seconds", "run"], table)
    _repeat_qei(ctx)
    options = GateOptions.of(ctx.settings)
    judged = gates.judge(options, files.read_json(ctx.experiment.reports / EVALUATION_REPORT))
    ctx.table("gates", gates.COLUMNS, gates.table(judged))
    ctx.report("pipeline_summary.json", {"run": ctx.run_id, "stages": rows, "gates": gates.record(judged)})
    _enforce(judged, options, ctx)
    return {"stages": rows, "gates": gates.counts(judged)}


def _enforce(judged: list[Gate], options: GateOptions, ctx: StageContext) -> None:
    """GateFailed if a gate failed and the settings ask for that; else say so."""
    if not (failed := gates.failures(judged)):
        return
    if options.enforced:
        raise GateFailed(f"Every stage is done, and not every gate is met: {'; '.join(failed)}.")
    first = f"Gates: {len(failed)} of {len(judged)} failed. `bitnet pipeline --gate` then ends with exit code 3."
    ctx.log("\n".join([first, *(f"{reason}." for reason in failed)]))


def _progress(ctx: StageContext, done: int, stage: str, child: Run | None) -> None:
    """Report the current stage and its run, so that a reader can follow that run's events."""
    run_id = child.id if child else None
    ctx.emit(Progress(done=done, total=len(STAGES), unit="stages", label=stage, run=run_id))


def _await_success(ctx: StageContext, position: int, stage: str, child: Run) -> None:
    _progress(ctx, position, stage, child)
    _wait(ctx, child)
    _require_success(stage, child)


def _wait(ctx: StageContext, child: Run) -> None:
    """Wait for a stage to end; stop it when the pipeline is stopped."""
    while child.is_active():
        if ctx.stopping:
            child.stop()  # how it ended is told like any other end
            continue
        time.sleep(_POLL_SECONDS)


def _require_success(stage: str, child: Run) -> None:
    state = child.state()
    if state == "interrupted":
        raise BitnetError(f"{stage} was interrupted ({child.gone()}); start the pipeline again to continue.")
    if state == "cancelled":
        raise Stopped(f"{stage} was stopped, and the pipeline with it; starting it again continues it.")
    if state != "succeeded":
        raise BitnetError(f"{stage} failed: {child.record().error}")


def _repeat_qei(ctx: StageContext) -> None:
    """Show the QEI table of the current evaluation at the end: it is the result that people look for."""
    evaluated = History.read(ctx.experiment).latest("eval", lambda record: record.state == "succeeded")
    for event in each_event(evaluated.run.events_path) if evaluated else []:
        if isinstance(event, Table) and event.name == "qei":
            ctx.table(event.name, event.columns, event.rows)


def _row(stage: str, child: Run, *, skipped: bool) -> dict[str, Any]:
    record = child.record()
    seconds = record.seconds() if record.started else None
    seconds = None if seconds is None else round(seconds, 1)
    row = {"stage": stage, "run": child.id, "state": child.state(), "skipped": skipped, "seconds": seconds}
    return row | {"summary": record.summary}
