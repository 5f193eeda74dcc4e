"""Where a target's keys come from, and where a rotated one is kept. Light."""

from collections.abc import Callable, Mapping

from bitnet_core.errors import BitnetError
from bitnet_core.secrets.find import FoundSecret, find_secrets
from bitnet_core.secrets.places import Ask, KeyPlaces
from bitnet_core.settings import dotenv
from bitnet_core.settings.resolved import Resolution, Settings
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.storage.keys import Keys
from bitnet_core.text import listed

OnTrouble = Callable[[str], object]
"""Told a sentence when a key was not found, or a rotated one can't be kept where it will be found again."""


def find_keys(resolution: Resolution, ask: Ask | None = None, on_trouble: OnTrouble = lambda _: None) -> Keys:
    """The keys of the target that the settings name; `ask` asks for the vault's passphrase."""
    trouble: list[str] = []
    names = StorageOptions.of(resolution.settings).key_names
    found = find_secrets(names, resolution, ask=ask, trouble=trouble)
    if trouble and not found and names:
        on_trouble(f"No key of the storage target was found: {trouble[0]}.")

    def keep(name: str, value: str) -> None:
        older = found.get(name)
        if older is not None and older.origin == "environment":
            on_trouble(f"{name} was replaced by the service; take it out of the environment, where it is too old.")
        try:
            KeyPlaces.of(resolution.settings).keep(name, value, ask=ask)
        except BitnetError as error:
            if not _keep_in_file(resolution, name, value, older):
                on_trouble(_lost(name, error))

    return Keys({name: one.value for name, one in found.items()}, keep)


def keys_of_stage(settings: Settings, values: Mapping[str, str], on_trouble: OnTrouble = lambda _: None) -> Keys:
    """The target's keys among those that a process was sent; nobody can be asked for a passphrase.

    BitnetError if it was sent none and they are in the vault: the service would say that there are none.
    """

    def keep(name: str, value: str) -> None:
        try:
            KeyPlaces.of(settings).keep(name, value)
        except BitnetError as error:
            on_trouble(_lost(name, error))

    names = StorageOptions.of(settings).key_names
    sent, places = {name: values[name] for name in names if values.get(name)}, KeyPlaces.of(settings)
    if not sent and (in_vault := [name for name in names if name in places.names_in_vault().names]):
        they_are = f"{listed(in_vault)} {'are' if in_vault[1:] else 'is'}"
        raise BitnetError(
            f"{they_are} in {places.vault}, which was locked when the stage was started; "
            "`bitnet store push` asks for its passphrase."
        )
    return Keys(sent, keep)


def _lost(name: str, error: BitnetError) -> str:
    return f"The new {name} could not be kept, so log in again next time: {error}"


def _keep_in_file(resolution: Resolution, name: str, value: str, older: FoundSecret | None) -> bool:
    """Write a key over its older value in the `.env` that has it. False if none has it, or it can't be written."""
    if older is None or not older.origin.endswith("(plain text)"):
        return False
    try:
        for path in resolution.env_files:
            if dotenv.read_dotenv(path).values.get(name) == older.value:
                dotenv.change(path, lambda text: dotenv.with_value(text, name, value), private=True)
                return True
    except BitnetError:
        pass
    return False
