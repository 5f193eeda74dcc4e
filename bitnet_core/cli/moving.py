"""`bitnet store push`, `bitnet store pull` and `bitnet open`: the commands that move files.

What moves them is in the room `storage`; here is what a person says and sees.
"""

import argparse
import contextlib
import os
import shlex
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bitnet_core.cli.command import answer, in_use, overrides, resolution, warn
from bitnet_core.cli.target import compare, copy_of, keys_of, list_names, note_retry, transfer_of
from bitnet_core.errors import UsageError

if TYPE_CHECKING:
    from bitnet_core.cli.transfer import Transfer
    from bitnet_core.runs.experiment import Experiment
    from bitnet_core.storage.copy import Copy
    from bitnet_core.storage.layout import Stored
    from bitnet_core.storage.manifest import Published
    from bitnet_core.storage.push import Plan, Push

# -- push ----------------------------------------------------------------------------------------------------------


def push(arguments: argparse.Namespace) -> int:
    from bitnet_core.storage.push import Push
    from bitnet_core.text import files, size

    if arguments.verify and arguments.dry_run:
        raise UsageError("--dry-run sends nothing, so it can't repair; run `bitnet store verify` to look first.")
    with copy_of(arguments, must_exist=True, look_only=arguments.dry_run) as (copy, experiment, stop):
        progress: list[Transfer] = []
        push = Push(
            experiment, copy.place, copy.state, force=arguments.force, repair=arguments.verify, stop=stop,
            on_bytes=lambda file, done: progress[0].sent(file.name, done, file.size),
        )  # fmt: skip
        lost, repaired, unreadable = (
            _repair(arguments, copy, experiment, push.base, stop) if arguments.verify else ({}, 0, {})
        )
        if arguments.force:
            push.give_up(lost)
        plan = push.plan()
        in_use.require()  # otherwise nothing would be sent, and the folder would be made again
        if arguments.dry_run:
            return _say_plan(arguments, push, plan, copy.place.place)
        total = sum(file.size for file in plan.to_send)
        with transfer_of(arguments, "push", copy.place.name, len(plan.to_send), total) as transfer:
            progress.append(transfer)
            done = push.run(plan)
        given_up = [name for name in lost if arguments.force and push.entry(name) is None]
        lost = {name: entry for name, entry in lost.items() if push.entry(name) == entry}
    for sentence in done.left:
        warn(sentence)
    for name in lost:
        warn(
            f"{name} is damaged at {copy.place.place} and is not here as it was stored; run `bitnet store push "
            "--verify` on a machine that has it, or add --force here to give it up."
        )
    for name, why in unreadable.items():
        warn(f"{name} was not compared, as it can't be read: {why}")
    for name in given_up:
        warn(f"{name} was damaged at {copy.place.place} and is not here; it is given up.")
    what = f"{files(done.sent_files)}, {size(done.sent_bytes)} sent" if done.sent_files else "nothing to send"
    if repaired:
        what = f"{files(repaired)} repaired" + (f"; {what}" if done.sent_files else "")
    if gone := sum(name.endswith(".pt") for name in done.gone):
        what += f"; {gone} replaced checkpoint{'' if gone == 1 else 's'} dropped ({size(done.gone_bytes)})"
    state = f"state {done.counter} at {copy.place.place} has {files(done.files)}, {size(done.total_bytes)}"
    fields = {"target": copy.place.place, "manifest": done.key, "state": done.counter, "files": done.files}
    fields |= {"bytes": done.total_bytes, "sent_files": done.sent_files, "sent_bytes": done.sent_bytes}
    answer(
        arguments,
        fields
        | {
            "left": done.left,
            "dropped": done.dropped,
            "damaged": list(lost),
            "unreadable": list(unreadable),
            "given_up": given_up,
        },
        f"{what}; {state}",
    )
    return 1 if lost or unreadable else 0


def _say_plan(arguments: argparse.Namespace, push: "Push", plan: "Plan", place: str) -> int:
    from bitnet_core.text import files, size

    total = sum(file.size for file in plan.to_send)
    list_names(arguments, "would be sent", [f"{file.name}  {size(file.size)}" for file in plan.to_send])
    list_names(arguments, "would be dropped, as newer checkpoints replace them", plan.dropped)
    list_names(arguments, "would be dropped, as they were set aside here", plan.aside)
    for sentence in push.left:
        warn(sentence)
    fields: dict[str, Any] = {"target": place, "send": [{"path": f.name, "bytes": f.size} for f in plan.to_send]}
    fields |= {
        "bytes": total,
        "dropped": [*plan.dropped, *plan.aside],
        "left": push.left,
        "unchanged": len(plan.unchanged),
    }
    what = f"{files(len(plan.to_send))}, {size(total)} would be sent to {place}"
    answer(arguments, fields, f"{what}; {len(plan.unchanged)} are stored already")
    return 0


