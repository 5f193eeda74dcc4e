"""Which checkpoints are worth sending: what it takes to go on, and to use the student. The others stay here alone.

What is in the copy already stays there, whatever this says.
"""

import json
from typing import Any

from bitnet_core.files.regular import read_bounded
from bitnet_core.storage.snapshot import LocalFile
from bitnet_core.storage.steps import complete_steps, is_health, step_of

_ASIDE = "checkpoints/superseded/"
_MOST_HEALTH_BYTES = 1 << 20
_WHOLE = 8
"""Bits of the activations before the flip."""


def needed(files: list[LocalFile]) -> list[LocalFile]:
    """The files without older checkpoints: those set aside, and all but the newest, the best and the flip's.

    The flip's is the last one whose activations are whole at 8 bits, where the newest one has fewer. A file that has
    another name than training gives is the user's own, and is kept.
    """
    steps = complete_steps([file.name for file in files])
    healths = {step_of(file.name): file for file in files if is_health(file.name)}
    kept: set[int] = set(steps[:1])
    if steps:
        newest = _read(healths[steps[0]])
        best = newest.get("best")
        kept |= {best["step"]} if isinstance(best, dict) and type(best.get("step")) is int else set()
        if newest.get("activation_bits") != _WHOLE:
            kept |= set(next(([step] for step in steps[1:] if _is_whole(_read(healths[step]))), []))

    def is_needed(file: LocalFile) -> bool:
        step = step_of(file.name)
        if step is None or not steps:
            return not file.name.startswith(_ASIDE)
        return step in kept or step > steps[0]  # one that is being written

    return [file for file in files if is_needed(file)]


def _is_whole(health: dict[str, Any]) -> bool:
    return health.get("activation_bits") == _WHOLE and not health.get("layers_at_4_bits")


def _read(health: LocalFile) -> dict[str, Any]:
    """What a health file says; nothing if it can't be read."""
    try:
        found = json.loads(read_bounded(health.path, _MOST_HEALTH_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
