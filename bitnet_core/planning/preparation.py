"""How long a training takes before its first step, for a student that starts from a model. Arithmetic of timings."""

from typing import Any

from bitnet_core.planning.teacher import TeacherPlan
from bitnet_core.pretrained.fit_size import FIT_POSITIONS
from bitnet_core.text import duration

Record = dict[str, Any]


def preparation(
    start: Record | None, traces: Record | None, teacher: TeacherPlan | None, max_seq_len: int
) -> Record | None:
    """Its seconds, by the timings of `start`; None where there are none, or nothing is fitted.

    Without traces, at most: as if all answers were of full length.
    """
    if start is None or start["position_seconds"] is None:
        return None
    positions, steps = start["positions"], start["fit_steps"]
    if traces is None:
        answers = steps if teacher is None else min(steps, teacher.answers)
        positions = min(FIT_POSITIONS, answers * max_seq_len)
    reading = positions * start["layers_of_source"] * start["position_seconds"]
    fitting = steps * start["step_seconds"]
    return {
        "seconds": reading + fitting,
        "reading_seconds": reading,
        "fitting_seconds": fitting,
        "positions": positions,
        "layers": start["layers_of_source"],
        "fit_steps": steps,
        "exact": traces is not None,
    }


def preparation_rows(found: Record | None) -> list[list[Any]]:
    """Its row of the table of a training; none where nothing is known of it."""
    if found is None:
        return []
    most = "" if found["exact"] else "at most: "
    words = (
        f"{most}{found['layers']} layers of the model read {found['positions']:,} tokens in "
        f"{duration(found['reading_seconds'])}, then {found['fit_steps']:,} steps of fitting take "
        f"{duration(found['fitting_seconds'])}; timed here"
    )
    return [["before the first step", duration(found["seconds"]), words]]