def _repair(
    arguments: argparse.Namespace,
    copy: "Copy",
    experiment: "Experiment",
    published: "Published | None",
    stop: threading.Event,
) -> "tuple[dict[str, Stored], int, dict[str, str]]":
    """Verify the stored state and put again what this machine has.

    Returns the entries that it does not have, how many files were repaired, and those that can't be read, with why.
    """
    from bitnet_core.storage import verify

    if published is None:
        return {}, 0, {}
    report = compare(arguments, copy, published, stop, quick=False)
    repaired = verify.repair(experiment, copy.place, published, report)
    for name in repaired.others:
        copy.state.forget(name)
    list_names(arguments, "repaired", repaired.files)
    entries = published.manifest.by_name()
    left = verify.still_damaged(copy.place, published, repaired.left, stop) if repaired.left else []
    return {name: entries[name] for name in left}, len(repaired.files), report.unreadable


# -- pull ----------------------------------------------------------------------------------------------------------


def pull(arguments: argparse.Namespace) -> int:
    from bitnet_core.files.regular import read_bounded
    from bitnet_core.runs.history import History
    from bitnet_core.storage.newest import newest_state
    from bitnet_core.storage.pull import Pull
    from bitnet_core.storage.selecting import select
    from bitnet_core.storage.travel import SETTINGS_FILE, differences
    from bitnet_core.text import files, size

    only = [name.strip() for name in arguments.only.split(",") if name.strip()]
    with copy_of(arguments, must_exist=True, look_only=arguments.dry_run) as (copy, experiment, stop):
        active = History.read(experiment).active()
        if active is not None and arguments.force:
            raise UsageError(
                f"{active.id} is running, and --force may replace its files; stop it or wait until it ends."
            )
        progress: list[Transfer] = []
        newest = newest_state(copy.place)
        published = newest.published
        if newest.warning:
            if arguments.force:
                raise UsageError(f"{newest.warning} With --force, older files would replace those here.")
            warn(newest.warning)
        pull = Pull(
            experiment, copy.place, copy.state, published, force=arguments.force, updates=not newest.warning,
            lacking=newest.lacking, stop=stop,
            on_bytes=lambda name, done, size: progress[0].brought(name, done, size),
        )  # fmt: skip
        wanted = select(published.manifest.files, only, arguments.checkpoint, pull.read, warn)
        following = pull.following(wanted)
        missing = pull.missing(wanted, following)
        moves = [move.name for move in following.moves]
        if active is not None and (moves or pull.is_replacing(missing)):
            raise UsageError(
                f"{active.id} is running, and a pull would replace files here; stop it or wait until it ends."
            )
        whole = [one for one in missing if one.name not in newest.lacking]
        total = sum(one.size for one in whole)
        place = copy.place.place
        if arguments.dry_run:
            list_names(arguments, "would be brought", [f"{one.name}  {size(one.size)}" for one in whole])
            fields: dict[str, Any] = {"target": place, "bring": [{"path": f.name, "bytes": f.size} for f in whole]}
            fields |= {"bytes": total, "unchanged": len(wanted) - len(missing)}
            list_names(arguments, "would be set aside, as on another machine", moves)
            fields["moved"] = moves
            lacking = [one.name for one in missing if one.name in newest.lacking]
            list_names(arguments, "missing there, and would not be brought", lacking)
            text = f"{files(len(whole))}, {size(total)} would be brought from {place}"
            answer(arguments, fields | {"missing": lacking}, text)
            return 1 if lacking or newest.warning else 0
        with (
            _telling(pull.aside.sentences),
            transfer_of(arguments, "pull", copy.place.name, len(whole), total) as transfer,
        ):
            progress.append(transfer)
            done = pull.run(wanted)
        stored = published.manifest.by_name()
        other = []
        if SETTINGS_FILE in done.files:
            other = differences(read_bounded(pull.here.path_of(SETTINGS_FILE), 1 << 20), stored, experiment)
    if other:
        warn(
            f"The settings stored there have {', '.join(other)}; those here stay as they are; write into "
            f"{experiment.root / '.env'} what you want to take over.",
            "note",
        )
    fields = {"target": place, "manifest": done.key, "files": done.files, "bytes": done.bytes}
    brought = [stored[name].size for name in done.files if name != SETTINGS_FILE]  # that one is only looked at
    what = f"{files(len(brought))}, {size(sum(brought))} brought" if brought else "nothing to bring"
    if done.moved:
        more = f" and {len(done.moved) - 1} more" if len(done.moved) > 1 else ""
        warn(f"{done.moved[0]}{more} had been set aside on another machine, and is now set aside here, too.", "note")
    fields |= {"moved": done.moved, "unchanged": done.unchanged}
    fields["aside"] = {name: str(path) for name, path in pull.aside.moved.items()}
    answer(arguments, fields, f"{what}; {done.unchanged} were here already")
    return 1 if newest.warning else 0


