"""`bitnet store …` and `bitnet open`: the second copy of an experiment, and the way back from it.

What moves files is in the room `storage`; here is what a person says and sees.
"""

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, cast

from bitnet_core.cli.command import Commands, answer, answer_table, ask_passphrase, terminal_columns, warn
from bitnet_core.cli.moving import open_here, pull, push
from bitnet_core.cli.target import (
    MOST_LISTED,
    compare,
    copy_of,
    experiment_of,
    keys_of,
    list_names,
    note_retry,
    with_target,
)
from bitnet_core.errors import UsageError
from bitnet_core.files.typed import typed_path
from bitnet_core.text import capital

if TYPE_CHECKING:
    from bitnet_core.storage.gc import Garbage

_ACTIONS = {
    "check": "write, read, list and delete a small object, and time it",
    "push": "bring the copy up to date",
    "pull": "bring files of the copy here",
    "ls": "list what is stored",
    "verify": "read everything that is stored, and compare it with its hash",
    "gc": "remove leftovers of interrupted pushes",
    "login": "log in to Google Drive, OneDrive, Dropbox or Box",
}
_DAY = 86400.0
_MOST_NAMED = 4
"""How many files a sentence names. The app shows the sentence alone."""


def add_to(commands: Commands) -> None:
    store = commands.add("store", "keep a second copy of the experiment on a storage target", _no_action)
    actions = store.add_subparsers(dest="action", metavar="ACTION", title="actions")
    handlers = {"check": _check, "push": push, "pull": pull, "ls": _ls, "verify": _verify, "gc": _gc, "login": _login}
    made = {}
    for name, about in _ACTIONS.items():
        made[name] = actions.add_parser(name, help=about, description=f"{capital(about)}.")
        made[name].set_defaults(handler=handlers[name])
    _add_push_and_pull(made["push"], made["pull"])
    made["check"].add_argument(
        "--create", action="store_true", help="first create the bucket or folder, if it is not there"
    )
    made["ls"].add_argument("path", nargs="?", default="", metavar="PATH", help="only what is below it: reports")
    made["ls"].add_argument(
        "--here",
        action="store_true",
        help="the state of each file here instead of the time it was stored; asks the target for less",
    )
    made["ls"].add_argument("--all", action="store_true", help="the experiments on the target instead")
    made["verify"].add_argument(
        "--quick", action="store_true", help="only presence and size, without reading content"
    )
    made["gc"].add_argument(
        "--older-than", type=float, metavar="DAYS", help="(default: 7; a push may be using what is younger)"
    )
    made["gc"].add_argument("--dry-run", action="store_true", help="only say what would be removed")
    made["login"].add_argument(
        "--hand-over",
        type=int,
        metavar="FD",
        help="write the token to this open descriptor, for a program that keeps it, instead of keeping it",
    )
    opened = commands.add("open", "bring an experiment from a storage target to this machine", open_here)
    opened.add_argument("target", metavar="TARGET", help="BACKEND or BACKEND:NAME, such as s3:demo")
    opened.add_argument(
        "folder", nargs="?", type=typed_path, metavar="FOLDER", help="a new folder (default: BITNET_HOME/NAME)"
    )


def _add_push_and_pull(push: argparse.ArgumentParser, pull: argparse.ArgumentParser) -> None:
    push.add_argument("--verify", action="store_true", help="first compare what is stored, and repair it from here")
    forced = "overwrite another machine's changes with what is here; with --verify, drop what nobody can repair"
    push.add_argument("--force", action="store_true", help=forced)
    push.add_argument("--dry-run", action="store_true", help="only say what would be sent and dropped")
    pull.add_argument(
        "--only", default="", metavar="A,B", help="of: reports, checkpoints, data, logs, inputs, settings"
    )
    pull.add_argument("--checkpoint", default="all", metavar="WHICH", help="best, latest, a step, or all (default)")
    pull.add_argument("--force", action="store_true", help="replace what was changed here, too; it is moved aside")
    pull.add_argument("--dry-run", action="store_true", help="only say what would be brought")


