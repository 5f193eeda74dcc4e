"""What a folder holds, by its names: a folder that is closed to us is not an empty one."""

from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.traces.shards import kd_shards
from bitnet_core.training import checkpoints
from tests.nobody import as_nobody, close, everybodys_folder


def test_names_are_given_in_order_and_nothing_is_given_of_no_folder(tmp_path: Path) -> None:
    for name in ("b.pt", "a.pt", "a.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in files.matching(tmp_path, "*.pt")] == ["a.pt", "b.pt"]
    assert files.matching(tmp_path / "none", "*") == []
    with pytest.raises(BitnetError, match=r"a\.txt can't be read .*move the file away"):
        files.matching(tmp_path / "a.txt", "*")


@pytest.mark.parametrize("read", [checkpoints.require_latest, kd_shards])
def test_a_closed_folder_is_not_called_empty(read: object) -> None:
    def says(path: Path) -> str:
        try:
            return str(read(path))  # type: ignore[operator]
        except BitnetError as error:
            return str(error)

    with everybodys_folder() as place:
        folder = place / "folder"
        folder.mkdir()
        close(folder)
        try:
            said = as_nobody(lambda: says(folder))
        finally:
            folder.chmod(0o700)
    assert said == f"{folder} can't be read (Permission denied); check its permissions."
