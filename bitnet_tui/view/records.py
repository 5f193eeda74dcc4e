"""An experiment by its folder, and the newest progress of an active run."""

from pathlib import Path

from bitnet_core.runs.events import Progress, decode
from bitnet_core.runs.experiment import Experiment
from bitnet_tui.services.settings import resolved

_TAIL_BYTES = 1 << 16


def experiment_at(root: Path, home: Path) -> tuple[Experiment, str]:
    """The experiment, and the errors in its settings (empty if there are none)."""
    resolution = resolved(home, root)
    errors = "\n".join(problem.message for problem in resolution.problems if problem.severity == "error")
    return Experiment.from_settings(resolution.settings), errors


def last_progress(path: Path) -> Progress | None:
    """The newest progress near the end of a file that may be growing; unreadable lines are skipped."""
    try:
        with path.open("rb") as source:
            end = source.seek(0, 2)
            source.seek(max(0, end - _TAIL_BYTES))
            lines = source.read().split(b"\n")
    except OSError:
        return None
    for raw in reversed(lines):
        event = decode(raw)
        if isinstance(event, Progress):
            return event
    return None
