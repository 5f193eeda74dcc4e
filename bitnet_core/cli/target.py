"""What the commands about storage share: the target and its keys, the experiment's copy, and lists of names."""

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bitnet_core.cli.command import ask_passphrase, resolution, warn
from bitnet_core.errors import UsageError
from bitnet_core.terminal import safe

if TYPE_CHECKING:
    from bitnet_core.cli.transfer import Transfer
    from bitnet_core.runs.experiment import Experiment
    from bitnet_core.settings.resolved import Resolution
    from bitnet_core.storage.copy import Copy
    from bitnet_core.storage.keys import Keys
    from bitnet_core.storage.manifest import Published
    from bitnet_core.storage.verify import Report

MOST_LISTED = 100
_QUIET_SECONDS = 10.0
"""How long a note about a failed call keeps further notes back."""
_NOTE_CHARS = 400


def with_target(arguments: argparse.Namespace) -> "Resolution":
    """The settings. UsageError if they name no target."""
    from bitnet_core.settings.storage import StorageOptions
    from bitnet_core.storage.catalog import KINDS

    resolved = resolution(arguments)
    chosen = resolved.settings.origin("STORAGE_BACKEND") != "default"
    if not chosen and not StorageOptions.of(resolved.settings).has_target:
        raise UsageError(
            f"No storage target is set; set STORAGE_BACKEND to {', '.join(list(KINDS)[:-1])} or {list(KINDS)[-1]}, "
            "or STORAGE_LOCAL_DIR to a folder on another disk."
        )
    return resolved


def keys_of(resolved: "Resolution") -> "Keys":
    """The target's keys, from wherever they are kept."""
    from bitnet_core.storage.finding_keys import find_keys

    return find_keys(resolved, ask_passphrase, warn)


def experiment_of(resolved: "Resolution", *, must_exist: bool = False) -> "Experiment":
    """The experiment's folders. UsageError if it `must_exist` and does not."""
    from bitnet_core.runs.experiment import Experiment, is_experiment

    experiment = Experiment.from_settings(resolved.settings)
    if must_exist and not is_experiment(experiment.root):
        raise UsageError(
            f"{experiment.root} is not an experiment; give its folder with --root, or bring one from a target "
            "with `bitnet open`."
        )
    return experiment


@contextlib.contextmanager
def copy_of(
    arguments: argparse.Namespace, *, look_only: bool, must_exist: bool = False
) -> Iterator[tuple["Copy", "Experiment", threading.Event]]:
    """The copy of the experiment that the command is about; Ctrl-C ends what is done with it."""
    from bitnet_core.cli.transfer import stoppable
    from bitnet_core.storage.copy import open_copy

    resolved = with_target(arguments)
    experiment = experiment_of(resolved, must_exist=must_exist)
    with (
        stoppable() as stop,
        open_copy(experiment, keys_of(resolved), on_retry=note_retry, stop=stop, look_only=look_only) as copy,
    ):
        yield copy, experiment, stop


class _RetryNotes:
    """Says that a call failed and is tried again, over the progress line if there is one.

    Several threads meet the same outage, each with an object of its own, so it is said once for a while.
    """

    def __init__(self) -> None:
        self._quiet_until = 0.0
        self._lock = threading.Lock()

    def __call__(self, reason: str, seconds: float) -> None:
        from bitnet_core.runs.events import cut

        with self._lock:
            now = time.monotonic()
            if now < self._quiet_until:
                return
            self._quiet_until = now + max(seconds, _QUIET_SECONDS)
            if sys.stdout.isatty() and sys.stderr.isatty():
                safe(sys.stderr).redraw("")
            warn(f"{cut(reason, _NOTE_CHARS)} Trying again in {seconds:.0f} s.", "note")


note_retry = _RetryNotes()


def transfer_of(arguments: argparse.Namespace, label: str, target: str, files: int = 0, total: int = 0) -> "Transfer":
    """What shows how files move to or from the target, or that they are compared."""
    from bitnet_core.cli.transfer import Transfer

    return Transfer(as_json=arguments.json, label=label, target=target, files=files, total=total)


def list_names(arguments: argparse.Namespace, title: str, names: list[str]) -> None:
    """Names under a title, as a list for people; JSON has them in the answer."""
    if arguments.json or not names:
        return
    sys.stdout.write(f"{title}:\n" + "".join(f"  {name}\n" for name in names[:MOST_LISTED]))
    if len(names) > MOST_LISTED:
        sys.stdout.write(f"  and {len(names) - MOST_LISTED} more; --json lists all\n")


def compare(
    arguments: argparse.Namespace, copy: "Copy", published: "Published", stop: threading.Event, *, quick: bool
) -> "Report":
    """What a verification of the stored state finds."""
    from bitnet_core.storage import verify

    with transfer_of(arguments, "verify", copy.place.name) as transfer:
        return verify.verify(copy.place, published, quick=quick, on_bytes=transfer.looked, stop=stop)
