"""Files that are not what they seem: too long, or regular by name and without an end or anything to read."""

import errno
import fcntl
import io
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.export import gguf_read
from bitnet_core.files import inputs, owner_file
from bitnet_core.files.regular import open_for_fsync, open_regular, read_bounded
from bitnet_core.prompts import templates
from bitnet_core.runs.lines import LineReader, count_lines
from bitnet_core.runs.record import Run
from bitnet_core.teachers import prices


class Waiting(io.FileIO):
    """Like /proc/kmsg without a message: a regular file that gives EAGAIN."""

    def readinto(self, _buffer: object) -> None:  # type: ignore[override]
        return None

    def readall(self) -> None:  # type: ignore[override]
        return None


READERS: dict[str, Callable[[Path], object]] = {
    "all": lambda path: open_regular(path).read(),
    "some": lambda path: open_regular(path).read(10),
    "bounded": lambda path: read_bounded(path, 100),
    "lines": lambda path: LineReader(path).read_new(),
    "counted": count_lines,
    "json": files.read_json,
    "hashed": files.sha256_file,
    "text": inputs.read_input,
    "owner": owner_file._look,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_file_that_would_have_to_be_waited_for_can_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    (path := tmp_path / "file").write_text("{}")
    monkeypatch.setattr(io, "FileIO", Waiting)
    with pytest.raises((OSError, BitnetError), match="it has to be waited for"):
        read(path)


@pytest.mark.parametrize("length", [0, 1, 65_535, 65_536, 65_537, 200_000, 200_001])
def test_a_small_file_takes_little_memory_whatever_its_limit(tmp_path: Path, length: int) -> None:
    (path := tmp_path / "file").write_bytes(content := os.urandom(length))
    tracemalloc.start()
    try:
        assert read_bounded(path, 1 << 28) == content
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert read_bounded(path, length) == content
    if length:
        with pytest.raises(OSError, match="it is longer than"):
            read_bounded(path, length - 1)


def test_such_a_record_harms_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    run.record_path.write_text("{}")
    monkeypatch.setattr(io, "FileIO", Waiting)
    with pytest.raises(BitnetError, match=r"run.json can't be read \(it is not a regular file"):
        run.record()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the kernel's messages")
def test_the_kernels_messages_are_not_waited_for() -> None:
    for _ in range(100):  # they are passed on as long as there are any
        try:
            assert len(read_bounded(Path("/proc/kmsg"), 1 << 24)) > 0
        except OSError:
            break


@pytest.mark.parametrize(
    "read",
    [
        files.sha256_file,
        gguf_read.look,
        prices._read,
        templates.load_topics,
    ],
)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_or_a_device_is_never_waited_for(
    tmp_path: Path, make: Callable[[Path], object], read: Callable[[Path], object]
) -> None:
    make(path := tmp_path / "file")
    with pytest.raises((OSError, BitnetError)):
        read(path)


@pytest.mark.parametrize("name", ["a\0b", "half \ud800"])
def test_a_name_that_no_file_has_is_an_error_of_the_system(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="its name can't be that of a file"):
        open_regular(tmp_path / name)


@pytest.mark.parametrize("size", [(1 << 24) + 1, 1 << 30])
def test_json_that_is_too_long_is_not_read(tmp_path: Path, size: int) -> None:
    (path := tmp_path / "x.json").touch()
    os.truncate(path, size)
    with pytest.raises(BitnetError, match=r"can't be read \(it is longer than 16 MiB\); .*move it away"):
        files.read_json(path)


def test_json_of_the_greatest_length_is_read(tmp_path: Path) -> None:
    (path := tmp_path / "x.json").write_text(" " * ((1 << 24) - 2) + "{}")
    assert files.read_json(path) == {}


def test_a_file_is_opened_for_fsync_as_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For writing, else for reading; nothing in it changes, and what is no file is not waited for."""
    path = tmp_path / "file"
    path.write_bytes(b"kept")
    with open_for_fsync(path) as opened:
        assert fcntl.fcntl(opened.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
        os.fsync(opened.fileno())
    really = os.open

    def of_another_user(path: Path, flags: int) -> int:
        if flags & os.O_ACCMODE:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(path, flags)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", of_another_user)
        with open_for_fsync(path) as opened:
            os.fsync(opened.fileno())
    assert path.read_bytes() == b"kept"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(path)
    for other in ("pipe", "link", ".", "gone"):
        with pytest.raises(OSError):
            open_for_fsync(tmp_path / other)


def test_what_is_written_whole_is_fsynced_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    monkeypatch.setattr(os, "fsync", lambda fd: modes.append(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE))
    files.write_bytes(tmp_path / "file", b"x", 0o600)
    assert modes == [os.O_WRONLY, os.O_RDONLY]  # the file, its folder
