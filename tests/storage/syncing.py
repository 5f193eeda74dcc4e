"""An experiment that is copied to a folder beside it, and what is there."""

from pathlib import Path

from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.resolve import from_values
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.under import Under


def experiment_at(root: Path, **values: str) -> Experiment:
    places = {"DRIVE_ROOT": str(root), "STORAGE_LOCAL_DIR": str(root.parent / "copy")}
    return Experiment.from_settings(from_values(places | values))


def stored(tmp_path: Path, name: str = "exp") -> dict[str, bytes]:
    """What the newest manifest on the folder names, with its content."""
    place = Under(FolderTarget("local", tmp_path / "copy"), f"{name}/")
    newest = next(manifests.published(place))
    return {one.name: place.get(one.key) for one in newest.manifest.files}
