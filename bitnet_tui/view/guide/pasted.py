"""Settings that are pasted into the guide: as in a `.env`, a shell's profile, AWS's own files, or by their labels."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bitnet_core.errors import UsageError
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings import dotenv
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.storage.catalog import KINDS
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.text import crop, listed, wrap
from bitnet_tui.labels import label, title
from bitnet_tui.view.guide import calls, labelled, storing
from bitnet_tui.view.guide.bare import with_labels
from bitnet_tui.view.guide.draft import (
    BACKEND,
    CHAT,
    EMBEDDED,
    HERE,
    TEACHER,
    Draft,
    asks_address,
    of_settings,
    wrong,
)
from bitnet_tui.view.guide.keylike import is_long, labels_of_keys, may_be_shown, tells_a_secret
from bitnet_tui.view.guide.noted import in_plain_lines
from bitnet_tui.view.guide.vocabulary import setting_called
from bitnet_tui.view.typed import plain_value

_SECTION = re.compile(r"^[^\S\n]*\[([^\]\n]*)\][^\S\n]*$", re.MULTILINE)
_ASSIGNED = re.compile(r"^[^\S\n]*(?:export[^\S\n]+)?(\w+)[^\S\n]*=", re.MULTILINE)
_FOR_A_SHELL = re.compile(r"\$\{?\w+\}?|.*;\s*(?:export|set)\s.*")
"""What only a shell would make a key of."""
_NAME = re.compile(r"[A-Z][A-Z\d]*(?:_[A-Z\d]+)+")
_NOT_PASTED = ("Place", "Keys", "Notifications")
"""Sections of one machine or user. A program that a notification starts is not to come with a text of others."""
_ACCOUNT = {"type", "private_key", "client_email"}
"""What the file of a service account has."""
_OPENAI, _OWN = PROVIDERS["openai"], PROVIDERS["custom"]
_TEACHERS_KEY = "TEACHER_API_KEY"
_OF_ANY_TEACHER = {"TEACHER_MODEL", "TEACHER_BASE_URL", _TEACHERS_KEY}
_LINES, _NAME_CELLS, _MOST_NAMES = 2, 18, 9
"""For the names that are told, and of each."""


@dataclass(frozen=True)
class Pasted:
    """What a text assigns: settings with their values, keys with theirs, and the names of what can't be taken.

    An empty key: the text says that there is none. One that has only the last was of keys, and would have shown them
    in a field. `left` is how many other lines there are, which may be anything, even a key: they are not shown.
    """

    values: Mapping[str, str]
    keys: Mapping[str, str]
    unknown: tuple[str, ...] = ()
    left: int = 0

    def words(self, cells: int) -> str:
        """What was taken, by the names on the page, and what was not: as many names as two lines hold."""
        some = [(names, 2) for names in range(_MOST_NAMES, 0, -1)]
        forms = [self._words(*most) for most in (*some, (0, 2), (0, 1), (0, 0))]
        return next((words for words in forms if len(wrap(words, cells)) <= _LINES), forms[-1])

    def _words(self, most: int, most_left: int) -> str:
        """The words with this many names of what was taken, and of what was not: the latter are news."""
        taken = (*self.values, *(name for name, one in self.keys.items() if one))
        names = [title(name) if name == BACKEND else label(name) for name in taken]  # no field has that name
        shown = [one for one in self.unknown if not _may_be_a_key(one)]
        left = self.left + len(self.unknown) - len(shown)
        rest = [*_shortened(shown, most_left, "name"), *([_number(left, "other line")] if left else [])]
        said = ("Taken" if rest else "Taken from what was pasted", _shortened(names, most, "setting"))
        return " ".join(f"{what}: {listed(some)}." for what, some in (said, ("Not taken", rest)) if some)


def _may_be_a_key(name: str) -> bool:
    """Whether what is before a sign may itself be a key, as in "17abc…: the key"."""
    long = any(map(is_long, name.split()))
    return Redactor()(name) != name or (long and not _NAME.fullmatch(name))


def _number(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _shortened(names: Iterable[str], most: int, noun: str) -> list[str]:
    found = list(dict.fromkeys(crop(name, _NAME_CELLS) for name in names))
    more = len(found) - most
    if most == 0:
        return [_number(more, noun)] if found else []
    return found if more <= most - 1 else [*found[:most], f"{more} more"]


def read(text: str, sections: str = "", draft: Draft | None = None, *, bare: bool = False) -> Pasted | None:
    """What a pasted text assigns, by names or by the labels of the forms; None for one without a setting of ours.

    Only settings of sections whose name begins with `sections` are taken. A text with a key in it is never None.
    With `bare`, lines without labels are taken by their form.
    """
    lines = _SECTION.sub(r"# \1", text.replace("\r\n", "\n").replace("\r", "\n"))  # a terminal pastes "\r"
    if bare:
        lines = with_labels(lines, draft or Draft(), of_storage=bool(sections))
    if (account := _json_object(lines)).keys() >= _ACCOUNT:
        return Pasted({}, {"FIREBASE_CREDENTIALS_JSON": json.dumps(account)})
    if whole := labelled.may_be_a_value(lines):
        return Pasted({}, {}, (whole,)) if tells_a_secret(whole) else None
    lines = in_plain_lines(labelled.unfolded(calls.in_lines(lines)))
    by_name = set(_ASSIGNED.findall(lines))
    lines = labelled.as_dotenv(lines, draft or Draft(), of_storage=bool(sections))
    named = _ASSIGNED.findall(lines)
    labels = [one for one in labelled.labels_of(lines) if one not in named]
    of_keys = [one for one in named if setting_called(one) in SECRET_NAMES]
    secret = bool(of_keys) or any(map(tells_a_secret, (*labels, *named)))
    if not secret and not any(map(setting_called, named)):
        return _refused(lines)
    try:
        parsed = dotenv.parse(lines, Path("the pasted text"))
    except UsageError:
        return Pasted({}, {}, (*of_keys, *labels)) if secret else None
    values: dict[str, str] = {}
    keys: dict[str, str] = {}
    unknown = [*labels, *(written for written in of_keys if written not in parsed.lines)]
    for written, as_typed in parsed.values.items():
        name = setting_called(written)
        value = labelled.given(name, plain_value(name, as_typed)) if name else as_typed
        if not name or not _may_be_pasted(name, value, sections):
            unknown.append(written if written in by_name or not name else label(name))
        elif name in SECRET_NAMES:
            keys[name] = value
        else:
            values[name] = value
    if not (values or keys or secret):
        return None
    each = lines.split("\n")
    return Pasted(
        values, keys, tuple(unknown), sum(not labelled.labels_of(each[one - 1]) for one in parsed.unreadable)
    )


def _refused(text: str) -> Pasted | None:
    """Of a text that nothing is taken from, the words for keys in it, which a field would show; None for others."""
    found = labels_of_keys(text)
    return Pasted({}, {}, found) if found else None


def _json_object(text: str) -> dict[str, Any]:
    if not text.lstrip().startswith("{"):
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _may_be_pasted(name: str, value: str, sections: str) -> bool:
    section = REGISTRY[name].section
    if not section.startswith(sections) or section in _NOT_PASTED:
        return False
    if name in SECRET_NAMES:
        return value.isprintable() and not _FOR_A_SHELL.fullmatch(value)
    return may_be_shown(name, value) and not wrong(name, value) and (name != BACKEND or value in KINDS)


def with_pasted(draft: Draft, keys: Mapping[str, str], pasted: Pasted) -> tuple[Draft, dict[str, str]]:
    """The draft and its typed keys with what was pasted; teacher and target are those that it is about."""
    values, found = {**pasted.values}, {**pasted.keys}
    teacher = values.get(TEACHER) or values.get(CHAT)
    if not teacher:
        _to_own_server(values, found)
        teacher = _teacher(draft, (*values, *found))
    if _TEACHERS_KEY in found and (name := PROVIDERS[teacher].key_setting) in REGISTRY:
        found = {name: found.pop(_TEACHERS_KEY), **found}
    backend = values.get(BACKEND) or _backend(draft, (*values, *found))
    made = of_settings({**draft.values, **values, TEACHER: teacher, BACKEND: backend}, draft.source)
    return replace(draft, values=made.having(BACKEND, backend).values), {**keys, **found}


def _to_own_server(values: dict[str, str], keys: dict[str, str]) -> None:
    """OpenAI's names with another address are how many programs are told of one's own server."""
    address = values.get(_OPENAI.base_url_setting, _OPENAI.base_url)
    if address.rstrip("/") == _OPENAI.base_url:
        return
    for place in (values, keys):
        for theirs, ours in (
            (_OPENAI.base_url_setting, _OWN.base_url_setting),
            (_OPENAI.model_setting, _OWN.model_setting),
            (_OPENAI.key_setting, _OWN.key_setting),
        ):
            if theirs in place:
                place[ours] = place.pop(theirs)


def _teacher(draft: Draft, names: Iterable[str]) -> str:
    """The teacher whose settings these are: the chosen one, or the first of the others."""
    given = set(names)
    about = [
        one.name for one in PROVIDERS.values() if given & {one.model_setting, one.base_url_setting, one.key_setting}
    ]
    now = draft.teacher.name
    has_place = asks_address(draft.teacher) or "TEACHER_BASE_URL" not in given
    if not about and given & _OF_ANY_TEACHER and (now == EMBEDDED or not has_place):
        return _OWN.name
    return now if now in about or not about else about[0]


def _backend(draft: Draft, names: Iterable[str]) -> str:
    """The target whose settings these are: the chosen one, or the first that has all that it needs.

    In the Storage step, where somebody pastes what a target needs, it may lack something.
    """
    given, now = set(names), draft.get(BACKEND)
    about = [name for name in KINDS if given & set(storing.fields(name))]
    if now in about or not about:
        return now
    ready = [name for name in about if KINDS[name].needs and set(KINDS[name].needs) <= given]
    may_lack = about[:1] if draft.step == "storage" and now == HERE else []
    return next(iter((*ready, *may_lack)), now)
