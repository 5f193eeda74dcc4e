"""One thing to know of a run, in words."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["good", "calm", "warn", "bad"]
MARKS: dict[Level, str] = {"good": "●", "calm": "○", "warn": "▲", "bad": "✗"}
"""They differ in shape, not just in colour."""


@dataclass(frozen=True)
class Finding:
    """One thing to know, in one or two sentences. `code` is that of the alert which says the same."""

    level: Level
    words: str
    advice: str = ""
    code: str = ""
