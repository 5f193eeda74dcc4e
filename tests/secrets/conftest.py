"""A real gnome-keyring on a session bus and in a HOME of the test's own; skipped if the programs are missing."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bitnet_core.secrets import keyring_store

PROGRAMS = ("dbus-daemon", "gnome-keyring-daemon")
Unlock = Callable[[], None]


@contextlib.contextmanager
def _running(command: list[str], **options: object) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program in a session of its own; kill it and everything it started at the end."""
    started = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


class Desktop:
    """A session bus with gnome-keyring: `log_in` starts the daemon unlocked, `log_out` ends it."""

    def __init__(self, folder: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stack = stack
        self._monkeypatch = monkeypatch
        self._daemon = ExitStack()
        runtime = folder / "runtime"
        runtime.mkdir(mode=0o700)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
        monkeypatch.setenv("BITNET_KEYRING", "auto")
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        stack.callback(self.log_out)

    def start_bus(self) -> None:
        command = ["dbus-daemon", "--session", "--nofork", "--print-address=1"]
        bus = self._stack.enter_context(_running(command, stdout=subprocess.PIPE))
        assert bus.stdout is not None
        self._monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.stdout.readline().decode().strip())

    def log_in(self, *, unlocked: bool = True) -> None:
        """Start the keyring, unlocked with the login password or locked."""
        how = ["--unlock"] if unlocked else []
        command = ["gnome-keyring-daemon", "--foreground", "--components=secrets", *how]
        daemon = self._daemon.enter_context(_running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        assert daemon.stdin is not None
        assert daemon.stdout is not None
        daemon.stdin.write(b"login password" if unlocked else b"")
        daemon.stdin.close()
        daemon.stdin = None
        self._await_service()

    def log_out(self) -> None:
        self._daemon.close()

    def open_display(self) -> None:
        if not shutil.which("Xvfb"):
            pytest.skip("Xvfb is not installed (Debian: xvfb)")
        read_end, write_end = os.pipe()
        command = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", "320x200x8", "-nolisten", "tcp"]
        self._stack.enter_context(_running(command, pass_fds=(write_end,), stdout=subprocess.DEVNULL))
        os.close(write_end)
        with os.fdopen(read_end) as output:
            display = f":{output.readline().strip()}"
        self._monkeypatch.setenv("DISPLAY", display)
        # Programs that the bus starts, such as the password prompt, need the display too.
        subprocess.run(["dbus-update-activation-environment", "DISPLAY"], check=True, capture_output=True)

    def _await_service(self) -> None:
        import secretstorage

        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.closing(secretstorage.dbus_init()) as connection:
                names = subprocess.run(
                    ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/",
                     "org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.secrets"],
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                if "true" in names.stdout and secretstorage.check_service_availability(connection):
                    return
            time.sleep(0.02)
        raise TimeoutError("gnome-keyring did not come up")


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desktop]:
    """A bus with no keyring yet."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (Debian: dbus, gnome-keyring)")
    with ExitStack() as stack:
        made = Desktop(tmp_path, stack, monkeypatch)
        made.start_bus()
        monkeypatch.setattr(keyring_store, "SECONDS", 60.0)  # a busy machine is not a silent keyring
        yield made
