"""What this machine has timed, in the user's cache: one file for each kind of timing."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import cache_folder

STEPS, DECODING, STARTS = "step_seconds.json", "decoding_speed.json", "start_seconds.json"
_NUMBERS = {
    STEPS: (
        "seconds",
        "processor_seconds",
        "threads",
        "memory_factor",
        "spread",
        "supervised_per_step",
        "load",
        "at",
        "steps",
    ),
    DECODING: ("tokens_per_s", "load", "at"),
    STARTS: ("position_seconds", "step_seconds", "at"),
}
_MOST = 200
Timing = dict[str, Any]


def kept(file: str) -> dict[str, Timing]:
    """What was timed before, the oldest first; empty if the file is missing, damaged or foreign."""
    try:
        found = files.read_json(cache_folder() / file)
    except (BitnetError, OSError):
        return {}
    entries = found if isinstance(found, dict) else {}
    return {key: one for key, one in entries.items() if _is_timing(one, _NUMBERS[file])}


def _is_timing(one: object, numbers: Sequence[str]) -> bool:
    if not isinstance(one, dict) or not isinstance(one.get("timed_layers"), list):
        return False
    return all(type(one.get(name)) in (int, float) for name in numbers)


def key_of(decides: Mapping[str, Any] | Sequence[Any]) -> str:
    """The key of a timing, from all that decides it, as JSON types."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def keep(entries: Mapping[str, Timing], file: str) -> None:
    """Keep the last of these."""
    with suppress(OSError, BitnetError):  # then it is timed again next time
        cache_folder().mkdir(parents=True, exist_ok=True)
        files.write_json(cache_folder() / file, dict(list(entries.items())[-_MOST:]))


def at_depth(layers: int, depths: Sequence[int], seconds: Sequence[float]) -> float:
    """Seconds of `layers` layers, from those at one depth or two: linear, and at least those of the deepest."""
    slope = (seconds[-1] - seconds[0]) / (depths[-1] - depths[0]) if len(depths) > 1 else 0.0
    return seconds[-1] + max(0.0, slope * (layers - depths[-1]))
