"""Compares or brings back the copy of an experiment: `bitnet store …` in a process of its own.

Slow (a network, a keyring), so call it in a thread.
"""

import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from bitnet_core.secrets.find import find_secrets
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.text import flat
from bitnet_tui.services import commands
from bitnet_tui.services.settings import resolved

Action = Literal["verify", "pull", "repair", "overwrite", "replace"]
_NOTE = "bitnet: note: "
_ARGUMENTS: dict[Action, tuple[str, ...]] = {
    "verify": ("verify",),
    "pull": ("pull",),
    "repair": ("push", "--verify"),
    "overwrite": ("push", "--verify", "--force"),
    "replace": ("pull", "--force"),
}


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
        arguments = ["--root", str(self._root), "store", *_ARGUMENTS[self.action]]
        self._child = commands.start(self._home, arguments, {}, keys)
        return self

    def follow(self, said: Callable[[str], object]) -> tuple[bool, str]:
        """Call `said` with each line until the process ends, also from a thread of its own with what is tried again.

        Returns whether all is well, and its last sentence.
        """
        child = self._child
        if child is None or child.stdout is None or child.stderr is None:
            raise AssertionError("followed before it was started")
        complaints: list[str] = []

        def read(stderr: Iterable[str]) -> None:
            for text in stderr:
                complaints.append(text)
                if text.startswith(_NOTE):
                    said(flat(text.removeprefix(_NOTE)))

        reader = threading.Thread(target=read, args=(child.stderr,), daemon=True)
        reader.start()
        last = ""
        for text in child.stdout:
            if words := flat(text):
                last = words
                said(words)
        code = child.wait()
        reader.join(1)
        if code and (sentence := commands.last_sentence("".join(complaints))):
            return False, flat(sentence)
        return not code, last or f"{self.action} ended with exit code {code}."
