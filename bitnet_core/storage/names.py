"""Names of objects: which are allowed, and how a target that takes fewer characters escapes the others.

A key is a relative POSIX path in NFC: no empty segment, no `.` or `..`, no control character, no backslash, not deep.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bitnet_core.errors import BitnetError
from bitnet_core.storage.target import Limits
from bitnet_core.text import printable

_ESCAPE = "="
_ESCAPED = re.compile(r"(?:=[0-9A-F]{2})+")
_RESERVED = re.compile(r"\.(?:parts|revisions|versions)$")
"""How the folders end that hold the parts and the revisions of a file (`layout.py`). SeaweedFS hides what is in a
folder that ends with `.versions`: there it keeps versions of its own."""

_DEEPEST, _DEEPEST_FILE = 100, 64
"""Folders above an object, and above a file, whose revisions and parts are deeper. Python makes and removes folders
by recursion, as other programs do."""

_FOLDER_ENDING = ".revisions"
_LONGEST_ENDING = f"{_FOLDER_ENDING}/000000-00000000.parts/index.json"
"""What `layout.py` may append to the name of a file once it has changed."""


def fault(key: str) -> str:
    """Why no object may have this key, as a clause; empty if it may."""
    if not key or key.startswith("/") or any(segment in ("", ".", "..") for segment in key.split("/")):
        return "it is not a relative path without . and .."
    if key.count("/") > _DEEPEST:
        return f"it is in more than {_DEEPEST} folders"
    if any(not char.isprintable() or char == "\\" for char in key):
        return "it has a control character, a lone surrogate, a backslash or an unusual blank"
    if unicodedata.normalize("NFC", key) != key:
        return "it is not in Unicode's composed form (NFC)"
    return ""


def faults(keys: Iterable[str], limits: Limits, stored: Iterable[str] = ()) -> Iterator[str]:
    """A sentence for each key that the target can't hold, and for each that it would take for another one.

    `stored` are the keys that it has already.
    """
    there = {path.casefold(): path for key in stored for path in _paths(key)} if not limits.case_sensitive else {}
    folded = dict(there)
    told: set[str] = set()
    for key in keys:
        if why := fault(key) or _too_long(key, limits):
            yield f"{printable(key)} can't be stored: {why}; rename it."
        for path in () if limits.case_sensitive else _paths(key):
            twin = folded.setdefault(path.casefold(), path)
            if twin == path or path in told:
                continue
            told.add(path)
            if path.casefold() in there:
                twin_is, fix = f"{printable(twin)}, which is stored,", "it"
            else:
                twin_is, fix = printable(twin), "one of them"
            yield f"{printable(path)} and {twin_is} differ only in upper and lower case; rename {fix}."


def _paths(key: str) -> Iterator[str]:
    """The key and its folders: a service shows a folder in the letters of who made it."""
    yield from (key[: found.start()] for found in re.finditer("/", key))
    yield key


def _too_long(key: str, limits: Limits) -> str:
    """Why a file's name is too long, as a clause: its revisions and parts, which come later, must fit as well."""
    if key.count("/") > _DEEPEST_FILE:
        return f"it is in more than {_DEEPEST_FILE} folders"
    spelled = limits.spelled(key)
    escaped = ", as the target escapes it," if spelled != key else ""
    if len((spelled + _LONGEST_ENDING).encode()) > limits.key_bytes:
        most = limits.key_bytes - len(_LONGEST_ENDING)
        return f"its path{escaped} is longer than {most} bytes"
    most = limits.segment_bytes - len(_FOLDER_ENDING)
    *folders, file = spelled.split("/")
    if len(file.encode()) > most or any(len(folder.encode()) > limits.segment_bytes for folder in folders):
        return f"a part of its path{escaped} is longer than {most} bytes"
    return ""


def is_reserved(name: str) -> bool:
    """Whether a file's name is one that parts or versions of another file might have."""
    return any(_RESERVED.search(segment) for segment in name.split("/"))


def require_key(key: str) -> None:
    """BitnetError for a key that is not allowed, such as one from a manifest that others wrote."""
    if why := fault(key):
        raise BitnetError(f"{printable(key)[:200]} is not the name of an object: {why}.")


FIRST = "(?<![^/])"
"""Where a segment begins, for `Escaping.unless`."""
LAST = "(?![^/])"
"""Where a segment ends."""


@dataclass(frozen=True)
class Escaping:
    """A reversible spelling with fewer characters: others become `=XX`, the bytes of their UTF-8."""

    allowed: str
    """The characters that stay as they are, as inside a regular expression's brackets; `=` and `/` are apart."""
    unless: str = r"(?!)"
    """Where one of them must not stay, as a regular expression; `FIRST` and `LAST` help."""

    def escape(self, key: str) -> str:
        return re.sub(rf"[^{self.allowed}/]|=|{self.unless}", lambda found: _escaped(found[0]), key)

    def unescape(self, name: str) -> str | None:
        """The key; None for a name that `escape` does not make, such as one of another program's objects."""
        try:
            key = _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace(_ESCAPE, "")).decode(), name)
        except ValueError:
            return None
        return key if self.escape(key) == name else None


def _escaped(char: str) -> str:
    return "".join(f"{_ESCAPE}{byte:02X}" for byte in char.encode())
