"""Keys that were given on the command line by mistake: refused in a sentence that repeats none of them.

Others can read a command line and the shell keeps it, so such a key is no secret any more. Knows names of secrets and
of our own words; whatever else stands where a key was meant is taken for one, and remembered to be masked.
"""

import itertools
import re
from collections.abc import Iterable, Sequence

from bitnet_core.errors import UsageError
from bitnet_core.secrets import known
from bitnet_core.settings import SECRET_NAMES

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_ASSIGNED = re.compile(r"-*([A-Za-z][A-Za-z0-9_]*)\s*[=:]\s*(.*)", re.DOTALL)
_WORD = re.compile(r"[a-z]{1,10}")
"""An action or a place, perhaps misspelt."""
_OPTION = re.compile(r"--?[a-z-]{0,12}")
_ONE_NAME = ("set", "delete")


def refuse_values(assignments: Sequence[str], rest: Sequence[str]) -> None:
    """`assignments` are those of `--set`, `rest` the command and what follows it. UsageError for a key among them."""
    for text in assignments:
        if _assigned(text):
            raise _given(_assigned(text), [_ASSIGNED.sub(r"\2", text)])
        if text.strip("=: ") in SECRET_NAMES:
            raise _given(text.strip("=: "), [word for word in rest[1:] if not word.startswith("-")] + list(rest[:1]))
    for text in rest:
        if _assigned(text) and len(text.split()) == 1:  # a question to `bitnet chat` may well begin so
            raise _given(_assigned(text), [_ASSIGNED.sub(r"\2", text)])
    if rest[:1] == ["keys"]:
        _check_keys(rest[1:])
    else:
        for name, after in itertools.pairwise(rest):
            if name in SECRET_NAMES:
                raise _given(name, [after])


def quotable(name: str) -> bool:
    """Whether a message may repeat what was given for a name."""
    return _NAME.fullmatch(name) is not None


def _check_keys(words: Sequence[str]) -> None:
    plain: list[str] = []
    foreign: list[str] = []
    before = ""
    for word in words:
        if before == "--to" or (word.startswith("--to=")):
            place = word.removeprefix("--to=")
            foreign += [] if _WORD.fullmatch(place) else [place]
        elif word.startswith("-"):
            option, _, value = word.partition("=")
            foreign += [] if _OPTION.fullmatch(option) else [option]
            foreign += [value] if value else []
        else:
            plain.append(word)
        before = word
    if plain and _WORD.fullmatch(plain[0]):
        action, *names = plain
    else:
        action, names = "", plain
    foreign += [name for name in names if not quotable(name)]
    if action in _ONE_NAME and len(names) > 1 and names[0] in SECRET_NAMES:
        foreign += [name for name in names[1:] if name not in SECRET_NAMES]
    if foreign:
        raise _given(next((name for name in names if name in SECRET_NAMES), ""), foreign)


def _assigned(text: str) -> str:
    """The secret's name in `NAME=value` or `NAME:value`; empty for anything else."""
    found = _ASSIGNED.fullmatch(text)
    name = found[1].upper() if found else ""
    return name if name in SECRET_NAMES else ""


def _given(name: str, values: Iterable[str]) -> UsageError:
    known.remember(values)
    return UsageError(
        "A value was given on the command line, where others can read it and the shell's history keeps it; change "
        f"that key where it was made, and pipe the new one into `bitnet keys set {name or 'NAME'}`."
    )
