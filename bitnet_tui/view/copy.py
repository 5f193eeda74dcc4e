"""The copy of an experiment on its storage target, in words: what is stored, what waits, and whether it is behind."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bitnet_core.errors import UsageError
from bitnet_core.runs.catalog import UPLOAD
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.finding import Finding
from bitnet_core.runs.history import History
from bitnet_core.runs.record import ACTIVE
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.storage import StorageOptions, target_mark
from bitnet_core.storage.status import CopyStatus, copy_status, version
from bitnet_core.text import ago, duration, files, flat, listed, pad, size, wrap
from bitnet_tui.labels import label, stage_title, within
from bitnet_tui.remedies import actions_in, in_app
from bitnet_tui.view.offered import a_key, linked
from bitnet_tui.view.spans import Line, Span, line, short

if TYPE_CHECKING:
    from bitnet_core.storage.unlike import Compared

_WHEN = {"off": "only when asked", "end": "when a stage ends", "live": "while stages run"}
_MOST_WAITING = 8
_LOOK_SECONDS, _SHARE = 5.0, 100.0
"""Seconds between two checks of files against the copy; the pause is at least this multiple of a check's own time."""
Said = tuple[Literal["good", "bad", "value"], str]
"""What a command about the copy said last, and in which style it is shown."""


@dataclass(frozen=True)
class Upload:
    """The newest upload: its state, its error, and how it is doing."""

    state: str
    error: str = ""
    health: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class CopyView:
    """`backend` is empty without a target. `ended_since` names the stages that ended after the last push.

    `problem` says what is wrong with the settings, where they name no target.
    """

    backend: str = ""
    sync: str = "off"
    status: CopyStatus = field(default_factory=CopyStatus)
    upload: Upload | None = None
    ended_since: tuple[str, ...] = ()
    problem: str = ""
    place: str = ""
    """Where the settings lead, in words, for as long as nothing has been stored."""
    unlike: tuple[str, ...] = ()
    """The files that differ here from what was stored, by size and time."""
    older: int = 0
    """How many older checkpoints no push sends."""
    exports: bool = False
    """Whether there are exports, which no push sends."""

    @property
    def sending(self) -> bool:
        return self.upload is not None and self.upload.state in ACTIVE


def target_of(settings: Settings) -> tuple[str, str]:
    """The backend, and when it is brought up to date; no backend where there is no target."""
    try:
        options = StorageOptions.of(settings)
    except UsageError:
        return "", "off"
    return (options.backend or "local", options.sync) if options.has_target else ("", options.sync)


def place_of(settings: Settings, backend: str) -> str:
    """`S3: bucket b, endpoint https://…`: the kind of target and what the settings say of its place."""
    from bitnet_core.storage.catalog import KINDS

    kind = KINDS[backend]
    own = (name for name in REGISTRY if name in kind.options.setting_names() and REGISTRY[name].section != "Storage")
    given = {
        name: text for name in own if name in settings.origins and (text := str(settings.values.get(name) or ""))
    }
    if kind.folder and (folder := str(settings.values.get(kind.folder) or "")):
        given = {kind.folder: folder} | given
    alone = len(given) == 1
    values = [text if alone else f"{within(label(name))} {text}" for name, text in given.items()]
    return f"{kind.title}: {flat(', '.join(values))}" if values else kind.title


def status_of(experiment: Experiment) -> CopyStatus:
    """What this machine knows of the copy at the target that the experiment's settings name."""
    return copy_status(experiment.root, _mark_of(experiment))


def _mark_of(experiment: Experiment) -> str:
    return target_mark(experiment.settings, StorageOptions.of(experiment.settings).name or experiment.name)


@dataclass
class KnownCopy:
    """`status_of` an experiment, read again only if it has changed or the settings lead elsewhere."""

    _seen: tuple[object, CopyStatus] = (None, CopyStatus())

    def of(self, experiment: Experiment) -> CopyStatus:
        now = (experiment.root, _mark_of(experiment), version(experiment.root))
        if now != self._seen[0]:
            self._seen = now, status_of(experiment)
        return self._seen[1]


@dataclass
class Comparison:
    """What `compare` says of an experiment and its copy, asked now and then."""

    _seen: tuple[object, ...] = ()
    _found: "Compared | None" = None
    _due: float = 0.0

    def of(self, experiment: Experiment, status: CopyStatus) -> "Compared":
        now, seen = time.monotonic(), (experiment.root, status.place, status.counter, status.at)
        if self._found is None or seen != self._seen or now >= self._due:
            from bitnet_core.storage.unlike import compare

            self._seen, self._found = seen, compare(experiment, status)
            self._due = now + max(_LOOK_SECONDS, _SHARE * (time.monotonic() - now))
        return self._found


def ended_since(history: History, at: float | None) -> tuple[str, ...]:
    """The stages of which a run has ended since, or is active, in no order but each once."""
    found = [
        entry.record.stage
        for entry in history.entries
        if entry.record.stage != UPLOAD.name and (at is None or (entry.record.ended or 0) > at)
    ]
    return tuple(dict.fromkeys(found))


