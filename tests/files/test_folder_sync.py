"""A folder's fsync serves every thread that waited before it began, and no other."""

import contextlib
import threading
from pathlib import Path

import pytest

from bitnet_core.files import folder_sync
from bitnet_core.files.folder_sync import FolderSync


def test_threads_that_wait_share_the_next_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[Path] = []
    first, go_on = threading.Event(), threading.Event()

    def fsync(folder: Path) -> None:
        began.append(folder)
        first.set()
        go_on.wait(60)

    monkeypatch.setattr(folder_sync, "fsync_folder", fsync)
    folders = FolderSync()
    threads = [threading.Thread(target=folders.sync, args=[tmp_path])]
    threads[0].start()
    assert first.wait(60)
    # The first fsync may have missed what these wrote: they need one that begins now.
    for _ in range(6):
        threads.append(threading.Thread(target=folders.sync, args=[tmp_path]))
        threads[-1].start()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert 2 <= len(began) <= 3  # the last may have come after the second one had begun


def test_one_after_the_other_each_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[Path] = []
    monkeypatch.setattr(folder_sync, "fsync_folder", began.append)
    folders = FolderSync()
    for folder in (tmp_path, tmp_path / "a", tmp_path):
        folders.sync(folder)
    assert began == [tmp_path, tmp_path / "a", tmp_path]


def test_one_that_fails_leaves_nobody_waiting(tmp_path: Path) -> None:
    folders = FolderSync()
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            folders.sync(tmp_path / "missing")
    folders.sync(tmp_path)


def test_an_fsync_that_fails_is_done_again_by_those_who_waited_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes: list[str] = []
    running, go_on = threading.Event(), threading.Event()

    def fsync(_: Path) -> None:
        if outcomes:
            outcomes.append("done")
            return
        outcomes.append("failed")
        running.set()
        go_on.wait(60)
        raise OSError("no disk")

    def wait() -> None:
        with contextlib.suppress(OSError):
            folders.sync(tmp_path)

    monkeypatch.setattr(folder_sync, "fsync_folder", fsync)
    folders = FolderSync()
    threads = [threading.Thread(target=wait) for _ in range(4)]
    threads[0].start()
    assert running.wait(60)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert outcomes[:2] == ["failed", "done"]
