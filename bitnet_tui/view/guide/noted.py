"""Notes as people write them, made plain: each setting on a line of its own, as "label: value".

Below a heading, each label gets the word for the teacher or the target that the heading names.
Only lines whose labels are known change: of lists and tables, with emphasis or arrows, or with two settings.
"""

import csv
import re
from collections.abc import Iterator
from typing import NamedTuple

from bitnet_tui.view.guide.addresses import COLON, looks_like_one
from bitnet_tui.view.guide.vocabulary import (
    Told,
    of_teacher,
    only_names_owner,
    owner_in,
    setting_called,
    told,
)

_LABEL = r"([A-Za-z][\w .,'()/&+-]{0,48}?)"
_SENTENCE = re.compile(r"^(\S+?)[,;.]?(?:(?<=[,;.])\s.*)?$")
_SIGNS = (
    re.compile(rf"{_LABEL}\s*(?:=>?|{COLON}|：|[-—]>|→|\u21d2)\s*(\S.*)"),
    re.compile(rf"{_LABEL}(?:\t\s*|\s+(?:[-–—]|is)\s+)(\S.*)"),
)
"""What is between a label and its value."""
_NO_SIGN = re.compile(r"([A-Za-z][\w .'()-]{0,48}?)\s+(\S+)")
_MARKS = re.compile(
    r"(?:>\s*)*(?:[^\w\s\"'`\[({<|#*/+•–-]+\s+)?(?:(?:[-*+•–]|\d{1,2}[.)]|#{2,6})\s+)?(?:\[[ xX]?\]\s+)?"
)
"""What a line of a list or of a quotation begins with, and a heading that may have a value."""
_EMPHASIS = re.compile(r"(\*{1,3}|_{2,3}|`)(.+?)\1")
_EMPHASISED = re.compile(rf"{_EMPHASIS.pattern}\s*(.*)")
_HEADING = re.compile(r"#{1,6}\s+\S.*|\S.*:|(\*{1,2}|__)\S.*\1:?")
_RULE = re.compile(r"(?=.*(?:--|==))[-=|: ]*")
"""Below a heading or the first row of a table."""
_CELLS = re.compile(r"\|([^|]+)\|([^|]+)\|.*")
_IN_BRACKETS = re.compile(r"(.*\S)\s*\(([^()]+)\)")
_NEXT = re.compile(r"[,;]\s+(?=[A-Za-z])")
_BEFORE_A_SIGN = re.compile(r"(?:[,;]|(?<!\s))\s+(?=[A-Za-z][\w.-]*\s*[:=](?!\d|//))")
"""Where the last word of a label begins that is in the middle of a line."""
_WORD = re.compile(r"[\w.-]+")
_SHELLS = re.compile(r"(?:set\s+|export\s+|\$env:)(?=\w+\s*=)", re.IGNORECASE)
_AND = re.compile(r"(?:(?<!\s)\s++)?(?:/|&|\+|,|\band\b)\s*")
_BETWEEN = tuple(map(re.compile, (r"(?<!\s)\s++(?:/|&|\+|:|\||and)\s+", r"[,;]\s*", r"\s+", r"/", r":")))
"""What is between two values, the surest first: a key may have a slash in it."""
_QUOTED = re.compile(r"""(?P<one>(?P<quote>['"`]|\*\*).+?(?P=quote))(?:[,;]|\s+(?:#|//|\().*)""")
_LINKED = re.compile(r"<(?P<one>\S+)>|\[[^\]]*\]\((?P<other>\S+)\)")
_ASIDE = re.compile(r"(?P<one>\S+)\s+(?:\(.*\)|(?:#|//|[-–—])\s.*)")
"""What a note adds to a value."""
_NO_WORD = re.compile(r"[^\w.-]+")
_ASSIGNED = re.compile(r"(\w+)\s*=")
_FOLDER = re.compile(r"(?i)folder|path|dir|root|mounted")
_MOST_LINES, _LONGEST = 400, 4000
_ADDRESS_AND_MODEL = _TWO_ROWS = 2
_MOST_BEFORE = 2
"""The most words of a label before its last one."""
_ENOUGH = 3
"""How many labels and headings a text must have before a word and a value beside it are read as a setting."""


