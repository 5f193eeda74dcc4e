"""Whether a text may have a key in it, so that no field shows it and no file keeps it."""

import re

from bitnet_core.secrets.redaction import Redactor
from bitnet_tui.view.guide.addresses import is_address, looks_like_one

VALUE = r"(?=\S{0,64}?\d)\S{6,}|\S{20,}"
"""What is right behind a word for a key: a pattern."""
_OF_A_SECRET = re.compile(
    r"(?i)(?:^|[\W_]|api|access|secret|auth|pass|root|user|app)"
    r"(?:key|token|secret|password|passwd|pass|pwd|passphrase|passcode|credentials|authorization|bearer|pat|jwt)$"
)
_LABEL = re.compile(
    r"([A-Za-z][\w-]{0,40}+)(?:\s{0,8}[:=]\s{0,8}|\s{1,8}(?:is\s{1,8})?)(?:(?i:bearer)\s{1,8})?"
    r"(?=\S{6})(?=[\"']?\S{0,64}?\d)"
)
"""Bounded, and without the value: a long text takes time that grows with its length alone."""
_SIGNED = re.compile(r"([A-Za-z][\w-]{0,40}+)\s{0,8}[:=]")
_BEGINS = re.compile(r"(?:sk|pk|rk|gsk|hf|ghp|gho|glpat|xai)[-_](?=\S{0,64}?\d)\S{8,}", re.IGNORECASE)
"""As a provider's key does, but maybe shorter."""
_LONG = re.compile(r"(?=\D*\d).{16,}")
_PIECE = re.compile(r"[^\s;,|]+")
_BETWEEN_WORDS = re.compile(r"[\s;,]")
_OF_ONE_WORD = ("_BUCKET", "_REGION", "_PREFIX", "_MODEL")
_PATH = ("/", "~", "./")


def tells_a_secret(words: str) -> bool:
    """Whether a label is a word for a key or a password."""
    return _OF_A_SECRET.search(words) is not None


def labels_of_keys(text: str) -> tuple[str, ...]:
    """The words for keys in a text that something follows which may be one."""
    return tuple(label for label in _LABEL.findall(text) if tells_a_secret(label))


def is_long(word: str) -> bool:
    """Whether a word, by its length and its signs, may be a key of no known form."""
    return _LONG.fullmatch(word) is not None


def begins_as_a_key(word: str) -> bool:
    """Whether a word begins as a provider's keys do. It may still be a name."""
    return _BEGINS.fullmatch(word) is not None


def may_hold_a_key(text: str) -> bool:
    """Whether a text has what may be a key: one of a known form, or one beside other words.

    A word of no known form that stands alone may be anything, such as a model.
    """
    if Redactor()(text) != text or labels_of_keys(text):
        return True
    pieces = _PIECE.findall(text)
    if len(pieces) == 1:
        return any(map(tells_a_secret, _SIGNED.findall(text)))
    of_a_path = text.startswith(_PATH)
    return any(is_long(one) and not looks_like_one(one) and not (of_a_path and "/" in one) for one in pieces)


def may_be_shown(name: str, value: str) -> bool:
    """Whether a setting may have this value where all can read it. Several words for a model may be any sentence."""
    is_one_word = is_address(name) or name.endswith(_OF_ONE_WORD)
    several = is_one_word and _BETWEEN_WORDS.search(value) and not value.startswith(_PATH)
    return not several and not may_hold_a_key(value)


def is_one_value(text: str) -> bool:
    """Whether a text can be what a field that shows it takes: one word, or a path; of several lines the first."""
    line = text.strip().partition("\n")[0].partition("\r")[0].strip()
    return (len(line.split()) == 1 or line.startswith(_PATH)) and not may_hold_a_key(text)
