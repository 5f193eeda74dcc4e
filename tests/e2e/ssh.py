"""The app over a real SSH connection to this machine, by a server of the test's own."""

import contextlib
import os
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import psutil

from tests.tui.terminal import Terminal

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
_UP_S, _PATIENCE_S = 60, 300
T = TypeVar("T")


class NoConnection(Exception):
    """Says why this machine can't be reached by SSH."""


class Server:
    """A server that lets this user in with one key, and the client's command line for it."""

    def __init__(self, folder: Path) -> None:
        assert SSHD is not None
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
        self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=self._log)
        user = pwd.getpwuid(os.geteuid()).pw_name
        options = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": os.devnull, "LogLevel": "ERROR"}
        sets = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        keys = ["-F", os.devnull, "-i", str(folder / "client"), "-p", str(port)]
        self.client = ["ssh", "-tt", *keys, *sets, f"{user}@127.0.0.1"]

    def wait_until_up(self) -> None:
        """NoConnection if it lets nobody in."""
        deadline = time.monotonic() + _UP_S
        while subprocess.run([*self.client, "true"], stdin=subprocess.DEVNULL, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise NoConnection(f"sshd lets this user in nowhere; {self._log.name} says why")
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


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server with its files in this folder. NoConnection if there can be none here."""
    if not (SSHD and shutil.which("ssh")):
        raise NoConnection("OpenSSH's server or client is not installed")
    server = Server(folder)
    try:
        server.wait_until_up()
        yield server
    finally:
        server.close()


def app(server: Server, home: Path, variables: Mapping[str, str]) -> Terminal:
    """The app in a terminal at the other end of the connection, with these variables alone."""
    given = [f"{name}={value}" for name, value in variables.items()]
    words = ["env", "-i", *given, sys.executable, "-m", "bitnet_tui", "--home", str(home)]
    return Terminal(shlex.join(words), command=server.client, columns=100, rows=30)


def apps(home: Path) -> list[psutil.Process]:
    """Those that have this workspace open at the other end."""
    return [one for one in psutil.process_iter(["cmdline"]) if str(home) in (one.info["cmdline"] or ())]


def eventually(terminal: Terminal, found: Callable[[], T]) -> T:
    """What `found` gives as soon as it gives something; the terminal is read meanwhile."""
    deadline = time.monotonic() + _PATIENCE_S
    while not (answer := found()):
        assert time.monotonic() < deadline, terminal.shown
        terminal.read(0.2)
    return answer
