"""Finding keys and keeping them: which place is asked first, which is written to, what is said when none will do.

Read order: a value piped in for this run → environment → OS keyring → vault → `.env`, which is plain text. Write
order: OS keyring → vault → refuse. What was kept in the vault counts before the keyring, which may hold an older
value that could not be deleted, and it stays there until it is moved: what was kept last is what is found. Never
prompts itself: whoever calls says how a passphrase is asked for.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.secrets import known, vault
from bitnet_core.secrets.handover import read_from_pipe
from bitnet_core.secrets.keyring_store import Keyring, KeyringUnusable
from bitnet_core.secrets.vault import OpenVault
from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_core.settings.resolved import Resolution, Settings

Ask = Callable[[Path, bool], str | None]
"""Asks a person for the passphrase of the vault at a path, which is new or not; None = nobody answers."""
KEYRING, VAULT = "keyring", "vault"
_ASKED = 3
"""So often a person is asked for a passphrase."""

_open: dict[Path, OpenVault] = {}
"""Vaults opened in this process. Their keys are in its memory alone and go with it."""
_piped: dict[str, str] = {}
"""What was piped in for this process, read once."""


class VaultLocked(BitnetError):
    """The vault is needed and nobody gave its passphrase. `why` is the clause that says what it is needed for."""

    def __init__(self, path: Path, why: str, message: str = "") -> None:
        self.path = path
        self.why = why
        super().__init__(
            message
            or f"{why}, which is locked; give its passphrase where it is asked for, or in a file that "
            "BITNET_VAULT_PASSPHRASE_FILE names."
        )


@dataclass(frozen=True)
class FoundSecret:
    value: str = field(repr=False)
    origin: str


@dataclass(frozen=True)
class KeyPlaces:
    """Where this user's keys may be kept, from the settings."""

    keyring: Keyring
    vault: Path
    passphrase_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> "KeyPlaces":
        return cls(
            Keyring(settings.text("BITNET_KEYRING"), threading.Event()),
            settings.maybe_path("BITNET_VAULT") or _usual_vault(),
            settings.maybe_path("BITNET_VAULT_PASSPHRASE_FILE"),
        )

    def opened(self, ask: Ask | None = None, why: str = "") -> OpenVault:
        """The vault, open: since before, by the passphrase file, or by asking; else VaultLocked."""
        before = _open.get(self.vault)
        if before is not None and before.fits():
            return before
        vault.names(self.vault)  # nobody is asked for the passphrase of what is no vault
        passphrase = self._from_file()
        if not passphrase:
            return self._asked(ask, why)
        try:
            return unlock_vault(self.vault, passphrase)
        except vault.WrongPassphrase:
            raise vault.WrongPassphrase(
                f"{self.passphrase_file} (BITNET_VAULT_PASSPHRASE_FILE) is not the passphrase of {self.vault}; "
                "correct one of the two."
            ) from None

    def _asked(self, ask: Ask | None, why: str) -> OpenVault:
        """Opened by somebody who may mistype it, if anybody is there."""
        for left in range(_ASKED, 0, -1):
            passphrase = ask(self.vault, not self.vault.exists()) if ask is not None else None
            if not passphrase:
                break
            try:
                return unlock_vault(self.vault, passphrase)
            except vault.WrongPassphrase:
                if left == 1:
                    raise
        raise VaultLocked(self.vault, why or f"Keys are kept in {self.vault}")

    def keep(self, name: str, value: str, to: str = "", ask: Ask | None = None) -> str:
        """Keep a key in the first place that takes it, or in the one named; return which: `keyring` or `vault`.

        What `gather` finds from then on is this value, unless a place before these two holds another.
        """
        require_secret(name)
        known.remember([value])
        in_vault = name in self.sealed()[1]
        if to != VAULT and (to == KEYRING or not in_vault):
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
        self.opened(ask, f"{name} is in {self.vault}" if in_vault else "").set(name, value)
        self.forget_older(name)
        return VAULT

    def forget_older(self, name: str) -> None:
        """Of a key that the vault holds, delete what the keyring has; where it can't be asked the vault's counts."""
        with contextlib.suppress(KeyringUnusable):
            self.keyring.delete(name)

    def _keep_in_vault(self, name: str, value: str, ask: Ask | None, refused: KeyringUnusable) -> None:
        try:
            self.opened(ask).set(name, value)
        except VaultLocked:
            raise VaultLocked(
                self.vault,
                refused.reason,
                f"{name} could not be kept: {refused.reason}; mend that, or keep keys in the vault by putting "
                "a passphrase in a file that BITNET_VAULT_PASSPHRASE_FILE names.",
            ) from None

    def words(self, place: str) -> str:
        return "the OS keyring" if place == KEYRING else f"the vault {self.vault}"

    def read_back(self, name: str, place: str) -> str | None:
        """What a place that was just written to holds, read from the place itself."""
        if place == KEYRING:
            return self.keyring.read([name]).get(name)
        return self.opened().read().get(name)

    def sealed(self) -> tuple[frozenset[str], frozenset[str], BitnetError | None]:
        """The names in the vault, those that count before the keyring, and why it can't be read if it can't."""
        try:
            return frozenset(vault.names(self.vault)), vault.names_over_keyring(self.vault), None
        except BitnetError as error:
            return frozenset(), frozenset(), error

    def forget(self, name: str, ask: Ask | None = None) -> tuple[str, ...]:
        """Delete a key everywhere it is kept; return from where. A keyring that can't be asked is an error."""
        require_secret(name)
        gone = []
        if name in vault.names(self.vault) and self.opened(ask).delete(name):
            gone.append(VAULT)
        try:
            if self.keyring.delete(name):
                gone.append(KEYRING)
        except KeyringUnusable as error:
            if error.state not in ("off", "absent"):
                raise
        return tuple(gone)

    def _from_file(self) -> str | None:
        if self.passphrase_file is None:
            return None
        try:
            text = self.passphrase_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise BitnetError(
                f"{self.passphrase_file} (BITNET_VAULT_PASSPHRASE_FILE) can't be read: {why}."
            ) from error
        passphrase = text.removesuffix("\n").removesuffix("\r")
        if not passphrase:
            raise BitnetError(
                f"{self.passphrase_file} (BITNET_VAULT_PASSPHRASE_FILE) is empty; write the passphrase into it."
            )
        return passphrase


