"""The vault: one encrypted file for keys, for machines without an OS keyring (a server over SSH, a container).

scrypt derives a key from the passphrase. AES-GCM encrypts each entry with its name as associated data, and a `seal`
over the whole list shows whether an entry was exchanged or removed. The seal covers `over` too: the names that are
read from the vault before the keyring, which may have an older value. `proof` and a checksum that needs no passphrase
tell a wrong passphrase from a damaged file. Names can be read without the passphrase, values can't. Each write
replaces the file atomically under a lock: a kill at any moment leaves the old file or the new one.
"""

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained

_NAME, _VERSION = "bitnet-tui vault ", 1
FORMAT = f"{_NAME}{_VERSION}"
COST = 1 << 17
"""scrypt's n for a new vault: a guess takes 128 MB and about half a second."""
SHORTEST_PASSPHRASE = 8
_BLOCK, _LANES = 8, 1
_HIGHEST_COST = 1 << 20
_SALT_BYTES = 16
_MOST_BYTES = 16 << 20


class WrongPassphrase(BitnetError):
    """The file is intact, but has another passphrase."""


class DamagedVault(BitnetError):
    """The file was changed by another program, or is not a vault."""


@dataclass(frozen=True)
class OpenVault:
    """A vault whose key is in memory. It writes only encrypted values, and its `repr` shows none."""

    path: Path
    salt: str
    _key: bytes = field(repr=False)

    def read(self) -> dict[str, str]:
        """Every key in it, by name."""
        return {name: self._unseal(sealed, f"entry {name}") for name, sealed in self._content()["entries"].items()}

    def set(self, name: str, value: str) -> None:
        """Keep a key. From now on it is read before the keyring's value of the same name."""
        with _locked(self.path):
            content = self._content()
            over = sorted({*content.get("over", ()), name})
            self._write(content, content["entries"] | {name: self._seal(value, f"entry {name}")}, over)

    def delete(self, name: str) -> bool:
        """Delete a key; True if there was one."""
        with _locked(self.path):
            content = self._content()
            kept = {other: sealed for other, sealed in content["entries"].items() if other != name}
            if len(kept) < len(content["entries"]):
                self._write(content, kept, [other for other in content.get("over", ()) if other != name])
            return len(kept) < len(content["entries"])

    def fits(self) -> bool:
        """Whether the file is still the one that this key was derived for."""
        try:
            return bool(_load(self.path)["salt"] == self.salt)
        except BitnetError:
            return False

    def _content(self) -> dict[str, Any]:
        """The file's content. Raises WrongPassphrase or DamagedVault."""
        content = _load(self.path)
        if content["salt"] != self.salt:
            raise BitnetError(f"{self.path} was replaced by another vault after it was opened; open that one.")
        try:
            self._unseal(content["proof"], "proof")
        except DamagedVault:
            # The checksum is right, so the file is as it was written, with another passphrase.
            raise WrongPassphrase(f"That is not the passphrase of {self.path}; try again.") from None
        self._unseal(content["seal"], _sealed(content))
        return content

    def _write(self, content: dict[str, Any], entries: dict[str, str], over: list[str]) -> None:
        content = content | {"entries": entries, "over": over}
        _store(self.path, content | {"seal": self._seal("", _sealed(content))})

    def _seal(self, text: str, about: str) -> str:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(12)
        sealed = AESGCM(self._key).encrypt(nonce, text.encode("utf-8", "surrogatepass"), about.encode())
        return base64.b64encode(nonce + sealed).decode()

    def _unseal(self, sealed: str, about: str) -> str:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            data = base64.b64decode(sealed, validate=True)
            return AESGCM(self._key).decrypt(data[:12], data[12:], about.encode()).decode("utf-8", "surrogatepass")
        except (InvalidTag, ValueError):
            raise _damaged(self.path) from None


