"""`bitnet keys …`: where each key is kept, and to which addresses it may go.

Values come from stdin or a hidden prompt and are never shown.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitnet_core.cli.command import Commands, answer, ask_passphrase, resolution, type_hidden, warn
from bitnet_core.cli.piped import piped_text
from bitnet_core.errors import UsageError

if TYPE_CHECKING:
    from bitnet_core.secrets.inventory import Moved


def add_to(commands: Commands) -> None:
    keys = commands.add("keys", "keep API keys in the OS keyring or an encrypted vault, out of files", _keys)
    keys.add_argument("action", nargs="?", default="status", choices=_ACTIONS, help="(default: status)")
    keys.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="such as OPENAI_API_KEY; its value comes from stdin. allow, disallow: its NAME and an address",
    )
    keys.add_argument(
        "--to", type=str.lower, choices=("keyring", "vault"), default="", help="set, move: only to this place"
    )
    keys.add_argument("--all", action="store_true", help="move: every key found in a .env file")
    keys.add_argument("--plain-text", action="store_true", help="set: write it to .env, which is not encrypted")


def _keys(arguments: argparse.Namespace) -> int:
    from bitnet_core.secrets.command_line import in_full
    from bitnet_core.secrets.places import require_secret

    arguments.names = [in_full(name) for name in arguments.names]
    for name in arguments.names[: 1 if arguments.action in ("allow", "disallow") else None]:
        require_secret(name)
    _ACTIONS[arguments.action](_Command(arguments))
    return 0


class _Command:
    """One call of `bitnet keys`."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from bitnet_core.secrets.inventory import Inventory
        from bitnet_core.settings.registry import SECRET_NAMES

        self._arguments = arguments
        self._names: list[str] = arguments.names
        to_read = argparse.Namespace(**vars(arguments))
        if arguments.plain_text and arguments.env is not None and not arguments.env.exists():
            to_read.env = None  # this file will be created
        self._resolution = resolution(to_read)
        self._inventory = Inventory.of(self._resolution)
        self._places = self._inventory.places
        self._named_or_all = self._names or sorted(SECRET_NAMES)

    # -- set and delete --------------------------------------------------------------------------------------------

    def set_key(self) -> None:
        from bitnet_core.secrets.encodings import SHORTEST_KEY

        name = self._one_name()
        if self._arguments.plain_text and self._arguments.to:
            raise UsageError("--plain-text writes to .env and --to elsewhere; give only one of them.")
        value = _read_value(name)
        if len(value) < SHORTEST_KEY:
            warn(f"{name} is shorter than {SHORTEST_KEY} characters, so it can't be masked where it is written.")
        if self._arguments.plain_text:
            self._write_plain_text(name, value)
        else:
            place = self._places.keep(name, value, self._arguments.to, ask_passphrase)
            self._say({"name": name, "kept": place}, f"{name} is kept in {self._places.words(place)}")
        self._warn_of_overriding(name, written_to_file=self._arguments.plain_text)

    def _write_plain_text(self, name: str, value: str) -> None:
        from bitnet_core.settings import dotenv

        path = Path(self._arguments.env or (self._arguments.root or Path.cwd()) / ".env")
        dotenv.change(path, lambda text: dotenv.with_value(text, name, value), private=True)
        self._say({"name": name, "kept": str(path)}, f"{name} is kept in {path} as plain text")

    def _warn_of_overriding(self, name: str, *, written_to_file: bool) -> None:
        """Warn if the key is also in a place that is read before the one just written to."""
        from bitnet_core.secrets.places import KEYRING, VAULT

        if self._resolution.secret_origins.get(name) == "environment":
            warn(f"{name} is also in the environment, and that one is used.")
        elif written_to_file:
            _, (held,) = self._inventory.status([name])
            if held.origin.startswith((KEYRING, VAULT)):
                warn(f"{name} is also in the {held.origin.removesuffix(' (locked)')}, and that one is used.")

    def delete_key(self) -> None:
        name = self._one_name()
        places = self._places.forget(name, ask_passphrase)
        text = f"{name} is deleted" if places else f"{name} is in no keyring and no vault"
        self._say({"name": name, "found": bool(places), "places": list(places)}, text)
        if origin := self._resolution.secret_origins.get(name):
            warn(f"{name} is still set ({origin}); remove it there.")

    # -- list and status -------------------------------------------------------------------------------------------

    def list_keys(self) -> None:
        """What each place holds, and whether it can be read; the place that is read first comes first."""
        from bitnet_core.secrets.places import KEYRING, VAULT
        from bitnet_core.settings.dotenv import read_dotenv

        wanted, origins = self._named_or_all, self._resolution.secret_origins
        keyring_state, in_keyring = self._inventory.keyring
        in_vault = self._places.names_in_vault()
        if in_vault.unreadable:
            vault_state = f"can't be read, {self._places.vault}"
        else:
            vault_state = f"encrypted, {self._places.vault}" if self._places.has_vault() else "none"
        holdings = [
            ("environment", "plain text", [name for name in wanted if origins.get(name) == "environment"]),
            (KEYRING, keyring_state, sorted(set(in_keyring) & set(wanted))),
            (VAULT, vault_state, sorted(in_vault.names & set(wanted))),
        ]
        for path in self._resolution.env_files:
            holdings += [(str(path), "plain text", [name for name in read_dotenv(path).values if name in wanted])]
        for place, state, names in holdings:
            text = f"{place} ({state}): {', '.join(names) or 'no keys'}"
            self._say({"place": place, "state": state, "names": names}, text)
        self._note_vault_problems()

    def show_status(self) -> None:
        """Where each key comes from. A key that is not set is shown only if it was named."""
        keyring_state, held = self._inventory.status(self._named_or_all)
        shown = [one for one in held if one.origin or self._names]
        for one in shown:
            origin = one.origin
            if one.plain:
                origin += " (plain text" + (f"; `bitnet keys move {one.name}` fixes that)" if one.movable else ")")
            ending = f", ends in {one.end!r}" if one.end else ""
            fields = {"name": one.name, "origin": origin or None, "end": one.end}
            self._say(fields, f"{one.name}: {origin or 'not set'}{ending}")
        if not shown and not self._arguments.json:
            sys.stdout.write("no keys are set; `bitnet keys set OPENAI_API_KEY` keeps one\n")
        if keyring_state != "ready":
            warn(f"{keyring_state}.", "note")
        self._note_vault_problems()

    def _note_vault_problems(self) -> None:
        for note in self._inventory.vault_notes():
            warn(note, "note")

    # -- move ------------------------------------------------------------------------------------------------------

    def move_keys(self) -> None:
        """From `.env` files to the keyring or the vault."""
        waiting = self._names_to_move()
        if not waiting:
            self._say({"moved": []}, "no .env file holds a key")
        done: list[Moved] = []
        while waiting:
            moved = self._inventory.move(waiting[0], self._arguments.to, ask_passphrase)
            done.append(moved)
            names = (moved.name, *moved.along)
            cleaned = [str(path) for path in moved.cleaned]
            for name in names:
                text = f"{name} is kept in {self._places.words(moved.place)} and gone from {' and '.join(cleaned)}"
                self._say({"name": name, "kept": moved.place, "cleaned": cleaned}, text)
            waiting = [name for name in waiting if name not in names]
        for moved in done:
            for path in self._inventory.left(moved):
                warn(f"{path} still holds its value or another {' or '.join((moved.name, *moved.along))}; check it.")

    def _names_to_move(self) -> list[str]:
        if bool(self._names) == self._arguments.all:
            raise UsageError("bitnet keys move needs names, such as OPENAI_API_KEY, or --all.")
        in_files = self._inventory.plain_text()
        for name in self._names:
            if name not in in_files:
                where = f"`bitnet keys status {name}` says where it is"
                raise UsageError(f"No .env holds a value of {name} that can be moved; {where}.")
        return list(dict.fromkeys(self._names or in_files))

    # -- addresses -------------------------------------------------------------------------------------------------

    def allow(self) -> None:
        """Let a key go to an address that came with an experiment from a storage target."""
        from bitnet_core.secrets.addresses import allow

        name, address = self._name_and_address()
        origin = allow(name, address)
        self._say({"name": name, "address": origin}, f"{name} may go to {origin}")

    def disallow(self) -> None:
        """Take back what `allow` did."""
        from bitnet_core.secrets.addresses import disallow

        name, address = self._name_and_address()
        origin = disallow(name, address)
        self._say({"name": name, "address": origin}, f"{name} is no longer allowed to go to {origin}")

    def list_addresses(self) -> None:
        """Every address that came with an experiment, and the keys that may go there."""
        from bitnet_core.secrets.addresses import addresses

        known = addresses()
        for origin, source, allowed in known:
            text = f"{origin}: {', '.join(allowed) or 'no keys'}" + (f" (it came with {source})" if source else "")
            self._say({"address": origin, "source": source or None, "allowed": list(allowed)}, text)
        if not known and not self._arguments.json:
            sys.stdout.write("no address came with an experiment, and no key was allowed to go to one\n")

    def _name_and_address(self) -> list[str]:
        if len(self._names) != 2:
            raise UsageError(
                f"bitnet keys {self._arguments.action} needs a name and an address, such as OPENAI_API_KEY "
                "https://host:8000."
            )
        return self._names

    def _one_name(self) -> str:
        if len(self._names) != 1:
            raise UsageError(f"bitnet keys {self._arguments.action} needs one name, such as OPENAI_API_KEY.")
        return self._names[0]

    def _say(self, fields: dict[str, Any], text: str) -> None:
        answer(self._arguments, fields, text)


_ACTIONS: dict[str, Callable[[_Command], None]] = {
    "set": _Command.set_key,
    "list": _Command.list_keys,
    "status": _Command.show_status,
    "delete": _Command.delete_key,
    "move": _Command.move_keys,
    "allow": _Command.allow,
    "disallow": _Command.disallow,
    "addresses": _Command.list_addresses,
}


def _read_value(name: str) -> str:
    """Typed at a hidden prompt, or everything from stdin without its last line end."""
    from bitnet_core.secrets import known

    try:
        value = type_hidden(f"{name}: ") if sys.stdin.isatty() else piped_text()
        value.encode()
    except UnicodeError:  # its cause would quote the value
        raise UsageError(f"The value of {name} is not UTF-8 text; pipe in the key as it was given to you.") from None
    value = value.removesuffix("\n").removesuffix("\r")
    if "\0" in value:
        raise UsageError(f"The value of {name} has a NUL character, which no key has; pipe in the key as text.")
    if not value:
        raise UsageError(f"No value for {name} came in on stdin; pipe it in or type it at the prompt.")
    known.remember([value])
    return value
