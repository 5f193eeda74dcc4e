"""What an experiment can be compared with: others of the workspace, and older trainings of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.results.subject import older_trainings
from bitnet_core.runs.experiment import Workspace
from bitnet_core.runs.history import History
from bitnet_core.settings.dotenv import read_dotenv
from bitnet_core.text import ago, flat
from bitnet_tui.services.settings import experiment_at
from bitnet_tui.view.compared import Chosen


@dataclass(frozen=True)
class Choice:
    """`note` says beside its name what it is."""

    chosen: Chosen
    name: str
    note: str
    nearest: bool = False
    """Whether its settings differ least from those of what it is compared with, as those of its source do."""


def choices(root: Path, home: Path, now: float) -> list[Choice]:
    """Other experiments, the most recently changed first, then the older trainings of this one."""
    roots = Workspace(home).experiments()
    beside = [one for one in roots if one.absolute() != root]
    nearest = _nearest(root, beside)
    others = [Choice(Chosen(one), flat(one.name), "experiment", one == nearest) for one in beside]
    try:
        history = History.read(experiment_at(root, home)[0])
        runs = older_trainings(history)
    except (BitnetError, OSError, ValueError):
        return others
    notes = [f"older training, {ago(entry.record.began.wall, now)}" for entry in runs]
    return others + [
        Choice(Chosen(root, entry.run.id), flat(entry.run.id), note) for entry, note in zip(runs, notes, strict=True)
    ]


def _nearest(root: Path, others: Sequence[Path]) -> Path | None:
    """The first of those in whose `.env` the fewest settings differ."""
    own = _written(root)
    return min(others, key=lambda one: len(own ^ _written(one)), default=None)


def _written(root: Path) -> set[tuple[str, str]]:
    """What the `.env` of an experiment says; nothing where it can't be read."""
    try:
        return set(read_dotenv(root / ".env").values.items())
    except (BitnetError, OSError):
        return set()