def exists(path: Path) -> bool:
    """Whether there is a vault. BitnetError if that can't be told: it or its folder may be a link to nothing."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        _require_no_broken_link(path)
        return False
    except OSError as error:
        raise _unreadable(path, error) from error
    return True


def _require_no_broken_link(path: Path) -> None:
    """BitnetError where the keys may be on a disk that is not mounted: a new vault there would hide them."""
    for one in (path.parent, path):
        if one.is_symlink() and not one.exists():
            raise BitnetError(
                f"{one} is a link to {one.readlink()}, which is not there; mount or restore that, or remove the link "
                "to begin a new vault."
            )


def names(path: Path) -> tuple[str, ...]:
    """The names in a vault, without opening it; none if there is no vault."""
    return tuple(_load(path)["entries"]) if exists(path) else ()


def names_over_keyring(path: Path) -> frozenset[str]:
    """The names in a vault that are read before the keyring."""
    return frozenset(_load(path).get("over", ())) if exists(path) else frozenset()


def readable_by_others(path: Path) -> bool:
    """Whether other users may read the file. Its values are encrypted, and the next write removes the permission."""
    return exists(path) and bool(path.stat().st_mode & 0o077)


def unlock(path: Path, passphrase: str) -> OpenVault:
    """Open a vault. Raises WrongPassphrase or DamagedVault."""
    content = _load(path)
    vault = OpenVault(path, content["salt"], _derive(passphrase, content["salt"], content["cost"]))
    vault._content()
    return vault


def create(path: Path, passphrase: str) -> OpenVault:
    """Create an empty vault. BitnetError if the passphrase is too short, or if the file exists."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise BitnetError(f"The vault's passphrase is too short; give it at least {SHORTEST_PASSPHRASE} characters.")
    salt = base64.b64encode(os.urandom(_SALT_BYTES)).decode()
    vault = OpenVault(path, salt, _derive(passphrase, salt, COST))
    with _locked(path):
        if exists(path):
            raise BitnetError(f"{path} exists already; open it with its passphrase, or move it away.")
        proof, seal = vault._seal("", "proof"), vault._seal("", _sealed({"entries": {}}))
        _store(path, {"format": FORMAT, "salt": salt, "cost": COST, "proof": proof, "entries": {}, "seal": seal})
    return vault


def _derive(passphrase: str, salt: str, cost: int) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    secret = passphrase.encode("utf-8", "surrogatepass")
    return Scrypt(salt=base64.b64decode(salt), length=32, n=cost, r=_BLOCK, p=_LANES).derive(secret)


def _plain(content: Any) -> str:
    return json.dumps(content, sort_keys=True)


def _sealed(content: dict[str, Any]) -> str:
    """What the seal covers. Files written before `over` existed are sealed without it."""
    over = f" over {_plain(content['over'])}" if "over" in content else ""
    return f"seal {_plain(content['entries'])}{over}"


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(_plain({k: v for k, v in content.items() if k != "sha256"}).encode()).hexdigest()


def _damaged(path: Path) -> DamagedVault:
    return DamagedVault(f"{path} is damaged; restore a copy of it, or move it away and set the keys again.")


def _unreadable(path: Path, error: OSError) -> BitnetError:
    return BitnetError(f"{path} can't be read {explained(error, 'check its permissions')}.")


def _load(path: Path) -> dict[str, Any]:
    """The file's content, checked by `parse`."""
    try:
        if path.is_dir():
            raise BitnetError(f"{path} is a folder; set BITNET_VAULT to the path of a file.")
        files.require_regular(path)
        with path.open("rb") as file:
            return parse(file.read(_MOST_BYTES + 1), path)
    except (FileNotFoundError, NotADirectoryError):
        raise BitnetError(f"{path} was removed; restore a copy of it, or set the keys again.") from None
    except OSError as error:
        raise _unreadable(path, error) from error


def parse(data: bytes, path: Path) -> dict[str, Any]:
    """The content of a vault's file. DamagedVault unless its checksum and the form of every field are right.

    BitnetError for one of a newer version, which is whole and must not be moved away.
    """
    try:
        content = json.loads(data.decode()) if len(data) <= _MOST_BYTES else {}
        if _is_newer(content["format"]):
            raise BitnetError(
                f"{path} was written by a newer version of bitnet-tui; install that, or change BITNET_VAULT."
            )
        whole = content["format"] == FORMAT and content["sha256"] == _checksum(content) and _well_formed(content)
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise _damaged(path)
    return dict(content)


def _is_newer(form: object) -> bool:
    """Whether a later version says so. Nothing else can be known of its file: not even its checksum."""
    number = form.removeprefix(_NAME) if isinstance(form, str) and form.startswith(_NAME) else ""
    return number.isascii() and number.isdigit() and len(number) < 5 and int(number) > _VERSION


def _well_formed(content: dict[str, Any]) -> bool:
    """An attacker can correct the checksum, so everything that is used before the seal is checked must be valid."""
    cost, entries, over = content["cost"], content["entries"], content.get("over", [])
    return (
        isinstance(cost, int)
        and 2 <= cost <= _HIGHEST_COST
        and cost & (cost - 1) == 0
        and all(isinstance(content[name], str) for name in ("salt", "proof", "seal"))
        and len(base64.b64decode(content["salt"], validate=True)) == _SALT_BYTES
        and isinstance(entries, dict)
        and all(isinstance(sealed, str) for sealed in entries.values())
        and isinstance(over, list)
        and set(over) <= set(entries)
    )


def _store(path: Path, content: dict[str, Any]) -> None:
    content = content | {"sha256": _checksum(content)}
    path = path.resolve()  # a link stays a link
    files.write_bytes(path, (json.dumps(content, indent=1) + "\n").encode(), mode=0o600)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time; the kernel releases the lock of one that dies."""
    _require_no_broken_link(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with files.locked(path.with_name(f".{path.name}.lock"), mode=0o600):
            yield
    except OSError as error:
        raise BitnetError(
            f"{path} can't be written {explained(error, 'check the folder or BITNET_VAULT')}."
        ) from error