def _no_action(arguments: argparse.Namespace) -> int:  # noqa: ARG001
    raise UsageError(f"bitnet store needs an action: {', '.join(_ACTIONS)}.")


# -- check -----------------------------------------------------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> int:
    from bitnet_core.cli.transfer import stoppable
    from bitnet_core.storage.catalog import KINDS
    from bitnet_core.storage.copy import copy_name
    from bitnet_core.storage.opening import create_place, open_target
    from bitnet_core.storage.patient import Patient
    from bitnet_core.storage.probe import check, require_not_gone
    from bitnet_core.storage.state import FOLDER, looked_at
    from bitnet_core.storage.under import Under
    from bitnet_core.tables import render_table
    from bitnet_core.text import size

    resolved = with_target(arguments)
    keys = keys_of(resolved)
    if arguments.create:
        create_place(resolved.settings, keys)
    with stoppable() as stop, open_target(resolved.settings, keys) as target:
        patient = Patient(target, attempts=2, on_retry=note_retry, stop=stop)
        experiment = experiment_of(resolved)
        if (experiment.root / FOLDER).is_dir():  # before anything is written where a disk should be mounted
            place = Under(patient, f"{copy_name(experiment)}/")
            with looked_at(experiment.root, place.place) as state:
                require_not_gone(place, state)
        found = check(patient)
        kind, object_bytes = KINDS[target.name], target.limits.object_bytes
    rows = [["target", f"{kind.title}: {found.place}"]]
    rows += [[name, f"{seconds * 1000:.0f} ms"] for name, seconds in found.seconds.items()]
    rows.append(["free", size(found.free_bytes) if found.free_bytes is not None else "unknown"])
    rows.append(["largest object", size(object_bytes)])
    rows += [["note", found.note]] if found.note else []
    table = render_table(target.name, ["what", "found"], rows, terminal_columns())
    fields = {"target": target.name, "place": found.place, "seconds": found.seconds, "free_bytes": found.free_bytes}
    answer(arguments, fields | {"note": found.note}, f"{table}\n{found.place} can be used")
    return 0


# -- ls and verify ---------------------------------------------------------------------------------------------------


def _ls(arguments: argparse.Namespace) -> int:
    if arguments.all:
        return _list_experiments(arguments)
    if arguments.here:
        return _list_here(arguments)
    import time

    from bitnet_core.storage import verify
    from bitnet_core.text import ago

    with copy_of(arguments, look_only=True) as (copy, _, _):
        published = verify.newest(copy.place)
        changed = {one.key: one.modified for one in copy.place.list("")}
    below = arguments.path.strip("/")
    rows, records, now = [], [], time.time()
    for one in published.manifest.files:
        if below and one.name != below and not one.name.startswith(f"{below}/"):
            continue
        when = changed.get(one.index_key if one.part_bytes else one.key)
        rows.append([one.name, one.size, one.role, ago(when, now)])
        records.append({"path": one.name, "bytes": one.size, "role": one.role, "stored": when, "sha256": one.sha256})
    if not rows:
        raise UsageError(f"{copy.place.place} has nothing below {below!r}; `bitnet store ls` lists what it has.")
    answer_table(arguments, copy.place.place, ["path", "bytes", "role", "stored"], rows, records)
    return 0


def _list_here(arguments: argparse.Namespace) -> int:
    """The files of the newest manifest, which is all that is read there, and how each is here."""
    from bitnet_core.storage import verify
    from bitnet_core.storage.here import Here
    from bitnet_core.storage.travel import SETTINGS_FILE

    with copy_of(arguments, look_only=True) as (copy, experiment, _):
        files = verify.newest(copy.place).manifest.files
        here = Here(experiment, copy.state)
        glances = {one.name: "" if one.name == SETTINGS_FILE else here.glance(one) for one in files}
    below = arguments.path.strip("/")
    shown = [one for one in files if not below or one.name == below or one.name.startswith(f"{below}/")]
    rows: list[list[Any]] = [[one.name, one.size, one.role, glances[one.name]] for one in shown]
    records = [{"path": one.name, "bytes": one.size, "role": one.role, "here": glances[one.name]} for one in shown]
    answer_table(arguments, copy.place.place, ["path", "bytes", "role", "here"], rows, records)
    return 0


