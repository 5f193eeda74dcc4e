"""What another machine has set aside leaves its place here, too, or training would go on from it and store it again.

A file follows only while it is as this machine last stored or brought it, and by a rename: nothing is copied, and a
killed pull leaves it at one of its two places.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.errors import BitnetError, explained
from bitnet_core.files import fsync_folder
from bitnet_core.storage.here import Here
from bitnet_core.storage.layout import Known, Stored, place_before
from bitnet_core.storage.replaced import PROJECTION, projection_of
from bitnet_core.storage.snapshot import version_of
from bitnet_core.storage.state import State


@dataclass(frozen=True)
class Move:
    """A file that the state no longer has where it is here. `to` has its content; None for an older projection's."""

    name: str
    to: Stored | None


class Following:
    """The moves of one pull of the files `wanted`, of all that are `stored`."""

    def __init__(self, here: Here, state: State, stored: Mapping[str, Stored], wanted: list[Stored]) -> None:
        self._here = here
        self._state = state
        self.moves = [*self._found(stored, wanted)]

    def renames(self) -> dict[str, Stored]:
        """The files that a rename brings to a place where nothing is yet, by their old names."""
        return {
            move.name: move.to
            for move in self.moves
            if move.to and not os.path.lexists(self._here.path_of(move.to.name))
        }

    def rename(self, name: str, to: Stored) -> bool:
        """Give the file its new name. False where that is on another disk: then it must be brought."""
        old, new = self._here.path_of(name), self._here.path_of(to.name)
        self._here.require_inside(old)
        self._here.require_inside(new)
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            old.rename(new)
            fsync_folder(new.parent)
            fsync_folder(old.parent)
            version = version_of(new.stat())
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            raise _unmoved(old, error) from error
        self._state.know(to.name, version, Known(to.sha256, to.part_bytes))
        self._state.share([to])
        self._forget(name)
        return True

    def remove_rest(self) -> list[str]:
        """Remove those that are at their old place still, where their content is elsewhere by now; returns which."""
        found = []
        for move in self.moves:
            path = self._here.path_of(move.name)
            if not (self._was(move.name, move.to) and self._here.has(move.to) if move.to else os.path.lexists(path)):
                continue  # it was renamed, or something newer was brought there
            self._here.require_inside(path)
            try:
                path.unlink()
            except OSError as error:
                raise _unmoved(path, error) from error
            self._forget(move.name)
            found.append(move.name)
        return found

    def _forget(self, name: str) -> None:
        """A file that the user has put back is the user's own: no later pull takes it away."""
        self._state.forget(name)
        self._state.unshare([name])

    def _found(self, stored: Mapping[str, Stored], wanted: list[Stored]) -> Iterator[Move]:
        aside = [(name, entry) for entry in wanted if (name := place_before(entry.name))]
        taken = set()
        # Of two copies with one content, the one that is not here yet.
        for name, entry in sorted(aside, key=lambda pair: os.path.lexists(self._here.path_of(pair[1].name))):
            if name not in taken and not _is_same(stored.get(name), entry) and self._was(name, entry):
                taken.add(name)
                yield Move(name, entry)
        complete = {one.name for one in wanted}
        for name in sorted(self._state.shared_names() - stored.keys()):
            folder = projection_of(name)
            if folder and f"{folder}{PROJECTION}" in complete and not self._here.is_changed(name):
                yield Move(name, None)

    def _was(self, name: str, entry: Stored) -> bool:
        """Whether the file with this name has the content of `entry` here, and was not changed here."""
        shared = self._state.shared(name)
        return shared is not None and entry.has(shared[1]) and not self._here.is_changed(name)


def _is_same(there: Stored | None, entry: Stored) -> bool:
    return there is not None and there.has(Known(entry.sha256, entry.part_bytes))


def _unmoved(path: Path, error: OSError) -> BitnetError:
    return BitnetError(
        f"{path} can't be moved {explained(error, 'check the permissions of its folder, and pull again')}."
    )
