"""What works in a process of the app's own and ends with it: a scoring, what is fetched or pulled."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, eq=False)
class Work:
    """`what` is a clause: `the student of kd is being scored`; `if_ended` a sentence on what then becomes of it.

    `end` ends it. Of an experiment, it has its folder as `root`, which must stay where it is meanwhile.
    """

    what: str
    if_ended: str
    end: Callable[[], object]
    root: Path | None = None
