"""An experiment by its folder, and the newest progress of a run that is going on."""

from pathlib import Path

from bitnet_core.runs.events import Progress, decode
from bitnet_core.runs.experiment import Experiment
from bitnet_core.secrets.resolving import resolve_and_remember

_TAIL_BYTES = 1 << 16


def experiment_at(root: Path, home: Path) -> tuple[Experiment, str]:
    """The experiment and what is wrong with its settings (empty when nothing is)."""
    resolution = resolve_and_remember({"BITNET_HOME": str(home)}, root=root)
    errors = "\n".join(p.message for p in resolution.problems if p.severity == "error")
    return Experiment.from_settings(resolution.settings), errors


def last_progress(path: Path) -> Progress | None:
    """The newest progress near the end of a file that may be growing; torn lines are passed over."""
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
