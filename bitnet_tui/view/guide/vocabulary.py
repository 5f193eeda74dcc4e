"""The words that people use for the settings of the guide's forms, and for the teacher and the targets themselves."""

import functools
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.storage.catalog import KINDS
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.labels import label, provider_words
from bitnet_tui.view.guide import storing
from bitnet_tui.view.guide.addresses import is_address, looks_like_one
from bitnet_tui.view.guide.draft import BACKEND, EMBEDDED, HERE, TEACHER, Draft

_NAMES = {
    "AWS_DEFAULT_REGION": "REGION AWS_REGION S3_REGION MINIO_REGION",
    "S3_ENDPOINT_URL": (
        "S3_ENDPOINT S3_URL S3_HOST S3_SERVER S3_ADDRESS AWS_ENDPOINT AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 "
        "AWS_S3_ENDPOINT AWS_S3_ENDPOINT_URL MINIO_ENDPOINT MINIO_URL MINIO_HOST MINIO_SERVER"
    ),
    "S3_BUCKET": "S3_BUCKET_NAME AWS_BUCKET AWS_S3_BUCKET MINIO_BUCKET",
    "AWS_ACCESS_KEY_ID": (
        "AWS_ACCESS_KEY AWS_KEY_ID S3_ACCESS_KEY S3_ACCESS_KEY_ID S3_KEY S3_KEY_ID MINIO_ACCESS_KEY MINIO_ROOT_USER"
    ),
    "AWS_SECRET_ACCESS_KEY": (
        "AWS_SECRET AWS_SECRET_KEY S3_SECRET S3_SECRET_KEY S3_SECRET_ACCESS_KEY MINIO_SECRET_KEY MINIO_ROOT_PASSWORD"
    ),
    "OPENAI_BASE_URL": "OPENAI_API_BASE",
}
_ALSO = {theirs: ours for ours, names in _NAMES.items() for theirs in names.split()}
"""What other programs call a setting of ours."""
_ADDRESS = (
    "address url baseurl serverurl serveraddress serviceurl apibase apiurl apiendpoint apiaddress endpoint "
    "endpointurl host hostname hosturl server uri link"
)
ADDRESSES = frozenset(_ADDRESS.split())
_KEY = (
    "key apikey token accesstoken apitoken authtoken personalaccesstoken pat bearer secret secretkey password passwd "
    "pass pwd"
)
KEYS = frozenset(_KEY.split())
_USER = "user username login"
OF_A_TEACHER = "teacheraddress"
"""The word for an address that is a teacher's whatever its label."""
_TEACHERS = {
    TEACHER: "provider",
    "TEACHER_MODEL": "model modelname modelid teachername llmname",
    "TEACHER_BASE_URL": f"{_ADDRESS} {OF_A_TEACHER}",
    "TEACHER_API_KEY": _KEY,
}
TEACHERS: Mapping[str, str] = {word: name for name, words in _TEACHERS.items() for word in words.split()}
"""The teacher's form: its words with their settings."""
_SYNONYMS = {
    "AWS_ACCESS_KEY_ID": f"access accessid accesskeyid id keyid key rootuser {_USER}",
    "AWS_SECRET_ACCESS_KEY": "secretaccesskey rootpassword rootpass secret password passwd pass pwd",
    "S3_ENDPOINT_URL": f"{_ADDRESS} hostbase",
    "NC_APP_PASSWORD": _KEY,
    "WEBDAV_PASSWORD": _KEY,
    "SUPABASE_SERVICE_ROLE_KEY": f"servicerolekey {_KEY}",
    "MONGODB_ATLAS_URI": f"connectionstring {_ADDRESS}",
    "MONGODB_DB_NAME": "db dbname databasename",
    "BOX_DEVELOPER_TOKEN": f"developertoken {_KEY}",
    "DROPBOX_ACCESS_TOKEN": "token",
    "FIREBASE_CREDENTIALS_JSON": "credentials serviceaccount",
}
"""What else people call a setting of a target."""
_BY_LABEL = {
    "Address": _ADDRESS,
    "Username": _USER,
    "Bucket": "bucketname",
    "Region": "regionname",
    "Folder": "path directory dir root",
}
_TEACHER, _TARGET = "teacher", "storage"
_OWNERS = {
    _TEACHER: "teacher teachers llm model",
    _TARGET: "storage objectstorage objectstore target backup",
    "s3": "minio aws amazon",
    "custom": "openaicompatible",
}
"""What else people call the owner of a setting: the teacher or a provider, any target or one of them."""
_FILLERS = ("the", "my", "our", "your")
_AROUND = frozenset({*_FILLERS, "for", "server", "settings", "config", "access", "login", "credentials", "account"})
"""Words that a heading may have beside its owner."""


class Told(NamedTuple):
    """What a label says: a word of the forms, and whose it is. Each may be empty, not both."""

    word: str
    owner: str


def setting_called(written: str) -> str:
    """The setting that a name in a `.env` or a profile stands for; empty for none."""
    name = written.upper()
    return name if name in REGISTRY else _ALSO.get(name, "")


