"""Keys as the app keeps, moves and forgets them. Slow (a keyring may take 5 s), so always called in a thread."""

from pathlib import Path

from bitnet_core.secrets.inventory import Inventory
from bitnet_core.secrets.resolving import resolve_and_remember

VAULT_INSTEAD = {
    "offer": "The key can be kept in an encrypted file instead.",
    "without": "The key is kept nowhere",
}
"""What is said where no keyring takes a key."""


def inventory(home: Path, root: Path | None) -> Inventory:
    """The keys as an experiment finds them, or as a new one would."""
    return Inventory.of(resolve_and_remember({"BITNET_HOME": str(home)}, root=root))


def keep(home: Path, name: str, value: str, root: Path | None = None) -> str:
    """Keep a key in the keyring or the vault; the sentence that says where it is kept."""
    places = inventory(home, root).places
    return f"{name} is kept in {places.words(places.keep(name, value))}."
