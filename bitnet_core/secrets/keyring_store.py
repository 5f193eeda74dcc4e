"""Keys in the OS keyring. Each call runs in a process with a time limit, because a keyring may never answer.

The process has a session of its own without a terminal, so that no backend can prompt there. `keyring_child.py` is
its program, and says how a key is written.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitnet_core import process
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files.user_folders import NoHome, state_folder
from bitnet_core.secrets.handover import environment_without_secrets
from bitnet_core.text import capital

SERVICE = "bitnet-tui"
SECONDS = 5.0
_BACKENDS = "keyring.backends."
CLASSES = {
    "secretservice": f"{_BACKENDS}SecretService.Keyring",
    "libsecret": f"{_BACKENDS}libsecret.Keyring",
    "kwallet": f"{_BACKENDS}kwallet.DBusKeyring",
    "macos": f"{_BACKENDS}macOS.Keyring",
}
_AUTO = ("macos",) if sys.platform == "darwin" else ("secretservice", "libsecret", "kwallet")
_REFUSED = ("chainer", "keyrings.alt", "keyrings.cryptfile", f"{_BACKENDS}null", f"{_BACKENDS}fail")
"""Backends that use any plugin, write plain text, or keep nothing."""
_CHILD = Path(__file__).with_name("keyring_child.py")
_TERMINAL_VARIABLES = ("GPG_TTY", "SSH_ASKPASS", "SUDO_ASKPASS")
"""They would let a program that a backend starts prompt on our terminal."""
_REASONS = {
    "off": "the OS keyring is switched off (BITNET_KEYRING=none)",
    "absent": "there is no OS keyring here",
    "locked": "the OS keyring is locked",
    "silent": f"the OS keyring gave no answer in {SECONDS:.0f} s",
    "failed": "the OS keyring failed",
}


class KeyringUnusable(BitnetError):
    """The keyring can't be used. `state` is off, absent, locked, silent or failed; `reason` is the clause for it."""

    def __init__(self, state: str, detail: str = "") -> None:
        self.state = state
        self.absent = state in ("off", "absent")
        """Whether there is no keyring at all, rather than one that can't be asked."""
        self.reason = _REASONS[state] + (f" ({detail})" if detail and state == "failed" else "")
        fix = "keep" if self.absent else "unlock it, or keep"
        super().__init__(f"{capital(self.reason)}; {fix} the key in the vault (--to vault).")


@dataclass(frozen=True)
class Keyring:
    """`backend` is the value of BITNET_KEYRING: auto, none, a short name, or the dotted name of a backend's class.

    The event `found_silent` is set when the keyring does not answer; from then on it is not asked, so that a command
    waits only once. Every call raises KeyringUnusable if the keyring can't be used.
    """

    backend: str = "auto"
    found_silent: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def read(self, names: Iterable[str]) -> dict[str, str]:
        """The values of those of these names that it holds, all in one call."""
        values = self._call("read", list(names)).get("values", {})
        return {str(name): str(value) for name, value in values.items()}

    def set(self, name: str, value: str) -> None:
        """Keep a key. If the process is killed, the keyring still has the old value or the new one."""
        self._call("set", [name], value)

    def delete(self, name: str) -> bool:
        """Delete a key; True if there was one."""
        return bool(self._call("delete", [name]).get("found"))

    def _classes(self) -> list[str]:
        if self.backend == "auto":
            return [CLASSES[name] for name in _AUTO]
        if self.backend in CLASSES:
            return [CLASSES[self.backend]]
        if "." not in self.backend or any(part in self.backend for part in _REFUSED):
            raise UsageError(
                f"BITNET_KEYRING={self.backend} is not a keyring that keeps keys safe; "
                f"give auto, none, {', '.join(CLASSES)} or the class of another backend."
            )
        return [self.backend]

    def _call(self, action: str, names: list[str], value: str = "") -> dict[str, Any]:
        if self.backend == "none":
            raise KeyringUnusable("off")
        if self.found_silent.is_set():
            raise KeyringUnusable("silent")
        request = {"action": action, "service": SERVICE, "names": names, "value": value, "classes": self._classes()}
        answer = _ask(json.dumps(request | {"lock": _lock()}))
        if "problem" in answer:
            if answer["problem"] == "silent":
                self.found_silent.set()
            raise KeyringUnusable(answer["problem"], answer.get("detail", ""))
        return answer


def _lock() -> str:
    """The lock file of all processes of this user; empty, so that there is none, without a home folder."""
    try:
        return str(state_folder() / "keyring.lock")
    except NoHome:
        return ""


def _ask(request: str) -> dict[str, Any]:
    deadline = time.monotonic() + SECONDS
    environment = environment_without_secrets()
    environment = {name: value for name, value in environment.items() if name not in _TERMINAL_VARIABLES}
    # -P, so that a keyring.py in the working folder is not imported.
    with subprocess.Popen(
        [sys.executable, "-P", str(_CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=environment,
        start_new_session=True,
    ) as child:
        try:
            output, _ = process.communicate(child, deadline - time.monotonic(), request)
        except subprocess.TimeoutExpired:
            return {"problem": "silent"}
    try:
        answer = json.loads(output)
    except ValueError:
        return {"problem": "failed", "detail": f"exit code {child.returncode}"}
    return answer if isinstance(answer, dict) else {"problem": "failed"}
