"""Reading what the user hands over: files and pipes give their text, everything else is an error that names it."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.files import inputs
from bitnet_core.files.inputs import can_be_written, is_present, read_input

TEXT = "SEED=77\nKD_MAX_USD=1.5\n"


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_kept", {})


def filled(path: Path, chunks: Iterable[bytes], pause: float = 0.0) -> Path:
    """A named pipe at `path`, which a thread fills once."""
    os.mkfifo(path)

    def fill() -> None:
        with path.open("wb", buffering=0) as sink:
            for chunk in chunks:
                time.sleep(pause)
                try:
                    sink.write(chunk)
                except BrokenPipeError:
                    return

    threading.Thread(target=fill, daemon=True).start()
    return path


def descriptor(data: bytes) -> Path:
    """An inherited pipe, such as a shell makes for `<(…)`."""
    source, sink = os.pipe()
    os.write(sink, data)
    os.close(sink)
    return Path(f"/dev/fd/{source}")


def linked(folder: Path, target: Path) -> Path:
    link = folder / "link"
    link.symlink_to(target)
    return link


def a_socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


READABLE: dict[str, Callable[[Path], Path]] = {
    "a pipe": lambda folder: filled(folder / ".env", [TEXT.encode()]),
    "a link to a pipe": lambda folder: linked(folder, filled(folder / "real", [TEXT.encode()])),
    "a slow pipe": lambda folder: filled(folder / ".env", [TEXT[:9].encode(), TEXT[9:].encode()], 0.1),
    "byte by byte": lambda folder: filled(folder / ".env", [bytes([one]) for one in TEXT.encode()]),
    "a descriptor": lambda _: descriptor(TEXT.encode()),
    "a link to a descriptor": lambda folder: linked(folder, descriptor(TEXT.encode())),
}


@pytest.mark.parametrize("kind", READABLE)
def test_a_pipe_is_read_once_and_its_text_is_kept(tmp_path: Path, kind: str) -> None:
    path = READABLE[kind](tmp_path)
    assert [read_input(path) for _ in range(3)] == [TEXT] * 3
    assert not can_be_written(path)
    assert is_present(path)


def test_a_pipe_gives_more_than_its_buffer_holds(tmp_path: Path) -> None:
    line = "# a long comment, for a pipe holds 64 KiB\n"
    assert read_input(filled(tmp_path / ".env", [line.encode()] * 10_000)) == line * 10_000


def test_threads_that_read_a_pipe_at_once_all_get_the_whole(tmp_path: Path) -> None:
    path = filled(tmp_path / ".env", [b"A=1\n"] * 50, 0.002)
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(read_input(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == ["A=1\n" * 50] * 4


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    for text in ("A=1\n", "A=2\n"):
        path.write_text(text)
        assert read_input(path) == text
    assert can_be_written(path)


def test_what_is_not_there_is_none_and_the_null_device_is_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for missing in (tmp_path / ".env", tmp_path / "file" / ".env", tmp_path / "no" / ".env", Path("/dev/fd/999")):
        assert read_input(missing) is None
        assert not is_present(missing)
    assert read_input(Path(os.devnull)) == ""
    assert read_input(linked(tmp_path, Path(os.devnull))) == ""


def _folder(folder: Path) -> Path:
    (folder / ".env").mkdir()
    return folder / ".env"


def _circle(folder: Path) -> Path:
    (folder / "other").symlink_to(folder / "link")
    return linked(folder, folder / "other")


def _file(folder: Path, data: bytes) -> Path:
    (folder / ".env").write_bytes(data)
    return folder / ".env"


def _held_open(folder: Path, data: bytes) -> Path:
    """A pipe whose writer neither goes on nor closes it."""
    source, sink = os.pipe()
    os.write(sink, data)
    return Path(f"/dev/fd/{source}")


def _unfilled(folder: Path) -> Path:
    os.mkfifo(folder / ".env")
    return folder / ".env"


UNREADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a folder": (_folder, "is a folder, not a file"),
    "a dangling link": (lambda folder: linked(folder, Path("/nowhere/.env")), "is a link to /nowhere/.env, which"),
    "a circle of links": (_circle, "its links lead in a circle"),
    "a socket": (lambda folder: a_socket(folder / "s"), "is a socket, not a file"),
    "a device": (lambda folder: linked(folder, Path("/dev/zero")), "is a device, not a file"),
    "a name too long": (lambda folder: folder / ("x" * 300), r"\(File name too long\); use a shorter path"),
    "a large file": (lambda folder: _file(folder, b"A=1\n" * (1 << 19)), "is larger than 1 MiB"),
    "an endless pipe": (lambda folder: filled(folder / ".env", iter(lambda: b"#" * 4096, b"")), "is larger than 1"),
    "no writer": (_unfilled, "is a pipe that gave nothing within 0 s; check the program that fills it"),
    "an empty pipe": (lambda _: descriptor(b""), "gave nothing"),
    "a silent writer": (lambda folder: _held_open(folder, b""), "gave nothing"),
    "a writer that stops": (lambda folder: _held_open(folder, b"KD_MAX"), "was not written to its end"),
    "not UTF-8": (lambda _: descriptor(b"A=\xff\n"), "is not UTF-8"),
    "NUL": (lambda folder: _file(folder, b"A=1\nKD_MAX_USD=1\0\n"), "has a NUL character in line 2"),
    "UTF-16": (lambda folder: _file(folder, "KD_MAX_USD=1".encode("utf-16-le")), "has a NUL character in line 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_an_error_every_time(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "an endless pipe":
        monkeypatch.setattr(inputs, "UNOPENED_SECONDS", 0.2)
        monkeypatch.setattr(inputs, "SILENT_SECONDS", 0.3)
    make, reason = UNREADABLE[kind]
    path = make(tmp_path)
    for _ in range(2):
        with pytest.raises(UsageError, match=reason) as caught:
            read_input(path)
        assert str(caught.value).startswith(f"{path} ")
        assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("number", "reason"), [(13, "Permission denied"), (5, "check the disk"), (116, "mount its file system again")]
)
def test_what_the_system_refuses_is_an_error(
    tmp_path: Path, number: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, b"A=1\n")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    for place, name in ((os, "open"), (Path, "stat")):
        with monkeypatch.context() as patched, pytest.raises(UsageError, match=reason):
            patched.setattr(place, name, refuse)
            read_input(path)