@contextlib.contextmanager
def _telling(sentences: Callable[[], list[str]]) -> Iterator[None]:
    """Say these at the end, however it ends."""
    try:
        yield
    finally:
        for sentence in sentences():
            warn(sentence, "note")


# -- open ----------------------------------------------------------------------------------------------------------


def open_here(arguments: argparse.Namespace) -> int:
    from bitnet_core.cli.transfer import stoppable
    from bitnet_core.runs.experiment import Experiment, is_name
    from bitnet_core.secrets.known import resolve_and_remember
    from bitnet_core.settings.places import PlaceOptions
    from bitnet_core.settings.storage import StorageOptions
    from bitnet_core.settings.values import TeacherOptions
    from bitnet_core.storage.catalog import KINDS
    from bitnet_core.storage.elsewhere import Opening, only_name, require_free
    from bitnet_core.storage.opening import open_target
    from bitnet_core.storage.patient import Patient
    from bitnet_core.storage.pull import Incomplete
    from bitnet_core.teachers.profiles import profile
    from bitnet_core.text import files, size

    backend, colon, name = arguments.target.partition(":")
    if backend not in KINDS:
        raise UsageError(f"{backend!r} is not a kind of storage target; it is one of {', '.join(KINDS)}.")
    if (colon or name) and not is_name(name):
        raise UsageError(
            f"{name!r} can't be an experiment's name; `bitnet store ls --all --set STORAGE_BACKEND={backend}` lists "
            "those that are there."
        )
    arguments.assignments = [*arguments.assignments, f"STORAGE_BACKEND={backend}"]
    resolved = resolution(arguments)
    progress: list[Transfer] = []
    with stoppable() as stop, open_target(resolved.settings, keys_of(resolved)) as opened:
        target = Patient(opened, on_retry=note_retry, stop=stop)
        name = name or only_name(target)
        root = (arguments.folder or PlaceOptions.of(resolved.settings).home / name).absolute()
        require_free(root)
        placed = resolve_and_remember(overrides(arguments), root=root, env_file=arguments.env).checked()
        opening = Opening(
            Experiment.from_settings(placed), target, name, stop=stop,
            on_bytes=lambda path, done, size: progress[0].brought(path, done, size),
        )  # fmt: skip
        with contextlib.ExitStack() as stack:
            try:
                done = opening.run(
                    lambda files, total: progress.append(
                        stack.enter_context(transfer_of(arguments, "open", target.name, files, total))
                    )
                )
            except Incomplete as error:
                for sentence in error.remarks:
                    warn(sentence)
                raise
    for sentence in done.remarks:
        warn(sentence)
    shown = shlex.quote(os.path.relpath(root))
    fields = {"root": str(root), "experiment": name, "files": done.files, "bytes": done.pulled.bytes}
    arrived = resolve_and_remember(overrides(arguments), root=root, env_file=arguments.env).settings
    needed = StorageOptions.of(arrived).key_names or profile(TeacherOptions.of(arrived).chosen).needs_key
    keys = " Keys do not travel: `bitnet keys set` keeps them here." if needed else ""
    text = (
        f"{name} is in {shown}: {files(done.files)}, {size(done.pulled.bytes)} brought.{keys}\n"
        f"go on with `bitnet --root {shown} pipeline`, or look at it with `bitnet-tui --root {shown}`"
    )
    answer(arguments, fields | {"remarks": done.remarks}, text)
    return 0 if done.is_newest else 1
