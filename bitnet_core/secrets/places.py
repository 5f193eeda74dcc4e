"""The places where a user's keys are kept, and writing to them: OS keyring → vault → refuse.

A key that is in the vault stays there when it is set again, and is read from there before the keyring. Nothing here
prompts: the caller passes `Ask`, which asks a person for the vault's passphrase.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.files.inputs import read_input
from bitnet_core.files.user_folders import NoHome, config_folder
from bitnet_core.secrets import known, vault
from bitnet_core.secrets.keyring_store import Keyring, KeyringUnusable
from bitnet_core.secrets.vault import OpenVault
from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import KeyOptions

Ask = Callable[[Path, bool], str | None]
"""Asks a person for the passphrase of the vault at a path; True = it is a new one. Returns None without an answer."""
KEYRING, VAULT = "keyring", "vault"
_MOST_ATTEMPTS = 3
"""How often a person may type the passphrase."""

_open_vaults: dict[Path, OpenVault] = {}
"""Vaults opened in this process, by path. Their keys are only in memory."""


class VaultLocked(BitnetError):
    """The vault is needed and its passphrase is not known. `why` is the clause that says what it is needed for."""

    def __init__(self, path: Path, why: str, *, not_kept: str = "") -> None:
        """`not_kept`: a key that the keyring can't take, `why` being the reason, and the vault could."""
        self.path = path
        self.is_there = vault.exists(path)
        """Else a first key makes it."""
        self.why = why
        self.instead = bool(not_kept)
        """Whether the vault would take the keyring's place; else it holds what is needed."""
        self.without = (
            f"{why}; fix that, or keep keys in the vault by putting a passphrase in a file that "
            "BITNET_VAULT_PASSPHRASE_FILE names."
            if not_kept
            else f"{why}, which is locked; give its passphrase where it is asked for, or in a file that "
            "BITNET_VAULT_PASSPHRASE_FILE names."
        )
        """The problem and its fixes, for one who leaves the vault closed."""
        super().__init__(f"{not_kept} could not be kept: {self.without}" if not_kept else self.without)


@dataclass(frozen=True)
class VaultNames:
    """The names in the vault, which of them are read before the keyring, and the error if it can't be read."""

    names: frozenset[str] = frozenset()
    over_keyring: frozenset[str] = frozenset()
    unreadable: BitnetError | None = None

    def counts(self, name: str, in_keyring: Collection[str]) -> bool:
        """Whether the value in the vault is the one to use."""
        return name in self.names and (name in self.over_keyring or name not in in_keyring)


