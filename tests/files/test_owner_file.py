"""Locks where the file system has none: one owner at a time, dead owners are replaced, those elsewhere are named."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core import files, process
from bitnet_core.errors import BitnetError
from bitnet_core.files import owner_file
from bitnet_core.files.owner_file import HeldElsewhere, Owner
from bitnet_core.secrets import vault
from bitnet_core.settings import dotenv
from tests.lockless import refusing

ROOT = Path(__file__).parents[2]
_HOLDER = """
import sys, time
from pathlib import Path
from bitnet_core import files
from tests import lockless
lockless.install()
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
_COUNTER = """
import os, sys
from pathlib import Path
from bitnet_core import files
from tests import lockless
lockless.install()
folder, name = Path(sys.argv[1]), sys.argv[2]
for turn in range(25):
    with files.folder_held(folder):
        count = int((folder / "count").read_text())
        with (folder / "taken").open("a") as taken:
            taken.write(f"{count}\\n")
        (folder / "count").write_text(str(count + 1))
        if turn == 24 and name.startswith("dies"):
            os._exit(0)
"""


@pytest.fixture(autouse=True)
def lockless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing())


class GaveUp(BitnetError):
    pass


def give_up() -> None:
    raise GaveUp("taken")


def child(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def left_behind(folder: Path, **changes: object) -> Path:
    """The file of an owner that differs from this process in these fields."""
    path = folder / "lock.owner"
    path.write_text(json.dumps(dataclasses.asdict(Owner.me()) | changes))
    return path


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL", "EBADF"])
def test_a_file_is_the_lock_and_is_gone_afterwards(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(getattr(errno, name)))
    path, own = tmp_path / "lock", "lock.owner"
    for on_wait in (None, give_up):
        with files.locked(path, on_wait) as note:
            assert note == f"The file system of {tmp_path} has no locks; {own} is used instead."
            assert json.loads((tmp_path / own).read_text())["pid"] == os.getpid()
            with pytest.raises(GaveUp), files.locked(path, give_up):
                pytest.fail("the lock was held twice")
    with files.folder_held(tmp_path):
        assert json.loads((tmp_path / ".lock.owner").read_text())["pid"] == os.getpid()
    with files.folder_held(tmp_path, moving=True):
        assert not (tmp_path / ".lock.owner").exists()
    assert [one.name for one in tmp_path.iterdir()] == ["lock"]


def test_a_lock_that_fails_is_not_taken_for_a_missing_ability(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"), files.locked(tmp_path / "lock"):
        pass


def test_a_lock_of_the_kernel_respects_the_file_of_a_process_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    with files.locked(path):
        monkeypatch.undo()
        with pytest.raises(GaveUp), files.locked(path, give_up):
            pytest.fail("the lock was held twice")
    with files.locked(path, give_up) as note:
        assert note == ""
    left_behind(tmp_path, start=1.0)
    with files.locked(tmp_path / "lock", give_up):
        assert not (tmp_path / "lock.owner").exists()


def test_the_lock_of_a_live_process_is_respected_and_that_of_a_killed_one_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with child(_HOLDER, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(GaveUp), files.locked(path, give_up):
            pytest.fail("the lock was held twice")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with files.locked(path):
            assert (tmp_path / "lock.owner").exists()
    assert not (tmp_path / "lock.owner").exists()


@pytest.mark.parametrize("names", [("a", "b", "c"), ("dies a", "dies b", "c")])
def test_processes_take_turns_even_if_some_die_with_the_lock(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "count").write_text("0")
    children = [child(_COUNTER, tmp_path, name) for name in names]
    assert [one.wait(60) for one in children] == [0] * len(names)
    for one in children:
        one.communicate()
    assert (tmp_path / "taken").read_text().split() == [str(n) for n in range(25 * len(names))]


def test_threads_take_turns(tmp_path: Path) -> None:
    order: list[str] = []

    def work() -> None:
        with files.locked(tmp_path / "lock"):
            order.append("in")
            time.sleep(0.01)
            order.append("out")

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert order == ["in", "out"] * 5


@pytest.mark.parametrize(
    "changes",
    [{"start": 1.0}, {"boot_id": "before the reboot"}, {"boot_id": "b", "namespace": "of a container"},
     {"pid": 1 << 40}, {"pid": 10**300}, {"pid": -(10**300)}, {"start": float("inf")}, {"start": float("nan")},
     {"pid": 0, "start": 0}, {"pid": -1}],
)  # fmt: skip
def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path: Path, changes: dict[str, object]) -> None:
    path = left_behind(tmp_path, **changes)
    with files.locked(tmp_path / "lock", give_up):
        assert json.loads(path.read_text())["boot_id"] == process.boot_id()
    assert not path.exists()


@pytest.mark.parametrize(
    ("changes", "where"),
    [({"host": "node-7"}, "on node-7;"), ({"host": "node-7", "boot_id": "b", "start": 1.0}, "on node-7;"),
     ({"namespace": "pid:[1]"}, f"on {process.current().host}, in another container;")],
)  # fmt: skip
def test_an_owner_elsewhere_is_respected_and_named(
    tmp_path: Path, changes: dict[str, object], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left_behind(tmp_path, pid=4711, **changes)
    sentence = f"{tmp_path} is in use by process 4711 {where} .*delete {path}"
    with pytest.raises(HeldElsewhere, match=sentence.replace("[", r"\[")), files.locked(tmp_path / "lock", give_up):
        pass
    monkeypatch.setattr(owner_file, "ELSEWHERE_SECONDS", 0.05)
    monkeypatch.setattr(owner_file, "ELSEWHERE_REPORTED_SECONDS", 0.1)
    reports: list[str] = []
    for on_wait in (None, lambda: reports.append("waiting")):
        with pytest.raises(HeldElsewhere, match="4711"), files.locked(tmp_path / "lock", on_wait):
            pass
    assert reports
    assert path.exists()


def test_an_owner_elsewhere_may_let_go_in_time(tmp_path: Path) -> None:
    path = left_behind(tmp_path, host="node-7")
    with files.locked(tmp_path / "lock", lambda: path.unlink(missing_ok=True)):
        assert json.loads(path.read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"pid": 1}', b'{"pid": [], "start": {}}', b"\xff\0",
                                     b"[" * 4096, b'{"pid": 1, "start": 1, "other": 1}',
                                     b'{"pid": 1e999, "start": 1}', b'{"pid": 1, "start": 1%s}' % (b"0" * 400),
                                     b'{"pid": NaN, "start": 1}', b'{"pid": -Infinity, "start": 1}'])  # fmt: skip
def test_a_file_that_names_no_owner_is_left_by_a_writer_that_died(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lock.owner").write_bytes(content)
    with pytest.raises(GaveUp), files.locked(tmp_path / "lock", give_up):
        pytest.fail("it may still be written")
    monkeypatch.setattr(owner_file, "UNFINISHED_SECONDS", 0.05)
    with files.locked(tmp_path / "lock"):
        pass


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _good_link(path: Path) -> None:
    target = path.with_name("target")
    target.write_text(json.dumps(dataclasses.asdict(Owner.me()) | {"start": 1.0}))
    path.symlink_to(target)


STRANGERS: dict[str, Callable[[Path], object]] = {
    "a link that leads nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to an owner's file": _good_link,
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a folder": lambda path: path.symlink_to("/"),
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "a folder": Path.mkdir,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("has_locks", [True, False])
def test_what_is_not_a_regular_file_is_named(
    tmp_path: Path, kind: str, has_locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if has_locks:
        monkeypatch.undo()
    path = tmp_path / "lock.owner"
    STRANGERS[kind](path)
    for on_wait in (None, give_up):
        with pytest.raises(BitnetError) as caught, files.locked(tmp_path / "lock", on_wait):
            pytest.fail("it is not ours")
        assert str(caught.value) == f"{path} stands where a lock belongs and is not a regular file; delete it."
    assert os.path.lexists(path)


@pytest.mark.parametrize("left", [None, {"start": 1.0}, {}])
def test_it_pauses_between_two_looks(
    tmp_path: Path, left: dict[str, object] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if left is not None:
        left_behind(tmp_path, **left)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    tries = iter([False] * 5 + [True])
    owner_file.wait_until_gone(tmp_path / "lock.owner", None, lambda: next(tries))
    assert pauses == [owner_file.POLL_SECONDS] * 5


def test_a_process_of_another_user_may_be_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As /proc with `hidepid` hides it."""
    left_behind(tmp_path, pid=4711)
    known = process.identify

    def refuse(pid: int, _: int) -> None:
        raise PermissionError

    monkeypatch.setattr(process, "identify", lambda pid: None if pid == 4711 else known(pid))
    with monkeypatch.context() as patched:
        patched.setattr(os, "kill", refuse)
        with pytest.raises(GaveUp), files.locked(tmp_path / "lock", give_up):
            pass
    with files.locked(tmp_path / "lock", give_up):
        pass


def test_without_any_lock_on_this_host_a_dead_owners_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left_behind(tmp_path, start=1.0)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(BitnetError, match=f"{path} is left by a process that is gone"),
        files.locked(tmp_path / "lock"),
    ):
        pass


def _vault(folder: Path) -> None:
    vault.create(folder / "v.json", "correct horse").set("OPENAI_API_KEY", "sk-canary-0123456789")


def _dotenv(folder: Path) -> None:
    dotenv.change(folder / ".env", lambda text: text + "A=1\n")


@pytest.mark.parametrize(("write", "lock"), [(_vault, ".v.json.lock.owner"), (_dotenv, ".lock.owner")])
def test_keys_and_settings_are_written_under_it(
    write: Callable[[Path], None], lock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    assert not (tmp_path / lock).exists()
    (tmp_path / lock).write_text(json.dumps(dataclasses.asdict(Owner.me()) | {"host": "node-7"}))
    monkeypatch.setattr(owner_file, "ELSEWHERE_SECONDS", 0.05)
    for kept in [one for one in tmp_path.iterdir() if one.name == "v.json"]:
        kept.unlink()
    with pytest.raises(HeldElsewhere, match="on node-7"), contextlib.suppress(OSError):
        write(tmp_path)


def test_a_wait_without_a_report_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with child(_HOLDER, tmp_path / "lock") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
        with (
            pytest.raises(BitnetError, match=rf"lock\.owner is held by process {holder.pid}, which does not let go"),
            files.locked(tmp_path / "lock"),
        ):
            pytest.fail("the lock was held twice")
        holder.kill()


def test_a_stranger_who_holds_the_guard_of_the_host_stops_nobody_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every user may lock /tmp, and a dead owner's file is removed under that lock."""

    def flock(fd: int, _operation: int) -> None:
        is_guard = os.path.samestat(os.fstat(fd), owner_file._GUARD.stat())
        raise BlockingIOError if is_guard else OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", flock)
    left_behind(tmp_path, start=1.0)
    with pytest.raises(GaveUp), files.locked(tmp_path / "lock", give_up):
        pytest.fail("the lock was taken")
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    with pytest.raises(BitnetError, match="does not let go"), files.locked(tmp_path / "lock"):
        pytest.fail("the lock was taken")
