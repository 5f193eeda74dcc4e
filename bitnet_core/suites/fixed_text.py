"""The fixed text: passages that every model is scored on as they stand, of several kinds.

They were written for this project: no teacher wrote them, and they are not among the prompts for training. They are
short, so that most students read each as a whole.
"""

from functools import cache

import msgspec

from bitnet_core.files import asset
from bitnet_core.suites.items import spread
from bitnet_core.suites.requests_file import Item, Task

NAME = "fixed text"


class Passage(msgspec.Struct, frozen=True):
    """`kind` is narration, explanation, instruction or dialogue."""

    id: str
    kind: str
    text: str


@cache
def passages() -> tuple[Passage, ...]:
    """All passages, in order."""
    lines = asset("eval", "text.jsonl").read_bytes().splitlines()
    return tuple(msgspec.json.decode(line, type=Passage) for line in lines)


def task(limit: int = 0) -> Task:
    """To score each passage after nothing, or `limit` of them."""
    return Task(NAME, "text", [Item(one.id, (("", one.text),), 0) for one in spread(passages(), limit)])
