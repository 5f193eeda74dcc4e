"""Warnings that need no action are said once for an experiment. `bitnet config` repeats them."""

import hashlib
from collections.abc import Iterable

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files.regular import read_bounded
from bitnet_core.files.user_folders import state_folder
from bitnet_core.settings.resolved import Problem, Resolution

_NAME = "said-about-settings"
_MOST = 500
_MARK_CHARS = 16


def unsaid(resolution: Resolution) -> list[Problem]:
    """The problems that were not said before, which now count as said; all of them where that can't be noted."""
    root = str(resolution.settings.values.get("DRIVE_ROOT"))
    marks = {_mark(root, one): one for one in resolution.problems if not one.to_fix}
    said = _said() if marks else []
    if new := [mark for mark in marks if mark not in said]:
        _note([*said, *new])
    return [one for one in resolution.problems if one.to_fix or _mark(root, one) in new]


def _mark(root: str, problem: Problem) -> str:
    text = f"{root}\n{problem.message}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:_MARK_CHARS]


def _said() -> list[str]:
    try:
        path = state_folder() / _NAME
        return read_bounded(path, 2 * _MOST * (_MARK_CHARS + 1)).decode("ascii", "replace").split()
    except (BitnetError, OSError, ValueError):
        return []


def _note(marks: Iterable[str]) -> None:
    try:
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True)
        files.write_text(folder / _NAME, "\n".join([*marks][-_MOST:]) + "\n")
    except (BitnetError, OSError):
        pass  # it will be said again
