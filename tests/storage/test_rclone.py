"""rclone as a target, beyond the contract: its process and its configuration."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from bitnet_core.errors import UsageError
from bitnet_core.storage.clients import rcd, rcd_calls
from bitnet_core.storage.clients.rcd_calls import Calls
from bitnet_core.storage.pull import Incomplete
from bitnet_core.storage.push import Conflict, Pushed
from bitnet_core.storage.target import NoSuchObject, Refused, Unreachable
from bitnet_core.storage.under import Under
from bitnet_core.storage.verify import newest, verify
from tests.storage.cutting_proxy import Cut, cutting_proxy
from tests.storage.experiments import machine, write
from tests.storage.pushing import pull, push
from tests.storage.stand import Running, opened
from tests.storage.stands.rclone import missing, obscured, on_s3, on_webdav, program, s3_config, settings

pytestmark = pytest.mark.skipif(bool(missing("rclone")), reason=missing("rclone"))
DISK = "[disk]\ntype = local\n"


@pytest.fixture
def disk(tmp_path: Path) -> Running:
    return Running(settings(tmp_path, f"disk:{tmp_path}/copy", DISK))


def processes_of(parent: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(parent).children(recursive=True) if one.name() in ("rclone", "sh")]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_process_ends_with_the_target(disk: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(short := tmp_path.parent))
    with opened(disk, tmp_path):
        children = processes_of(os.getpid())
        (folder,) = short.glob("bitnet-rclone-*")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {one.name() for one in children} == {"rclone", "sh"}
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in children)
    assert not list(short.glob("bitnet-rclone-*"))


def test_the_process_ends_with_a_killed_parent(disk: Running, tmp_path: Path) -> None:
    script = (
        "import json, sys, time; from pathlib import Path; from tests.storage.stand import Running, opened\n"
        "given, folder = json.loads(sys.argv[1]), Path(sys.argv[2])\n"
        "with opened(Running(given), folder): print('open', flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, json.dumps(dict(disk.settings)), str(tmp_path)]
    environment = {**os.environ, "TMPDIR": (temporary := str(tmp_path.parent))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "open\n"
        children = processes_of(parent.pid)
        assert any(one.name() == "rclone" for one in children)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in children))
    wait_until(lambda: not list(Path(temporary).glob("bitnet-rclone-*")))


def test_a_long_temporary_folder_does_not_matter(
    disk: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket's path has at most 107 bytes."""
    (long := tmp_path / ("n" * 120)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with opened(disk, tmp_path) as target:
        target.put("x", b"1")
    assert not list(long.iterdir())


def test_only_what_rclone_may_need_is_passed_on(
    disk: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    monkeypatch.setenv("RCLONE_DRY_RUN", "true")
    monkeypatch.setenv("RCLONE_EXCLUDE", "*")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("RCLONE_CONFIG_OTHER_TYPE", "local")
    with opened(disk, tmp_path) as target:
        target.put("x", b"1")
        assert [one.key for one in target.list("")] == ["x"]
        for one in processes_of(os.getpid()):
            seen = one.environ()
            assert "canary" not in json.dumps([one.cmdline(), seen])
            assert seen["RCLONE_CONFIG_OTHER_TYPE"] == "local"
    assert (tmp_path / "copy" / "x").read_bytes() == b"1"


@pytest.mark.parametrize(
    "remote", ["disk", "/a/path", ":local:/tmp", "disk,skip_links:/tmp", "disk:a/../b", "disk:a//b"]
)
def test_a_remote_has_a_name_and_a_path(disk: Running, tmp_path: Path, remote: str) -> None:
    with pytest.raises(UsageError, match="RCLONE_REMOTE"), opened(disk, tmp_path, {"RCLONE_REMOTE": remote}):
        pass


def test_a_remote_that_is_not_in_the_configuration(disk: Running, tmp_path: Path) -> None:
    with (
        pytest.raises(Refused, match=r"didn't find section.*; make the remote with `rclone config`"),
        opened(disk, tmp_path, {"RCLONE_REMOTE": "dusk:x"}),
    ):
        pass


def test_a_configuration_that_is_not_there(disk: Running, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"RCLONE_CONFIG names .*/nowhere\.conf, which is no file; correct it"),
        opened(disk, tmp_path, {"RCLONE_CONFIG": str(tmp_path / "nowhere.conf")}),
    ):
        pass


def test_an_encrypted_configuration_needs_its_password(
    disk: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [program("rclone"), "config", "encryption", "set", "--config", disk.settings["RCLONE_CONFIG"]]
    subprocess.run(command, input="open-sesame-1\nopen-sesame-1\n", text=True, capture_output=True, check=True)
    for given in ("", "another-1"):
        monkeypatch.setenv("RCLONE_CONFIG_PASS", given)
        with pytest.raises(Refused, match="; set RCLONE_CONFIG_PASS"), opened(disk, tmp_path):
            pass
    monkeypatch.setenv("RCLONE_CONFIG_PASS", "open-sesame-1")
    with opened(disk, tmp_path) as target:
        target.put("x", b"1")


def test_an_upload_that_drips_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server takes a byte now and then, which to rclone is as good as any number."""
    monkeypatch.setattr(rcd_calls, "_CALL_SECONDS", 1.0)
    monkeypatch.setattr(rcd_calls, "_SLOWEST_BYTES", 1_000_000)  # by its size alone, it may take 34 s
    taken = []

    def drip(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(50):
                taken.append(data)
                time.sleep(0.1)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()

    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server.bind(("127.0.0.1", 0))
        server.listen()
        threading.Thread(target=serve, daemon=True).start()
        remote = settings(tmp_path, "bucket:it", s3_config(server.getsockname()[1]))
        with opened(Running(remote), tmp_path) as target:
            begun = time.monotonic()
            with pytest.raises(Unreachable, match=r"^rclone's remote bucket:it does not respond\.$"):
                target.put("x", bytes(32 << 20))
            assert taken
            assert time.monotonic() - begun < 25


def test_a_missing_program_is_named(disk: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(UsageError, match="pip install"), opened(disk, tmp_path):
        pass


def test_a_program_that_does_not_start_is_told(
    disk: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (broken := tmp_path / "rclone").write_text("#!/bin/sh\necho unknown flag >&2; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(rcd, "_program", lambda: str(broken))
    with pytest.raises(Refused, match="unknown flag"), opened(disk, tmp_path):
        pass


def test_a_full_or_closed_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("a file")
    with opened(Running(settings(tmp_path, f"disk:{tmp_path}/copy", DISK)), tmp_path) as target:
        with pytest.raises((Refused, Unreachable)):
            target.put("x", b"1")
        with pytest.raises(NoSuchObject):
            target.get("x")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    if missing("weed"):
        pytest.skip(missing("weed"))
    with on_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


def test_a_wrong_key_is_refused(bucket: Running, tmp_path: Path) -> None:
    with opened(bucket, tmp_path) as target:
        target.put("x", b"1")
    wrong = settings(tmp_path, "bucket:experiments/runs", s3_config(bucket.port, "another-secret-12345"))
    with opened(Running(wrong), tmp_path) as target:
        for call in (
            target.check,
            lambda: target.put("y", b"1"),
            lambda: target.get("x"),
            lambda: list(target.list("")),
        ):
            with pytest.raises(Refused, match="; correct the keys of the remote") as refused:
                call()
            assert "another-secret" not in str(refused.value)


@pytest.fixture(scope="module")
def dav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Path]]:
    folder = tmp_path_factory.mktemp("dav")
    with on_webdav(folder) as running:
        yield running, folder / "files" / "runs"


def test_where_a_file_grows_in_sight_it_is_moved_when_it_is_complete(
    dav: tuple[Running, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, folder = dav
    uploaded = []
    upload = Calls.upload

    def seen(self: Calls, remote: str, path: str, data: bytes) -> None:
        uploaded.append(path)
        upload(self, remote, path, data)

    monkeypatch.setattr(Calls, "upload", seen)
    with opened(running, tmp_path) as target:
        for data in (b"first one", b"second it"):  # as long as each other, and WebDAV has no hash
            target.put("a folder/#1 ü.bin", data)
            assert target.get("a folder/#1 ü.bin") == data
        assert [one.key for one in target.list("")] == ["a folder/#1 ü.bin"]
    assert len(uploaded) == 2
    assert all(path.startswith("runs/_temp/") for path in uploaded)
    assert (folder / "a folder/#1 ü.bin").read_bytes() == b"second it"


@pytest.mark.parametrize("service", ["dav", "bucket"])
def test_a_cut_connection_leaves_the_object_as_it_was(
    service: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """rclone's own WebDAV server keeps what it got of an upload."""
    found = request.getfixturevalue(service)
    running: Running = found[0] if service == "dav" else found
    assert running.through is not None
    with opened(running, tmp_path) as direct:
        direct.put("cut/there", b"older")
        with cutting_proxy(running.port, lambda: Cut(300_000)) as proxy:
            with opened(running, tmp_path, running.through(proxy.port)) as target:
                for key in ("cut/there", "cut/new"):
                    with pytest.raises(Unreachable):
                        target.put(key, bytes(1_000_000))
            assert len(proxy.cuts) >= 2
        assert [one.key for one in direct.list("cut/")] == ["cut/there"]
        assert direct.get("cut/there") == b"older"
        direct.put("cut/there", bytes(1_000_000))
        assert direct.get("cut/there") == bytes(1_000_000)


def test_what_can_not_be_moved_leaves_nothing_behind(dav: tuple[Running, Path], tmp_path: Path) -> None:
    with opened(dav[0], tmp_path) as target:
        target.put("file", b"1")
        with pytest.raises((Refused, Unreachable)):
            target.put("file/below", b"2")
        assert not [one for one in target.list("") if one.key.startswith("_temp/")]
        assert target.get("file") == b"1"


def test_an_encrypted_remote_shows_no_names(tmp_path: Path) -> None:
    config = (
        f"[below]\ntype = alias\nremote = {tmp_path}/encrypted\n[secret]\ntype = crypt\nremote = below:\n"
        f"password = {obscured('crypt-pass-1')}\n"
    )
    with opened(Running(settings(tmp_path, "secret:", config)), tmp_path) as target:
        target.put("reports/plain name.txt", b"plain text")
        assert target.get("reports/plain name.txt") == b"plain text"
        assert [one.key for one in target.list("")] == ["reports/plain name.txt"]
        target.put("n" * 40, b"1")
        with pytest.raises(Refused, match="; use a shorter name"):
            target.put("n" * 250, b"1")
    stored = [one for one in (tmp_path / "encrypted").rglob("*") if one.is_file()]
    assert len(stored) == 2
    assert not any("plain" in str(one) or b"plain" in one.read_bytes() for one in stored)


class Interleaved:
    """Calls of the remotes `one:` and `two:`, each of them on a machine, in the worst order.

    Both look whether an object is there; then one writes and compares, then two. Both put their manifests at once.
    """

    def __init__(self, patch: pytest.MonkeyPatch, contested: set[str]) -> None:
        looked, compared = ({name: threading.Event() for name in contested} for _ in range(2))
        both = threading.Barrier(2, timeout=60)
        upload, result, download = Calls.upload, Calls.result, Calls.download

        def name_of(path: str) -> str:
            return next((name for name in contested if path.endswith(f"/{name}")), "")

        def ordered_upload(self: Calls, remote: str, path: str, data: bytes) -> None:
            if name := name_of(path):
                (looked if remote == "one:/" else compared)[name].wait(60)
            elif "/manifests/" in path:
                both.wait()
            upload(self, remote, path, data)

        def ordered_result(self: Calls, command: str, path: str, **given: Any) -> dict[str, Any]:
            found = result(self, command, path, **given)
            if command == "operations/stat" and given["fs"] == "two:/" and (name := name_of(path)):
                looked[name].set()
            return found

        def ordered_download(self: Calls, remote: str, path: str) -> bytes | None:
            found = download(self, remote, path)
            if remote == "one:/" and (name := name_of(path)):
                compared[name].set()
            return found

        patch.setattr(Calls, "upload", ordered_upload)
        patch.setattr(Calls, "result", ordered_result)
        patch.setattr(Calls, "download", ordered_download)


@pytest.mark.parametrize("contested", ["reports/r.json", ""], ids=["one file", "two files"])
def test_of_two_machines_at_once_at_most_one_publishes_and_the_others_file_is_never_brought_for_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contested: str
) -> None:
    """Each believes that it has the turn, and that it alone has written the file that both have."""
    with contextlib.ExitStack() as stack:
        at = [settings(tmp_path, f"{name}:{tmp_path}/copy", "[one]\ntype = local\n[two]\ntype = local\n")
              for name in ("one", "two")]  # fmt: skip
        targets = [Under(stack.enter_context(opened(Running(one), tmp_path)), "exp/") for one in at]
        machines = [machine(tmp_path / name) for name in ("first", "second")]
        push(machines[0], targets[0])
        pull(machines[1], targets[1])
        for number, one in enumerate(machines):
            write(one, contested or f"reports/{number}.json", b"of %d" % number)

        def pushed(number: int) -> Pushed | None:
            with contextlib.suppress(Conflict):
                return push(machines[number], targets[number])
            return None

        with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
            Interleaved(patch, {"publishing", *filter(None, [contested])})
            done = [one for one in pool.map(pushed, range(2)) if one is not None]
        assert len(done) <= 1
        state = newest(targets[0])
        assert not done or done[0].key == state.key
        faults = verify(targets[0], state).faults
        if not contested:
            assert faults == []
        for number in range(2):
            with contextlib.suppress(Incomplete, UsageError):
                pull(machines[number], targets[number])
            assert (machines[number].root / (contested or f"reports/{number}.json")).read_bytes() == b"of %d" % number
