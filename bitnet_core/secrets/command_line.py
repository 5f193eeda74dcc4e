"""Refuses keys that were given on the command line by mistake, in a sentence that repeats none of them.

Others can read a command line and the shell keeps it, so such a key is not secret any more. This module knows the
names of secrets and what our own words look like; anything else where a key may have been meant counts as one.
"""

import itertools
import re
from collections.abc import Sequence

from bitnet_core.errors import UsageError
from bitnet_core.settings.registry import SECRET_NAMES

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_ASSIGNED = re.compile(r"-*([A-Za-z][A-Za-z0-9_]*)\s*[=:].*", re.DOTALL)
_WORD = re.compile(r"[a-z]{1,10}")
"""An action or a place, perhaps misspelled."""
_OPTION = re.compile(r"--?[a-z-]{0,12}")
_FOR_A_KEY = re.compile(r"--?(?:[a-z]+[-_])*(?:api[-_]?key|key|token|secret|password|value)", re.IGNORECASE)
"""Options for a key in other programs; we have none."""
_ONE_NAME = ("set", "delete")
_ADDRESS = re.compile(r"https?://[^\s@?#]+", re.IGNORECASE)
"""What `keys allow` and `disallow` take besides a name. A key may be before an @, or in a query."""
_PLACES = ("keyring", "vault")


def refuse_values(assignments: Sequence[str], rest: Sequence[str]) -> None:
    """UsageError if there is a key in `assignments` (those of `--set`) or `rest` (the command and what follows)."""
    for text in assignments:
        if name := _assigned(text) or (text if text in SECRET_NAMES else ""):
            raise _refusal(name)
    for text in rest:
        if _FOR_A_KEY.fullmatch(text.partition("=")[0]):
            raise _refusal("")
        if len(text.split()) == 1 and (name := _assigned(text)):  # a question to `bitnet chat` may begin like this
            raise _refusal(name)
    if rest[:1] == ["keys"]:
        _check_keys(rest[1:])
    elif name := next((one for one, _ in itertools.pairwise(rest) if one in SECRET_NAMES), ""):
        raise _refusal(name)


def in_full(name: str) -> str:
    """A secret's name in upper case, however it was typed; any other name unchanged."""
    return name.upper() if name.upper() in SECRET_NAMES else name


def quotable(name: str) -> bool:
    """Whether a message may repeat what was given as a name: it may be a key instead."""
    return _NAME.fullmatch(name) is not None


def _check_keys(words: Sequence[str]) -> None:
    plain: list[str] = []
    foreign = False
    before = ""
    for word in words:
        option, _, value = word.partition("=")
        if before == "--to" or option == "--to":
            place = word if before == "--to" else value
            foreign |= bool(place) and not _WORD.fullmatch(place) and place.lower() not in _PLACES
        elif word.startswith("-"):
            foreign |= not _OPTION.fullmatch(option) or bool(value)
        else:
            plain.append(word)
        before = word
    action, *names = plain if plain and _WORD.fullmatch(plain[0]) else ["", *plain]
    if action in ("allow", "disallow") and len(names) == 2 and _ADDRESS.fullmatch(names[1]):
        names = names[:1]
    names = [in_full(name) for name in names]
    foreign |= not all(map(quotable, names))
    if action in _ONE_NAME and names[:1] and names[0] in SECRET_NAMES:
        foreign |= not set(names) <= SECRET_NAMES
    if foreign:
        raise _refusal(next((name for name in names if name in SECRET_NAMES), ""))


def _assigned(text: str) -> str:
    """The secret's name in `NAME=value` or `NAME:value`; empty for anything else."""
    found = _ASSIGNED.fullmatch(text)
    name = found[1].upper() if found else ""
    return name if name in SECRET_NAMES else ""


def _refusal(name: str) -> UsageError:
    return UsageError(
        "A value was given on the command line, where others can read it and the shell's history keeps it; change "
        f"that key where it was made, and pipe the new one into `bitnet keys set {name or 'NAME'}`."
    )
