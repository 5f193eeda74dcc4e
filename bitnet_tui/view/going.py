"""What a person is asked before experiments are deleted, from the answer of `bitnet experiments delete`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from bitnet_core.runs.catalog import PIPELINE, STAGES, UPLOAD, stage
from bitnet_core.text import ago, files, finite, flat, size

_MOST = 6


def running(experiments: Sequence[Mapping[str, Any]]) -> str:
    """Why nothing may be deleted; empty if all may be."""
    busy = [
        f"{_stage(str(one['running']))} is running in {flat(str(one['name']))}"
        for one in experiments
        if one.get("running")
    ]
    end = "stop it first, or wait for its end" if len(busy) == 1 else "stop them first, or wait for their ends"
    return f"{', '.join(busy)}; {end}." if busy else ""


def _stage(run: str) -> str:
    """The stage of the run with this id, as the rail names it; the id itself if it is none of ours."""
    name = run.partition("-")[0]
    return f"“{stage(name).title}”" if name in (*STAGES, PIPELINE.name, UPLOAD.name) else flat(run)


def question(experiments: Sequence[Mapping[str, Any]]) -> tuple[str, str, str, str]:
    """The title, what goes and what stays, and the words of yes and no."""
    many = len(experiments) > 1
    what = f"the {len(experiments)} marked experiments" if many else flat(str(experiments[0]["name"]))
    lines = [_line(one) for one in experiments[:_MOST]]
    more = len(experiments) - _MOST
    lines += [f"and {more} more"] if more > 0 else []
    total = sum(finite(one.get("bytes")) or 0.0 for one in experiments)
    if all(isinstance(one.get("copy"), Mapping) for one in experiments):
        lines += ["", "What is stored there can be fetched again."]
    else:
        lines += ["", "What has no copy is lost." if many else "It can't be brought back."]
    return f"Delete {what}?", "\n".join(lines), f"Delete {size(total)}", "Keep them" if many else "Keep it"


def _line(one: Mapping[str, Any]) -> str:
    parts = [f"{flat(str(one['name']))}: {files(int(one['files']))}, {size(finite(one['bytes']))}"]
    copy = one.get("copy")
    if isinstance(copy, Mapping):
        late = f", {files(int(copy['waiting']))} behind" if copy.get("waiting") else ""
        stored = (
            f"its copy, made {ago(finite(copy.get('at')), time.time())}, stays at {flat(str(copy['place']))}{late}"
        )
        parts.append(stored)
    else:
        parts.append("there is no copy elsewhere")
    parts += [f"{flat(str(path))} lies elsewhere and stays" for path in one.get("outside", ())]
    return "; ".join([*parts, *(flat(str(said)).removesuffix(".") for said in one.get("mentions", ()))]) + "."
