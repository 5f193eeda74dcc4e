"""Files that are never stored: those that may hold keys, and those that are about this machine alone.

By name only where the name is well known. What a setting names as a file with keys is left out under every name, also
behind a link.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.files import real_path
from bitnet_core.files.half_written import TEMPORARY_SUFFIX
from bitnet_core.runs.record import COPIED
from bitnet_core.secrets import known
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Settings
from bitnet_core.storage.state import FOLDER

_ENV = re.compile(r"(?i:\.env.*|.*\.env)")
_OURS = re.compile(
    rf"\..*{re.escape(TEMPORARY_SUFFIX)}|\.(?:exported|packed|in-transformers)-.+"  # the latter of older versions
    r"|\.(?:.*\.)?lock(?:\.owner)?|\.ballast|.*\.sqlite-(?:wal|shm|journal)|\.DS_Store"
    rf"|\.start-(?:read|fit)\.pt|\.made-start-.+\.pt|{re.escape(COPIED)}|{re.escape(FOLDER)}"
)
_KEYS = re.compile(
    r"id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?|.+\.(?:pem|key|ppk|p8|p12|pfx|jks|keystore|kdbx|ovpn)"
    r"|[._]netrc|\.(?:git-credentials|pgpass|my\.cnf|npmrc|pypirc|htpasswd|boto|s3cfg|vault-token|dockercfg)"
    r"|\.(?:ssh|aws|azure|gnupg|kube|docker|gcloud|oci)|rclone\.conf|kubeconfig|\.?credentials(?:\.json|\.toml)?"
    r"|.*(?:application_default|service[-_]?account|client_secret|adminsdk).*\.json"
    r"|secrets?\.(?:json|ya?ml|toml|txt)|vault\.json|token\.json",
    re.IGNORECASE,
)
_TOKEN = re.compile(r"(?i:(?:.*/)?huggingface/(?:token|stored_tokens))")
_NAMES_KEYS = {"RCLONE_CONFIG"}
_ELSEWHERE = ("GOOGLE_APPLICATION_CREDENTIALS", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "NETRC")
"""Variables of other programs that name a file with keys."""
_LONGEST_PATH = 4096


def is_left_out(name: str) -> bool:
    """Whether no file of this name is ever stored, and so none may come from a target."""
    return any(_ENV.fullmatch(segment) or _OURS.fullmatch(segment) for segment in name.split("/"))


def is_ours(name: str) -> bool:
    """Whether a file of this name is not missed: a lock, a temporary file or a `.env`, which stays here by design."""
    return _OURS.fullmatch(name) is not None or name.startswith(".env")


def is_temporary(name: str) -> bool:
    """Whether a file of this name, or a folder on the way to it, is a temporary one or a lock."""
    return any(_OURS.fullmatch(segment) for segment in name.split("/"))


def may_hold_keys(name: str) -> bool:
    """Whether a file or folder of this name holds keys, as far as a name can say it."""
    known_names = any(_KEYS.fullmatch(segment) or _ENV.fullmatch(segment) for segment in name.split("/"))
    return known_names or _TOKEN.fullmatch(name) is not None


def leads_to_keys(path: Path) -> bool:
    """Whether a file, or what it is a link to, holds keys as far as its name and that of its hidden folder say it."""
    for one in (path, real_path(path)):
        folder = one.parent.name
        in_folder = folder.startswith(".") or folder.lower() == "huggingface"
        if is_left_out(one.name) or may_hold_keys(f"{folder}/{one.name}" if in_folder else one.name):
            return True
    return False


@dataclass(frozen=True)
class KeyFiles:
    """The files that settings name as files with keys. They are known by what they are, whatever they are called."""

    settings: Settings
    _found: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        for path in self._named():
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                status = path.expanduser().stat()
                if stat.S_ISREG(status.st_mode):
                    self._found.add((status.st_dev, status.st_ino))

    def has(self, status: os.stat_result) -> bool:
        """Whether it is one of them, also through a link."""
        return (status.st_dev, status.st_ino) in self._found

    def _named(self) -> Iterator[Path]:
        for name, value in self.settings.values.items():
            if isinstance(value, Path) and (REGISTRY[name].section == "Keys" or name in _NAMES_KEYS):
                yield value
        yield from (Path(path) for name in _ELSEWHERE if (path := os.environ.get(name)))
        # A key may be the path of its file, as that of FIREBASE_CREDENTIALS_JSON.
        yield from (Path(value) for value in known.values() if len(value) < _LONGEST_PATH)
        root = self.settings.values.get("DRIVE_ROOT")
        if isinstance(root, Path):
            yield root / ".env"
