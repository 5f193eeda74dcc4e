"""How long a training takes before its first step, for a student that starts from a model. Arithmetic of timings."""

from typing import Any

from bitnet_core.planning.teacher import TeacherPlan
from bitnet_core.pretrained.fit_size import FIT_POSITIONS
from bitnet_core.text import duration

Record = dict[str, Any]
UNTIMED = {"position_seconds": None, "step_seconds": None}
"""Of the timings of a start, where there are none."""
ELSEWHERE = UNTIMED | {"made": False}
"""The timings of a start on another machine: none, and nothing is made there."""


def preparation(
    start: Record | None, traces: Record | None, teacher: TeacherPlan | None, max_seq_len: int
) -> Record | None:
    """Its tokens and steps, and its seconds by the timings of `start`, if it was timed; None where nothing is fitted.

    It takes none where it is `made` already. Without traces, at most: as if all answers were of full length.
    """
    if start is None:
        return None
    positions, steps = start["positions"], start["fit_steps"]
    if traces is None:
        answers = steps if teacher is None else min(steps, teacher.answers)
        positions = min(FIT_POSITIONS, answers * max_seq_len)
    reading, fitting, seconds = (0.0, 0.0, 0.0) if start["made"] else (None, None, None)
    if start["position_seconds"] is not None:
        reading = positions * start["layers_of_source"] * start["position_seconds"]
        fitting = steps * start["step_seconds"]
        seconds = reading + fitting
    return {
        "seconds": seconds,
        "reading_seconds": reading,
        "fitting_seconds": fitting,
        "positions": positions,
        "layers": start["layers_of_source"],
        "fit_steps": steps,
        "exact": traces is not None,
        "made": start["made"],
    }


def preparation_rows(found: Record | None) -> list[list[Any]]:
    """Its row of the table of a training; none where nothing is known of it."""
    if found is None:
        return []
    if found["made"]:
        return [["before the first step", None, "the start is made already, with these settings on these traces"]]
    most = "" if found["exact"] else "at most: "
    reading = f"{most}{found['layers']} layers of the model read {found['positions']:,} tokens"
    fitting = f"{found['fit_steps']:,} steps of fitting"
    if found["seconds"] is None:
        return [["before the first step", None, f"{reading}, then come {fitting}; not timed"]]
    words = (
        f"{reading} in {duration(found['reading_seconds'])}, then {fitting} take "
        f"{duration(found['fitting_seconds'])}; timed here"
    )
    return [["before the first step", duration(found["seconds"]), words]]
