"""What an experiment can be compared with: others of the workspace, and older trainings of its own."""

from dataclasses import dataclass
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.results.subject import older_trainings
from bitnet_core.runs.experiment import Workspace
from bitnet_core.runs.history import History
from bitnet_core.text import ago, flat
from bitnet_tui.services.settings import experiment_at
from bitnet_tui.view.compared import Chosen


@dataclass(frozen=True)
class Choice:
    """`note` says beside its name what it is."""

    chosen: Chosen
    name: str
    note: str


def choices(root: Path, home: Path, now: float) -> list[Choice]:
    """Other experiments, the most recently changed first, then the older trainings of this one."""
    roots = Workspace(home).experiments()
    others = [Choice(Chosen(one), flat(one.name), "experiment") for one in roots if one.absolute() != root]
    try:
        history = History.read(experiment_at(root, home)[0])
        runs = older_trainings(history)
    except (BitnetError, OSError, ValueError):
        return others
    notes = [f"older training, {ago(entry.record.began.wall, now)}" for entry in runs]
    return others + [
        Choice(Chosen(root, entry.run.id), flat(entry.run.id), note) for entry, note in zip(runs, notes, strict=True)
    ]