def folder_lines(root: Path, cells: int) -> tuple[Line, ...]:
    """Where the experiment's results are on this machine."""
    return (*_wrapped("", f"Everything is in {short(root)}.", "", cells), ())


def said_lines(said: Said | None, cells: int) -> tuple[Line, ...]:
    """What the last command of the user said, and in which style. It stands first, where it is always in sight."""
    if said is None:
        return ()
    mark = {"good": "✓ ", "bad": "✗ ", "value": "▸ "}[said[0]]
    return (*_wrapped(mark, said[1], said[0], cells), ())


def copy_lines(copy: CopyView, cells: int) -> tuple[Line, ...]:
    """Everything that is known of the copy."""
    if not copy.backend:
        return _no_target(copy.problem, cells)
    status = copy.status
    lines = [line(Span(pad("copy", 9), "label"), flat(status.place) or copy.place or copy.backend)]
    when = _WHEN.get(copy.sync, copy.sync)
    lines.append(line(Span(pad("sent", 9), "label"), when))
    if status.at is not None:
        many, total = sum(one.files for one in status.folders), sum(one.bytes for one in status.folders)
        number = f"state {status.counter}, " if status.counter is not None else ""
        text = f"{number}{files(many)}, {size(total)}, {ago(status.at, time.time())}"
        lines.append(line(Span(pad("stored", 9), "label"), text))
    lines += [(), *_standing(copy, cells)]
    if status.waiting:
        lines += [(), line(Span(f"waiting: {files(len(status.waiting))}", "label"))]
        lines += [line(f"  {flat(name)}") for name, _ in status.waiting[:_MOST_WAITING]]
        more = len(status.waiting) - _MOST_WAITING
        lines += [line(Span(f"  and {more} more", "label"))] if more > 0 else []
    return tuple(lines)


def _no_target(problem: str, cells: int) -> tuple[Line, ...]:
    wrong = (*_wrapped("✗ ", problem, "bad", cells), ()) if problem else ()
    text = "No storage target is set, so this experiment is only on this machine."
    set_it = line(a_key("experiment.target"), " chooses one, logs in and tests it.")
    edit_it = line(a_key("experiment.settings"), " opens .env in an editor.")
    return (*wrong, *_wrapped("", text, "", cells), (), set_it, edit_it)


def _standing(copy: CopyView, cells: int) -> list[Line]:
    """Whether the copy is up to date, in a sentence."""
    if copy.sending and copy.upload is not None:
        found: list[Line] = []
        for finding in copy.upload.health:
            style = {"warn": "warn", "bad": "bad"}.get(finding.level, "accent")
            mark = "▲ " if style != "accent" else "▸ "
            found += _wrapped(mark, " ".join(filter(None, (finding.words, finding.advice))), style, cells)
        return found or _wrapped("▸ ", "The upload is starting.", "accent", cells)
    failed = copy.upload is not None and copy.upload.state in ("failed", "interrupted")
    why = f" The last upload failed: {copy.upload.error}" if failed and copy.upload and copy.upload.error else ""
    if copy.status.unreadable:
        words = f"What is stored is not known here: {copy.status.unreadable}; `bitnet store pull` reads it again."
        return _wrapped("✗ ", f"{words}{why}", "bad", cells)
    if copy.status.at is None:
        return _wrapped("▲ ", f"Nothing is stored yet, as far as this machine knows.{why}", "warn", cells)
    if copy.status.waiting:
        late = duration(max(0.0, time.time() - copy.status.waiting[0][1]) // 60 * 60)
        waits = "waits" if len(copy.status.waiting) == 1 else "wait"
        words = f"Behind: {files(len(copy.status.waiting))} {waits}, the first for {late}.{why}"
        return _wrapped("▲ ", words, "warn", cells)
    if copy.ended_since:
        words = f"Behind: {listed([*map(stage_title, copy.ended_since)])} ran after the last push.{why}"
        return _wrapped("▲ ", words, "warn", cells)
    if copy.unlike:
        changed = f"{files(len(copy.unlike))} {'was' if len(copy.unlike) == 1 else 'were'} changed here"
        words = f"Behind: {changed} since the last push, such as {copy.unlike[0]}.{why}"
        return _wrapped("▲ ", words, "warn", cells)
    left = [f"{copy.older} older checkpoint{'' if copy.older == 1 else 's'}"] if copy.older else []
    left += ["exports"] if copy.exports else []
    which = "that are sent" if left else "here"
    alone = f" Kept on this machine only: {listed(left)}." if left else ""
    words = f"Up to date: all files {which} are as they were stored, by size and time.{alone}"
    return _wrapped("✓ ", words, "good", cells)


def _wrapped(lead: str, text: str, style: str, cells: int) -> list[Line]:
    pieces = wrap(flat(in_app(text)), max(8, cells - 2))
    lines = [
        line(Span(("  " if place and lead else lead if not place else "") + one, style))
        for place, one in enumerate(pieces)
    ]
    return linked(lines, *actions_in(text))
