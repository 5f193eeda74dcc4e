"""`bitnet experiments`: what the workspace (BITNET_HOME) holds; renaming, archiving and deleting experiments."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitnet_core.cli.command import Commands, answer, answer_table, resolution, warn
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.text import capital

if TYPE_CHECKING:
    from bitnet_core.workspace.changes import Holding


def add_to(commands: Commands) -> None:
    added = commands.add(
        "experiments", "list the experiments of the workspace; duplicate, rename, archive, delete", _list
    )
    added.set_defaults(all=False)
    actions = added.add_subparsers(dest="action", metavar="ACTION", title="actions")
    made = {}
    for name, (about, handler) in _ACTIONS.items():
        made[name] = actions.add_parser(name, help=about, description=f"{capital(about)}.")
        made[name].set_defaults(handler=handler)
    made["list"].add_argument("--all", action="store_true", help="include archived experiments")
    for name in ("duplicate", "rename"):
        made[name].add_argument("name", metavar="NAME")
        made[name].add_argument("new", metavar="NEW")
    made["duplicate"].add_argument("--traces", action="store_true", help="with its traces and what was made of them")
    for name in ("archive", "unarchive", "delete"):
        made[name].add_argument("names", nargs="+", metavar="NAME")
    made["delete"].add_argument(
        "--yes", action="store_true", help="delete them; without it, only say what would be deleted"
    )


def _home(arguments: argparse.Namespace) -> Path:
    from bitnet_core.settings.places import PlaceOptions

    return PlaceOptions.of(resolution(arguments, in_experiment=False).settings).home


def _roots(arguments: argparse.Namespace) -> list[Path]:
    """The experiments that are named, each once."""
    from bitnet_core.workspace.changes import find

    home = _home(arguments)
    return [find(home, name) for name in dict.fromkeys(arguments.names)]


def _list(arguments: argparse.Namespace) -> int:
    import time

    from bitnet_core.runs.experiment import Experiment, Workspace, is_archived, last_change, settings_beside
    from bitnet_core.runs.history import History
    from bitnet_core.text import ago

    home, now = _home(arguments), time.time()
    rows: list[list[Any]] = []
    records: list[dict[str, Any]] = []
    roots, unreadable = Workspace(home).look()
    for sentence in unreadable.values():
        warn(sentence)
    for root in roots:
        archived = is_archived(root)
        if archived and not arguments.all:
            continue
        running, problem, state = None, None, ""
        try:
            resolution = settings_beside(root)
            problem = resolution.errors or None
            active = History.read(Experiment.from_settings(resolution.settings)).active()
            running = active.id if active else None
        except BitnetError as error:
            problem, state = str(error), "can't be read"
        for sentence in filter(None, (problem or "").split("\n")) if not arguments.json else ():
            warn(sentence)
        changed = max(last_change(root), last_change(root / "logs"))
        rows.append([root.name, running or state, ago(changed, now), "archived" if archived else ""])
        record = {"name": root.name, "folder": str(root), "running": running, "changed": changed}
        records.append(record | {"archived": archived, "problem": problem})
    if not rows and not arguments.json:
        none = "no experiment that can be read" if unreadable else "no experiment; `bitnet demo` starts one"
        answer(arguments, {}, f"{home} holds {none}")
        return 0
    answer_table(arguments, str(home), ["experiment", "running", "changed", ""], rows, records)
    return 0


def _duplicate(arguments: argparse.Namespace) -> int:
    from bitnet_core.text import files, listed, size
    from bitnet_core.workspace.changes import find
    from bitnet_core.workspace.duplicates import duplicate

    done = duplicate(find(_home(arguments), arguments.name), arguments.new, traces=arguments.traces)
    if done.keys and not arguments.json:
        warn(f"{', '.join(done.keys)} in the .env of {arguments.name} is not copied; keep it in the keyring.", "note")
    fields: dict[str, Any] = {"duplicated": arguments.name, "folder": str(done.root), "keys_left": list(done.keys)}
    fields["traces"] = {"files": done.traces.files, "bytes": done.traces.bytes} if done.traces else None
    fields |= {"baseline": done.baseline, "start": done.start}
    brought = ["the settings"]
    brought += [f"the traces ({files(done.traces.files)}, {size(done.traces.bytes)})"] if done.traces else []
    brought += ["the teacher's baseline"] if done.baseline else []
    brought += ["the student that its training started with"] if done.start else []
    answer(arguments, fields, f"{arguments.new} has {listed(brought)} of {arguments.name}")
    return 0


def _rename(arguments: argparse.Namespace) -> int:
    from bitnet_core.workspace.changes import find, rename

    done = rename(find(_home(arguments), arguments.name), arguments.new)
    if not arguments.json:
        for remark in done.remarks:
            warn(remark, "note")
    fields = {"renamed": arguments.name, "folder": str(done.root), "remarks": done.remarks}
    answer(arguments, fields, f"{arguments.name} is now {arguments.new}")
    return 0


def _archive(arguments: argparse.Namespace) -> int:
    from bitnet_core.workspace.changes import archive, refuse_what_runs

    names, archived, roots = [], arguments.action == "archive", _roots(arguments)
    for root in roots if archived else ():
        refuse_what_runs(root)  # before the first is archived
    for root in roots:
        archive(root, archived=archived)
        names.append(root.name)
    what = "archived; `bitnet experiments list --all` shows" if archived else "shown again; lists have"
    answer(arguments, {"experiments": names, "archived": archived}, f"{', '.join(names)}: {what} it")
    return 0


def _delete(arguments: argparse.Namespace) -> int:
    from bitnet_core.workspace.changes import delete, finish_deletions, holding

    home, finished = _home(arguments), []
    if arguments.yes:  # it may be the same deletion, which was killed
        finished = [
            one for one in finish_deletions(home) if one in arguments.names and not os.path.lexists(home / one)
        ]
        arguments.names = [one for one in arguments.names if one not in finished]
    found = [holding(root) for root in _roots(arguments)]
    fields = {"experiments": [_fields(one) for one in found], "deleted": arguments.yes}
    if not arguments.yes:
        answer(arguments, fields, "\n".join(map(_words, found)))
        if not arguments.json:
            raise UsageError("Nothing was deleted; add --yes to delete what is listed above.")
        return 0
    deleted: list[str] = []
    for one in found:
        try:
            delete(one.root)
        except BitnetError:
            if deleted:
                warn(f"{', '.join(deleted)}: deleted before this failed.", "note")
            raise
        deleted.append(one.root.name)
    lines = [f"{one}: deleted before; now nothing of it is left" for one in finished]
    answer(arguments, fields, "\n".join([*lines, *(f"deleted {_words(one)}" for one in found)]))
    return 0


def _fields(one: "Holding") -> dict[str, Any]:
    fields: dict[str, Any] = {"name": one.root.name, "folder": str(one.root), "files": one.files, "bytes": one.bytes}
    fields |= {"running": one.running or None, "outside": [str(path) for path in one.outside]}
    copied = None
    if one.copy.at is not None:
        copied = {"place": one.copy.place, "at": one.copy.at, "waiting": len(one.copy.waiting)}
    fields["copy_unreadable"] = one.copy.unreadable or None
    return fields | {"copy": copied, "mentions": list(one.mentions)}


def _words(one: "Holding") -> str:
    """What goes, what stays, and whether there is a copy, in a line."""
    import time

    from bitnet_core.text import ago, files, size

    parts = [f"{one.root.name}: {files(one.files)}, {size(one.bytes)}"]
    if one.copy.unreadable:
        parts.append(f"whether it has a copy is not known, as {one.copy.unreadable}")
    elif one.copy.at is None:
        parts.append("no copy elsewhere is known")
    else:
        late = f", {files(len(one.copy.waiting))} behind" if one.copy.waiting else ""
        parts.append(f"a copy, made {ago(one.copy.at, time.time())}, is at {one.copy.place}{late}")
    parts += [f"{one.running} is running"] if one.running else []
    parts += [f"{path} lies elsewhere and stays" for path in one.outside]
    return "; ".join([*parts, *(sentence.removesuffix(".") for sentence in one.mentions)])


_ACTIONS: dict[str, tuple[str, Any]] = {
    "list": ("list the experiments of the workspace", _list),
    "duplicate": ("make an experiment with the settings of another one", _duplicate),
    "rename": ("give an experiment another name", _rename),
    "archive": ("leave experiments out of lists; nothing is deleted", _archive),
    "unarchive": ("show archived experiments in lists again", _archive),
    "delete": ("delete experiments from this machine; a copy on a storage target stays", _delete),
}
