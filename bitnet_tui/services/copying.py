"""Compares or brings back the copy of an experiment: `bitnet store …` in a process of its own.

Slow (a network, a keyring), so call it in a thread; another thread may cancel it.
"""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from bitnet_core import process
from bitnet_core.secrets.find import find_secrets
from bitnet_core.secrets.handover import environment_without_secrets, start_with_secrets
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.text import flat
from bitnet_tui.services.settings import overrides, resolved

Action = Literal["verify", "pull"]
_PREFIX = "bitnet: "


class StoreCommand:
    """One command about the copy of the experiment at `root`."""

    def __init__(self, home: Path, root: Path, action: Action) -> None:
        self._home, self._root, self.action = home, root, action
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> "StoreCommand":
        """Find the target's keys and start the process. BitnetError, or VaultLocked, says why it can't be."""
        resolution = resolved(self._home, self._root)
        names = StorageOptions.of(resolution.checked()).key_names
        keys = {name: secret.value for name, secret in find_secrets(names, resolution).items()} if names else {}
        command = [sys.executable, "-m", "bitnet_core", "--root", str(self._root), "store", self.action]
        for name, value in overrides(self._home).items():
            command += ["--set", f"{name}={value}"]
        self._child = start_with_secrets(command, keys, environment_without_secrets(), subprocess.PIPE)
        return self

    def follow(self, said: Callable[[str], object]) -> tuple[bool, str]:
        """Call `said` with each line until the process ends. Returns whether all is well, and its last sentence."""
        child = self._child
        if child is None or child.stdout is None or child.stderr is None:
            raise AssertionError("followed before it was started")
        complaints: list[str] = []
        reader = threading.Thread(target=complaints.extend, args=(child.stderr,), daemon=True)
        reader.start()
        last = ""
        for text in child.stdout:
            if words := flat(text):
                last = words
                said(words)
        code = child.wait()
        reader.join(1)
        sentences = [flat(text).removeprefix(_PREFIX) for text in complaints if text.startswith(_PREFIX)]
        if code and sentences:
            return False, sentences[-1]
        return not code, last or f"{self.action} ended with exit code {code}."

    def cancel(self) -> None:
        if self._child is not None:
            process.kill_group(self._child.pid)