class _Said(NamedTuple):
    label: str
    value: str
    told: Told

    @property
    def line(self) -> str:
        return f"{_NO_WORD.sub(' ', self.label).strip()}: {self.value}"


def in_plain_lines(text: str) -> str:
    """The text with each line that is understood as `label: value`, and with each heading as a comment."""
    lines = text.split("\n")
    if sum(bool(line.strip()) for line in lines) > _MOST_LINES or len(max(lines, key=len)) > _LONGEST:
        return text
    lines = list(_joined(_ruled(_rows(lines))))
    found = [one for line in lines for one in _settings_in(line, loose=True)]
    loose = sum(1 + (one.told.owner != "") for one in found) + sum(bool(_owner(one)) for one in lines) >= _ENOUGH
    plain, owner = [], ""
    for line in lines:
        headed = None if _settings_in(line, loose=loose) else _owner(line)
        if headed is not None:
            owner = headed
            plain.append(f"# {line.strip()}")
        elif some := _settings_in(line, loose=loose):
            plain += [_owned(one, owner).line for one in some]
        else:
            plain.append(_unmarked(line) if _assigns(_unmarked(line)) else line)
    return "\n".join(plain)


def _rows(lines: list[str]) -> list[str]:
    """The two rows of a file such as AWS's `accessKeys.csv` as lines; any other lines as they are."""
    filled = [line for line in lines if line.strip()]
    if len(filled) != _TWO_ROWS or "," not in filled[0]:
        return lines
    labels, values = (next(csv.reader([one]), []) for one in (filled[0].lstrip("\ufeff"), filled[1]))
    if len(labels) != len(values) or not all(map(told, labels)):
        return lines
    return [f"{one}: {value}" for one, value in zip(labels, values, strict=True)]


def _ruled(lines: list[str]) -> Iterator[str]:
    """The lines without rules: what is above one is a heading, or the first row of a table, which says nothing."""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line.strip() and _RULE.fullmatch(below.strip()):
            yield "" if _CELLS.fullmatch(line.strip()) else f"# {line.strip()}"
        elif not _RULE.fullmatch(line.strip()) or not line.strip():
            yield line


def _joined(lines: Iterator[str]) -> Iterator[str]:
    """The lines, with a value that is below its label behind it."""
    waiting = ""
    for line in lines:
        if waiting and line.strip():
            alone = not (_settings_in(line, loose=True) or _assigns(_unmarked(line))) and _owner(line) is None
            yield from [f"{waiting} {line.strip()}"] if alone else [waiting, line]
            waiting = ""
        elif (known := told(_unmarked(line).removesuffix(":"))) and known.word and line.rstrip().endswith(":"):
            waiting = line.rstrip()
        elif not waiting:
            yield line
    if waiting:
        yield waiting


def _owner(line: str) -> str | None:
    """Whose settings a heading says that the lines below it are; empty if it is another one, None for no heading."""
    bare = line.strip()
    if not bare or _assigns(bare.lstrip("# ")):
        return None
    named = owner_in(bare)
    marked = _HEADING.fullmatch(bare) is not None
    if marked and not named and bare.endswith(":") and bare[0] not in "#*_":
        return None
    return named if marked or (named and only_names_owner(bare)) else None


def _owned(one: _Said, owner: str) -> _Said:
    """The setting with the word for its heading's owner before its label, if it may be one of that."""
    label = f"{owner} {one.label}"
    known = told(label) if owner and not one.told.owner and not setting_called(one.label) else None
    return _Said(label, one.value, known) if known else one


def _assigns(line: str) -> bool:
    """Whether a line is one of a `.env`."""
    name = _ASSIGNED.match(line)
    return name is not None and setting_called(name[1]) != ""


def _unmarked(line: str) -> str:
    """A line of a list, a table or a quotation without its marks and the emphasis of its label."""
    bare = line.strip()
    bare = bare[marks.end() :] if (marks := _MARKS.match(bare)) else bare
    bare = bare[shells.end() :] if (shells := _SHELLS.match(bare)) else bare
    if cells := _CELLS.fullmatch(bare):
        name = _EMPHASIS.sub(r"\2", cells[1].strip()).rstrip(":")
        bare = f"{name}: {cells[2].strip()}"
    if (stressed := _EMPHASISED.fullmatch(bare)) and stressed[3]:
        return f"{stressed[2]} {stressed[3]}"
    return f"{stressed[2]}" if stressed and _assigns(stressed[2]) else bare


