"""Where a file can't be put is told before the work, in the words of its end."""

import errno
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files import writable
from bitnet_core.files.writable import require_writable, require_writable_folder, writing
from tests.nobody import as_nobody, everybodys_folder


def _file_as_parent(path: Path) -> None:
    path.parent.write_text("in the way")


def _link_to_nowhere_as_parent(path: Path) -> None:
    path.parent.symlink_to("nowhere/at/all")


def _folder(path: Path) -> None:
    path.mkdir(parents=True)


def _pipe(path: Path) -> None:
    path.parent.mkdir()
    os.mkfifo(path)


@pytest.mark.parametrize("block", [_file_as_parent, _link_to_nowhere_as_parent, _folder, _pipe])
def test_what_is_in_the_way_is_told_before_and_after_alike(tmp_path: Path, block: Callable[[Path], None]) -> None:
    block(path := tmp_path / "reports" / "x.json")
    with pytest.raises(BitnetError, match=r"x\.json can't be written ") as before:
        require_writable(path)
    with pytest.raises(BitnetError) as after, writing(path):
        files.write_text(path, "the work of hours")
    assert str(before.value) == str(after.value)


def test_a_disk_is_read_only_as_it_is_mounted_or_since_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path.stat().st_dev
    mine = f"43 27 {os.major(device)}:{os.minor(device)} / /x rw,relatime - ext4 /dev/loop0 rw,"
    other = f"44 27 {os.major(device) + 1}:0 / /y rw,relatime - ext4 /dev/loop1 rw,emergency_ro\n"
    monkeypatch.setattr(writable, "_MOUNTS", mounts := tmp_path / "mountinfo")
    assert not writable.is_read_only(tmp_path), "no system to ask"
    for options, read_only in (("discard\n", False), ("emergency_ro,discard\n", True), ("emergency_ro\n", True)):
        mounts.write_text(other + mine + options)
        assert writable.is_read_only(tmp_path) == read_only
    mounts.write_text("")
    as_mounted = os.statvfs_result([*os.statvfs(tmp_path)[:8], os.ST_RDONLY, 255])
    monkeypatch.setattr(os, "statvfs", lambda _: as_mounted)
    assert writable.is_read_only(tmp_path)


def test_a_folder_that_may_not_be_written_is_named() -> None:
    with everybodys_folder() as place:
        (place / "reports").mkdir(mode=0o555)

        def ask() -> list[str]:
            said = []
            for ask_first in (require_writable, require_writable_folder):
                with pytest.raises(BitnetError) as caught:
                    ask_first(place / "reports" / "x")
                said.append(str(caught.value))
            return said

        for sentence in as_nobody(ask):
            assert sentence == f"{place}/reports/x can't be written (Permission denied); choose another place."


def test_asking_leaves_nothing_but_the_folder(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("old")
    require_writable(tmp_path / "old.json")
    require_writable(tmp_path / "new" / "x.json")
    require_writable_folder(tmp_path / "other")
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert found == {"old.json", "new", "other"}
    assert (tmp_path / "old.json").read_text() == "old"


def test_a_link_may_be_replaced_wherever_it_leads(tmp_path: Path) -> None:
    (tmp_path / "x.json").symlink_to(tmp_path)
    require_writable(tmp_path / "x.json")
    files.write_text(tmp_path / "x.json", "{}")
    assert (tmp_path / "x.json").read_text() == "{}"


def test_a_full_disk_is_told_before_though_it_takes_an_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.RawIOBase):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(BitnetError, match="No space left on device"):
        require_writable(tmp_path / "x.json")
    monkeypatch.undo()
    require_writable_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
