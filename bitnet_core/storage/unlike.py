"""Which files differ here from what was stored, by their sizes and times: for people, asking no target.

It reads no file but health files, and writes nothing.
"""

from dataclasses import dataclass

from bitnet_core.runs import exports
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.storage import snapshot
from bitnet_core.storage.needed import wanted
from bitnet_core.storage.status import CopyStatus


@dataclass(frozen=True)
class Compared:
    """`unlike` has the files that the next push would look at, in the order in which it sends them."""

    unlike: tuple[str, ...]
    older: int
    """How many older checkpoints no push sends."""
    exports: bool
    """Whether there are exports, which no push sends."""


def compare(experiment: Experiment, status: CopyStatus) -> Compared:
    """What is here beside what is stored."""
    files = snapshot.take(experiment).files
    names = {file.name for file in wanted(files, StorageOptions.of(experiment.settings))} | status.versions.keys()
    unlike = tuple(
        file.name for file in files if file.name in names and status.versions.get(file.name) != file.version
    )
    older = sum(1 for file in files if file.name not in names and file.name.endswith(".pt"))
    return Compared(unlike, older, bool(exports.of(experiment.root)))
