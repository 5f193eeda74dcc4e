"""The step "Storage": its cards, the form of a target, and what a test of it found."""

import re
from collections.abc import Mapping
from typing import Any

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.storage import SECTIONS
from bitnet_core.storage.catalog import KINDS
from bitnet_core.text import duration, size
from bitnet_tui.key_names import key
from bitnet_tui.labels import label
from bitnet_tui.view.guide.addresses import is_address
from bitnet_tui.view.guide.draft import BACKEND, HERE, Draft, overrides, settings
from bitnet_tui.view.guide.draft import SYNC as SYNC_NAME
from bitnet_tui.view.guide.teachers import Found, in_short
from bitnet_tui.view.guide.words import about as setting_words
from bitnet_tui.view.guide.words import plain
from bitnet_tui.view.spans import Line, Span, line

_GROUPS = {
    "Simple": ("local", "s3", "webdav", "nextcloud"),
    "Cloud drives": ("gdrive", "onedrive", "dropbox", "box", "icloud"),
    "Platforms": ("supabase", "firebase", "amplify", "mongodb_atlas", "dynamodb"),
    "Other": ("rclone",),
}
_ABOUT = {
    HERE: "Results stay in the workspace. A second copy can be added later.",
    "local": "A folder on another disk, or one that is mounted.",
    "s3": "AWS, or any server with the same API.",
    "rclone": "A remote of your own rclone.",
    "icloud": "Its folder on this machine; macOS uploads it.",
    "dynamodb": "A table; with a bucket, the contents go there.",
}
_IN_FORM = {
    ("local", "STORAGE_LOCAL_DIR"): "The folder for copies, best on another disk.",
    ("amplify", "S3_BUCKET"): "Name of the bucket; empty = that of the app.",
    ("dynamodb", "S3_BUCKET"): "Name of a bucket for the contents; empty = all in the table.",
}
"""What a setting is to a target that makes its own use of it."""
_EXAMPLE = re.compile(r"\b(?:empty =|such as|only for) [^.;]+")
_OPTIONAL = re.compile(r"\bempty =|\bonly for\b")
_NOT_ASKED = frozenset({BACKEND, "STORAGE_SYNC", "STORAGE_NAME", "STORAGE_CHECKPOINTS", "ICLOUD_SESSION_TOKEN"})
_OWN_KEYS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"})
"""Without these the machine's own are looked for."""
SYNC = (("never", "off"), ("at the end", "end"), ("live", "live"))
"""(words, value) of STORAGE_SYNC."""


def groups() -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """The targets under their headings, each as (value, title); the first has no heading."""
    rest = [name for name in KINDS if not any(name in names for names in _GROUPS.values())]
    found: list[tuple[str, tuple[tuple[str, str], ...]]] = [("", ((HERE, "Only on this machine"),))]
    for title, names in _GROUPS.items():
        more = rest if title == "Other" else []
        found.append((title, tuple((name, title_of(name)) for name in (*names, *more))))
    return tuple(found)


def title_of(backend: str) -> str:
    return {HERE: "Only on this machine", "s3": "S3 or compatible"}.get(backend) or KINDS[backend].title


def about(backend: str) -> str:
    """One sentence on a target."""
    if backend in _ABOUT:
        return _ABOUT[backend]
    return "Enter the app that you registered there, then log in below." if KINDS[backend].login else ""


def fields(backend: str) -> tuple[str, ...]:
    """The settings of a target's form: those that must be set, those that mostly are, and those that may stay."""
    if backend == HERE:
        return ()
    kind, sections = KINDS[backend], SECTIONS[backend]
    own = [
        name
        for section in sections
        for name, one in REGISTRY.items()
        if one.section == section and name not in _NOT_ASKED and (name in _read(backend) or one.secret)
    ]

    def order(name: str) -> tuple[bool, bool, bool]:
        """What is needed comes first, then the address of the server."""
        server = is_address(name) and REGISTRY[name].section == sections[0]
        return name not in kind.needs, not server, _may_stay(name, backend)

    return tuple(sorted(own, key=order))


def _may_stay(name: str, backend: str) -> bool:
    """Whether its field may be left as it is: it has a default, or empty means something."""
    return bool(REGISTRY[name].default) or bool(_OPTIONAL.search(what(name, backend)))


def what(name: str, backend: str) -> str:
    """What a field of a target's form is."""
    return _IN_FORM.get((backend, name)) or setting_words(name)


def placeholder(name: str, backend: str) -> str:
    """What an empty field shows: that it is needed, what empty means, what it is only for, or an example."""
    if name in _OWN_KEYS:
        return "or this machine's own AWS keys"
    found = _EXAMPLE.search(what(name, backend))
    return "needed" if name in KINDS[backend].needs else found[0] if found else ""


def _read(backend: str) -> frozenset[str]:
    return frozenset(KINDS[backend].options.setting_names())


def is_whole(draft: Draft) -> bool:
    """Whether its target has all that is needed but keys."""
    return all(draft.get(name) or REGISTRY[name].secret for name in KINDS[draft.backend].needs)


def key_names(backend: str) -> tuple[str, ...]:
    return () if backend == HERE else KINDS[backend].keys


