"""How much of a wheel has arrived, while pip makes and removes its folders, and an index that sends too much."""

import contextlib
import io
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.files import wheels
from bitnet_core.files.wheels import Wheel, _largest_file, fetch

PIECE = bytes(1 << 16)
WHEEL = Wheel("endless==1.0", "endless-1.0-py3-none-any.whl", "0" * 64, 1000, "something")


def test_the_largest_file_counts(tmp_path: Path) -> None:
    assert _largest_file(tmp_path) == _largest_file(tmp_path / "missing") == 0
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "wheel").write_bytes(bytes(700))
    (tmp_path / "log").write_bytes(bytes(20))
    assert _largest_file(tmp_path) == 700


def test_folders_and_files_that_pip_removes_meanwhile_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays").write_bytes(bytes(9))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wheel").write_bytes(bytes(700))
    real = os.scandir

    def removing(path: str | Path) -> Iterator[os.DirEntry[str]]:
        found = real(path)
        for name in ("one", "two"):
            (tmp_path / name / "wheel").unlink(missing_ok=True)
            if (tmp_path / name).exists():
                (tmp_path / name).rmdir()
        return found

    monkeypatch.setattr(os, "scandir", removing)
    assert _largest_file(tmp_path) == 9


@contextlib.contextmanager
def sending(pieces: int, piece: bytes = PIECE) -> Iterator[str]:
    """An index whose only wheel is this many pieces long and takes a while to come."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            page = not self.path.endswith(".whl")
            self.send_header("Content-Type", "text/html" if page else "application/octet-stream")
            self.end_headers()
            with contextlib.suppress(OSError):
                if page:
                    self.wfile.write(f'<a href="/{WHEEL.filename}">x</a>'.encode())
                for _ in range(0 if page else pieces):
                    self.wfile.write(piece)
                    stopped.wait(0.02)

        def log_message(self, *args: object) -> None:
            """Keep the test's output clean."""

    stopped = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    finally:
        stopped.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("grows", ["the file", "pip"])
def test_an_index_that_sends_too_much_is_left(grows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if grows == "pip":
        monkeypatch.setattr(wheels, "rss_bytes", lambda _pid: 2 << 30)
    with sending(600 if grows == "the file" else 20) as index, pytest.raises(BitnetError, match="sends more than"):
        fetch(WHEEL, tmp_path, {**os.environ, "PIP_INDEX_URL": index}, lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_an_index_that_sends_a_byte_now_and_then_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "_STILL_SECONDS", 5.0)
    with sending(1 << 20, b"x") as index, pytest.raises(BitnetError, match="sends nearly nothing of endless"):
        fetch(WHEEL, tmp_path, {**os.environ, "PIP_INDEX_URL": index}, lambda *_: None)
    assert not list(tmp_path.iterdir())


FIX = "check PIP_INDEX_URL, and that this network asks for no login"
NONE = (
    "pip can't download something (endless==1.0, 0 MB) from the package index, "
    "which has no file for this Python or is not a package index"
)
ANOTHER = (
    "The package index delivered a endless==1.0 that is not the pinned one; point pip at another index "
    "(PIP_INDEX_URL) and try again."
)
FULL = f"The disk is too full to download something ({WHEEL.size / 1e6:.0f} MB); free some space and try again."


@pytest.mark.parametrize(
    ("words", "free", "said"),
    [
        ("", 0, FULL),
        ("", WHEEL.size - 1, FULL),
        ("ERROR: connection reset by peer", WHEEL.size - 1, FULL),
        ("ERROR: [Errno 28] No space left on device", 1 << 40, FULL),
        ("ERROR: [Errno 122] Disk quota exceeded", 1 << 40, FULL),
        ("", WHEEL.size, f"pip can't download something (endless==1.0): no message; {FIX}."),
        ("ERROR: it broke.", 1 << 40, f"pip can't download something (endless==1.0): it broke; {FIX}."),
        (
            "ERROR: No matching distribution found for endless==1.0",
            1 << 40,
            f"{NONE}: go online, {FIX}.",
        ),
        ("ERROR: Wheel 'endless' located at /x is invalid.", 1 << 40, ANOTHER),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE FILE.", 1 << 40, ANOTHER),
    ],
)
def test_why_pip_failed_is_told_though_it_could_not_write_it(
    words: str, free: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(wheels, "through", lambda _: "")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(free=free))
    assert wheels._pip_failure(WHEEL, io.StringIO(words), tmp_path) == said
