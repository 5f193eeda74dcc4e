"""Where an export goes: nothing is overwritten unasked, and nothing half-written gets a final name."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from bitnet_core.errors import UsageError
from bitnet_core.files import half_written, require_regular
from bitnet_core.files.regular import read_bounded
from bitnet_core.files.writable import require_writable_folder, writing
from bitnet_core.runs.exports import MARK

_CONFIG_BYTES = 1 << 20


def require_free(path: Path, *, folder: bool, force: bool) -> None:
    """UsageError if something is there that may not be replaced: with `force`, an earlier export may.

    An export is a `folder` or a file. An empty folder may become one. BitnetError if nothing can be written there.
    """
    require_replaceable(path, folder=folder, force=force)
    require_writable_folder(path.parent)


def require_replaceable(path: Path, *, folder: bool, force: bool) -> None:
    """As `require_free`, but nothing is made for it yet."""
    if not path.is_symlink() and not path.exists():
        return
    require_regular(path)
    if path.is_dir() and not folder:
        raise UsageError(f"{path} is a folder, and the export is one file; give --out another path.")
    if path.is_file() and folder:
        raise UsageError(f"{path} is a file, and the export is a folder; give --out another path.")
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.is_dir() and not _is_export(path):
        raise UsageError(f"{path} is a folder that `bitnet export hf` did not write; give --out another path.")
    if not force:
        raise UsageError(f"{path} is there already; give --force to replace it, or --out another path.")


@contextlib.contextmanager
def complete_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; at the end it becomes `path` and what was there is removed.

    BitnetError when the disk is full or can't be written; what was there is then left as it was.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with half_written.scratch_beside(path, 0o777) as temp:
            yield temp
            half_written.replace_folder(temp, path)


def _is_export(folder: Path) -> bool:
    try:
        config = json.loads(read_bounded(folder / "config.json", _CONFIG_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and isinstance(config.get(MARK), dict)
