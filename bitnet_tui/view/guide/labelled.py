"""Notes that are pasted into the guide: lines such as "Address: …" or "api key = …", made lines of a `.env`."""

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bitnet_core.settings import dotenv
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_core.storage.catalog import KINDS
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.labels import label, provider_words
from bitnet_tui.view.guide import storing
from bitnet_tui.view.guide.addresses import is_address, looks_like_one, scheme
from bitnet_tui.view.guide.draft import BACKEND, CHAT, HERE, TEACHER, Draft

_Form = tuple[str, Mapping[str, str]]
_Labels = Sequence[tuple[int, str]]
"""The place of each line, and the word that its label is."""
_Parts = list[tuple[str, dict[str, int]]]
_LINE = re.compile(r"(?:[-*•]\s+|export\s+)?([A-Za-z][\w .'-]{0,40}?)(\s*(?:=|:(?!\d+(?:/|$)))\s*|\t\s*)(\S.*)")
"""A label, what is behind it, and the value. What has a port behind it is a host. Cells of a table have a tab."""
_SPACED = re.compile(r"(?:[-*•]\s+)?([A-Za-z][\w.'-]{0,20}(?: [\w.'-]{1,20}){0,3})(\s+)((?=\S*\d)\S{6,}|\S{20,})")
"""The same without a sign between them, as `Bearer 1f9c…`; only a word for a key is a label then."""
_WORD = re.compile(
    r"(?i)(?:[-*•]\s+)?(bucket|region|model|teacher|s3|minio|address|endpoint|host|server|url)(\s+)(\S+)"
)
"""The same for words whose values are told by their form."""
_PAIR = re.compile(
    r"""(["'])([A-Za-z][\w .-]{0,40})\1\s*:\s*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^\s,{}\[\]"']+)"""
)
"""A pair of a JSON object or of a dict."""
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token)\s+(?=\S+$)")
"""What is before a key in a header."""
_QUOTES = re.compile(r"(['\"`])(.*)\1")
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
_NOTHING = re.compile(
    r"""(?ix) [(<\[]? (?: [-–—]+ | n/?a | no(?:ne|t)? | null | nil | empty | (?:no|none|not)\ (?:api[ -]?)?(?:key\ ?)?
    (?:(?:is\ )?(?:needed|required|necessary|set|used))? ) \.? [)>\]]? (?: \s+\(.*\) | [,;]\s.* )?"""
)
"""What people write where there is no key."""
_ADDRESS = (
    "address url baseurl serverurl serveraddress serviceurl apibase apiurl apiendpoint apiaddress endpoint "
    "endpointurl host hostname hosturl server uri link"
)
_KEY = (
    "key apikey token accesstoken apitoken authtoken personalaccesstoken pat bearer secret secretkey password passwd "
    "pass pwd"
)
_USER = "user username login"
_OF_A_TEACHER = "teacheraddress"
"""The word for an address that is a teacher's whatever its label."""
_TEACHERS = {
    TEACHER: "provider",
    "TEACHER_MODEL": "model modelname modelid llm",
    "TEACHER_BASE_URL": f"{_ADDRESS} {_OF_A_TEACHER}",
    "TEACHER_API_KEY": _KEY,
}
_SYNONYMS = {
    "AWS_ACCESS_KEY_ID": f"accesskeyid keyid key rootuser {_USER}",
    "AWS_SECRET_ACCESS_KEY": "secretaccesskey rootpassword rootpass secret password passwd pass",
    "S3_ENDPOINT_URL": _ADDRESS,
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
_NAMED = {
    "teacher": ("TEACHER_BASE_URL", "TEACHER_MODEL"),
    "s3": ("S3_ENDPOINT_URL", "S3_BUCKET"),
    "minio": ("S3_ENDPOINT_URL", "S3_BUCKET"),
}
"""Words for the whole of something: what an address behind them is, and what another value."""
_ENOUGH_FOR_A_TARGET = 2
"""So many settings of a target choose it in a step that is about something else."""
_MOST_IN_TWO = 40
"""A note of teacher and target has no more lines."""
_OF_A_SECRET = re.compile(
    r"(?i)(?:^|[\W_]|api|access|secret|auth|pass|root|user|app)"
    r"(?:key|token|secret|password|passwd|pass|pwd|passphrase|passcode|credentials|authorization|bearer|pat|jwt)$"
)


class _Labelled(NamedTuple):
    label: str
    sign: str
    """What is between label and value, with the blanks around it."""
    value: str


def setting_called(written: str) -> str:
    """The setting that a name in a `.env` or a profile stands for; empty for none."""
    name = written.upper()
    return name if name in REGISTRY else _ALSO.get(name, "")


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
    labels = [(place, _word(one, draft)) for place, one in found.items()]
    for backend, part in _parts(labels, draft, of_storage=of_storage):
        taken |= part
        if part and backend and backend != draft.backend:
            lines.append(f"{BACKEND}={backend}")
    if not of_storage:
        taken = _models_in(labels, frozenset(taken.values())) | taken
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
        return re.fullmatch(r"[\w./-]+" if word == "bucket" else r"(?=.*[\d/-])[\w./-]+", value) is not None
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
    if one is None or one[2] != ":" or "://" in one[3] or setting_called(one[1]) or _plain(one[1]) in _KEY.split():
        return ""
    return one[1]


def tells_a_secret(words: str) -> bool:
    """Whether a label is a word for a key or a password."""
    return _OF_A_SECRET.search(words) is not None


def only_secret(text: str) -> str:
    """The value of a text that is one line whose label is a word for a key; empty if it is another text."""
    one = _labelled(unfolded(text))
    if one is None or may_be_a_value(text) or not tells_a_secret(one.label):
        return ""
    return _SCHEME.sub("", _bare(one.value))


def _parts(labels: _Labels, draft: Draft, *, of_storage: bool) -> Iterator[tuple[str, dict[str, int]]]:
    """The parts of a note: of which target each is, empty for the teacher's, and the places of its settings."""
    forms = _forms(draft, of_storage=of_storage)
    least = 1 if of_storage or draft.step == "storage" else _ENOUGH_FOR_A_TARGET
    best = max(forms, key=lambda one: _likely(one, labels, draft, least))
    two = [] if of_storage or len(labels) > _MOST_IN_TWO else list(_in_two(labels, forms, draft))
    backend, part = best[0], _filled(best[1], labels)
    if two and _settings_in(most := max(two, key=_settings_in)) > len(part):
        yield from most
    elif not backend or len(part) >= least:
        yield backend, part


def _models_in(labels: _Labels, taken: frozenset[int]) -> dict[str, int]:
    """The teacher and its model among lines that no form took: no target has such a label."""
    own = {word: name for name in (TEACHER, "TEACHER_MODEL") for word in _TEACHERS[name].split()}
    return {own[word]: place for place, word in labels if word in own and place not in taken}


def _settings_in(parts: _Parts) -> int:
    return sum(len(part) for _, part in parts)


def _in_two(labels: _Labels, forms: list[_Form], draft: Draft) -> Iterator[_Parts]:
    """The note as the teacher's part and that of a target, which lacks nothing or is the chosen one."""
    teacher = next(names for backend, names in forms if not backend)
    for cut in range(2, len(labels) - 1):
        for own, other in ((labels[:cut], labels[cut:]), (labels[cut:], labels[:cut])):
            of_teacher = _filled(teacher, own)
            if not of_teacher.keys() & {"TEACHER_MODEL", "TEACHER_BASE_URL"}:
                continue
            for backend, names in forms:
                part = _filled(names, other) if backend else {}
                if len(part) >= _ENOUGH_FOR_A_TARGET and (
                    backend == draft.backend or part.keys() >= set(KINDS[backend].needs)
                ):
                    yield [("", of_teacher), (backend, part)]


def _filled(form: Mapping[str, str], labels: _Labels) -> dict[str, int]:
    """The places of the settings that labels fill. The form's own label goes before another word for a setting."""
    known = sorted((one for one in labels if one[1] in form), key=lambda one: _is_label(form, one[1]))
    return {form[word]: place for place, word in known}


def _is_label(form: Mapping[str, str], word: str) -> bool:
    return word in form and _plain(label(form[word])) == word


def _word(one: _Labelled, draft: Draft) -> str:
    """The word that stands for a label in the forms."""
    name = _setting(one, draft)
    return _OF_A_TEACHER if name == "TEACHER_BASE_URL" else _plain(label(name) if name else one.label)


def _setting(one: _Labelled, draft: Draft) -> str:
    """The setting that a label with this value is of in any form: as `setting_called`, also with blanks.

    Not for the teacher's label that is a setting's name in capitals. An address that ends in /v1, or is the
    teacher's, is never one of a storage target.
    """
    written, word, value = one.label, _plain(one.label), _bare(one.value)
    if written != written.upper() and written.upper() == CHAT:
        return ""
    if word in _NAMED:
        return _NAMED[word][not looks_like_one(value)]
    if word in _ADDRESS.split() and looks_like_one(value):
        address = f"{scheme(value)}{value}".rstrip("/")
        if address.endswith("/v1") or address == draft.address.rstrip("/"):
            return "TEACHER_BASE_URL"
    return setting_called(re.sub(r"[\W_]+", "_", written))


def _forms(draft: Draft, *, of_storage: bool) -> list[_Form]:
    """The labels of each form with their settings, and the target that it is of; the likeliest form first."""
    teacher = ("", {word: name for name, words in _TEACHERS.items() for word in words.split()})
    order = [one for _, some in storing.groups() for one, _ in some if one != HERE]
    order.sort(key=lambda one: one != draft.backend)
    targets: list[_Form] = [(one, _of_target(one)) for one in order]
    if of_storage:
        return targets
    return [*targets, teacher] if draft.step == "storage" else [teacher, *targets]


def _likely(form: _Form, labels: _Labels, draft: Draft, least: int) -> tuple[int, int]:
    """How well a form fits: by the settings that it fills, then by its labels.

    The chosen target counts as one setting more, if it fills at least so many.
    """
    backend, names = form
    filled = len(_filled(names, labels))
    chosen = filled >= least and backend != "" and backend == draft.backend
    return filled + chosen, sum(_is_label(names, word) for word in {word for _, word in labels})


def _of_target(backend: str) -> dict[str, str]:
    names = storing.fields(backend)
    found = {word: name for name in reversed(names) for word in _synonyms(name)}
    return found | {_plain(label(name)): name for name in names}


def _synonyms(name: str) -> list[str]:
    return f"{_SYNONYMS.get(name, '')} {_BY_LABEL.get(label(name), '')}".split()


@functools.lru_cache(1024)
def _plain(words: str) -> str:
    return re.sub(r"[\W_]", "", words.lower())


def _value(name: str, written: str) -> str:
    value = _bare(written)
    if name in SECRET_NAMES:
        return _SCHEME.sub("", value)
    if name == TEACHER:
        return next((one for one in PROVIDERS if _plain(value) in (_plain(one), _plain(provider_words(one)))), value)
    return value


def _bare(written: str) -> str:
    quoted = _QUOTES.fullmatch(written.strip())
    return quoted[2] if quoted else written.strip()