def _list_experiments(arguments: argparse.Namespace) -> int:
    import time

    from bitnet_core.cli.transfer import stoppable
    from bitnet_core.storage import manifest as manifests
    from bitnet_core.storage.elsewhere import names_on
    from bitnet_core.storage.opening import open_target
    from bitnet_core.storage.patient import Patient
    from bitnet_core.storage.under import Under
    from bitnet_core.text import ago

    resolved = with_target(arguments)
    rows, records, now = [], [], time.time()
    with stoppable() as stop, open_target(resolved.settings, keys_of(resolved)) as opened:
        target = Patient(opened, on_retry=note_retry, stop=stop)
        for name in names_on(target):
            published = next(manifests.published(Under(target, f"{name}/")), None)
            files = published.manifest.files if published else []
            total, when = sum(one.size for one in files), published.manifest.created if published else None
            rows.append([name, len(files), total, ago(when, now)])
            records.append({"experiment": name, "files": len(files), "bytes": total, "stored": when})
    if not rows and not arguments.json:
        answer(arguments, {}, f"{target.place} holds no experiment")
        return 0
    answer_table(arguments, target.place, ["experiment", "files", "bytes", "stored"], rows, records)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from bitnet_core.storage import verify
    from bitnet_core.text import size

    with copy_of(arguments, look_only=True) as (copy, _, stop):
        report = compare(arguments, copy, verify.newest(copy.place), stop, quick=arguments.quick)
    faults = [
        {"path": fault.file, "object": fault.key, "fault": fault.what, "why": fault.why} for fault in report.faults
    ]
    fields = {"target": copy.place.place, "manifest": report.key, "files": report.files, "objects": report.objects}
    fields |= {"bytes": report.bytes, "quick": arguments.quick, "faults": faults}
    if not faults:
        how = "are there with their sizes" if arguments.quick else f"match what was stored, {size(report.bytes)} read"
        answer(arguments, fields, f"{report.files} files in {report.objects} objects {how}")
        return 0
    if arguments.json:
        answer(arguments, fields, "")
        return 1
    rows = [[fault.file, fault.what, fault.key] for fault in report.faults[:MOST_LISTED]]
    answer_table(arguments, copy.place.place, ["path", "fault", "object"], rows, [])
    said = []
    if damaged := report.damaged:
        said.append(
            f"damaged: {_named(damaged)}, {len(damaged)} of {report.files} files; `bitnet store push --verify` "
            "repairs them on a machine that has them"
        )
    if unreadable := report.unreadable:
        why = next(iter(unreadable.values())).rstrip(".")
        said.append(f"not read: {_named(list(unreadable))}, {len(unreadable)} of {report.files} files; {why}")
    answer(arguments, {}, "\n".join(said))
    return 1


def _named(names: list[str]) -> str:
    from bitnet_core.text import listed

    return listed(names if len(names) <= _MOST_NAMED else [*names[: _MOST_NAMED - 1], "others"])


# -- gc --------------------------------------------------------------------------------------------------------------


