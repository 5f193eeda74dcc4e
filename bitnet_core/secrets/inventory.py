"""Which place each key comes from, and moving one out of a `.env`. What `bitnet keys` and the app's keys both show.

Shows no value but its end; never prompts itself.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.secrets import vault
from bitnet_core.secrets.keyring_store import KeyringUnusable
from bitnet_core.secrets.lookup import KEYRING, VAULT, Ask, KeyPlaces
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings import dotenv
from bitnet_core.settings.dotenv import read_dotenv
from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_core.settings.resolved import Resolution

_SHOWN_END = 4
_LEAST_SHOWN = 16
"""Of a shorter value not even the end is shown."""
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_Files = Mapping[Path, Mapping[str, str]]


@dataclass(frozen=True)
class Held:
    """Where the value of a key comes from that would be used now; `origin` is empty when it is not set."""

    name: str
    origin: str
    end: str | None = None
    plain: bool = False
    """Whether it comes from a `.env`, as plain text."""
    movable: bool = False
    """Whether its value stands there, and not behind a variable of the environment."""


@dataclass(frozen=True)
class Moved:
    """A key that was taken out of `cleaned`; `left` are files that still hold its value or another one.

    `along` are keys whose lines referred to it, and which were moved with it.
    """

    name: str
    place: str
    cleaned: tuple[Path, ...]
    left: tuple[Path, ...] = ()
    along: tuple[str, ...] = ()
    value: str = field(default="", repr=False)


@dataclass(frozen=True)
class Inventory:
    """The keys as they are found with these settings."""

    resolution: Resolution
    places: KeyPlaces

    @classmethod
    def of(cls, resolution: Resolution) -> "Inventory":
        return cls(resolution, KeyPlaces.of(resolution.settings))

    def keyring(self, names: Iterable[str]) -> tuple[str, dict[str, str]]:
        """`ready` and what the keyring holds of these, or the clause that says why it can't be asked."""
        state, kept = self._in_keyring
        return state, {name: kept[name] for name in names if name in kept}

    @cached_property
    def _in_keyring(self) -> tuple[str, dict[str, str]]:
        """One call for all names: each is a process, and a keyring that hangs is waited for."""
        try:
            return "ready", self.places.keyring.read(sorted(SECRET_NAMES))
        except KeyringUnusable as error:
            return error.reason, {}

    def vault_notes(self) -> tuple[str, ...]:
        """Sentences on a vault that can't be read or opened, or that others can read."""
        _, _, unread = self.places.sealed()
        if unread is not None:
            return (str(unread),)
        notes = []
        if vault.open_to_others(self.places.vault):
            notes.append(f"{self.places.vault} can be read by others, though not opened; `chmod 600` mends that.")
        if self.places.passphrase_file is not None and self._opened[1]:
            notes.append(self._opened[1])
        return tuple(notes)

    def status(self, names: Iterable[str]) -> tuple[str, tuple[Held, ...]]:
        """The keyring's state, and each of these keys as `gather` would find it; asks for no passphrase."""
        wanted = list(names)
        state, kept = self.keyring(wanted)
        sealed, over, _ = self.places.sealed()
        opened = self._opened[0] if sealed & set(wanted) else {}
        return state, tuple(self._held(name, kept, sealed, over, opened) for name in wanted)

    def _held(
        self,
        name: str,
        kept: Mapping[str, str],
        sealed: frozenset[str],
        over: frozenset[str],
        opened: Mapping[str, str],
    ) -> Held:
        written = self.resolution.secrets.get(name)
        origin = self.resolution.secret_origins.get(name, "")
        if written and origin == "environment":
            return Held(name, origin, _end(written))
        if name in kept and name not in over:
            return Held(name, KEYRING, _end(kept[name]))
        if name in sealed:
            return Held(name, VAULT if name in opened else f"{VAULT} (locked)", _end(opened.get(name)))
        if written:
            return Held(name, origin, _end(written), plain=True, movable=name in self.plain_text())
        return Held(name, "")

    @cached_property
    def _opened(self) -> tuple[dict[str, str], str]:
        """What the vault holds where no question is needed to open it, else why it can't be opened so."""
        if not self.places.vault.exists():
            return {}, ""
        try:
            return self.places.opened().read(), ""
        except BitnetError as error:
            return {}, str(error)

    # -- moving ------------------------------------------------------------------------------------------

    def plain_text(self) -> tuple[str, ...]:
        """The keys whose values stand in a `.env`: under their own name, or under one that they refer to."""
        own = {
            name for values in self._files.values() for name in values if name in SECRET_NAMES and _own(values[name])
        }
        standing = {_own(value) for values in self._files.values() for value in values.values()}
        return tuple(sorted(own | {name for name in self._from_files() if self.resolution.secrets[name] in standing}))

    def move(self, name: str, to: str = "", ask: Ask | None = None) -> Moved:
        """Out of every `.env` into the keyring or the vault: kept first, read back, and only then taken out.

        Keys whose lines refer to this one are moved with it: their lines would give nothing any more.
        """
        value = self._value(name)
        other = self._elsewhere(name, value, ask)
        if other:
            raise BitnetError(
                f"{other} holds another {name}, which is the one in use; take the line out of .env by hand, "
                f"or `bitnet keys delete {name}` first."
            )
        along = [one for one in self._dependants(name) if not self._elsewhere(one, value, ask)]
        for one in (*along, name):
            place = self.places.keep(one, value, to, ask)
            if self.places.read_back(one, place) != value:
                raise BitnetError(f"{self.places.words(place)} did not give {one} back as it was; .env is unchanged.")
        names = {name, *along}
        cleaned = {path: lines for path in self._files if (lines := self._lines(path, names, value))}
        for path, lines in cleaned.items():
            dotenv.change(path, partial(dotenv.without_values, names=lines, mask=Redactor([value]).known))
        self.__dict__.pop("_files")
        moved = Moved(name, place, tuple(cleaned), along=tuple(along), value=value)
        return replace(moved, left=self.left(moved))

    def left(self, moved: Moved) -> tuple[Path, ...]:
        """The files that hold its value now, or another one under its name or that of a key moved with it."""
        return tuple(
            path
            for path, values in self._files.items()
            if {moved.name, *moved.along} & set(values)
            or moved.value in dotenv.read_text(path)
            or moved.value in map(_own, values.values())
        )

    def _value(self, name: str) -> str:
        """The one that is in use, or, where the environment gives another, the one that a `.env` would give."""
        if name in self._from_files():
            return self.resolution.secrets[name]
        return next(_own(values[name]) for values in self._files.values() if _own(values.get(name, "")))

    def _from_files(self) -> tuple[str, ...]:
        origins = self.resolution.secret_origins
        return tuple(name for name in self.resolution.secrets if origins[name] != "environment")

    def _lines(self, path: Path, names: Iterable[str], value: str) -> list[str]:
        """Those of these names whose line in a file gives this value: itself, or, where it counts, by a reference."""
        values = self._files[path]

        def gives(name: str) -> bool:
            counts = next(one for one, others in self._files.items() if name in others) == path
            return _own(values[name]) == value or (counts and _REFERENCE.fullmatch(values[name]) is not None)

        return [name for name in names if name in values and gives(name)]

    def _dependants(self, name: str) -> list[str]:
        """The keys that get this one's value through `${…}`, also by way of another name."""
        reached = {name}
        while more := {
            one
            for values in self._files.values()
            for one, text in values.items()
            if one not in reached and (found := _REFERENCE.fullmatch(text)) and found[1] in reached
        }:
            reached |= more
        value, from_files = self._value(name), self._from_files()
        return sorted(one for one in reached - {name} if one in from_files and self.resolution.secrets[one] == value)

    def _elsewhere(self, name: str, value: str, ask: Ask | None) -> str:
        """A place before `.env` in the read order that holds another value of this name."""
        sealed, over, _ = self.places.sealed()
        _, kept = self.keyring([name])
        if name not in over and kept.get(name, value) != value:
            return "the OS keyring"
        if name in sealed and (name in over or name not in kept) and self.places.opened(ask).read()[name] != value:
            return f"the vault {self.places.vault}"
        return ""

    @cached_property
    def _files(self) -> _Files:
        """The `.env` files, the strongest first, and what stands in each."""
        return {path: read_dotenv(path).values for path in self.resolution.env_files}


def _own(text: str) -> str:
    """The value that stands in a line itself: all of it, or what `${NAME:-value}` falls back to."""
    found = _REFERENCE.fullmatch(text)
    return (found[2] or "") if found else text


def _end(value: str | None) -> str | None:
    return value[-_SHOWN_END:] if value and len(value) >= _LEAST_SHOWN else None
