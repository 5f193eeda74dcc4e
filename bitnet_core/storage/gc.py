"""Collect garbage: what no manifest that counts names, once it is old enough that nobody can be writing it.

What counts is the newest complete manifest, the newest one, and its parent. Age is by the target's own clock.
"""

import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from bitnet_core.storage import manifest as manifests
from bitnet_core.storage import turn
from bitnet_core.storage.apart import require_none_of_an_experiment
from bitnet_core.storage.target import TEMPORARY, Found, Target

GRACE_SECONDS = 7 * 86400.0


@dataclass
class Garbage:
    """What can be removed, and what is unreferenced but too young."""

    old: list[Found] = field(default_factory=list)
    young: list[Found] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """The newest manifests, if they can't be read: nothing is garbage then."""


def find(target: Target, grace_seconds: float = GRACE_SECONDS, *, look_only: bool = False) -> Garbage:
    """Objects of an experiment's place that are not needed. None is garbage while the newest manifest can't be read.

    With `look_only` nothing is written there, and age is by this machine's clock.
    """
    now = time.time() if look_only else _target_time(target)
    listed = list(target.list(""))
    require_none_of_an_experiment(target, listed)
    kept = _kept(target, {one.key: one.size for one in listed})
    found = _by_age((one for one in listed if kept and one.key not in kept), now, grace_seconds)
    found.unreadable = [] if kept else manifests.damaged(target)
    return found


def find_temporary(target: Target, grace_seconds: float = GRACE_SECONDS, *, look_only: bool = False) -> Garbage:
    """What killed writers left at the target's root. `look_only` as for `find`."""
    now = time.time() if look_only else _target_time(target)
    # The time in their names is by the clock of the machine that wrote them.
    return _by_age(target.list(TEMPORARY), now, grace_seconds)


def _by_age(unneeded: Iterable[Found], now: float, grace_seconds: float) -> Garbage:
    found = Garbage()
    for one in unneeded:
        # An object of unknown age is as young as can be.
        age = now - one.modified if one.modified is not None else 0.0
        (found.old if age > grace_seconds else found.young).append(one)
    return found


def remove(target: Target, garbage: Garbage) -> int:
    """Delete the old ones; returns their bytes. Manifests first, so that none looks complete without its objects."""
    ordered = sorted(garbage.old, key=lambda one: not one.key.startswith(manifests.FOLDER))
    for one in ordered:
        target.delete(one.key)
    return sum(one.size for one in ordered)


def remove_unneeded(target: Target, garbage: Garbage, writer: str, stop: threading.Event | None = None) -> int:
    """As `remove`, of an experiment's place: with the turn to publish, and only what is still not needed then."""
    counter = manifests.counter_of(next(iter(manifests.keys(target)), "")) or 0
    with turn.turn(target, turn.fresh_token(writer), counter + 1, stop) as held:
        if any(one.key == turn.KEY for one in garbage.old):  # no request takes that long
            held.late = 0
        kept = _kept(target, {one.key: one.size for one in target.list("")})
        garbage.old = [one for one in garbage.old if kept and one.key not in kept and one.key != turn.KEY]
        return remove(target, garbage)


def _kept(target: Target, sizes: dict[str, int]) -> set[str]:
    """The objects of the manifests that count, and those manifests; empty if there is none."""
    kept: set[str] = set()
    newest, found_complete = None, False
    if manifests.damaged(target):
        return kept
    for published in manifests.published(target):
        complete = all(one.is_among(sizes) for one in published.manifest.files)
        # One between the newest and its parent is of a machine that was cut off: it arrived too late.
        if newest is None or published.key == newest.manifest.parent or (complete and not found_complete):
            kept |= {published.key, *published.manifest.objects()}
        newest = newest or published
        found_complete = found_complete or complete
    return kept


def _target_time(target: Target) -> float:
    """The target's clock, read from an object written now: this machine's may be wrong by years."""
    key = f"{TEMPORARY}{time.time():.0f}-{secrets.token_hex(6)}"
    target.put(key, b"")
    try:
        written = [one.modified for one in target.list(TEMPORARY) if one.key == key]
    finally:
        target.delete(key)
    return written[0] if written and written[0] is not None else time.time()
