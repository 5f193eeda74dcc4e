"""Which place each key comes from, and moving one out of a `.env`. What `bitnet keys` and the app's keys both show.

Shows no value but its end; never prompts itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bitnet_core import dotenv_edit
from bitnet_core.config import Resolution
from bitnet_core.dotenv_file import read_dotenv
from bitnet_core.errors import BitnetError
from bitnet_core.secrets import vault
from bitnet_core.secrets.keyring_store import KeyringUnusable
from bitnet_core.secrets.lookup import KEYRING, VAULT, Ask, KeyPlaces, VaultLocked
from bitnet_core.settings import SECRET_NAMES

_SHOWN_END = 4
_LEAST_SHOWN = 16
"""Of a shorter value not even the end is shown."""
_REFERENCE = "${"


@dataclass(frozen=True)
class Held:
    """Where the value of a key comes from that would be used now; `origin` is empty when it is not set."""

    name: str
    origin: str
    end: str | None = None
    plain: bool = False
    """Whether it comes from a `.env`, as plain text."""


@dataclass(frozen=True)
class Moved:
    """A key that was taken out of `cleaned`; `left` are files that still hold its value or another one."""

    name: str
    place: str
    cleaned: tuple[Path, ...]
    left: tuple[Path, ...] = ()


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
        try:
            return "ready", self.places.keyring.read(names)
        except KeyringUnusable as error:
            return error.reason, {}

    def status(self, names: Iterable[str]) -> tuple[str, tuple[Held, ...]]:
        """The keyring's state, and each of these keys; asks for no passphrase."""
        wanted = list(names)
        state, kept = self.keyring(wanted)
        sealed = set(vault.names(self.places.vault))
        opened = self._opened() if sealed & set(wanted) else {}
        return state, tuple(self._held(name, kept, sealed, opened) for name in wanted)

    def _held(self, name: str, kept: Mapping[str, str], sealed: set[str], opened: Mapping[str, str]) -> Held:
        written = self.resolution.secrets.get(name)
        origin = self.resolution.secret_origins.get(name, "")
        if written and origin == "environment":
            return Held(name, origin, _end(written))
        if name in kept:
            return Held(name, KEYRING, _end(kept[name]))
        if name in sealed:
            return Held(name, VAULT if name in opened else f"{VAULT} (locked)", _end(opened.get(name)))
        if written:
            return Held(name, origin, _end(written), plain=True)
        return Held(name, "")

    def _opened(self) -> dict[str, str]:
        """What the vault holds where no question is needed to open it."""
        try:
            return self.places.opened().read()
        except VaultLocked:
            return {}

    # -- moving ------------------------------------------------------------------------------------------

    def plain_text(self) -> tuple[str, ...]:
        """The keys that stand in a `.env`, less those that only refer to another name."""
        files = self._files()
        standing = {name for values in files.values() for name in values if name in SECRET_NAMES}
        return tuple(sorted(name for name in standing if not _is_reference(name, files)))

    def move(self, name: str, to: str = "", ask: Ask | None = None) -> Moved:
        """Out of every `.env` into the keyring or the vault: kept first, read back, and only then taken out."""
        files = self._files()
        value = next(values[name] for values in files.values() if name in values)
        other = self._elsewhere(name, value, ask)
        if other:
            raise BitnetError(
                f"{other} holds another {name}, which is the one in use; take the line out of .env by hand, "
                f"or `bitnet keys delete {name}` first."
            )
        place = self.places.keep(name, value, to, ask)
        if self.places.read_back(name, place) != value:
            raise BitnetError(f"{self.places.words(place)} did not give {name} back as it was; .env is unchanged.")
        cleaned = [path for path in files if read_dotenv(path).values.get(name) == value]
        for path in cleaned:
            dotenv_edit.write(path, dotenv_edit.without(dotenv_edit.read(path), [name], [value]))
        left = [path for path in files if value in dotenv_edit.read(path) or name in read_dotenv(path).values]
        return Moved(name, place, tuple(cleaned), tuple(left))

    def _elsewhere(self, name: str, value: str, ask: Ask | None) -> str:
        """A place before `.env` in the read order that holds another value of this name."""
        _, kept = self.keyring([name])
        if kept.get(name, value) != value:
            return "the OS keyring"
        if name in vault.names(self.places.vault) and self.places.opened(ask).read()[name] != value:
            return f"the vault {self.places.vault}"
        return ""

    def _files(self) -> dict[Path, dict[str, str]]:
        return {path: read_dotenv(path).values for path in self.resolution.env_files}


def _is_reference(name: str, files: Mapping[Path, Mapping[str, str]]) -> bool:
    return all(v[name].startswith(_REFERENCE) and v[name].endswith("}") for v in files.values() if name in v)


def _end(value: str | None) -> str | None:
    return value[-_SHOWN_END:] if value and len(value) >= _LEAST_SHOWN else None
