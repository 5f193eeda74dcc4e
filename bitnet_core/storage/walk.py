"""List a tree folder by folder, for a service that has no other way."""

from collections.abc import Callable, Iterator

from bitnet_core.storage.target import Found

Inside = tuple[list[Found], list[str]]
"""The objects in a folder, and the folders in it."""


class Walk(Iterator[Found]):
    """The objects below a folder.

    After an error, `next` begins again with the folder that failed, and with no other: a tree of many folders would
    never be listed if each fault began it anew (`patient.py`).
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
