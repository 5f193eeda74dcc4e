"""Which files of a stored state a pull brings: by their folder, and one checkpoint of many."""

from collections.abc import Callable, Collection

import msgspec

from bitnet_core.errors import UsageError
from bitnet_core.storage.layout import Stored
from bitnet_core.storage.pull import LostFile
from bitnet_core.storage.steps import complete_steps, is_health, step_of
from bitnet_core.storage.travel import SETTINGS_FILE

AREAS = ("reports", "checkpoints", "data", "logs", "inputs", "settings")
_MOST_HEALTH_BYTES = 1 << 20
_SHOWN = 6

Read = Callable[[Stored], bytes]
"""The content of a small stored file."""


class _Best(msgspec.Struct):
    step: int | None = None


class _Health(msgspec.Struct):
    """What of a checkpoint's health file says which one the trainer called the best."""

    best: _Best


def area(name: str) -> str:
    """The folder of an experiment that a stored file belongs to."""
    if name == SETTINGS_FILE:
        return "settings"
    top = name.partition("/")[0]
    return "data" if top.startswith("data.") else top


def select(
    files: list[Stored],
    only: Collection[str],
    checkpoint: str,
    read: Read,
    tell: Callable[[str], object] = lambda _sentence: None,
) -> list[Stored]:
    """The files of these areas (none = all), with the checkpoint `best`, `latest`, a step or `all`.

    UsageError for an area or a checkpoint that there is not.
    """
    for one in only:
        if one not in AREAS:
            raise UsageError(f"--only takes {', '.join(AREAS)}, with commas between them; it can't be {one!r}.")
    wanted = [one for one in files if not only or area(one.name) in only]
    if checkpoint in ("", "all"):
        return wanted
    step = _step(files, checkpoint, read, tell)
    return [one for one in wanted if area(one.name) != "checkpoints" or step_of(one.name) == step]


def _step(files: list[Stored], wanted: str, read: Read, tell: Callable[[str], object]) -> int:
    steps = complete_steps([one.name for one in files])
    if not steps:
        raise UsageError("The stored state has no complete checkpoint; leave --checkpoint out.")
    if wanted == "latest":
        return steps[0]
    if wanted == "best":
        return _best(files, steps, read, tell)
    if wanted.isdecimal() and len(wanted) < 19 and int(wanted) in steps:
        return int(wanted)
    shown = ", ".join(map(str, steps[:_SHOWN])) + (" …" if len(steps) > _SHOWN else "")
    raise UsageError(f"--checkpoint takes best, latest, all, or a step that is stored: {shown}.")


def _best(files: list[Stored], steps: list[int], read: Read, tell: Callable[[str], object]) -> int:
    """The best checkpoint, as the newest health file names it: the trainer keeps that one beside the newest."""
    healths = {step_of(one.name): one for one in files if is_health(one.name) and one.size <= _MOST_HEALTH_BYTES}
    for step in steps:
        try:
            named = msgspec.json.decode(read(healths[step]), type=_Health).best.step
        except LostFile as error:
            tell(f"{error} there, so the best checkpoint is the one that an older health file names.")
            continue
        except (KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        if named in steps:
            return named
    raise UsageError("No stored health file names a best checkpoint; use --checkpoint latest.")
