"""Which checkpoints are worth sending: what it takes to go on, and to use the student. The others stay here alone.

What is in the copy already stays there, whatever this says.
"""

import json
from typing import Any

from bitnet_core.files.regular import read_bounded
from bitnet_core.settings.storage import StorageOptions
from bitnet_core.storage.snapshot import LocalFile
from bitnet_core.storage.steps import complete_steps, is_health, older, step_of

_ASIDE = "checkpoints/superseded/"
_MOST_HEALTH_BYTES = 1 << 20


def wanted(files: list[LocalFile], options: StorageOptions) -> list[LocalFile]:
    """The files that a push sends if the copy lacks them."""
    return files if options.checkpoints == "all" else needed(files)


def needed(files: list[LocalFile]) -> list[LocalFile]:
    """The files without older checkpoints: those set aside, and those of the steps that `older` names.

    A file that has another name than training gives is the user's own, and is kept.
    """
    healths = {step_of(file.name): file for file in files if is_health(file.name)}
    steps = {step for file in files if (step := step_of(file.name)) is not None}
    left = older(steps, complete_steps([file.name for file in files]), lambda step: _read(healths[step]))
    return [file for file in files if step_of(file.name) not in left and not file.name.startswith(_ASIDE)]


def _read(health: LocalFile) -> dict[str, Any]:
    """What a health file says; nothing if it can't be read."""
    try:
        found = json.loads(read_bounded(health.path, _MOST_HEALTH_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
