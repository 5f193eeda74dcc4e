"""The newest state of a copy that can be read, and what of it is missing."""

import time
from dataclasses import dataclass

from bitnet_core.errors import BitnetError
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.manifest import Published
from bitnet_core.storage.target import NoSuchObject, Target


@dataclass(frozen=True)
class Newest:
    """The newest readable state, the names of its files that are not all there, and a sentence if it is old."""

    published: Published
    lacking: frozenset[str] = frozenset()
    warning: str = ""


class NothingThere(BitnetError):
    """A place that holds no experiment."""


def newest_state(target: Target) -> Newest:
    """The newest state, even where a part of it is missing: an older one must not pass for it."""
    while True:
        found = manifests.keys(target)
        published, unreadable = _readable(target, found)
        # Listed after the manifest was read: a push that ends meanwhile adds to it, and removes what is older.
        listed = {one.key: one.size for one in target.list("")}
        lacking = frozenset(entry.name for entry in published.manifest.files if not entry.is_among(listed))
        if not lacking or manifests.keys(target) == found:
            break
    warning = ""
    if unreadable:
        made = published.manifest
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(made.created))
        warning = (
            f"The newest state at {target.place} can't be read ({unreadable} is damaged), so this is an older one, "
            f"state {made.counter} of {when}; run `bitnet store push --verify` on the machine that stored the newest."
        )
    return Newest(published, lacking, warning)


def _readable(target: Target, keys: list[str]) -> tuple[Published, str]:
    """The newest manifest that can be read, and the key of a newer one that can't."""
    unreadable = ""
    for key in keys:
        try:
            return manifests.read(target, key), unreadable
        except manifests.Damaged:
            unreadable = unreadable or key
        except NoSuchObject:
            continue
    if unreadable:
        raise BitnetError(
            f"Nothing can be brought from {target.place}: no manifest there can be read; run `bitnet store push "
            "--verify` on the machine that has the experiment."
        )
    raise NothingThere(
        f"Nothing can be brought from {target.place}: it holds no experiment; `bitnet store push` stores one."
    )
