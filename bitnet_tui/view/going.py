"""What a person is told before experiments are changed, and asked before they are deleted.

The question is made from the answer of `bitnet experiments delete`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bitnet_core.runs.catalog import PIPELINE, STAGES, UPLOAD, stage
from bitnet_core.runs.record import ACTIVE
from bitnet_core.text import ago, capital, files, finite, flat, listed, size
from bitnet_tui.view import stage_rows

if TYPE_CHECKING:
    from bitnet_tui.view.workspace import ExperimentRow

_MOST = 6


def running(experiments: Sequence[Mapping[str, Any]]) -> str:
    """Why nothing may be deleted; empty if all may be."""
    busy = [one for one in experiments if one.get("running")]
    return refusal([_works(_stage(str(one["running"])), flat(str(one["name"]))) for one in busy])


def refusal(works: Sequence[str]) -> str:
    """Why nothing may be changed while these clauses are true; empty if there are none."""
    end = "stop it or wait until it ends" if len(works) == 1 else "stop them or wait until they end"
    return f"{capital(listed(works))}; {end}." if works else ""


def at_work(row: "ExperimentRow") -> str:
    """What runs in an experiment, in whichever process, as a clause; empty if nothing does."""
    if (now := stage_rows.running(row.stages)) is not None:
        return _works(f"“{now.title}”", row.name)
    return _works(f"“{UPLOAD.title}”", row.name) if row.stored.upload in ACTIVE else ""


def _works(title: str, name: str) -> str:
    return f"{title} is running in {name}"


def _stage(run: str) -> str:
    """The stage of the run with this id, as the rail names it; the id itself if it is none of ours."""
    name = run.partition("-")[0]
    return f"“{stage(name).title}”" if name in (*STAGES, PIPELINE.name, UPLOAD.name) else flat(run)


def question(experiments: Sequence[Mapping[str, Any]]) -> tuple[str, str, str, str]:
    """The title, what goes and what stays, the words of yes, and what is said after no."""
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
    return f"Delete {what}?", "\n".join(lines), f"Delete {size(total)}", "Nothing was deleted."


def _line(one: Mapping[str, Any]) -> str:
    parts = [f"{flat(str(one['name']))}: {files(int(one['files']))}, {size(finite(one['bytes']))}"]
    copy = one.get("copy")
    if isinstance(copy, Mapping):
        late = f", {files(int(copy['waiting']))} behind" if copy.get("waiting") else ""
        stored = (
            f"its copy, made {ago(finite(copy.get('at')), time.time())}, stays at {flat(str(copy['place']))}{late}"
        )
        parts.append(stored)
    elif why := one.get("copy_unreadable"):
        parts.append(f"whether it has a copy is not known, as {flat(str(why))}")
    else:
        parts.append("there is no copy elsewhere")
    parts += [f"{flat(str(path))} lies elsewhere and stays" for path in one.get("outside", ())]
    return "; ".join([*parts, *(flat(str(said)).removesuffix(".") for said in one.get("mentions", ()))]) + "."
