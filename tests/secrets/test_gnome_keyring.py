"""A real gnome-keyring: unlocked, locked, absent, hanging, and killed in the middle of a write.

These tests assert a wall-clock limit, as the limit is the feature: an answer within 6 s whatever the keyring does.
"""

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from bitnet_core.secrets import keyring_store
from bitnet_core.secrets.find import FoundSecret, find_secrets
from bitnet_core.secrets.keyring_store import Keyring, KeyringUnusable
from bitnet_core.secrets.places import KeyPlaces, unlock_vault
from bitnet_core.settings.resolve import resolve
from tests.secrets.conftest import Desktop

LIMIT = 60.0
"""Seconds; a prompt that nobody answers would take forever."""
NAME = "OPENAI_API_KEY"
TOKEN = "ONEDRIVE_REFRESH_TOKEN"
SECRETS = {
    "OPENAI_API_KEY": "sk-plain-0123456789",
    "GROQ_API_KEY": "schlüssel 🔑",
    "HF_TOKEN": "k" * 4096,
    "FIREBASE_CREDENTIALS_JSON": '{\n  "private_key": "a\\nb"\n}\n',
}


@contextmanager
def answered_in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds = time.monotonic() - began
    assert seconds < LIMIT


def _none_left_behind() -> bool:
    return not [child for child in psutil.Process().children() if "keyring_child" in _command(child)]


def _command(child: psutil.Process) -> str:
    try:
        return " ".join(child.cmdline())
    except psutil.Error:  # a child of another test has ended
        return ""


def test_unlocked_it_keeps_any_key_and_returns_all_in_one_call(desktop: Desktop) -> None:
    desktop.log_in()
    keyring = Keyring()
    for name, value in SECRETS.items():
        with answered_in_time():
            keyring.set(name, value)
    with answered_in_time():
        assert keyring.read([*SECRETS, "MISTRAL_API_KEY"]) == SECRETS
    assert keyring.delete(NAME)
    assert not keyring.delete(NAME)
    desktop.log_out()
    desktop.log_in()
    assert keyring.read(SECRETS) == {name: value for name, value in SECRETS.items() if name != NAME}


@pytest.mark.parametrize("display", [False, True])
def test_locked_it_says_so_and_does_not_prompt(desktop: Desktop, display: bool) -> None:
    desktop.log_in()
    Keyring().set(NAME, "sk-locked-away")
    desktop.log_out()
    desktop.log_in(unlocked=False)
    if display:
        desktop.open_display()
    for call in (
        lambda: Keyring().read([NAME]),
        lambda: Keyring().set(NAME, "sk-new"),
        lambda: Keyring().delete(NAME),
    ):
        with answered_in_time(), pytest.raises(KeyringUnusable, match="The OS keyring is locked"):
            call()
    prompters = [found for found in psutil.process_iter(["name"]) if "gcr-prompter" in (found.info["name"] or "")]
    assert not [found for found in prompters if os.getpid() in [parent.pid for parent in found.parents()]]
    assert _none_left_behind()


def test_a_keyring_that_was_never_created_counts_as_locked(desktop: Desktop) -> None:
    desktop.log_in(unlocked=False)
    with answered_in_time(), pytest.raises(KeyringUnusable, match="locked"):
        Keyring().set(NAME, "sk-1")


