"""Which experiment a folder holds: a random id, made at its first push and taken over by whoever pulls it."""

import secrets
from pathlib import Path

from bitnet_core import files
from bitnet_core.files.regular import read_bounded
from bitnet_core.storage.manifest import Published
from bitnet_core.storage.state import lock_path

_BYTES = 1 << 10


def experiment_id(root: Path) -> str:
    """The id; empty for a folder that was never stored."""
    try:
        found = read_bounded(_path(root), _BYTES).decode("ascii", errors="replace").strip()
    except OSError:
        return ""
    return found if len(found) == 32 and found.isalnum() else ""


def keep_id(root: Path, published: Published | None) -> str:
    """Give the folder the id of a manifest, or a new one, and return it."""
    found = published.manifest.experiment if published else secrets.token_hex(16)
    files.write_text(_path(root), f"{found}\n")
    return found


def _path(root: Path) -> Path:
    return lock_path(root).with_name("experiment")