@functools.lru_cache(1024)
def plain(words: str) -> str:
    return re.sub(r"[\W_]", "", words.lower())


def told(words: str) -> Told | None:
    """What a label such as "key", "teacher key" or "my S3 (MinIO) secret" says; None if it has another word."""
    return _told(plain(words))


@functools.lru_cache(1024)
def _told(word: str) -> Told | None:
    if word in _words():
        return Told(word, "")
    if word in _owners():
        return Told("", _owners()[word])
    for before, owner in (*_owners().items(), *dict.fromkeys(_FILLERS, "").items()):
        rest = _told(word.removeprefix(before)) if word.startswith(before) and word != before else None
        both = _nearer(owner, rest.owner) if rest else None
        if rest and both is not None and (not rest.word or _has(both, rest.word)):
            return Told(rest.word, both)
    return None


def _nearer(one: str, other: str) -> str | None:
    """Of two words for an owner that of one provider or target; None if they are of two."""
    for near, far in ((one, other), (other, one)):
        if far in ("", near):
            return near
        if near and (far == (_TEACHER if of_teacher(near) else _TARGET)):
            return near
    return None


def of_teacher(owner: str) -> bool:
    return owner == _TEACHER or owner in PROVIDERS


def is_of_target(owner: str) -> bool:
    return owner != "" and not of_teacher(owner)


def is_of(owner: str, backend: str) -> bool:
    """Whether the form of a target, or the teacher's if that is empty, may have a setting of this owner."""
    if not owner or of_teacher(owner):
        return not owner or not backend
    if owner == "s3":
        return backend != "" and "S3_BUCKET" in storing.fields(backend)
    return backend == owner or (owner == _TARGET and backend != "")


def wholly(owner: str, value: str) -> str:
    """The setting of an owner that has a value right behind its name; empty if that says nothing."""
    if of_teacher(owner):
        if Redactor()(value) != value:
            return "TEACHER_API_KEY"
        if looks_like_one(value):
            return "TEACHER_BASE_URL"
        if owner != _TEACHER:
            return ""
        return TEACHER if named(value) in PROVIDERS else "TEACHER_MODEL"
    if looks_like_one(value):
        return next((name for name in _all_forms().get(owner, {}).values() if is_address(name)), "")
    if named(value) in KINDS:
        return BACKEND
    return "S3_BUCKET" if owner == "s3" else ""


def _has(owner: str, word: str) -> bool:
    return any(word in form and is_of(owner, backend) for backend, form in _all_forms().items())


def named(value: str) -> str:
    """The provider or target that a value names; empty for another value."""
    found = _owners().get(plain(value), "")
    return found if found in PROVIDERS or found in KINDS else ""


def owner_in(words: str) -> str:
    """The owner that a heading names; empty if it names none, or two."""
    found: str | None = ""
    each = re.findall(r"[\w.]+", words)
    for one in (*map(" ".join, pairwise(each)), *each):
        if found is not None and (owner := _owners().get(plain(one))):
            found = _nearer(found, owner)
    return found or ""


def only_names_owner(words: str) -> bool:
    """Whether a line has no other words than such as name an owner."""
    return all(plain(one) in _AROUND or plain(one) in _owners() for one in re.findall(r"[\w.]+", words))


@functools.cache
def _owners() -> Mapping[str, str]:
    """Words for owners with these; the longest first."""
    found = {word: owner for owner, words in _OWNERS.items() for word in words.split()}
    for name, one in PROVIDERS.items():
        if name != EMBEDDED:
            found |= {plain(words): name for words in (name, provider_words(name), one.label)}
    for name, kind in KINDS.items():
        if name != "local":
            found |= {plain(words): name for words in (name, kind.title)}
    return dict(sorted(found.items(), key=lambda one: -len(one[0])))


@functools.cache
def _words() -> frozenset[str]:
    return frozenset(word for form in _all_forms().values() for word in form)


@functools.cache
def _all_forms() -> Mapping[str, Mapping[str, str]]:
    """The words of each form with their settings: of the targets, and of the teacher by an empty name."""
    return {"": TEACHERS} | {one: _of_target(one) for _, some in storing.groups() for one, _ in some if one != HERE}


def forms(draft: Draft, *, of_storage: bool) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The target of each form, and its words with their settings; the likeliest form first."""
    order = sorted((one for one in _all_forms() if one), key=lambda one: one != draft.backend)
    if not of_storage:
        order = [*order, ""] if draft.step == "storage" else ["", *order]
    return ((one, _all_forms()[one]) for one in order)


def _of_target(backend: str) -> dict[str, str]:
    names = storing.fields(backend)
    found = {word: name for name in reversed(names) for word in _synonyms(name)}
    return found | {plain(label(name)): name for name in names}


def _synonyms(name: str) -> list[str]:
    return f"{_SYNONYMS.get(name, '')} {_BY_LABEL.get(label(name), '')}".split()