@dataclass(frozen=True)
class KeyPlaces:
    """Where this user's keys may be kept, from the settings."""

    keyring: Keyring
    chosen_vault: Path | None = None
    passphrase_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> "KeyPlaces":
        options = KeyOptions.of(settings)
        return cls(Keyring(options.keyring), options.vault, options.passphrase_file)

    @property
    def vault(self) -> Path:
        """Where the vault is or will be. NoHome for a user without a place for it."""
        return self.chosen_vault or config_folder() / "vault.json"

    def has_vault(self) -> bool:
        """Whether there is a vault. BitnetError if its folder can't be looked into."""
        try:
            return vault.exists(self.vault)
        except NoHome:
            return False

    @property
    def existing_vault(self) -> Path | None:
        """The vault, None if there is none or its folder can't be looked into."""
        with contextlib.suppress(BitnetError):
            return self.vault if self.has_vault() else None
        return None

    # -- reading -----------------------------------------------------------------------------------------

    def in_keyring(self, names: Iterable[str]) -> tuple[dict[str, str], KeyringUnusable | None]:
        """The keys of these names that are in the keyring, and the error if it can't be asked."""
        try:
            return self.keyring.read(names), None
        except KeyringUnusable as error:
            return {}, error

    def names_in_vault(self) -> VaultNames:
        """What the vault holds, without opening it."""
        try:
            if not self.has_vault():
                return VaultNames()
            return VaultNames(frozenset(vault.names(self.vault)), vault.names_over_keyring(self.vault))
        except BitnetError as error:
            return VaultNames(unreadable=error)

    def opened(self, ask: Ask | None = None, why: str = "") -> OpenVault:
        """The vault, opened earlier in this process, by the passphrase file, or by asking; else VaultLocked."""
        earlier = _open_vaults.get(self.vault)
        if earlier is not None and earlier.fits():
            return earlier
        vault.names(self.vault)  # raises if the file is not a vault, before anyone is asked for a passphrase
        passphrase = self._from_file()
        if not passphrase:
            return self._opened_by_asking(ask, why)
        try:
            return unlock_vault(self.vault, passphrase)
        except vault.WrongPassphrase:
            raise vault.WrongPassphrase(
                f"{self.passphrase_file} (BITNET_VAULT_PASSPHRASE_FILE) is not the passphrase of {self.vault}; "
                "correct one of the two."
            ) from None

    def read_back(self, name: str, place: str) -> str | None:
        """The value that a place holds, read from the place itself: a check after writing."""
        if place == KEYRING:
            return self.keyring.read([name]).get(name)
        return self.opened().read().get(name)

    def words(self, place: str) -> str:
        """A place as a noun phrase, for a sentence about it."""
        return "the OS keyring" if place == KEYRING else f"the vault {self.vault}"

    # -- writing -----------------------------------------------------------------------------------------

    def keep(self, name: str, value: str, to: str = "", ask: Ask | None = None) -> str:
        """Keep a key in the place `to`, or in the first that takes it; return which: `keyring` or `vault`.

        From then on `find_secrets` finds this value, unless the key is also piped in or in the environment.
        """
        require_secret(name)
        known.remember([value])
        in_vault = name in self.names_in_vault().over_keyring
        if to == VAULT or (in_vault and to != KEYRING):
            self.opened(ask, f"{name} is in {self.vault}" if in_vault else "").set(name, value)
            self.forget_in_keyring(name)
            return VAULT
        older = self.opened(ask, f"{name} is in {self.vault} too") if in_vault else None
        try:
            self.keyring.set(name, value)
        except KeyringUnusable as error:
            if to == KEYRING:
                raise
            self._keep_in_vault(name, value, ask, error)
            return VAULT
        if older is not None:
            older.delete(name)
        return KEYRING

    def forget(self, name: str, ask: Ask | None = None) -> tuple[str, ...]:
        """Delete a key everywhere; return from where. KeyringUnusable if there is a keyring that can't be asked."""
        require_secret(name)
        gone = []
        if self.has_vault() and name in vault.names(self.vault) and self.opened(ask).delete(name):
            gone.append(VAULT)
        try:
            if self.keyring.delete(name):
                gone.append(KEYRING)
        except KeyringUnusable as error:
            if not error.absent:
                raise
        return tuple(gone)

    def forget_in_keyring(self, name: str) -> None:
        """Delete the older value of a key that the vault holds. If that fails, the vault's value counts anyway."""
        with contextlib.suppress(KeyringUnusable):
            self.keyring.delete(name)

    # -- steps -------------------------------------------------------------------------------------------

    def _opened_by_asking(self, ask: Ask | None, why: str) -> OpenVault:
        for left in range(_MOST_ATTEMPTS, 0, -1):
            passphrase = ask(self.vault, not self.has_vault()) if ask is not None else None
            if not passphrase:
                break
            try:
                return unlock_vault(self.vault, passphrase)
            except vault.WrongPassphrase:
                if left == 1:
                    raise
        raise VaultLocked(self.vault, why or f"Keys are kept in {self.vault}")

    def _keep_in_vault(self, name: str, value: str, ask: Ask | None, refused: KeyringUnusable) -> None:
        try:
            self.opened(ask).set(name, value)
        except VaultLocked:
            raise VaultLocked(self.vault, refused.reason, not_kept=name) from None

    def _from_file(self) -> str | None:
        if self.passphrase_file is None:
            return None
        shown = f"{self.passphrase_file} (BITNET_VAULT_PASSPHRASE_FILE)"
        text = read_input(self.passphrase_file)
        if text is None:
            raise BitnetError(f"{shown} can't be read: No such file or directory; fix the file or its path.")
        passphrase = text.removesuffix("\n").removesuffix("\r")
        if not passphrase:
            raise BitnetError(f"{shown} is empty; write the passphrase into it.")
        return passphrase


def unlock_vault(path: Path, passphrase: str) -> OpenVault:
    """Open a vault for the rest of this process; create it if there is none."""
    known.remember([passphrase])
    _open_vaults[path] = (vault.unlock if vault.exists(path) else vault.create)(path, passphrase)
    return _open_vaults[path]


def require_secret(name: str) -> None:
    """BitnetError for a name under which no key can be kept."""
    if name not in SECRET_NAMES:
        keys = ", ".join(sorted(n for n in SECRET_NAMES if n.endswith("_API_KEY")))
        raise BitnetError(f"{name} is not the name of a key; the names are {keys}.")