def question(draft: Draft, root: Any) -> dict[str, str]:
    """The settings that a test of the target is made with."""
    found = overrides(draft, root)
    return {name: value for name, value in found.items() if REGISTRY[name].section.startswith("Storage")}


def written(draft: Draft) -> dict[str, str]:
    """What an experiment's `.env` says of its storage."""
    return {name: value for name, value in settings(draft).items() if REGISTRY[name].section.startswith("Storage")}


def asked(draft: Draft, root: Any, keys: Mapping[str, str]) -> object:
    """What a test's answer is about: with another target, setting or typed key, it counts no longer."""
    found = question(draft, root)
    found.pop(SYNC_NAME, None)
    return {**found, **typed(draft, keys)}


def untested(asked: Mapping[str, str], draft: Draft) -> str:
    """As `teachers.untested`."""
    same = draft.backend and asked.get(BACKEND) == draft.backend
    return "its settings have changed since the last test" if same else ""


def typed(draft: Draft, keys: Mapping[str, str]) -> dict[str, str]:
    """Those of the typed keys that the target reads."""
    return {name: keys[name] for name in key_names(draft.get(BACKEND)) if keys.get(name)}


def answer(report: Mapping[str, Any]) -> Found:
    """What the test of a target found."""
    seconds = {name: one for name, one in (report.get("seconds") or {}).items() if isinstance(one, (int, float))}
    calls = [seconds[name] for name in ("write", "read", "list", "delete") if name in seconds]
    took = f"written, read, listed, deleted: {_each(calls)} each" if calls else "it answers"
    lines = [line(Span("✓ ", "good"), took)]
    free = report.get("free_bytes")
    if isinstance(free, (int, float)):
        lines.append(line(Span(f"  {size(free)} free", "label")))
    lines.append(line(Span(f"  {report.get('place') or ''}", "label")))
    if report.get("note"):
        lines.append(line(Span(f"  {plain(str(report['note']))}", "label")))
    lost = [one for one in report.get("warnings") or () if "could not be kept" in one or "too old" in one]
    lines += [line(Span("! ", "warn"), Span(plain(one), "warn")) for one in lost]
    return Found(tuple(lines))


def _each(seconds: list[float]) -> str:
    mean = sum(seconds) / len(seconds)
    return f"{mean * 1000:.0f} ms" if mean < 1 else duration(mean)


def failed(problem: str, draft: Draft) -> Found:
    """Why the test failed, and the button that creates what is missing, or leads to the field that has to change.

    That is the field whose value the sentence quotes, else one that it names.
    """
    backend = draft.get(BACKEND)
    kind = KINDS[backend]
    if kind.creates and kind.lacks in problem:
        offer = create(backend)
        pressed = f"press “{offer}”"
        bucket = f"{pressed}, or correct “{label(kind.creates)}”"
        mends = bucket if kind.created == "bucket" else f"mount its disk, or {pressed}"
        return Found((_failure(f"{plain(problem).partition('; ')[0]}; {mends}."),), offer, why=in_short(problem))

    def order(name: str) -> tuple[bool, bool, int]:
        """A sentence that names a user and a password is most often about the password.

        What it says to set is likely if it is empty, and unlikely if it is not.
        """
        to_set = 1 if f"set {name}" not in problem else 2 if draft.get(name) else 0
        return name not in kind.needs, not REGISTRY[name].secret, to_set

    likely = sorted(fields(backend), key=order)
    quoted = [name for name in likely if draft.get(name) and f"'{draft.get(name)}'" in problem]
    named = next(iter([*quoted, *(name for name in likely if name in problem)]), "")
    unchecked = " The keys were not checked." if "can't be reached" in problem and key_names(backend) else ""
    offer = f"Go to {label(named)}" if named else ""
    return Found((_failure(f"{plain(problem)}{unchecked}"),), offer, field=named, why=in_short(problem))


def _failure(text: str) -> Line:
    return line(Span("✗ ", "bad"), Span(text, "bad"))


def untried(draft: Draft, found: Found | None, copied: Mapping[str, str]) -> str:
    """That a new experiment's target is not known to work; empty where its test or its source's use shows that.

    `found` is what its test found, `copied` the settings of the experiment that it is a copy of.
    """
    if not draft.backend or (found is not None and not found.why):
        return ""
    opens = f"In the experiment, {key('experiment.target')} opens its form, with a test."
    if found is not None:
        return f"The test of the storage target failed: {found.why}. {opens}"
    used = all(copied.get(name) == value for name, value in written(draft).items())
    return "" if used else f"The storage target was not tested. {opens}"


def create(backend: str) -> str:
    """The label of the button that creates what the target lacks."""
    return f"Create the {KINDS[backend].created}"


def create_question(draft: Draft) -> tuple[str, str, str, str]:
    """Whether to create what the target lacks, as the texts of a question."""
    backend = draft.get(BACKEND)
    kind = KINDS[backend]
    server = draft.get("S3_ENDPOINT_URL") or "Amazon" if backend == "s3" else kind.title
    made = (
        f"It will be a private bucket at {server}, made with your key."
        if kind.created == "bucket"
        else "It is made on this machine, with its parent folders. If its disk is not mounted, mount that first."
    )
    return (
        f"{create(backend)} {draft.get(kind.creates)}?",
        f"{made} Then it is tested.",
        create(backend),
        "Nothing was created.",
    )
