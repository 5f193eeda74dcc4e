"""Publish a manifest in our turn: only over the state that it was made from, and if all that was sent is there.

Knows no files of this machine.
"""

import contextlib
import threading
from collections.abc import Callable, Iterable

import msgspec

from bitnet_core.errors import BitnetError
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.layout import Stored
from bitnet_core.storage.manifest import Published
from bitnet_core.storage.state import State
from bitnet_core.storage.target import Target
from bitnet_core.storage.turn import fresh_token, turn

_DELETED_AT_ONCE = 16
"""Before it is looked whether the turn is still ours."""


class Overtaken(Exception):
    """Another machine has published meanwhile."""


class Lost(Exception):
    """Objects that were believed to have arrived are not there. `names` are their files."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.names = names


def publish(
    target: Target,
    state: State,
    made: Published,
    newest: str,
    sent: Callable[[], Iterable[Stored]],
    in_vain: Iterable[str] = (),
    stop: threading.Event | None = None,
) -> Published:
    """Put a manifest over the one with the key `newest`. Overtaken, or Lost if something `sent` is not there.

    Returns it with the number that it got: higher than that of any manifest that may still arrive. What has arrived
    `in_vain` is removed: in our turn, as another push may count on the same objects, and looks for them in its own.
    """
    left, token = state.note("turn"), fresh_token(state.writer)
    state.remember("turn", token)
    with turn(target, token, made.manifest.counter, stop, left=left) as held:
        if lost := _lost(target, sent()):  # now, as `gc` takes the turn too
            raise Lost(lost)
        if _newest(target) != newest:
            raise Overtaken
        made = _numbered(made, held.counter)
        state.remember("publishing", made.key)  # before it is there, or we would not know it for ours
        late, held.late = held.late, held.counter
        target.put(made.key, made.manifest.encode(), only_if_absent=True)
        # Where two may have the turn, the first one by its key counts; who took too long had it taken.
        if _newest(target) != made.key or not held.is_ours():
            target.delete(made.key)
            raise Overtaken
        held.late = late
        with contextlib.suppress(BitnetError):  # `gc` finds it
            for number, key in enumerate(in_vain):
                if number % _DELETED_AT_ONCE == 0 and not held.is_ours():
                    break
                target.delete(key)
    return made


def _numbered(made: Published, counter: int) -> Published:
    if counter == made.manifest.counter:
        return made
    manifest = msgspec.structs.replace(made.manifest, counter=counter)
    return Published(manifests.key_of(manifest), manifest)


def remove_superseded(target: Target, published: Published, unreadable: Iterable[str]) -> None:
    """Remove what only manifests before the last one name, and what can't be read.

    A failure is no harm: `gc` finds it.
    """
    parent = published.manifest.parent
    kept = published.manifest.objects()
    with contextlib.suppress(BitnetError):
        for key in unreadable:
            target.delete(key)
        before = manifests.read(target, parent) if parent else None
        if before is None or not before.manifest.parent:
            return
        oldest = manifests.read(target, before.manifest.parent)
        kept |= before.manifest.objects()
        # The manifest first: without its objects it would look complete for a moment.
        target.delete(oldest.key)
        for key in oldest.manifest.objects():
            if key not in kept:
                target.delete(key)


def _newest(target: Target) -> str:
    return next(iter(manifests.keys(target)), "")


def _lost(target: Target, entries: Iterable[Stored]) -> list[str]:
    """The files of which an object is not listed with its size."""
    wanted = list(entries)
    folders = {key.rpartition("/")[0] for entry in wanted for key, _ in entry.objects()}
    listed = {one.key: one.size for folder in folders for one in target.list(f"{folder}/" if folder else "")}
    return [entry.name for entry in wanted if not entry.is_among(listed)]
