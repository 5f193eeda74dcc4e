"""Which files are here otherwise than they were stored, by their sizes and times: for people, asking no target.

It reads no file but health files, and writes nothing.
"""

from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.storage import snapshot
from bitnet_core.storage.needed import needed
from bitnet_core.storage.status import CopyStatus


def unlike(experiment: Experiment, status: CopyStatus) -> tuple[str, ...]:
    """The files that the next push would look at, in the order in which it sends them."""
    files = snapshot.take(experiment).files
    wanted = files if StorageOptions.of(experiment.settings).checkpoints == "all" else needed(files)
    names = {file.name for file in wanted} | status.versions.keys()
    return tuple(file.name for file in files if file.name in names and status.versions.get(file.name) != file.version)
