"""Scores that were measured elsewhere, from a file of the user's own (EVAL_SCORES). Knows no model.

The file is a JSON object with "student", "teacher" or both; each has, by the benchmark's name,
{"score": from 0 to 1, "n": items, "interval": [low, high]}.
"""

import codecs
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from bitnet_core.errors import BitnetError, explained
from bitnet_core.files.json_faults import json_fault
from bitnet_core.files.regular import read_bounded
from bitnet_core.files.repeated import Repeated, require_no_repeats

_BYTES = 1 << 20
_Share = Annotated[float, Meta(ge=0, le=1)]
_Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.:+/@-]*\Z")]


class OutsideScore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model's score on one benchmark, from `n` items, with its 95 % interval."""

    score: _Share
    n: Annotated[int, Meta(ge=1, le=1 << 40)]
    interval: tuple[_Share, _Share]


_Scores = Annotated[dict[_Name, OutsideScore], Meta(max_length=1000)]


class OutsideScores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By name, for each model that the file speaks of."""

    student: _Scores = {}
    teacher: _Scores = {}


def load_outside(path: Path) -> OutsideScores:
    """The scores in a file. BitnetError if it can't be read, or has another form than the module's docstring says."""
    data = b""
    try:
        data = read_bounded(path, _BYTES).removeprefix(codecs.BOM_UTF8)
        found = msgspec.json.decode(data, type=OutsideScores)
        require_no_repeats(data)
    except OSError as error:
        raise BitnetError(f"{path} (EVAL_SCORES) can't be read {explained(error, 'correct the path')}.") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, Repeated) as error:
        raise BitnetError(
            f"{path} (EVAL_SCORES) is not a file of scores: {json_fault(error, data)}; correct it."
        ) from error
    for side, scores in (("student", found.student), ("teacher", found.teacher)):
        for name, one in scores.items():
            if not one.interval[0] <= one.score <= one.interval[1]:
                raise BitnetError(
                    f"{path} (EVAL_SCORES): the {side}'s score on {name} is outside its interval; correct it."
                )
    return found
