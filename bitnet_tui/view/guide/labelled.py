"""Notes that are pasted into the guide: lines such as "Address: …" or "api key = …", made lines of a `.env`."""

import json
import re
from typing import NamedTuple

from bitnet_core.settings import dotenv
from bitnet_core.settings.registry import SECRET_NAMES
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.labels import label
from bitnet_tui.view.guide.addresses import COLON, is_address, looks_like_one, scheme
from bitnet_tui.view.guide.draft import BACKEND, CHAT, TEACHER, Draft, step_of
from bitnet_tui.view.guide.keylike import VALUE, tells_a_secret
from bitnet_tui.view.guide.parts import models_in, parts, provider_of
from bitnet_tui.view.guide.vocabulary import (
    ADDRESSES,
    KEYS,
    OF_A_TEACHER,
    Told,
    is_of_target,
    named,
    plain,
    setting_called,
    told,
    wholly,
)

_LINE = re.compile(rf"(?:[-*•]\s+|export\s+)?([A-Za-z][\w .'-]{{0,40}}?)(\s*(?:=|{COLON})\s*|\t\s*)(\S.*)")
"""A label, what is behind it, and the value. Cells of a table have a tab."""
_SPACED = re.compile(rf"(?:[-*•]\s+)?([A-Za-z][\w.'-]{{0,20}}(?: [\w.'-]{{1,20}}){{0,3}})(\s+)({VALUE})")
"""The same without a sign between them, as `Bearer 1f9c…`; only a word for a key is a label then."""
_WORD = re.compile(
    r"(?i)(?:[-*•]\s+)?(bucket|region|model|teacher|s3|minio|address|endpoint|host|server|url)(\s+)(\S+)"
)
"""The same for words whose values are told by their form."""
_NAME = re.compile(r"[\w./-]+")
_NOT_IN_PROSE = re.compile(r"[\d/-]")
_PAIR = re.compile(
    r"""(["'])([A-Za-z][\w .-]{0,40})\1\s*:\s*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^\s,{}\[\]"']+)"""
)
"""A pair of a JSON object or of a dict."""
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token)\s+(?=\S+$)")
"""What is before a key in a header."""
_QUOTES = re.compile(r"(['\"`]|\*\*)(.*)\1")
_NOTHING = re.compile(
    r"""(?ix) [(<\[]? (?: [-–—]+ | n/?a | no(?:ne|t)? | null | nil | empty | (?:no|none|not)\ (?:api[ -]?)?(?:key\ ?)?
    (?:(?:is\ )?(?:needed|required|necessary|set|used))? ) \.? [)>\]]? (?: \s+\(.*\) | [,;]\s.* )?"""
)
"""What people write where there is no key."""


class _Labelled(NamedTuple):
    label: str
    sign: str
    """What is between label and value, with the blanks around it."""
    value: str


def given(name: str, value: str) -> str:
    """What a note gives a key or an address: `none` is empty, and an address gets its scheme."""
    if not (name in SECRET_NAMES or is_address(name)):
        return value
    if _NOTHING.fullmatch(value):
        return ""
    return scheme(value) + value if is_address(name) else value


def as_dotenv(text: str, draft: Draft, *, of_storage: bool = False) -> str:
    """The text with each line of a label that is understood as `NAME=value`.

    The labels are those of one form, the teacher's or a target's: of the one that fits best, and of those
    that fit as well the one at hand. Or of two, the one after the other. `of_storage`: only a target's.
    """
    lines = text.split("\n")
    found = {
        place: one
        for place, written in enumerate(lines)
        if (one := _labelled(written)) and not (setting_called(one.label) and one.sign.strip() == "=")
    }
    taken: dict[str, int] = {}
    labels = [(place, _told(one, draft)) for place, one in found.items()]
    for backend, part in parts(labels, draft, of_storage=of_storage):
        taken |= part
        if part and backend and backend != draft.backend:
            lines.append(f"{BACKEND}={backend}")
        if not backend and (provider := provider_of(labels, part)):
            lines.append(f"{TEACHER}={provider}")
    if not of_storage:
        taken = models_in(labels, frozenset(taken.values())) | taken
    for place, one in found.items():
        if name := _setting(one, draft):
            taken[name] = place
    for name, place in taken.items():
        lines[place] = f"{name}={dotenv.quoted(_value(name, found[place].value))}"
    return "\n".join(lines)


