"""Files are complete or absent, even when the writer fails or is killed; locks have one owner."""

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained, is_about_the_machine
from bitnet_core.prompts.files import Source, records
from bitnet_core.runs.experiment import Experiment
from bitnet_core.secrets import vault
from bitnet_core.settings import dotenv
from bitnet_core.settings.resolve import from_values


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))])
def test_a_file_is_not_put_in_the_place_of_a_pipe_or_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(path := tmp_path / "x")
    kind = path.stat().st_mode
    with pytest.raises(OSError, match="it is not a regular file"):
        files.write_text(path, "new")
    assert path.stat().st_mode == kind
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_an_error_leaves_the_old_file_and_no_temp_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.atomic_path(path) as temp:
        temp.write_text("torn")
        raise RuntimeError
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_dated_folders_of_one_second_are_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.time, "gmtime", lambda: time.struct_time((2026, 11, 28, 2, 20, 0, 0, 0, 0)))
    made = [files.new_dated_folder(tmp_path / "aside", name) for name in ("", "", "", "a", "a")]
    stamp = "20261128T022000Z"
    assert [one.name for one in made] == [stamp, f"{stamp}-2", f"{stamp}-3", f"{stamp}-a", f"{stamp}-a-2"]
    assert all(one.is_dir() for one in made)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        files.new_dated_folder(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "does not exist"),
        ("{", "is not valid JSON"),
        ('{"a": 1, "a": 2}', 'damaged: "a" stands in one object 2'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "x.json").write_text(text)
    with pytest.raises(BitnetError, match=sentence):
        files.read_json(tmp_path / "x.json")


def test_a_lock_is_held_by_one_owner_and_released_at_the_end(tmp_path: Path) -> None:
    tries: list[int] = []

    def give_up() -> None:
        tries.append(1)
        if len(tries) == 3:
            raise BitnetError("taken")

    path = tmp_path / "lock"
    with files.locked(path), pytest.raises(BitnetError, match="taken"), files.locked(path, give_up):
        pytest.fail("the lock was held twice")
    assert len(tries) == 3
    tries.clear()
    with files.locked(path, give_up):
        assert not tries


def test_a_lock_file_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    with files.locked(tmp_path / "lock", mode=0o600):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(BitnetError, match="is a pipe or a device; give a regular file"):
            files.read_json(tmp_path / name)
        assert not files.is_file(tmp_path / name)


def test_json_without_an_end_to_its_nesting_is_not_valid(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[" * 200_000)
    with pytest.raises(BitnetError, match="is not valid JSON"):
        files.read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.ENAMETOOLONG, "use a shorter path"), (errno.ELOOP, "lead in a circle"), (errno.ENOSPC, "free space"),
     (errno.EROFS, "for writing"), (errno.EIO, "check the disk"), (errno.EMFILE, "ulimit -n"),
     (errno.ESTALE, "mount"), (errno.ENOTCONN, "mount"), (errno.ENODEV, "on another file system"),
     (errno.EOPNOTSUPP, "on another file system"), (errno.EACCES, "ask the admin"), (None, "ask the admin")],
)  # fmt: skip
def test_a_failed_call_is_explained_by_what_it_is(number: int | None, fix: str) -> None:
    error = OSError(number, os.strerror(number)) if number else OSError("odd")
    assert explained(error, "ask the admin").startswith(f"({os.strerror(number) if number else 'odd'}); ")
    assert fix in explained(error, "ask the admin")
    assert is_about_the_machine(error) == (number not in (None, errno.EACCES))


def test_a_path_too_long_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    assert not files.is_file(path)
    with pytest.raises(BitnetError, match=r"can't be read \(File name too long\); use a shorter path"):
        files.read_json(path)
    with pytest.raises(BitnetError, match=r"can't be read \(File name too long\); use a shorter path"):
        Experiment.from_settings(from_values({"DRIVE_ROOT": str(path)})).ensure()
    with pytest.raises(BitnetError, match=r"can't be read \(File name too long\); use a shorter path"):
        vault.names(path)
    with pytest.raises(BitnetError, match=r"can't be read \(File name too long\); use a shorter path"):
        list(records(Source(path)))
    with pytest.raises(BitnetError, match=r"can't be written \(File name too long\); use a shorter path"):
        dotenv.write(path, "A=1\n")


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127])
def test_every_name_that_a_file_may_have_can_be_written(tmp_path: Path, name: str) -> None:
    """The temporary file beside it has more in its name."""
    files.write_text(tmp_path / name, "text")
    assert (tmp_path / name).read_text() == "text"
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208 - its names as they are
