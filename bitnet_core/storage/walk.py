"""List a tree folder by folder, for a service that has no other way."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from bitnet_core.storage.target import Found, Refused

MOST_LISTED = 1_000_000
_Listed = TypeVar("_Listed")

Inside = tuple[list[Found], list[str]]
"""The objects in a folder, and the folders in it."""


class Walk(Iterator[Found]):
    """The objects below a folder.

    After an error, `next` begins again with the folder that failed, and with no other: a tree of many folders would
    never be listed if each fault made it start over (`patient.py`).
    """

    def __init__(self, folder: str, look: Callable[[str], Inside]) -> None:
        self._folders = [folder]
        self._found: list[Found] = []
        self._look = look

    def __next__(self) -> Found:
        while not self._found:
            if not self._folders:
                raise StopIteration
            self._found, inner = self._look(self._folders[-1])
            self._folders[-1:] = inner
        return self._found.pop()


def bounded(place: str) -> Callable[[Iterable[_Listed]], Iterator[_Listed]]:
    """Passes on what a service lists in all folders of a tree. Refused after MOST_LISTED: it might go on for ever."""
    numbers = itertools.count(1)

    def passed(listed: Iterable[_Listed]) -> Iterator[_Listed]:
        for one in listed:
            if next(numbers) > MOST_LISTED:
                raise Refused(f"{place} lists more than {MOST_LISTED:,} files and folders; check the server.")
            yield one

    return passed
