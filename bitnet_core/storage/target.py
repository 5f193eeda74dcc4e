"""What a storage target is: five calls on small objects. Everything else stands once, above it.

A key is a relative POSIX path that `names.py` allows; a target maps it to a name of its own, reversibly. An object is
visible whole or not at all. A call is tried once: `patient.py` tries again what raised `Unreachable`. All calls may
come from several threads at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bitnet_core.errors import BitnetError
from bitnet_core.storage.digest import Digest, sha256

MIB = 1 << 20
OBJECT_BYTES = 32 * MIB
"""The largest object; a target's own limit may be smaller."""
TEMPORARY = "_temp/"
"""Where a target without atomic writes writes first. Its keys are `_temp/<Unix seconds>-<hex>`; `list` shows them."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Limits:
    """What a target can hold: bytes of an object, UTF-8 bytes of a key's segment and of a whole key."""

    object_bytes: int = OBJECT_BYTES
    segment_bytes: int = 255
    key_bytes: int = 1024
    case_sensitive: bool = True
    """Whether `a` and `A` are two objects."""
    workers: int = 4
    """How many calls at once it takes well."""
    spelled: Callable[[str], str] = str
    """How it writes a key, if it escapes some characters: what it writes must be within the limits."""


@dataclass(frozen=True)
class Found:
    """An object in a listing; `modified` is in Unix seconds by the target's clock, None if it does not say."""

    key: str
    size: int
    modified: float | None = None


@dataclass(frozen=True)
class Account:
    """What a target says of itself: the free bytes if it knows them, and what a user should know."""

    free_bytes: int | None = None
    note: str = ""


class NoSuchObject(BitnetError):
    """There is no object with this key."""


class Corrupt(BitnetError):
    """The object is there but is not what was put: a hash that the target keeps with it says so."""


class AlreadyThere(BitnetError):
    """An object with this key is there, and it was to be put only if absent."""


class Refused(BitnetError):
    """The target said no, and asking again would not help: wrong key, no permission, no space, no such bucket."""


class Nonsense(Refused):
    """Something other than the service has answered."""


def nonsense(where: str, expected: str, setting: str = "", elsewhere: str = "") -> Nonsense:
    """The error for an answer that is something else than `expected`, as a login page is: waiting does not mend it.

    `setting` is the one that gives the address of `where`; empty if none does. `elsewhere` is another fix.
    """
    address = f"{setting} is right and that " if setting else ""
    return Nonsense(
        f"{where} answers with something that is not {expected}; check that {address}this network asks for no "
        f"login{elsewhere}."
    )


class Unreachable(BitnetError):
    """The call may succeed later: no connection, a cut one, a busy server. `after` is the wait it asked for, in s.

    Whether a `put` or `delete` was done is not known.
    """

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Target(Protocol):
    """A place for objects. Errors: NoSuchObject, Corrupt, AlreadyThere, Refused, Unreachable, and no others."""

    name: str
    """Its STORAGE_BACKEND."""
    place: str
    """Where it is, for messages, without a secret: `s3://bucket/prefix/`."""
    limits: Limits

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        """Store an object durably, in the place of an older one unless `only_if_absent`."""

    def get(self, key: str) -> bytes:
        """The object's bytes, all of them: a short reply is `Unreachable`. NoSuchObject if there is none; Corrupt."""

    def list(self, prefix: str) -> Iterator[Found]:
        """Every object below a prefix, at any depth, in any order. A prefix is empty or ends with `/`."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""

    def check(self) -> Account:
        """Look whether the place is there and may be used, changing nothing. Refused says what to do if not."""


def holds(target: Target, key: str, data: bytes) -> bool:
    """Whether this object is there, with this content."""
    try:
        return target.get(key) == data
    except (NoSuchObject, Corrupt):
        return False


def get_checked(target: Target, key: str, check: Callable[[bytes], _T]) -> _T:
    """What `check` makes of an object; it raises Corrupt for one that is not as stored.

    That is read a second time: a reply that was cut or changed on the way is no damage where it is stored.
    """
    try:
        return check(target.get(key))
    except Corrupt:
        return check(target.get(key))


def get_stored(target: Target, key: str, digest: Digest) -> bytes:
    """The object with this hash. Corrupt if there is another one."""

    def check(data: bytes) -> bytes:
        if sha256(data) != digest:
            raise Corrupt(f"{target.place}{key} is not what was stored.")
        return data

    return get_checked(target, key, check)