def _gc(arguments: argparse.Namespace) -> int:
    from bitnet_core.storage import gc
    from bitnet_core.text import number, size

    days = gc.GRACE_SECONDS / _DAY if arguments.older_than is None else arguments.older_than
    if not 0 <= days <= 1e6:
        raise UsageError("--older-than takes a number of days, 0 or more.")
    look_only = arguments.dry_run
    experiment = experiment_of(with_target(arguments))
    with copy_of(arguments, look_only=look_only or not experiment.root.is_dir()) as (copy, _, stop):
        found: list[Garbage] = [
            gc.find(copy.place, days * _DAY, look_only=look_only),
            gc.find_temporary(copy.target, days * _DAY, look_only=look_only),
        ]
        if not look_only:
            gc.remove_unneeded(copy.place, found[0], copy.state.writer, stop)
            gc.remove(copy.target, found[1])
    if unreadable := found[0].unreadable:
        warn(
            f"Nothing of the experiment at {copy.place.place} is removed, as its newest state can't be read "
            f"({unreadable[0]} is damaged); run `bitnet store push --verify` on the machine that stored it."
        )
    old, young = ([one for part in found for one in getattr(part, age)] for age in ("old", "young"))
    words = [f"{len(some)} objects, {size(sum(one.size for one in some))}" for some in (old, young)]
    if look_only:
        list_names(arguments, "would be removed", [f"{one.key}  {size(one.size)}" for one in old])
    fields: dict[str, Any] = {"target": copy.place.place, "dry_run": look_only, "older_than_days": days}
    for name, some in (("removed", old), ("young", young)):
        fields |= {name: [one.key for one in some], f"{name}_bytes": sum(one.size for one in some)}
    text = f"{words[0]} {'would be' if look_only else 'were'} removed"
    if young:
        text += f"; {words[1]} are left, as they are younger than {number(days)} days"
    answer(arguments, fields, text)
    return 0


# -- login -----------------------------------------------------------------------------------------------------------


def _login(arguments: argparse.Namespace) -> int:
    """Keep the refresh token where keys are kept; it is never shown."""
    from bitnet_core.cli.transfer import stoppable
    from bitnet_core.secrets.places import KeyPlaces
    from bitnet_core.storage import oauth
    from bitnet_core.storage.catalog import KINDS
    from bitnet_core.storage.opening import require_settings

    resolved = with_target(arguments)
    kind = KINDS[str(resolved.settings.values["STORAGE_BACKEND"])]
    if not kind.login:
        logins = ", ".join(one.backend for one in KINDS.values() if one.login)
        keys = " and ".join(f"`bitnet keys set {name}`" for name in kind.keys[:2])
        advice = f"{keys} keeps its keys" if keys else "it needs none"
        raise UsageError(f"{kind.title} has no login ({logins} have one); {advice}.")
    require_settings(kind, resolved.settings)

    def show(prompt: oauth.Prompt) -> None:
        code = f" and type the code {prompt.code}" if prompt.code else ""
        answer(
            arguments, {"url": prompt.url, "code": prompt.code}, f"Open {prompt.url}{code}; waiting for the login."
        )
        sys.stdout.flush()
        _open_browser(prompt.url)

    with stoppable("Stopped; nothing was kept."):
        options = cast("oauth.Options", kind.options.of(resolved.settings))
        token = oauth.login(kind, options, keys_of(resolved), show)
        if arguments.hand_over is not None:
            _hand_over(token, arguments.hand_over)
            answer(arguments, {"name": kind.login, "kept": None}, f"logged in; {kind.login} is handed over")
            return 0
        places = KeyPlaces.of(resolved.settings)
        place = places.keep(kind.login, token, ask=ask_passphrase)
    if resolved.secret_origins.get(kind.login) == "environment":
        warn(f"{kind.login} is also in the environment, and that one is used; remove it there.")
    fields = {"name": kind.login, "kept": place}
    answer(arguments, fields, f"logged in; {kind.login} is kept in {places.words(place)}")
    return 0


def _hand_over(token: str, descriptor: int) -> None:
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as taker:
            taker.write(token)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--hand-over {descriptor} is not open for writing; the token was not kept.") from error


def _open_browser(url: str) -> None:
    """Open the page if this machine has a display; the address is shown in any case."""
    import webbrowser

    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        with contextlib.suppress(webbrowser.Error, OSError):
            webbrowser.open(url)
