"""Where each key comes from, and moving one out of a `.env`. `bitnet keys` and the app's keys screen both show it.

Shows no more of a value than its end, and never prompts.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.files.inputs import can_be_written, refuse_to_write
from bitnet_core.files.user_folders import NoHome
from bitnet_core.secrets import vault
from bitnet_core.secrets.places import KEYRING, VAULT, Ask, KeyPlaces, VaultNames
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings import dotenv
from bitnet_core.settings.references import as_reference
from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_core.settings.resolved import Resolution

_SHOWN_END = 4
_SHORTEST_SHOWN = 16
"""Nothing of a shorter value is shown, not even its end."""


@dataclass(frozen=True)
class Held:
    """Where the value of a key that would be used now comes from; `origin` is empty if the key is not set."""

    name: str
    origin: str
    end: str | None = None
    plain: bool = False
    """Whether it comes from a `.env`, as plain text."""
    movable: bool = False
    """Whether the value itself is in a `.env`, rather than a reference to a variable of the environment."""


@dataclass(frozen=True)
class Moved:
    """A key that was moved to `place` and removed from the files `cleaned`.

    `left` are files that still contain its value, or another one; `along` are keys that were moved with it because
    their lines referred to it.
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

    # -- showing -----------------------------------------------------------------------------------------

    @cached_property
    def keyring(self) -> tuple[str, dict[str, str]]:
        """`ready` and every key that the keyring holds, or the clause that says why it can't be asked.

        One call for all names: each call starts a process and may have to wait for a keyring that hangs.
        """
        kept, unusable = self.places.in_keyring(sorted(SECRET_NAMES))
        return unusable.reason if unusable else "ready", kept

    def vault_notes(self) -> tuple[str, ...]:
        """Sentences about a vault that can't be made, read or opened, or that others can read."""
        try:
            path = self.places.vault
        except NoHome as error:
            return (str(error),)
        unreadable = self.places.names_in_vault().unreadable
        if unreadable is not None:
            return (str(unreadable),)
        notes = []
        if vault.readable_by_others(path):
            notes.append(f"{path} can be read by others, though not opened; `chmod 600` fixes that.")
        if self.places.passphrase_file is not None and self._opened[1]:
            notes.append(self._opened[1])
        return tuple(notes)

    def status(self, names: Collection[str]) -> tuple[str, tuple[Held, ...]]:
        """The keyring's state, and where `find_secrets` would find each key. Asks for no passphrase."""
        in_vault = self.places.names_in_vault()
        opened = self._opened[0] if in_vault.names & set(names) else {}
        return self.keyring[0], tuple(self._held(name, in_vault, opened) for name in names)

    def _held(self, name: str, in_vault: VaultNames, opened: Mapping[str, str]) -> Held:
        _, kept = self.keyring
        written = self.resolution.secrets.get(name)
        origin = self.resolution.secret_origins.get(name, "")
        if written and origin == "environment":
            return Held(name, origin, _end(written))
        if in_vault.counts(name, kept):
            return Held(name, VAULT if name in opened else f"{VAULT} (locked)", _end(opened.get(name)))
        if name in kept:
            return Held(name, KEYRING, _end(kept[name]))
        if written:
            return Held(name, origin, _end(written), plain=True, movable=name in self.plain_text())
        return Held(name, "")

    @cached_property
    def _opened(self) -> tuple[dict[str, str], str]:
        """What the vault holds if it can be opened without asking, else the sentence that says why it can't."""
        try:
            if not self.places.has_vault():
                return {}, ""
            return self.places.opened().read(), ""
        except BitnetError as error:
            return {}, str(error)

    # -- moving ------------------------------------------------------------------------------------------

    def plain_text(self) -> tuple[str, ...]:
        """The keys whose values are in a `.env` that can be changed, under its own name or one it refers to."""
        files = [values for path, values in self._files.items() if can_be_written(path)]
        lines = [(name, _own_value(text)) for values in files for name, text in values.items()]
        own = {name for name, value in lines if value and name in SECRET_NAMES}
        written = {value for _, value in lines}
        return tuple(sorted(own | {name for name in self._from_files() if self.resolution.secrets[name] in written}))

    def move(self, name: str, to: str = "", ask: Ask | None = None) -> Moved:
        """Move a key from every `.env` to the keyring or the vault: keep it, read it back, and only then remove it.

        Keys whose lines refer to this one are moved with it, as their lines would give nothing afterwards.
        """
        value = self._value(name)
        other = self._elsewhere(name, value, ask)
        if other:
            raise BitnetError(
                f"{other} holds another {name}, which is the one in use; take the line out of .env by hand, "
                f"or `bitnet keys delete {name}` first."
            )
        along = [one for one in self._dependants(name) if not self._elsewhere(one, value, ask)]
        names = {name, *along}
        cleaned = {path: given for path in self._files if (given := self._given_by(path, names, value))}
        for path in cleaned:
            refuse_to_write(path)
        for one in (*along, name):
            place = self.places.keep(one, value, to, ask)
            if self.places.read_back(one, place) != value:
                where = self.places.words(place)
                raise BitnetError(f"{where} did not return {one} as it was kept; .env is unchanged.")
        for path, given in cleaned.items():
            mask = Redactor([value]).mask_known
            dotenv.change(path, partial(dotenv.without_values, names=given, mask=mask))
        self.__dict__.pop("_files")
        moved = Moved(name, place, tuple(cleaned), along=tuple(along), value=value)
        return replace(moved, left=self.left(moved))

    def left(self, moved: Moved) -> tuple[Path, ...]:
        """The files that now contain its value, or any value under its name or that of a key moved along."""
        return tuple(
            path
            for path, values in self._files.items()
            if {moved.name, *moved.along} & set(values)
            or moved.value in dotenv.read_text(path)
            or moved.value in map(_own_value, values.values())
        )

    def _value(self, name: str) -> str:
        """The value in use, or the one that a `.env` would give if the environment did not give another."""
        if name in self._from_files():
            return self.resolution.secrets[name]
        texts = (values.get(name, "") for values in self._files.values())
        return next(value for text in texts if (value := _own_value(text)))

    def _from_files(self) -> list[str]:
        return [name for name, origin in self.resolution.secret_origins.items() if origin != "environment"]

    def _given_by(self, path: Path, names: Iterable[str], value: str) -> list[str]:
        """Those of these names whose line in a file gives this value: literally, or by a reference in use."""
        values = self._files[path]

        def gives(name: str) -> bool:
            strongest = next(one for one, others in self._files.items() if name in others)
            by_reference = strongest == path and as_reference(values[name]) is not None
            return by_reference or _own_value(values[name]) == value

        return [name for name in names if name in values and gives(name)]

    def _dependants(self, name: str) -> list[str]:
        """The keys that get this one's value through references, directly or by way of other names."""
        reached = {name}
        while more := {
            one
            for values in self._files.values()
            for one, text in values.items()
            if one not in reached and (reference := as_reference(text)) and reference.name in reached
        }:
            reached |= more
        value, from_files = self._value(name), self._from_files()
        return sorted(one for one in reached - {name} if one in from_files and self.resolution.secrets[one] == value)

    def _elsewhere(self, name: str, value: str, ask: Ask | None) -> str:
        """The place that is read before a `.env` and holds another value of this name, in words."""
        in_vault = self.places.names_in_vault()
        _, kept = self.keyring
        if name not in in_vault.over_keyring and kept.get(name, value) != value:
            return self.places.words(KEYRING)
        if in_vault.counts(name, kept) and self.places.opened(ask).read()[name] != value:
            return self.places.words(VAULT)
        return ""

    @cached_property
    def _files(self) -> Mapping[Path, Mapping[str, str]]:
        """The `.env` files, strongest first, and the assignments in each."""
        return {path: dotenv.read_dotenv(path).values for path in self.resolution.env_files}


def _own_value(text: str) -> str:
    """The value that is in the line itself: all of it, or the fallback of a reference."""
    reference = as_reference(text)
    return (reference.fallback or "") if reference else text


def _end(value: str | None) -> str | None:
    return value[-_SHOWN_END:] if value and len(value) >= _SHORTEST_SHOWN else None
