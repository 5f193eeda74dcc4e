"""The app over a real SSH connection that is cut: the run goes on, and the next connection shows it."""

import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.settings.resolve import resolve
from tests.builders import events_of
from tests.tui.terminal import Terminal

_SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_REPO = str(Path(__file__).parents[3])
_PATIENCE_S = 120
T = TypeVar("T")
pytestmark = [
    pytest.mark.teacher,
    pytest.mark.terminal,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (_SSHD and shutil.which("ssh")), reason="OpenSSH's server or client is not installed"),
]
_SETTINGS = """\
KD_NUM_PROMPTS=30
KD_MAX_TOKENS_PER_PROMPT=24
KD_CONCURRENCY=2
"""


class Server:
    """A server that lets this user in with one key, and the client's command line for it."""

    def __init__(self, folder: Path) -> None:
        for name in ("host", "client"):
            made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(made, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/client.pub\n"
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # the server's own empty folder, which its package makes at boot
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [str(_SSHD), "-D", "-e", "-f", str(folder / "sshd_config")], stderr=self._log
        )
        user = pwd.getpwuid(os.geteuid()).pw_name
        options = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": os.devnull, "LogLevel": "ERROR"}
        sets = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        keys = ["-F", os.devnull, "-i", str(folder / "client"), "-p", str(port)]
        self.client = ["ssh", "-tt", *keys, *sets, f"{user}@127.0.0.1"]

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while subprocess.run([*self.client, "true"], stdin=subprocess.DEVNULL, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                pytest.skip("sshd lets this user in nowhere")
            time.sleep(0.2)

    def cut(self) -> None:
        """End every connection, as when the network is gone for long."""
        for child in psutil.Process(self._process.pid).children(recursive=True):
            if child.name().startswith("sshd"):
                child.kill()

    def close(self) -> None:
        self.cut()
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "ssh"
    folder.mkdir()
    server = Server(folder)
    try:
        server.wait_until_up()
        yield server
    finally:
        server.close()


def _app(server: Server, home: Path) -> Terminal:
    """The app in a terminal at the other end of the connection, with this test's HOME and folders."""
    ours = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "TERM")}
    variables = [f"{name}={value}" for name, value in (ours | {"PYTHONPATH": _REPO}).items()]
    app = ["env", *variables, sys.executable, "-m", "bitnet_tui", "--home", str(home)]
    return Terminal(shlex.join(app), command=server.client, columns=100, rows=30)


def _eventually(terminal: Terminal, found: Callable[[], T]) -> T:
    """What `found` gives as soon as it gives something; the terminal is read meanwhile."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (answer := found()):
        assert time.monotonic() < deadline, terminal.written[-3000:].decode(errors="replace")
        terminal.read(0.2)
    return answer


def test_a_run_outlives_the_connection_and_the_next_one_shows_it(server: Server, home: Path, teacher_cache: Path):
    assert teacher_cache.is_dir()
    root = home / "far"
    root.mkdir(parents=True)
    (root / ".env").write_text(_SETTINGS)
    experiment = Experiment.from_settings(resolve(root=root, environ={}, cwd=home).checked())
    with _app(server, home) as first:
        first.until("far")
        first.press("\r")
        first.until("1 Live")
        first.wait_until_quiet(0.5)
        first.press("j", "j")
        first.until("Collect traces")
        first.press("r")
        run = _eventually(first, lambda: History.read(experiment).active("collect"))
        _eventually(first, lambda: [event for event in events_of(run.events_path, "progress") if event["done"]])
        apps = [one for one in psutil.process_iter(["cmdline"]) if str(home) in (one.info["cmdline"] or ())]
        assert apps
        server.cut()
        assert first.wait(_PATIENCE_S) != 0
        _, alive = psutil.wait_procs(apps, _PATIENCE_S)
        assert alive == []
    assert run.is_active()
    with _app(server, home) as second:
        second.until("far")
        second.press("\r")
        second.until("running", _PATIENCE_S)
        _eventually(second, lambda: not run.is_active())
        second.until("✓ done", _PATIENCE_S)
        second.press("q")
    assert run.state() == "succeeded"
