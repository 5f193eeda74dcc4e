"""Finding keys and keeping them: which place is asked first, which is written to, what is said when none will do.

Read order: a value piped in for this run → environment → OS keyring → vault → `.env`, which is plain text. Write
order: OS keyring → vault → refuse. Never prompts itself: whoever calls says how a passphrase is asked for.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.config import Resolution, Settings
from bitnet_core.errors import BitnetError
from bitnet_core.providers.table import PROVIDERS
from bitnet_core.secrets import known, vault
from bitnet_core.secrets.handover import read_from_pipe
from bitnet_core.secrets.keyring_store import Keyring, KeyringUnusable
from bitnet_core.secrets.vault import OpenVault
from bitnet_core.settings import SECRET_NAMES
from bitnet_core.stages import catalog

Ask = Callable[[Path, bool], str | None]
"""Asks a person for the passphrase of the vault at a path, which is new or not; None = nobody answers."""
KEYRING, VAULT = "keyring", "vault"

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
class StageKeys:
    """What a stage is sent; `warning` says what kept a key it may need from being found."""

    values: dict[str, str] = field(repr=False)
    warning: str = ""


@dataclass(frozen=True)
class KeyPlaces:
    """Where this user's keys may be kept, from the settings."""

    keyring: Keyring
    vault: Path
    passphrase_file: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> "KeyPlaces":
        return cls(
            Keyring(settings.text("BITNET_KEYRING")),
            settings.maybe_path("BITNET_VAULT") or _usual_vault(),
            settings.maybe_path("BITNET_VAULT_PASSPHRASE_FILE"),
        )

    def opened(self, ask: Ask | None = None, why: str = "") -> OpenVault:
        """The vault, open: since before, by the passphrase file, or by asking; else VaultLocked."""
        before = _open.get(self.vault)
        if before is not None and before.fits():
            return before
        passphrase = self._from_file()
        if not passphrase and ask is not None:
            passphrase = ask(self.vault, not self.vault.exists())
        if not passphrase:
            raise VaultLocked(self.vault, why or f"Keys are kept in {self.vault}")
        return unlock_vault(self.vault, passphrase)

    def keep(self, name: str, value: str, to: str = "", ask: Ask | None = None) -> str:
        """Keep a key in the first place that takes it, or in the one named; return which: `keyring` or `vault`."""
        require_secret(name)
        if to != VAULT:
            try:
                self.keyring.set(name, value)
            except KeyringUnusable as error:
                if to == KEYRING:
                    raise
                refused = error
            else:
                return KEYRING
        try:
            self.opened(ask).set(name, value)
        except VaultLocked:
            if to == VAULT:
                raise
            raise VaultLocked(
                self.vault,
                refused.reason,
                f"{name} could not be kept: {refused.reason}; mend that, or keep keys in the vault by putting "
                "a passphrase in a file that BITNET_VAULT_PASSPHRASE_FILE names.",
            ) from None
        return VAULT

    def words(self, place: str) -> str:
        return "the OS keyring" if place == KEYRING else f"the vault {self.vault}"

    def read_back(self, name: str, place: str) -> str | None:
        """What a place that was just written to holds, read from the place itself."""
        if place == KEYRING:
            return self.keyring.read([name]).get(name)
        return self.opened().read().get(name)

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
        return text.removesuffix("\n").removesuffix("\r")


def unlock_vault(path: Path, passphrase: str) -> OpenVault:
    """Open a vault for the rest of this process, making it where there is none."""
    _open[path] = (vault.unlock if path.exists() else vault.create)(path, passphrase)
    return _open[path]


def _usual_vault() -> Path:
    from platformdirs import user_config_path

    return user_config_path("bitnet-tui", appauthor=False) / "vault.json"


def require_secret(name: str) -> None:
    if name not in SECRET_NAMES:
        keys = ", ".join(sorted(n for n in SECRET_NAMES if n.endswith("_API_KEY")))
        raise BitnetError(f"{name} is no secret's name; the keys are {keys}.")


def names_for(stage: str, settings: Settings) -> tuple[str, ...]:
    """The secrets that a stage may need with these settings: the teacher's key, and nothing else."""
    provider = settings.text("TEACHER_PROVIDER")
    if provider == "embedded" or not catalog.stage(stage).uses_teacher:
        return ()
    wanted = ("HF_TOKEN",) if provider == "hf" else ("TEACHER_API_KEY", f"{provider.upper()}_API_KEY")
    return tuple(name for name in wanted if name in SECRET_NAMES)


def for_stage(stage: str, resolution: Resolution, ask: Ask | None = None) -> StageKeys:
    """The keys to send to a stage that is about to be launched."""
    names = names_for(stage, resolution.settings)
    trouble: list[str] = []
    found = gather(names, resolution, ask=ask, trouble=trouble)
    needed = PROVIDERS[resolution.settings.text("TEACHER_PROVIDER")].needs_key
    missing = bool(names) and needed and not found
    values = {name: secret.value for name, secret in found.items()}
    return StageKeys(values, f"{names[-1]} was not found: {trouble[0]}." if missing and trouble else "")


def given_out() -> frozenset[str]:
    """Every value that this process has met so far: what nothing that it writes may show."""
    return known.values()


def gather(
    names: Iterable[str],
    resolution: Resolution,
    *,
    ask: Ask | None = None,
    trouble: list[str] | None = None,
) -> dict[str, FoundSecret]:
    """Find the secrets of these names; one that is nowhere is left out. Asks a place only when it must.

    VaultLocked when the vault holds one that is nowhere else and can't be opened. A keyring that can't be asked
    hides nothing: it is passed over, and `trouble` gets the clause that says why.
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
    if missing := [name for name in names if name not in found]:
        try:
            kept = places.keyring.read(missing)
        except KeyringUnusable as error:
            kept = {}
            if trouble is not None and error.state != "off":
                trouble.append(error.reason)
        found |= {name: FoundSecret(value, "keyring") for name, value in kept.items()}
    if sealed := [name for name in names if name not in found and name in vault.names(places.vault)]:
        try:
            values = places.opened(ask, f"{' and '.join(sealed)} is in {places.vault}").read()
        except VaultLocked:
            if not all(resolution.secrets.get(name) for name in sealed):
                raise
            values = {}
        found |= {name: FoundSecret(values[name], "vault") for name in sealed if values.get(name)}
    for name in names:
        if name not in found and resolution.secrets.get(name):
            found[name] = FoundSecret(resolution.secrets[name], f"{origins[name]} (plain text)")
    known.remember(secret.value for secret in found.values())
    return found
