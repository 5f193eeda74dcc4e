"""The upload that runs beside a stage: starting it, and passing its alerts on into the stage's own events.

It must never slow or fail the stage: whatever goes wrong here is one alert.
"""

import contextlib
import shlex
import threading
import time
from collections.abc import Iterator

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.catalog import UPLOAD
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.event_files import EventReader
from bitnet_core.runs.events import Alert, Upload
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.launch import launch
from bitnet_core.runs.record import Run
from bitnet_core.settings.storage import StorageOptions

_POLL_SECONDS = 1.0
_HANDOVER_SECONDS = 5.0


@contextlib.contextmanager
def upload_beside(context: StageContext) -> Iterator[None]:
    """Start the upload before the stage (STORAGE_SYNC=live), and pass its alerts on until the stage ends."""
    if not _wanted(context, "live"):
        yield
        return
    done = threading.Event()
    watcher = threading.Thread(target=_start_and_follow, args=(context, done), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join(_HANDOVER_SECONDS)


def upload_after(context: StageContext) -> None:
    """Start the upload when the stage has ended, unless one is active that will see its end."""
    if _wanted(context, "live", "end"):
        with contextlib.suppress(BitnetError, OSError):
            _launch(context)


def push_command(experiment: Experiment) -> str:
    """What brings the copy up to date by hand."""
    given = experiment.settings.origin("DRIVE_ROOT") != "default"
    root = f" --root {shlex.quote(str(experiment.root))}" if given else ""
    return f"bitnet{root} store push"


def _wanted(context: StageContext, *modes: str) -> bool:
    options = StorageOptions.of(context.settings)
    return context.stage != UPLOAD.name and options.has_target and options.sync in modes


def _launch(context: StageContext) -> Run | None:
    """The upload that is active now, started if there was none."""
    names = StorageOptions.of(context.settings).key_names
    keys = {name: value for name, value in context.secrets.items() if name in names}
    deadline = time.monotonic() + _HANDOVER_SECONDS
    while True:
        with contextlib.suppress(UsageError):  # another stage has just started it
            return History.read(context.experiment).active(UPLOAD.name) or launch(
                context.settings, UPLOAD.name, keys, [f"{context.stage} {context.run_id}"]
            )
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)


def _start_and_follow(context: StageContext, done: threading.Event) -> None:
    try:
        run = _launch(context)
        if run is None:
            return
        events = EventReader(run.events_path)
        while not done.wait(_POLL_SECONDS):
            for event in events.read_new():
                if isinstance(event, Alert) or (isinstance(event, Upload) and event.state == "done"):
                    context.emit(event)
            if not run.is_active():
                _say_if_failed(context, run)
                return
    except (BitnetError, OSError) as error:
        context.alert("warning", "no_upload", f"The copy is not brought up to date: {error}")


def _say_if_failed(context: StageContext, run: Run) -> None:
    if run.state() != "succeeded":
        why = run.record().error or f"{run.gone()} ({run.id})"
        context.alert(
            "warning",
            "no_upload",
            f"The copy is not brought up to date: {why}",
            f"`{push_command(context.experiment)}` tries it again.",
        )