def unlock_vault(path: Path, passphrase: str) -> OpenVault:
    """Open a vault for the rest of this process, making it where there is none."""
    known.remember([passphrase])
    _open[path] = (vault.unlock if path.exists() else vault.create)(path, passphrase)
    return _open[path]


def _usual_vault() -> Path:
    from platformdirs import user_config_path

    return user_config_path("bitnet-tui", appauthor=False) / "vault.json"


def require_secret(name: str) -> None:
    if name not in SECRET_NAMES:
        keys = ", ".join(sorted(n for n in SECRET_NAMES if n.endswith("_API_KEY")))
        raise BitnetError(f"{name} is no secret's name; the keys are {keys}.")


def gather(
    names: Iterable[str],
    resolution: Resolution,
    *,
    ask: Ask | None = None,
    trouble: list[str] | None = None,
) -> dict[str, FoundSecret]:
    """Find the secrets of these names; one that is nowhere is left out. Asks a place only when it must.

    VaultLocked when the vault holds one that no stronger place gives and can't be opened, also where a `.env` has
    another. A place that can't be asked hides nothing: it is passed over, and `trouble` gets the clause that says
    why; without `trouble`, a vault that can't be read is raised when nothing at all is found.
    """
    places = KeyPlaces.of(resolution.settings)
    names = list(names)
    origins = resolution.secret_origins
    _piped.update(read_from_pipe())
    found = {name: FoundSecret(_piped[name], "piped in") for name in names if _piped.get(name)}
    found |= {
        name: FoundSecret(resolution.secrets[name], "environment")
        for name in names
        if name not in found and resolution.secrets.get(name) and origins[name] == "environment"
    }
    unread: BitnetError | None = None
    if missing := [name for name in names if name not in found]:
        kept, reason = _in_keyring(places, missing)
        sealed, over, unread = places.sealed()
        if trouble is not None:
            trouble += ([str(unread).rstrip(".")] if unread else []) + ([reason] if reason else [])
        wanted = [name for name in missing if name in sealed and (name in over or name not in kept)]
        if wanted:
            values = places.opened(ask, f"{' and '.join(wanted)} is in {places.vault}").read()
            found |= {name: FoundSecret(values[name], "vault") for name in wanted if values.get(name)}
        found |= {name: FoundSecret(value, "keyring") for name, value in kept.items() if name not in found}
        for name in over & set(kept):
            places.forget_older(name)
    for name in names:
        if name not in found and resolution.secrets.get(name):
            found[name] = FoundSecret(resolution.secrets[name], f"{origins[name]} (plain text)")
    if unread is not None and trouble is None and not found:
        raise unread
    known.remember(secret.value for secret in found.values())
    return found


def _in_keyring(places: KeyPlaces, names: list[str]) -> tuple[dict[str, str], str]:
    """What it holds of these, or the clause that says why it can't be asked; one that is switched off needs none."""
    try:
        return places.keyring.read(names), ""
    except KeyringUnusable as error:
        return {}, "" if error.state in ("off", "absent") else error.reason  # where there is none, none is missed