def test_locked_with_a_prompt_on_the_desktop_it_is_given_up(
    desktop: Desktop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend itself waits forever for a password."""
    (tmp_path / "asking.py").write_text(
        "from keyring.backends import SecretService\nclass Keyring(SecretService.Keyring): priority = 5\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    desktop.log_in()
    Keyring().set(NAME, "sk-locked-away")
    desktop.log_out()
    desktop.open_display()
    desktop.log_in(unlocked=False)
    monkeypatch.setattr(keyring_store, "SECONDS", 5.0)
    with answered_in_time(), pytest.raises(KeyringUnusable, match="gave no answer in 5 s"):
        Keyring("asking.Keyring").read([NAME])
    assert _none_left_behind()


@pytest.mark.parametrize("address", [None, "unix:path=/nowhere/bus", "nonsense"])
def test_no_bus_means_no_keyring(address: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
    with answered_in_time(), pytest.raises(KeyringUnusable, match="There is no OS keyring here"):
        Keyring().read([NAME])


@pytest.fixture
def silent_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bus that accepts every client and then never answers."""
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind(str(tmp_path / "bus"))
        bus.listen(8)
        threading.Thread(target=_let_in, args=(bus,), daemon=True).start()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={tmp_path / 'bus'}")
        monkeypatch.setenv("BITNET_KEYRING", "auto")
        yield


def _let_in(bus: socket.socket) -> None:
    held = []
    with contextlib.suppress(OSError):  # the test is over
        while True:
            client, _ = bus.accept()
            held.append(client)
            # The client's first byte, a zero, may arrive alone.
            while b"BEGIN" not in (said := client.recv(4096)) and said:
                if b"AUTH" in said:
                    client.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")
                elif b"NEGOTIATE" in said:
                    client.sendall(b"AGREE_UNIX_FD\r\n")


def test_a_hanging_keyring_costs_a_launch_one_wait_and_the_vault_takes_over(
    silent_bus: None, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call asks for both of the teacher's names, then the vault is read."""
    trouble: list[str] = []
    asked: list[str] = []
    plain = keyring_store._ask
    monkeypatch.setattr(keyring_store, "_ask", lambda request: [asked.append(request), plain(request)][1])
    resolution = resolve({"TEACHER_PROVIDER": "openai"})
    unlock_vault(KeyPlaces.of(resolution.settings).vault, "correct horse").set(NAME, "sk-in-the-vault")
    with answered_in_time():
        found = find_secrets(["TEACHER_API_KEY", NAME], resolution, trouble=trouble)
    assert found == {NAME: FoundSecret("sk-in-the-vault", "vault")}
    assert trouble == ["the OS keyring gave no answer in 5 s"]
    assert len(asked) == 1
    assert _none_left_behind()


def test_a_backend_that_prompts_on_the_terminal_finds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bitnet keys` on a real pty: a backend that opens /dev/tty can neither write to it nor wait for a line."""
    (tmp_path / "rude.py").write_text(
        "import os\n"
        "from keyring.backend import KeyringBackend\n"
        "class Keyring(KeyringBackend):\n"
        "    priority = 1\n"
        "    def set_password(self, service, name, value): pass\n"
        "    def delete_password(self, service, name): pass\n"
        "    def get_password(self, service, name):\n"
        "        print('ON STDOUT', flush=True)\n"
        "        terminal = os.open('/dev/tty', os.O_RDWR)\n"
        "        os.write(terminal, b'PASSWORD PLEASE')\n"
        "        return os.read(terminal, 100).decode()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("BITNET_KEYRING", "rude.Keyring")
    with answered_in_time():
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "bitnet_core", "keys", "status", NAME])  # noqa: S606
        shown = b""
        while select.select([terminal], [], [], LIMIT)[0]:
            try:
                shown += os.read(terminal, 4096)
            except OSError:
                break
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"OPENAI_API_KEY: not set" in shown
    assert b"the OS keyring failed (OSError)" in shown
    assert b"PLEASE" not in shown
    assert b"STDOUT" not in shown


_DYING = """
import os, signal
from keyring.backends import SecretService
class Keyring(SecretService.Keyring):
    priority = 5
    calls = 0
    def _count(self):
        type(self).calls += 1
        if self.calls == int(os.environ["DIE_AT"]): os.kill(os.getpid(), signal.SIGKILL)
    def _around(name):
        def call(self, *arguments):
            self._count()
            result = getattr(SecretService.Keyring, name)(self, *arguments)
            self._count()
            return result
        return call
    get_password, set_password, delete_password = map(_around, ("get_password", "set_password", "delete_password"))
"""


def test_kill_9_at_every_point_of_a_rotation_loses_no_token(
    desktop: Desktop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after each access to an entry, and while a reader completes the write."""
    (tmp_path / "dying.py").write_text(_DYING)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    desktop.log_in()
    found: list[str] = []
    for point in range(1, 10):
        Keyring().set(TOKEN, "old token")
        monkeypatch.setenv("DIE_AT", str(point))
        if point < 9:
            with pytest.raises(KeyringUnusable, match=f"exit code {-signal.SIGKILL}"):
                Keyring("dying.Keyring").set(TOKEN, "new token")
        else:
            Keyring("dying.Keyring").set(TOKEN, "new token")
        if point == 2:  # the reader that would complete the write is killed too, at each of its points
            for reader in range(1, 7):
                monkeypatch.setenv("DIE_AT", str(reader))
                with pytest.raises(KeyringUnusable):
                    Keyring("dying.Keyring").read([TOKEN])
        found.append(Keyring().read([TOKEN])[TOKEN])
        assert Keyring().read([TOKEN, f"{TOKEN}.next"]) == {TOKEN: found[-1]}
    assert found == ["old token"] + ["new token"] * 8


def test_a_token_rotated_while_the_keyring_was_locked_is_found_once_it_is_unlocked(
    desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keyring still has the old token, which can't be replaced while it is locked."""
    resolution = resolve()
    places = KeyPlaces.of(resolution.settings)
    desktop.log_in()
    assert places.keep(TOKEN, "old token") == "keyring"
    desktop.log_out()
    desktop.log_in(unlocked=False)
    assert places.keep(TOKEN, "new token", ask=lambda *_: "correct horse") == "vault"
    desktop.log_out()
    desktop.log_in()
    assert Keyring().read([TOKEN]) == {TOKEN: "old token"}
    assert find_secrets([TOKEN], resolution)[TOKEN].value == "new token"
    assert Keyring().read([TOKEN]) == {}


def test_a_write_is_completed_when_the_caller_is_killed(desktop: Desktop, tmp_path: Path) -> None:
    """A token is kept as soon as the keyring's process has received it."""
    desktop.log_in()
    code = (
        "import os, signal, subprocess\n"
        "from bitnet_core import process\n"
        "from bitnet_core.secrets import keyring_store\n"
        "class Dying(subprocess.Popen):\n"
        "    def communicate(self, request, timeout):\n"
        "        self.stdin.write(request); self.stdin.close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "process.subprocess.Popen = Dying\n"
        f"keyring_store.Keyring().set({TOKEN!r}, 'new token')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while Keyring().read([TOKEN]) != {TOKEN: "new token"} and time.monotonic() < deadline:
        time.sleep(0.1)
    assert Keyring().read([TOKEN]) == {TOKEN: "new token"}


def test_readers_never_restore_an_older_token(desktop: Desktop) -> None:
    """Readers complete unfinished writes while a writer repeats its three steps."""
    desktop.log_in()
    Keyring().set(TOKEN, "token 0")
    done = threading.Event()
    problems: list[str] = []

    def read() -> None:
        last = 0
        while not done.is_set() and not problems:
            try:
                number = int(Keyring().read([TOKEN])[TOKEN].split()[1])
            except KeyringUnusable as error:
                problems.append(str(error))
                return
            problems.extend([f"{number} after {last}"] if number < last else [])
            last = number

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 6):
        Keyring().set(TOKEN, f"token {number}")
        assert Keyring().read([TOKEN]) == {TOKEN: f"token {number}"}
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []


_PATIENT = """
import sys
from bitnet_core.cli.main import main
from bitnet_core.secrets import keyring_store
keyring_store.SECONDS = 60.0
sys.exit(main(sys.argv[1:]))
"""


def _patient(*words: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own, where a busy machine is not a silent keyring."""
    return subprocess.run([sys.executable, "-c", _PATIENT, *words], capture_output=True, text=True)


def test_bitnet_keys_moves_a_key_into_the_real_keyring(desktop: Desktop, isolated: Path) -> None:
    """The whole way, with the real command and the real keyring."""
    desktop.log_in()
    (isolated / ".env").write_text(f"# mine\n{NAME}='sk-canary-0123456789' # work\nSEED=1\n")
    moved = _patient("keys", "move", "--all", "--json")
    assert moved.returncode == 0, moved.stderr
    env_file = str(isolated / ".env")
    assert json.loads(moved.stdout) == {"name": NAME, "kept": "keyring", "cleaned": [env_file]}
    assert (isolated / ".env").read_text() == f"# mine\n{NAME}= # work\nSEED=1\n"
    assert Keyring().read([NAME]) == {NAME: "sk-canary-0123456789"}
    status = _patient("keys", "status")
    assert status.stdout == f"{NAME}: keyring, ends in '6789'\n"