def _settings_in(line: str, *, loose: bool) -> list[_Said]:
    """The settings of a line that is wholly understood: mostly one. `loose`: no sign before the value is needed."""
    bare = _unmarked(line)
    if _assigns(bare):
        return []
    whole = _read(bare, loose=loose)
    if len(whole) > 1:
        return whole
    for pieces, sign in ((_NEXT.split(bare), False), (_inline(bare), True)):
        each = [_read(one, loose=loose and not sign) for one in pieces]
        if len(pieces) > 1 and all(each):
            return [one for some in each for one in some]
    return whole


def _inline(bare: str) -> list[str]:
    """The settings of a line such as "address: … access key: …", each with all the words of its label."""
    *pieces, last = _BEFORE_A_SIGN.split(bare)
    found: list[str] = []
    for piece in reversed(pieces):
        words, key = piece.split(), _WORD.match(last)
        most = next((one for one in range(_MOST_BEFORE, 0, -1) if key and told(" ".join([*words[-one:], key[0]]))), 0)
        kept, moved = words[: len(words) - most], words[len(words) - most :]
        found.append(" ".join([*moved, last]))
        last = " ".join(kept)
    return [one for one in (last, *reversed(found)) if one]


def _read(bare: str, *, loose: bool) -> list[_Said]:
    for pattern in (*_SIGNS, *([_NO_SIGN] if loose else [])):
        one = pattern.fullmatch(bare)
        value = _alone(one[2], one[1]) if one else ""
        if pattern is _SIGNS[1]:  # in a sentence, the rest is not part of the value
            value = _SENTENCE.sub(r"\1", value)
            one = one if len(value.split()) == 1 else None
        found = _said(one[1].strip(), value) if one else []
        if found and (pattern is not _NO_SIGN or found[0].told.word or looks_like_one(found[0].value)):
            return found
    return []


def _alone(written: str, label: str) -> str:
    """A value without what a note has around it. The name of a folder may have brackets."""
    value = written.strip()
    if one := _QUOTED.fullmatch(value) or (None if _FOLDER.search(label) else _ASIDE.fullmatch(value)):
        value = one["one"]
    if (link := _LINKED.fullmatch(value)) and looks_like_one(address := link["one"] or link["other"]):
        return address
    return value.rstrip(",;") if looks_like_one(value.rstrip(",;")) else value


def _said(label: str, value: str) -> list[_Said]:
    """What a label says of a value: one setting, or two."""
    if about := _IN_BRACKETS.fullmatch(label):  # "Key (teacher)"
        known = told(f"{about[2]} {about[1]}")
        label = f"{about[2]} {about[1]}" if known else about[1]
    known = told(label)
    if known is None:
        return _two(label, value)
    return [_Said(label, value, known)] if known.word else _of_owner(label, known.owner, value)


def _of_owner(label: str, owner: str, value: str) -> list[_Said]:
    """What is behind the word for an owner: its address, and of a teacher the model. Otherwise left as it is."""
    words = value.split()
    if of_teacher(owner) and len(words) == _ADDRESS_AND_MODEL and looks_like_one(words[0].rstrip(",")):
        address, model = (f"{owner} {one}" for one in ("address", "model"))
        return [*_said(address, words[0].rstrip(",")), *_said(model, words[1])]
    return [_Said(label, value, Told("", owner))]


def _two(label: str, value: str) -> list[_Said]:
    """Two settings in one line, as "user / password: me / 17abc"."""
    labels = _AND.split(label)
    first = told(labels[0])
    values = next((some for one in _BETWEEN if len(some := one.split(value, maxsplit=1)) == len(labels)), None)
    if first is None or not first.word or values is None or len(labels) == 1 or not all(values):
        return []
    second = f"{first.owner} {labels[1]}".strip()
    known = told(second) or told(labels[1])
    if known is None or not known.word:
        return []
    return [_Said(labels[0], values[0], first), _Said(second if told(second) else labels[1], values[1], known)]
