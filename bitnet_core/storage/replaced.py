"""Which stored checkpoints newer ones have replaced: the copy drops those, and never its newest complete one."""

import re
from collections.abc import Collection, Iterator

_CHECKPOINT = re.compile(r"checkpoints/mini_bitnet_step_(\d{8,18})(\.pt|_health\.json)")
_FILES = {".pt", "_health.json"}
"""What a complete checkpoint has."""


def replaced(stored: Collection[str], here: Collection[str]) -> Iterator[str]:
    """The stored files of checkpoints that are older than the newest complete one of `here`, and not here."""
    kinds: dict[int, set[str]] = {}
    for name in here:
        if found := _CHECKPOINT.fullmatch(name):
            kinds.setdefault(int(found[1]), set()).add(found[2])
    newest = max((step for step, which in kinds.items() if which == _FILES), default=-1)
    for name in stored:
        if name not in here and (found := _CHECKPOINT.fullmatch(name)) and int(found[1]) < newest:
            yield name
