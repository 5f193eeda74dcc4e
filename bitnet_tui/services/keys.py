"""Finds and keeps keys for the app. Slow (a keyring may take 5 s), so call it in a thread."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.secrets import addresses
from bitnet_core.secrets.inventory import Held, Inventory
from bitnet_core.secrets.places import KEYRING, VAULT
from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_tui.services.settings import resolved

VAULT_INSTEAD = {"offer": "Keys can be kept in an encrypted file instead.", "without": "No key was kept"}
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


def keep_all(home: Path, values: Mapping[str, str]) -> str:
    """Keep keys of a new experiment. Returns in a sentence how many are where; empty if there are none."""
    if not values:
        return ""  # no keyring is asked for nothing
    places = inventory(home, None).places
    held = Counter(places.keep(name, value) for name, value in values.items())
    names = {KEYRING: "the OS keyring", VAULT: "the vault"}
    counts = [f"{n} {'key is' if n == 1 else 'keys are'} in {names[place]}" for place, n in held.items()]
    return f"{' and '.join(counts)}."


def allowed() -> tuple[Mapping[str, tuple[str, ...]], str]:
    """The addresses that each key was allowed to go to, and the sentence that says why they can't be read."""
    try:
        known = addresses.addresses()
    except BitnetError as error:
        return {}, str(error)
    names = {name for one in known for name in one.allowed}
    return {name: tuple(one.origin for one in known if name in one.allowed) for name in names}, ""


def disallow(name: str, origins: tuple[str, ...]) -> str:
    """Take back that a key may go to these addresses. Returns a sentence that says so."""
    for origin in origins:
        addresses.disallow(name, origin)
    return f"{name} is no longer allowed to go to {' and '.join(origins)}."
