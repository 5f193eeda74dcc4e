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

from bitnet_core import secrets
from bitnet_core.errors import UsageError
from bitnet_core.secrets import lookup
from bitnet_core.secrets.command_line import in_full
from bitnet_core.secrets.inventory import Inventory, Moved
from bitnet_core.secrets.lookup import KEYRING, VAULT
from bitnet_core.secrets.spellings import SHORTEST
from bitnet_core.secrets.vault import LEAST_PASSPHRASE
from bitnet_core.settings import dotenv_edit
from bitnet_core.settings.dotenv import read_dotenv
from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_core.settings.resolved import Resolution


def run(arguments: argparse.Namespace, resolution: Resolution) -> int:
    arguments.names = [in_full(name) for name in arguments.names]
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
        self._inventory = Inventory.of(resolution)
        self._places = self._inventory.places

    def set_keys(self) -> int:
        name = self._one_name()
        if self._arguments.plain_text and self._arguments.to:
            raise UsageError("--plain-text writes into .env and --to elsewhere; give one of the two.")
        value = _value(name)
        if len(value) < SHORTEST:
            _warn(
                f"{name} is shorter than {SHORTEST} characters: where it is written it can't be told from other text."
            )
        if self._arguments.plain_text:
            path = self._plain_file()
            dotenv_edit.change(path, lambda text: dotenv_edit.with_value(text, name, value), private=True)
            self._say({"name": name, "kept": str(path)}, f"{name} is kept in {path} as plain text")
            return self._say_what_counts(name, "")
        place = self._places.keep(name, value, self._arguments.to, ask_passphrase)
        where = self._places.words(place)
        self._say({"name": name, "kept": place}, f"{name} is kept in {where}")
        return self._say_what_counts(name, place)

    def _say_what_counts(self, name: str, kept: str) -> int:
        """Warn where a stronger place than the one just written to has the name too."""
        origin = self._resolution.secret_origins.get(name)
        if origin == "environment":
            _warn(f"{name} is in the environment too, and that one is used.")
        elif not kept:
            _, (held,) = self._inventory.status([name])
            if held.origin.startswith((KEYRING, VAULT)):
                _warn(f"{name} is in the {held.origin.removesuffix(' (locked)')} too, and that one is used.")
        return 0

    def delete_keys(self) -> int:
        name = self._one_name()
        gone = self._places.forget(name, ask_passphrase)
        text = f"{name} is forgotten" if gone else f"{name} is kept in no keyring and no vault"
        self._say({"name": name, "found": bool(gone), "places": list(gone)}, text)
        if origin := self._resolution.secret_origins.get(name):
            _warn(f"{name} is still set ({origin}); remove it there.")
        return 0

    def list_keys(self) -> int:
        """What each place holds, and whether it can be asked."""
        wanted = self._names or sorted(SECRET_NAMES)
        secrets, origins = self._resolution.secrets, self._resolution.secret_origins
        rows = [("environment", "plain text", [n for n in wanted if n in secrets and origins[n] == "environment"])]
        state, kept = self._inventory.keyring(wanted)
        rows.append((KEYRING, state, sorted(kept)))
        sealed, _, unread = self._places.sealed()
        exists = f"encrypted, {self._places.vault}" if self._places.vault.exists() else "none"
        rows.append(
            (VAULT, f"can't be read, {self._places.vault}" if unread else exists, sorted(sealed & set(wanted)))
        )
        rows += [
            (str(path), "plain text", [name for name in read_dotenv(path).values if name in wanted])
            for path in self._resolution.env_files
        ]
        for place, state, names in rows:
            self._say(
                {"place": place, "state": state, "names": names}, f"{place} ({state}): {', '.join(names) or 'no key'}"
            )
        return self._say_notes()

    def status_keys(self) -> int:
        """Where each key that is set comes from; of the ones named, also that they are not set."""
        state, held = self._inventory.status(self._names or sorted(SECRET_NAMES))
        shown = [one for one in held if one.origin or self._names]
        for one in shown:
            mend = f"; `bitnet keys move {one.name}` mends that" if one.movable else ""
            mend = f" (plain text{mend})" if one.plain else ""
            origin = one.origin + mend
            ending = f", ends in {one.end!r}" if one.end else ""
            self._say(
                {"name": one.name, "origin": origin or None, "end": one.end},
                f"{one.name}: {origin or 'not set'}{ending}",
            )
        if not shown and not self._arguments.json:
            sys.stdout.write("no key is set; `bitnet keys set OPENAI_API_KEY` keeps one\n")
        if state != "ready":
            _warn(f"{state}.", "note")
        return self._say_notes()

    def _say_notes(self) -> int:
        for note in self._inventory.vault_notes():
            _warn(note, "note")
        return 0

    def move_keys(self) -> int:
        if bool(self._names) == self._arguments.all:
            raise UsageError("bitnet keys move needs names, such as OPENAI_API_KEY, or --all.")
        standing = self._inventory.plain_text()
        for name in self._names:
            if name not in standing:
                raise UsageError(
                    f"{name} stands in no .env with a value of its own; `bitnet keys status {name}` says where it is."
                )
        waiting = list(dict.fromkeys(self._names or standing))
        if not waiting:
            self._say({"moved": []}, "no key stands in a .env")
        done: list[Moved] = []
        while waiting:
            moved = self._inventory.move(waiting.pop(0), self._arguments.to, ask_passphrase)
            done.append(moved)
            cleaned = [str(path) for path in moved.cleaned]
            for name in (moved.name, *moved.along):
                self._say(
                    {"name": name, "kept": moved.place, "cleaned": cleaned},
                    f"{name} is kept in {self._places.words(moved.place)} and gone from {' and '.join(cleaned)}",
                )
            waiting = [name for name in waiting if name not in moved.along]
        for moved in done:
            for path in self._inventory.left(moved):
                names = " or ".join((moved.name, *moved.along))
                _warn(f"{path} still holds its value or another {names}; look there.")
        return 0

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


def _warn(sentence: str, kind: str = "warning") -> None:
    sys.stderr.write(secrets.redactor()(f"bitnet: {kind}: {sentence}\n"))


def _value(name: str) -> str:
    """Typed at a prompt that shows nothing, or all of what is piped in, less one line end."""
    try:
        value = "" if sys.stdin is None else _typed(f"{name}: ") if sys.stdin.isatty() else sys.stdin.read()
        value.encode()
    except UnicodeError:  # without the cause, which would quote what was read
        raise UsageError(f"the value for {name} is not UTF-8 text; pipe in the key as it was given to you.") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise UsageError(f"no value for {name} came in on stdin; pipe it in or type it at the prompt.")
    secrets.remember([value])
    return value


def _typed(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:  # Ctrl-D: nothing was typed
        sys.stderr.write("\n")
        return ""


def ask_passphrase(path: Path, new: bool) -> str | None:
    """Ask on the terminal; None where there is none."""
    if not sys.stderr.isatty() or not _has_terminal():
        return None
    if not new:
        return _typed(f"Passphrase of the vault {path}: ") or None
    first = _typed(f"A passphrase for the new vault {path}, {LEAST_PASSPHRASE} characters or more: ")
    if first and _typed("The same again: ") != first:
        raise UsageError("The two passphrases differ; nothing was kept, so try again.")
    return first or None


def _has_terminal() -> bool:
    # getpass would fall back to stdin, from which the key itself may come.
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
