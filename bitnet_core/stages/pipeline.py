"""All five stages in order, each as a run of its own; what is done and unchanged is skipped.

Light: the stages' own processes do the work, this one waits, passes a stop on, and sums up.
"""

import time
from typing import Any

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.events import Event
from bitnet_core.history import History
from bitnet_core.run_record import Run
from bitnet_core.runs import launch
from bitnet_core.stages.catalog import STAGES
from bitnet_core.stages.context import StageContext

_POLL_SECONDS = 0.2


def run(ctx: StageContext) -> dict[str, Any]:
    """Run what is to be run; raise on the first stage that fails, naming it."""
    rows: list[dict[str, Any]] = []
    for position, stage in enumerate(STAGES.values()):
        ctx.check_stop()
        ctx.emit("progress", done=position, total=len(STAGES), unit="stages", rate=None, eta_s=None, label=stage.name)
        before = History.read(ctx.experiment).status(stage.name)
        if before.state == "done" and before.run is not None:
            ctx.log(f"{stage.name} is done and unchanged ({before.run.id}); skipped.")
            rows.append(_row(stage.name, before.run, skipped=True))
            continue
        going = History.read(ctx.experiment).active(stage.name)
        child = going or launch(ctx.settings, stage.name, ctx.secrets, argv=[f"pipeline {ctx.run_id}"])
        ctx.log(f"{stage.name} runs as {child.id}.")
        _wait(ctx, child)
        rows.append(_row(stage.name, child, skipped=False))
        record = child.record()
        if child.state() == "interrupted":
            raise BitnetError(
                f"{stage.name} was interrupted (its process is gone); start the pipeline again to go on."
            )
        if record.state == "cancelled":
            raise Stopped(f"{stage.name} was stopped, and the pipeline with it; starting it again resumes.")
        if record.state != "succeeded":
            raise BitnetError(f"{stage.name} failed: {record.error}")
    ctx.emit("progress", done=len(STAGES), total=len(STAGES), unit="stages", rate=None, eta_s=0, label="done")
    table = [
        [row["stage"], "skipped" if row["skipped"] else row["state"], row["seconds"], row["run"]] for row in rows
    ]
    ctx.table("pipeline", ["stage", "result", "seconds", "run"], table)
    ctx.report("pipeline_summary.json", {"run": ctx.run_id, "stages": rows})
    return {"stages": rows}


def _wait(ctx: StageContext, child: Run) -> None:
    """Wait for a stage; show its tables here too, and stop it when the pipeline is stopped."""
    reader = child.reader()
    while True:
        active = child.is_active()
        for event in reader.read_new():
            _relay(ctx, event)
        if not active:
            return
        if ctx.stopping:
            child.stop()
            ctx.check_stop()
        time.sleep(_POLL_SECONDS)


def _relay(ctx: StageContext, event: Event) -> None:
    """Pass on what sums a stage up; its metrics stay its own."""
    if event["kind"] in ("table", "alert"):
        ctx.emit(
            event["kind"], **{key: value for key, value in event.items() if key not in ("v", "t", "seq", "kind")}
        )


def _row(stage: str, child: Run, *, skipped: bool) -> dict[str, Any]:
    record = child.record()
    seconds = round(record.ended - record.started, 1) if record.ended and record.started else None
    return {"stage": stage, "run": child.id, "state": child.state(), "skipped": skipped, "seconds": seconds,
            "summary": record.summary}  # fmt: skip
