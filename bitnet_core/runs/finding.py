"""One thing to know of a run, in words."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "calm", "warn", "bad"]
MARKS: dict[Level, str] = {"good": "●", "calm": "○", "warn": "▲", "bad": "✗"}
"""They differ in shape, not just in colour."""
_AGAIN = re.compile(r"; (?:its work is kept, and )?start\w* [^;.]*\bagain\b[^;.]*")


@dataclass(frozen=True)
class Finding:
    """One thing to know, in one or two sentences. `code` is that of the alert which says the same."""

    level: Level
    words: str
    advice: str = ""
    code: str = ""


def without_again(error: str) -> str:
    """Why a run ended, less what another start of it would do."""
    return _AGAIN.sub("", error)


def one_cure(error: str, findings: Iterable[Finding]) -> str:
    """Why a run ended. Where its health advises how to go on, that is the one thing to do."""
    return without_again(error) if any(one.advice for one in findings) else error
