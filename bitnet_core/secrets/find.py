"""Finds the keys that a command or a stage needs: piped in → environment → OS keyring → vault → `.env`.

One exception: a key that was last stored in the vault is read from the vault first. The keyring may still hold an
older value that could not be deleted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from bitnet_core.errors import BitnetError
from bitnet_core.secrets import known
from bitnet_core.secrets.addresses import require_allowed
from bitnet_core.secrets.handover import read_from_pipe
from bitnet_core.secrets.places import Ask, KeyPlaces
from bitnet_core.settings.resolved import Resolution
from bitnet_core.text import listed

_piped: dict[str, str] = {}
"""What was piped in for this process. A pipe can be read only once."""


@dataclass(frozen=True)
class FoundSecret:
    """A secret and where it was found, in words."""

    value: str = field(repr=False)
    origin: str


def find_secrets(
    names: Iterable[str],
    resolution: Resolution,
    *,
    ask: Ask | None = None,
    trouble: list[str] | None = None,
    sent: bool = True,
) -> dict[str, FoundSecret]:
    """The secrets of these names that are set. A place is asked only for those that no stronger place has.

    VaultLocked when the vault holds a key that no stronger place has, and it can't be opened; the value of a `.env`
    is not used instead. A place that can't be read does not hide the others: it is skipped, and the clause that says
    why is added to `trouble`. Without `trouble`, an unreadable vault is raised if nothing at all is found.
    NotAllowed when a key that was found would go to an address that came with somebody's experiment; `sent` says
    whether it goes to the address in the settings at all.
    """
    places = KeyPlaces.of(resolution.settings)
    names, origins = list(names), resolution.secret_origins
    _piped.update(read_from_pipe())
    written = {name: resolution.secrets[name] for name in names if name in resolution.secrets}
    found = {
        name: FoundSecret(value, "environment") for name, value in written.items() if origins[name] == "environment"
    }
    found |= {name: FoundSecret(_piped[name], "piped in") for name in names if _piped.get(name)}
    unreadable: BitnetError | None = None
    if missing := [name for name in names if name not in found]:
        in_keyring, unusable = places.in_keyring(missing)
        in_vault = places.names_in_vault()
        unreadable = in_vault.unreadable
        if trouble is not None:
            trouble += [str(unreadable).rstrip(".")] if unreadable else []
            trouble += [unusable.reason] if unusable and not unusable.absent else []
        needed = [name for name in missing if in_vault.counts(name, in_keyring)]
        if needed:
            values = places.opened(ask, f"{listed(needed)} {'are' if needed[1:] else 'is'} in {places.vault}").read()
            found |= {name: FoundSecret(values[name], "vault") for name in needed if values.get(name)}
        found |= {name: FoundSecret(value, "keyring") for name, value in in_keyring.items() if name not in found}
        for name in in_vault.over_keyring & set(in_keyring):
            places.forget_in_keyring(name)
    found |= {
        name: FoundSecret(value, f"{origins[name]} (plain text)")
        for name, value in written.items()
        if name not in found
    }
    if unreadable is not None and trouble is None and not found:
        raise unreadable
    known.remember(secret.value for secret in found.values())
    if sent:
        require_allowed(found, resolution.settings)
    return found