def has_label(line: str) -> bool:
    """Whether a line begins with a label. One such as `model:7b` may be a value, and a URL is one."""
    one = _labelled(line)
    return one is not None and not one.value.startswith("//") and not may_be_a_value(line)


def labels_of(text: str) -> list[str]:
    """The labels of all lines that have one."""
    return [one.label for written in text.split("\n") if (one := _labelled(written))]


def _labelled(written: str) -> _Labelled | None:
    word = _WORD.fullmatch(written.strip())
    if word and _fits_word(word[1].lower(), word[3]):
        return _Labelled(*word.groups())
    if one := _LINE.fullmatch(written.strip()):
        return _Labelled(*one.groups())
    spaced = _SPACED.fullmatch(written.strip())
    return _Labelled(*spaced.groups()) if spaced and tells_a_secret(spaced[1]) else None


def _fits_word(word: str, value: str) -> bool:
    """Whether a value without a sign before it is what the word stands for, and not the next word of a sentence."""
    if word in ("bucket", "region", "model"):
        return _NAME.fullmatch(value) is not None and (word == "bucket" or _NOT_IN_PROSE.search(value) is not None)
    return looks_like_one(value)


def unfolded(text: str) -> str:
    """The pairs of a pasted JSON object, of a dict, or of lines of one, each as a line of its own."""
    if text.lstrip()[:1] not in tuple("[{\"'") or not _PAIR.search(text):
        return text
    return "\n".join(f"{one[2]}: {_unquoted(one[3])}" for one in _PAIR.finditer(text) if one[3] != "null")


def _unquoted(written: str) -> str:
    value = written[1:-1] if written[0] in "\"'" else written
    if written[0] == '"':
        try:
            value = json.loads(written)
        except ValueError:
            return value
    return value if value.isprintable() else written[1:-1]


def may_be_a_value(text: str) -> str:
    """What looks like a label in a text such as `model:7b`, which is a value as a whole; empty for another text."""
    one = _LINE.fullmatch(text.strip())
    if (
        one is None
        or one[2] != ":"
        or "://" in one[3]
        or one[3].startswith("//")
        or setting_called(one[1])
        or plain(one[1]) in KEYS
    ):
        return ""
    return one[1]


def only_secret(text: str) -> str:
    """The value of a text that is one line whose label is a word for a key; empty if it is another text."""
    one = _labelled(unfolded(text))
    if one is None or may_be_a_value(text) or not tells_a_secret(one.label):
        return ""
    return _SCHEME.sub("", _bare(one.value))


def _told(one: _Labelled, draft: Draft) -> Told:
    """What a label says to the forms."""
    name = _setting(one, draft)
    if name == "TEACHER_BASE_URL":
        return Told(OF_A_TEACHER, "")
    if not name:
        return told(one.label) or Told(plain(one.label), "")
    return Told(plain(label(name)), {"teacher": "teacher", "storage": "storage"}.get(step_of(name), ""))


def _setting(one: _Labelled, draft: Draft) -> str:
    """The setting that a label with this value is of in any form: as `setting_called`, also with blanks.

    Not for the teacher's label that is a setting's name in capitals. An address that ends in /v1, or is the
    teacher's, is never one of a storage target.
    """
    written, value, says = one.label, _bare(one.value), told(one.label)
    if written != written.upper() and written.upper() == CHAT:
        return ""
    if says and not says.word:
        return wholly(says.owner, value)
    if says and says.word in ADDRESSES and not is_of_target(says.owner) and looks_like_one(value):
        address = f"{scheme(value)}{value}".rstrip("/")
        if says.owner or address.endswith("/v1") or address == draft.address.rstrip("/"):
            return "TEACHER_BASE_URL"
    if says and says.owner in PROVIDERS and "_" not in written:
        return ""  # it is told of any teacher: the address may show that it is another one
    return setting_called(re.sub(r"[\W_]+", "_", written))


def _value(name: str, written: str) -> str:
    value = _bare(written)
    if name in SECRET_NAMES:
        return _SCHEME.sub("", value)
    if name == "S3_BUCKET":
        return re.sub(r"s3://([^/]+)/?", r"\1", value)
    return (named(value) or value) if name in (TEACHER, BACKEND) else value


def _bare(written: str) -> str:
    quoted = _QUOTES.fullmatch(written.strip())
    return quoted[2] if quoted else written.strip()
