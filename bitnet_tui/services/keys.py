"""Finds and keeps keys for the app. Slow (a keyring may take 5 s), so call it in a thread."""

from dataclasses import dataclass
from pathlib import Path

from bitnet_core.secrets.inventory import Held, Inventory
from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_tui.services.settings import resolved

VAULT_INSTEAD = {"offer": "The key can be kept in an encrypted file instead.", "without": "The key was not kept"}
"""What to say when the keyring can't take a key: the offer of a vault, and the outcome without one."""


def inventory(home: Path, root: Path | None) -> Inventory:
    """The keys that the experiment at `root` would use; without `root`, those of a new experiment."""
    return Inventory.of(resolved(home, root))


@dataclass(frozen=True)
class Holders:
    """Where each key is kept, the state of the OS keyring, and the vault if there is one."""

    keys: tuple[Held, ...]
    keyring: str
    vault: Path | None


def held(home: Path) -> Holders:
    """The keys of a new experiment. A keyring may take seconds."""
    found = inventory(home, None)
    state, keys = found.status(SECRET_NAMES)
    return Holders(keys, state, found.places.existing_vault)


def keep(home: Path, name: str, value: str, root: Path | None = None) -> str:
    """Keep a key in the keyring or the vault. Returns a sentence that says where it is."""
    places = inventory(home, root).places
    return f"{name} is kept in {places.words(places.keep(name, value))}."
