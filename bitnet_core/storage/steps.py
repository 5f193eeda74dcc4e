"""Checkpoints by the names of their files: which step a file is of, and which steps are complete."""

import re
from collections.abc import Collection

_NAME = re.compile(r"checkpoints/mini_bitnet_step_(\d{8,18})(\.pt|_health\.json)")
_FILES = {".pt", "_health.json"}
"""What a complete checkpoint has."""


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
