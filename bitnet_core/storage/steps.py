"""Checkpoints by the names of their files: which step a file is of, which are complete, and which are needed."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

_NAME = re.compile(r"checkpoints/mini_bitnet_step_(\d{8,18})(\.pt|_health\.json)")
_FILES = {".pt", "_health.json"}
"""What a complete checkpoint has."""
_WHOLE = 8
"""Bits of the activations before the flip."""


def step_of(name: str) -> int | None:
    """The step of a checkpoint's file; None for any other file."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def is_health(name: str) -> bool:
    """Whether it is the health file of a checkpoint."""
    found = _NAME.fullmatch(name)
    return found is not None and found[2] != ".pt"


def complete_steps(names: Collection[str]) -> list[int]:
    """The steps of which both files are among these names, newest first."""
    kinds: dict[int, set[str]] = {}
    for name in names:
        if found := _NAME.fullmatch(name):
            kinds.setdefault(int(found[1]), set()).add(found[2])
    return sorted((step for step, which in kinds.items() if which == _FILES), reverse=True)


def older(
    steps: Iterable[int], complete: Sequence[int], health: Callable[[int], Mapping[str, Any]]
) -> frozenset[int]:
    """Of `steps`, those whose checkpoints are not needed: all but the newest, the best and the flip's.

    The flip's is the last one whose activations are whole at 8 bits, where the newest one has fewer. `complete` has
    the complete steps, newest first; `health` gives what the health file of one of them says. What is newer than they
    are is being written.
    """
    if not complete:
        return frozenset()
    newest = health(complete[0])
    best = newest.get("best")
    kept = {complete[0]}
    if isinstance(best, dict) and type(best.get("step")) is int:
        kept.add(best["step"])
    if newest.get("activation_bits") != _WHOLE:
        kept |= set(next(([step] for step in complete[1:] if _is_whole(health(step))), []))
    return frozenset(step for step in steps if step not in kept and step <= complete[0])


def _is_whole(health: Mapping[str, Any]) -> bool:
    return health.get("activation_bits") == _WHOLE and not health.get("layers_at_4_bits")
