"""Seconds of steps that this machine has timed, in the user's cache. What identifies them is the caller's matter."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import cache_folder

FILE = "step_seconds.json"
_MOST = 200
Timing = dict[str, Any]


def kept() -> dict[str, Timing]:
    """What was timed before, the oldest first; empty if the file is missing, damaged or foreign."""
    try:
        found = files.read_json(cache_folder() / FILE)
    except (BitnetError, OSError):
        return {}
    entries = found if isinstance(found, dict) else {}
    return {key: one for key, one in entries.items() if _is_timing(one)}


def _is_timing(one: object) -> bool:
    if not isinstance(one, dict):
        return False
    numbers = [
        one.get(name)
        for name in (
            "seconds",
            "processor_seconds",
            "threads",
            "memory_factor",
            "spread",
            "supervised_per_step",
            "load",
            "at",
            "steps",
        )
    ]
    return all(type(number) in (int, float) for number in numbers) and isinstance(one.get("timed_layers"), list)


def keep(entries: Mapping[str, Timing]) -> None:
    """Keep the last of these."""
    with suppress(OSError, BitnetError):  # then it is timed again next time
        cache_folder().mkdir(parents=True, exist_ok=True)
        files.write_json(cache_folder() / FILE, dict(list(entries.items())[-_MOST:]))
