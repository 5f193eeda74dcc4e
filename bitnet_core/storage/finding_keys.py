"""Where a target's keys come from, and where a rotated one is kept. Light."""

from collections.abc import Mapping

from bitnet_core.secrets.find import find_secrets
from bitnet_core.secrets.places import Ask, KeyPlaces
from bitnet_core.settings.resolved import Resolution, Settings
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.storage.keys import Keys


def find_keys(resolution: Resolution, ask: Ask | None = None) -> Keys:
    """The keys of the target that the settings name; `ask` asks for the vault's passphrase."""
    names = StorageOptions.of(resolution.settings).key_names
    found = find_secrets(names, resolution, ask=ask)
    return keys_of_stage(resolution.settings, {name: secret.value for name, secret in found.items()})


def keys_of_stage(settings: Settings, values: Mapping[str, str]) -> Keys:
    """The keys that a process was sent. A rotated one goes to the keyring or the vault, wherever it is kept."""
    return Keys(values, KeyPlaces.of(settings).keep)
