"""What makes the files of a stage: a run of it now, or the running pipeline that comes to it. All tabs ask here."""

from collections.abc import Sequence

from bitnet_core.runs.catalog import PIPELINE, stage
from bitnet_tui.view.stage_rows import PREPARING, QUEUED, UNTOLD, StageRow


def coming(rows: Sequence[StageRow], *names: str, launching: str | None = None) -> str:
    """That the first of these stages runs, with how far it is, or that it starts by itself; empty if none does.

    A sentence. `launching` is the stage that is being started, which has no run yet.
    """
    return next(filter(None, (_coming(rows, name, launching) for name in names)), "")


def _coming(rows: Sequence[StageRow], name: str, launching: str | None) -> str:
    title = stage(name).title
    row = next((one for one in rows if one.name == name), None)
    if row is not None and row.active:
        if row.note == PREPARING:
            return f"{title} {row.due_note if row.eta else 'is preparing'}."
        told = [row.note if row.note != UNTOLD else "", f"{row.eta} left" if row.eta else ""]
        how_far = ", ".join(filter(None, told))
        return f"{title} is running: {how_far}." if how_far else f"{title} is running."
    if launching == name:
        return f"{title} is starting."
    if launching == PIPELINE.name:
        return f"The pipeline is starting; it runs {title} when it is due."
    if row is None or row.note != QUEUED:
        return ""
    before = [one.title for one in rows[: rows.index(row)] if one.name != PIPELINE.name and _unfinished(one)]
    return f"{title} starts by itself in the pipeline{f', after {before[-1]}' if before else ''}."


def _unfinished(row: StageRow) -> bool:
    return row.active or row.note == QUEUED
