"""`bitnet keys set|list|status|delete|move`: where each key is kept, and moving it to a better place.

Values come from stdin or a prompt and are never shown; a passphrase is asked for on a terminal only.
"""

import argparse
import getpass
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bitnet_core import dotenv_edit
from bitnet_core.config import Resolution
from bitnet_core.dotenv_file import read_dotenv
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.secrets import lookup, vault
from bitnet_core.secrets.keyring_store import KeyringUnusable
from bitnet_core.secrets.lookup import KEYRING, VAULT, KeyPlaces
from bitnet_core.settings import SECRET_NAMES

_SHOWN_END = 4
_LEAST_SHOWN = 16
"""Of a shorter value not even the end is shown."""
_REFERENCE = "${"


def run(arguments: argparse.Namespace, resolution: Resolution) -> int:
    for name in arguments.names:
        lookup.require_secret(name)
    command = _Command(arguments, resolution)
    actions: dict[str, Callable[[], int]] = {
        "set": command.set_keys,
        "list": command.list_keys,
        "status": command.status_keys,
        "delete": command.delete_keys,
        "move": command.move_keys,
    }
    return actions[arguments.action]()


class _Command:
    def __init__(self, arguments: argparse.Namespace, resolution: Resolution) -> None:
        self._arguments = arguments
        self._names: list[str] = arguments.names
        self._resolution = resolution
        self._places = KeyPlaces.of(resolution.settings)

    def set_keys(self) -> int:
        name = self._one_name()
        value = _value(name)
        if self._arguments.plain_text:
            path = self._plain_file()
            dotenv_edit.write(path, dotenv_edit.with_value(dotenv_edit.read(path), name, value))
            self._say({"name": name, "kept": str(path)}, f"{name} is kept in {path} as plain text")
            return 0
        place = self._places.keep(name, value, self._arguments.to, ask_passphrase)
        where = self._places.words(place)
        self._say({"name": name, "kept": place}, f"{name} is kept in {where}")
        if self._resolution.secret_origins.get(name) == "environment":
            sys.stderr.write(f"bitnet: warning: {name} is in the environment too, and that one is used.\n")
        return 0

    def delete_keys(self) -> int:
        name = self._one_name()
        gone = self._places.forget(name, ask_passphrase)
        text = f"{name} is forgotten" if gone else f"{name} is kept in no keyring and no vault"
        self._say({"name": name, "found": bool(gone), "places": list(gone)}, text)
        if origin := self._resolution.secret_origins.get(name):
            sys.stderr.write(f"bitnet: warning: {name} is still set ({origin}); remove it there.\n")
        return 0

    def list_keys(self) -> int:
        """What each place holds, and whether it can be asked."""
        wanted = self._names or sorted(SECRET_NAMES)
        secrets, origins = self._resolution.secrets, self._resolution.secret_origins
        rows = [("environment", "plain text", [n for n in wanted if n in secrets and origins[n] == "environment"])]
        state, kept = self._ask_keyring(wanted)
        rows.append((KEYRING, state, sorted(kept)))
        held = [name for name in vault.names(self._places.vault) if name in wanted]
        exists = self._places.vault.exists()
        rows.append((VAULT, f"encrypted, {self._places.vault}" if exists else "none", sorted(held)))
        rows += [
            (str(path), "plain text", [name for name in read_dotenv(path).values if name in wanted])
            for path in self._resolution.env_files
        ]
        for place, state, names in rows:
            self._say(
                {"place": place, "state": state, "names": names}, f"{place} ({state}): {', '.join(names) or 'no key'}"
            )
        return 0

    def status_keys(self) -> int:
        """Where each key that is set comes from; of the ones named, also that they are not set."""
        wanted = self._names or sorted(SECRET_NAMES)
        state, kept = self._ask_keyring(wanted)
        sealed = set(vault.names(self._places.vault))
        opened = self._opened() if sealed & set(wanted) else {}
        shown = 0
        for name in wanted:
            in_file = self._resolution.secrets.get(name)
            origin = self._resolution.secret_origins.get(name, "")
            value: str | None = None
            if in_file and origin == "environment":
                value = in_file
            elif name in kept:
                value, origin = kept[name], "keyring"
            elif name in sealed:
                value, origin = opened.get(name), "vault" if name in opened else "vault (locked)"
            elif in_file:
                value, origin = in_file, f"{origin} (plain text; `bitnet keys move {name}` mends that)"
            if not origin and not self._names:
                continue
            shown += 1
            end = value[-_SHOWN_END:] if value and len(value) >= _LEAST_SHOWN else None
            ending = f", ends in {end!r}" if end else ""
            self._say({"name": name, "origin": origin or None, "end": end}, f"{name}: {origin or 'not set'}{ending}")
        if not shown and not self._arguments.json:
            sys.stdout.write("no key is set; `bitnet keys set OPENAI_API_KEY` keeps one\n")
        if state != "ready":
            sys.stderr.write(f"bitnet: note: {state}.\n")
        return 0

    def move_keys(self) -> int:
        """Out of every `.env` into the keyring or the vault: kept first, read back, and only then taken out."""
        files = {path: read_dotenv(path).values for path in self._resolution.env_files}
        standing = {name for values in files.values() for name in values if name in SECRET_NAMES}
        if bool(self._names) == self._arguments.all:
            raise UsageError("bitnet keys move needs names, such as OPENAI_API_KEY, or --all.")
        for name in self._names:
            if name not in standing:
                raise UsageError(f"{name} stands in no .env; `bitnet keys status {name}` says where it is.")
        names = [name for name in (self._names or sorted(standing)) if not self._is_reference(name, files)]
        if not names:
            self._say({"moved": []}, "no key stands in a .env")
        for name in names:
            self._move(name, files)
        return 0

    def _move(self, name: str, files: dict[Path, dict[str, str]]) -> None:
        value = next(values[name] for values in files.values() if name in values)
        other = self._elsewhere(name, value)
        if other:
            raise BitnetError(
                f"{other} holds another {name}, which is the one in use; take the line out of .env by hand, "
                f"or `bitnet keys delete {name}` first."
            )
        place = self._places.keep(name, value, self._arguments.to, ask_passphrase)
        if self._places.read_back(name, place) != value:
            raise BitnetError(f"{self._places.words(place)} did not give {name} back as it was; .env is unchanged.")
        cleaned = []
        for path in files:
            if read_dotenv(path).values.get(name) == value:
                dotenv_edit.write(path, dotenv_edit.without(dotenv_edit.read(path), [name], [value]))
                cleaned.append(str(path))
        self._say(
            {"name": name, "kept": place, "cleaned": cleaned},
            f"{name} is kept in {self._places.words(place)} and gone from {' and '.join(cleaned)}",
        )
        for path in files:
            if value in dotenv_edit.read(path) or name in read_dotenv(path).values:
                sys.stderr.write(f"bitnet: warning: {path} still holds its value or another {name}; look there.\n")

    def _elsewhere(self, name: str, value: str) -> str:
        """A place before `.env` in the read order that holds another value of this name."""
        _, kept = self._ask_keyring([name])
        if kept.get(name, value) != value:
            return "the OS keyring"
        if name in vault.names(self._places.vault) and self._places.opened(ask_passphrase).read()[name] != value:
            return f"the vault {self._places.vault}"
        return ""

    def _is_reference(self, name: str, files: dict[Path, dict[str, str]]) -> bool:
        return all(v[name].startswith(_REFERENCE) and v[name].endswith("}") for v in files.values() if name in v)

    def _ask_keyring(self, names: list[str]) -> tuple[str, dict[str, str]]:
        try:
            return "ready", self._places.keyring.read(names)
        except KeyringUnusable as error:
            return error.reason, {}

    def _opened(self) -> dict[str, str]:
        """What the vault holds where no question is needed to open it."""
        try:
            return self._places.opened().read()
        except lookup.VaultLocked:
            return {}

    def _one_name(self) -> str:
        if len(self._names) != 1:
            raise UsageError(f"bitnet keys {self._arguments.action} needs one name, such as OPENAI_API_KEY.")
        return self._names[0]

    def _plain_file(self) -> Path:
        if self._arguments.env:
            return Path(self._arguments.env)
        return (self._arguments.root or Path.cwd()) / ".env"

    def _say(self, fields: dict[str, Any], text: str) -> None:
        sys.stdout.write((json.dumps(fields) if self._arguments.json else text) + "\n")


def _value(name: str) -> str:
    """Typed at a prompt that shows nothing, or all of what is piped in, less one line end."""
    value = getpass.getpass(f"{name}: ") if sys.stdin.isatty() else sys.stdin.read()
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise UsageError(f"no value for {name} came in on stdin; pipe it in or type it at the prompt.")
    return value


def ask_passphrase(path: Path, new: bool) -> str | None:
    """Ask on the terminal; None where there is none."""
    if not sys.stderr.isatty() or not _has_terminal():
        return None
    if not new:
        return getpass.getpass(f"Passphrase of the vault {path}: ") or None
    first = getpass.getpass(f"A passphrase for the new vault {path}: ")
    if first and getpass.getpass("The same again: ") != first:
        raise UsageError("The two passphrases differ; nothing was kept, so try again.")
    return first or None


def _has_terminal() -> bool:
    # getpass would fall back to stdin, from which the key itself may come.
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
