"""Where the copy of an experiment may be, and where not."""

from pathlib import Path

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.storage.copy import copy_name
from tests.storage.experiments import machine


@pytest.mark.parametrize(
    "folder",
    ["experiments", "experiments/demo", "experiments/demo/reports/copy", "big", "big/kd/copy", "big/kd.copy", "link"],
)
def test_a_copy_in_the_experiments_own_folders_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "experiments" / "demo" / "data")
    one = machine(
        tmp_path / "experiments" / "demo",
        DATA_DIR=str(tmp_path / "big" / "demo" / "kd" if folder == "big" else tmp_path / "big" / "kd"),
        STORAGE_LOCAL_DIR=str(tmp_path / folder),
    )
    with pytest.raises(UsageError, match="set STORAGE_LOCAL_DIR to a folder outside"):
        copy_name(one)


def test_a_mounted_drive_or_icloud_is_looked_at_as_well(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    mounted = machine(root, STORAGE_BACKEND="gdrive", GDRIVE_PROJECT_ROOT=str(tmp_path))
    with pytest.raises(UsageError, match="GDRIVE_PROJECT_ROOT"):
        copy_name(mounted)
    icloud = machine(root, STORAGE_BACKEND="icloud", ICLOUD_DRIVE_DIR=str(root / "data"))
    with pytest.raises(UsageError, match="ICLOUD_DRIVE_DIR"):
        copy_name(icloud)


def test_a_folder_beside_the_experiment_is_fine(tmp_path: Path) -> None:
    one = machine(tmp_path / "demo", STORAGE_LOCAL_DIR=str(tmp_path / "copies"))
    assert copy_name(one) == "demo"
    assert copy_name(machine(tmp_path / "demo", STORAGE_LOCAL_DIR=str(tmp_path), STORAGE_NAME="demo2")) == "demo2"
