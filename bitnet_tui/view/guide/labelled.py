"""Notes that are pasted into the guide: lines such as "Address: …" or "api key = …", made lines of a `.env`."""

import re
from collections.abc import Mapping

from bitnet_core.settings import dotenv
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_tui.labels import label
from bitnet_tui.view.guide import storing
from bitnet_tui.view.guide.addresses import is_address, scheme
from bitnet_tui.view.guide.draft import BACKEND, HERE, TEACHER, Draft

_LINE = re.compile(r"(?:[-*•]\s+|export\s+)?([A-Za-z][\w .'-]{0,40}?)\s*(=|:(?!\d+(?:/|$)))\s*(\S.*)")
"""A label, what is behind it, and the value. What has a port behind it is a host."""
_QUOTES = re.compile(r"(['\"`])(.*)\1")
_ALSO = {
    "AWS_REGION": "AWS_DEFAULT_REGION",
    "REGION": "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL": "S3_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3": "S3_ENDPOINT_URL",
    "OPENAI_API_BASE": "OPENAI_BASE_URL",
}
"""What other programs call a setting of ours."""
_ADDRESS = "address url baseurl serverurl apibase apiurl endpoint endpointurl host server uri"
_KEY = "key apikey token accesstoken secret secretkey password passwd pass"
_USER = "user username login"
_TEACHERS = {
    TEACHER: "provider",
    "TEACHER_MODEL": "model modelname modelid",
    "TEACHER_BASE_URL": _ADDRESS,
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
_BY_LABEL = {"Address": _ADDRESS, "Username": _USER, "Bucket": "bucketname", "Folder": "path directory dir root"}
_ENOUGH_FOR_A_TARGET = 2
"""So many labels of its form choose a target in a step that is about something else."""
_OF_A_SECRET = re.compile(
    r"(?i)(?:^|[\W_]|api|access|secret|auth|pass|root|user|app)(?:key|token|secret|password|passwd|pass|passphrase|credentials)$"
)


def setting_called(written: str) -> str:
    """The setting that a name in a `.env` or a profile stands for; empty for none."""
    name = written.upper()
    return name if name in REGISTRY else _ALSO.get(name, "")


def as_dotenv(text: str, draft: Draft, *, of_storage: bool = False) -> str:
    """The text with each line of a label that is understood as `NAME=value`.

    The labels are those of one form, the teacher's or a target's: of the one that fits best, and of those
    that fit as well the one at hand. `of_storage`: only a target's.
    """
    lines = text.split("\n")
    found = {
        place: one
        for place, written in enumerate(lines)
        if (one := _LINE.fullmatch(written.strip())) and not (setting_called(one[1]) and one[2] == "=")
    }
    words = {_plain(one[1]) for one in found.values()}
    forms = _forms(draft, of_storage=of_storage)
    backend, form = max(forms, key=lambda one: _likely(one, words, draft))
    known = words & form.keys()
    if backend and not of_storage and draft.step != "storage" and len(known) < _ENOUGH_FOR_A_TARGET:
        known, form = set(), {}
    for place, (written, _, value) in ((place, one.groups()) for place, one in found.items()):
        if name := setting_called(written) or form.get(_plain(written), ""):
            lines[place] = f"{name}={dotenv.quoted(_value(name, value))}"
    if known and backend and backend != draft.backend:
        lines.append(f"{BACKEND}={backend}")
    return "\n".join(lines)


def labels_of(text: str) -> list[str]:
    """The labels of all lines that have one."""
    return [one[1] for written in text.split("\n") if (one := _LINE.fullmatch(written.strip()))]


def tells_a_secret(words: str) -> bool:
    """Whether a label is a word for a key or a password."""
    return _OF_A_SECRET.search(words) is not None


def only_secret(text: str) -> str:
    """The value of a text that is one line whose label is a word for a key; empty if it is another text."""
    one = _LINE.fullmatch(text.strip())
    return _bare(one[3]) if one and tells_a_secret(one[1]) else ""


def _forms(draft: Draft, *, of_storage: bool) -> list[tuple[str, Mapping[str, str]]]:
    """The labels of each form with their settings, and the target that it is of; the likeliest form first."""
    teacher = ("", {word: name for name, words in _TEACHERS.items() for word in words.split()})
    order = [one for _, some in storing.groups() for one, _ in some if one != HERE]
    order.sort(key=lambda one: one != draft.backend)
    targets: list[tuple[str, Mapping[str, str]]] = [(one, _of_target(one)) for one in order]
    if of_storage:
        return targets
    return [*targets, teacher] if draft.step == "storage" else [teacher, *targets]


def _likely(form: tuple[str, Mapping[str, str]], words: set[str], draft: Draft) -> tuple[int, int]:
    """How well a form fits: by the words that it knows, one more for the chosen target, then by its very labels."""
    backend, names = form
    known = words & names.keys()
    chosen = bool(known) and backend != "" and backend == draft.backend
    return len(known) + chosen, sum(_plain(label(names[word])) == word for word in known)


def _of_target(backend: str) -> dict[str, str]:
    names = storing.fields(backend)
    found = {word: name for name in reversed(names) for word in _synonyms(name)}
    return found | {_plain(label(name)): name for name in names}


def _synonyms(name: str) -> list[str]:
    return f"{_SYNONYMS.get(name, '')} {_BY_LABEL.get(label(name), '')}".split()


def _plain(words: str) -> str:
    return re.sub(r"[\W_]", "", words.lower())


def _value(name: str, written: str) -> str:
    value = _bare(written)
    if name == TEACHER and value.lower() in PROVIDERS:
        return value.lower()
    return scheme(value) + value if is_address(name) else value


def _bare(written: str) -> str:
    quoted = _QUOTES.fullmatch(written.strip())
    return quoted[2] if quoted else written.strip()
