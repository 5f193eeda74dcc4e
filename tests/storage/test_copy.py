"""Where the copy of an experiment may be, and where not."""

from pathlib import Path

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.storage import gc
from bitnet_core.storage.copy import copy_name, open_copy
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.push import Push
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.under import Under
from tests.storage.experiments import machine, write
from tests.storage.pushing import state_of


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


@pytest.mark.parametrize("whose", ["ours", "never stored", "with others below"])
@pytest.mark.parametrize("look_only", [False, True])
def test_a_target_that_shows_an_experiment_is_no_place_for_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str, look_only: bool
) -> None:
    """As an rclone remote that is a folder of this machine: no setting names that folder."""
    monkeypatch.setattr("bitnet_core.storage.apart._folder_of", lambda _: ("", None))
    disk = tmp_path / "disk"
    there = machine(disk / "demo" / "deep" if whose == "with others below" else disk / "demo")
    work = write(there, "reports/r.txt", b"my work")
    if whose == "never stored":
        write(there, ".env", b"")
    else:
        write(there, ".storage/lock", b"")
    one = there if whose == "ours" else machine(tmp_path / "elsewhere" / "demo")
    one = machine(one.root, STORAGE_LOCAL_DIR=str(disk))
    with (
        pytest.raises(UsageError, match="belongs to an experiment itself; choose another place"),
        open_copy(one, Keys(), look_only=look_only),
    ):
        pass
    assert work.read_bytes() == b"my work"


def test_garbage_is_not_looked_for_where_an_experiment_is(tmp_path: Path) -> None:
    write(machine(tmp_path / "demo"), ".storage/lock", b"")
    with pytest.raises(UsageError, match="belongs to an experiment itself"):
        gc.find(Under(FolderTarget("local", tmp_path.parent), f"{tmp_path.name}/"), 0.0, look_only=True)


def test_a_copy_that_turns_out_to_lie_in_its_experiment_is_refused(tmp_path: Path) -> None:
    one = machine(tmp_path / "demo")
    place = Under(FolderTarget("rclone", one.reports), "demo/")
    with state_of(one) as state:
        Push(one, place, state).run()
        with pytest.raises(UsageError, match=r"lies in the experiment's own reports/; .* remove reports/demo"):
            Push(one, place, state).plan()
