"""Compares or brings back the copy of an experiment: `bitnet store …` in a process of its own.

Slow (a network, a keyring), so call it in a thread.
"""

import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from bitnet_core.errors import BitnetError
from bitnet_core.secrets.find import find_secrets
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.text import finite, flat, listed, progress_words, size
from bitnet_tui.remedies import in_app
from bitnet_tui.services import commands
from bitnet_tui.services.settings import resolved

Action = Literal["verify", "pull", "repair", "overwrite", "replace"]
_NOTE = "bitnet: note: "
_MOST_NAMED = 4
"""Files in a sentence."""
_ARGUMENTS: dict[Action, tuple[str, ...]] = {
    "verify": ("verify",),
    "pull": ("pull",),
    "repair": ("push", "--verify"),
    "overwrite": ("push", "--verify", "--force"),
    "replace": ("pull", "--force"),
}


class StoredFile(NamedTuple):
    """A file of the copy. `here`: `same`, `unread` (of the same size), `differs`, `missing`, or empty."""

    name: str
    bytes: int
    here: str


def stored_files(home: Path, root: Path) -> tuple[StoredFile, ...]:
    """What the newest manifest lists, and nothing else is read there. BitnetError, or VaultLocked, if it can't."""
    answers, complaint, code = _Listing(home, root).followed(lambda _: None)
    if code:
        raise BitnetError(complaint or f"The list of what is stored ended with exit code {code}; try again.")
    return tuple(StoredFile(str(one["path"]), int(one["bytes"]), str(one["here"])) for one in answers)


class _Listing(commands.Followed):
    def __init__(self, home: Path, root: Path) -> None:
        self._root = root
        super().__init__(home, ["--root", str(root), "store", "ls", "--here"], {}, 0.0, "The list")

    def keys(self) -> dict[str, str]:
        return _target_keys(self.home, self._root)


def _target_keys(home: Path, root: Path) -> dict[str, str]:
    """The keys of the experiment's target. BitnetError, or VaultLocked, if they can't be found."""
    resolution = resolved(home, root)
    names = StorageOptions.of(resolution.checked()).key_names
    return {name: secret.value for name, secret in find_secrets(names, resolution).items()} if names else {}


class StoreCommand:
    """One command about the copy of the experiment at `root`."""

    def __init__(self, home: Path, root: Path, action: Action) -> None:
        self._home, self._root, self.action = home, root, action
        self._child: subprocess.Popen[str] | None = None
        self.damaged: frozenset[str] | None = None
        """The files that a verification found damaged; None as long as none has ended."""

    def start(self) -> "StoreCommand":
        """Find the target's keys and start the process. BitnetError, or VaultLocked, says why it can't be."""
        keys = _target_keys(self._home, self._root)
        as_json = ["--json"] if self.action == "verify" else []
        arguments = [*as_json, "--root", str(self._root), "store", *_ARGUMENTS[self.action]]
        self._child = commands.start(self._home, arguments, {}, keys)
        return self

    def interrupt(self) -> None:
        """End it as Ctrl-C does."""
        commands.interrupt(self._child)

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
            if words := self._verified(text) if self.action == "verify" else flat(text):
                last = words
                said(words)
        code = child.wait()
        reader.join(1)
        if code and (sentence := commands.last_sentence("".join(complaints))):
            return False, flat(sentence)
        return not code, last or f"{self.action} ended with exit code {code}."

    def _verified(self, text: str) -> str:
        """What a verification says in an object, in words; what it found is kept."""
        found = commands.object_of(text) or {}
        if found.get("kind") in ("progress", "upload"):
            return progress_words(finite(found.get("done")) or 0.0, finite(found.get("total")), "bytes")
        if not isinstance(found.get("faults"), list):
            return ""
        self.damaged = frozenset(str(one.get("path")) for one in found["faults"])
        if not self.damaged:
            many = f"{found['files']} files in {found['objects']} objects"
            return f"{many} match what was stored, {size(found['bytes'])} read"
        names = sorted(self.damaged)
        named = listed(names if len(names) <= _MOST_NAMED else [*names[: _MOST_NAMED - 1], "others"])
        repair = in_app("`bitnet store push --verify` repairs them on a machine that has them")
        return flat(f"damaged: {named}, {len(names)} of {found['files']} files; {repair}")
