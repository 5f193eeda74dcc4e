"""Launching a stage in a process of its own, and the lock that allows one run of a stage at a time.

Everything about a run is in its files (`record.py`, `history.py`), so any process can follow it. `worker.py` is what
runs inside the process.
"""

import atexit
import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from bitnet_core import files, process
from bitnet_core.errors import FREE_MEMORY, BitnetError, UsageError, explained
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.presence import NEW_PLACE
from bitnet_core.runs.record import START_SECONDS, Run, RunRecord, end, keep_room_for_end
from bitnet_core.secrets.handover import child_environment, refuse_unrecordable, start_with_secrets
from bitnet_core.settings.resolved import Settings

_DYING_SECONDS = 5.0
_children: list["subprocess.Popen[str]"] = []


@atexit.register
def _leave_running() -> None:
    """Wait for none of them: they outlive this process. With PYTHONWARNINGS=error, Python would complain of each."""
    for child in _children:
        child.returncode = child.returncode or 0


def leave_running(child: "subprocess.Popen[str]") -> None:
    """Let a process outlive this one."""
    _children.append(child)


def lock_path(experiment: Experiment, stage: str) -> Path:
    return experiment.logs / f".{stage}.lock"


@contextlib.contextmanager
def stage_lock(experiment: Experiment, stage: str, own: str = "") -> Iterator[str]:
    """Reserve the stage for this process; yields what `files.locked` does. UsageError if it is already running.

    `own` is the id of the run that this process is.
    """
    deadline = time.monotonic() + _DYING_SECONDS

    def give_up_if_running() -> None:
        _require_idle(experiment, stage, History.read(experiment), own)
        # A killed process looks gone a moment before its last thread exits and its lock is released.
        if time.monotonic() > deadline:
            raise _already_running(experiment, stage)

    with files.locked(lock_path(experiment, stage), on_wait=give_up_if_running) as note:
        yield note


def _require_idle(experiment: Experiment, stage: str, history: History, own: str = "") -> None:
    """UsageError if a run of the stage is active that is not `own`."""
    running = history.active(stage, besides=own)
    if running:
        raise _already_running(experiment, stage, running)


def _already_running(experiment: Experiment, stage: str, run: Run | None = None) -> UsageError:
    bitnet, name = f"bitnet --root {shlex.quote(str(experiment.root))}", run.id if run else stage
    host = run.foreign_host() if run else ""
    on, stop = (f" on {host}", "there") if host else ("", f"with `{bitnet} stop {name}`")
    return UsageError(
        f"{stage} is already running in {experiment.root}{on}; "
        f"follow it with `{bitnet} watch {name}` or stop it {stop}."
    )


def launch(
    settings: Settings,
    stage: str,
    secrets: Mapping[str, str] | None = None,
    argv: list[str] | None = None,
    env_files: Collection[Path] = (),
) -> Run:
    """Start a stage in a session of its own; return when its process has taken over or has failed to start.

    It outlives this process, a closed terminal and a dropped connection. Secrets go through an inherited pipe.
    `argv` is the command to record. `env_files` are those that the settings were read from. UsageError if the stage
    is running or the experiment was renamed since they were read, BitnetError if it can't be started.
    """
    refuse_unrecordable(settings.values, argv or sys.argv, (secrets or {}).values())
    experiment = Experiment.from_settings(settings)
    with _held(experiment, env_files):
        experiment.ensure()
    try:
        with stage_lock(experiment, stage):
            pass
        with launch_lock(experiment), _held(experiment, env_files):
            run = _prepare(experiment, stage, argv or sys.argv)
    except OSError as error:
        _require_same_experiment(experiment, env_files)
        # In a folder of ours it may be a lock of another user, or something that can't be read.
        named = error.filename and os.path.lexists(error.filename)
        what, why = error.filename if named else experiment.logs, explained(error, "check its permissions")
        raise BitnetError(f"{stage} can't start: {what} can't be used {why}.") from error
    environment = process.PATIENT_THREADS | child_environment(settings.values, (secrets or {}).values())
    environment["PYTHONUNBUFFERED"] = "1"
    command = process.python("bitnet_core.stages", str(run.path))
    try:
        with run.output_path.open("ab") as output:
            child = start_with_secrets(command, secrets or {}, environment, output)
    except OSError as error:
        problem = f"{stage} did not start: its process can't be created {explained(error, FREE_MEMORY)}."
        end(run, "failed", 1, problem)
        raise BitnetError(problem) from error
    leave_running(child)
    deadline = time.monotonic() + START_SECONDS
    while run.record().state == "starting" and time.monotonic() < deadline:
        if child.poll() is not None and run.record().state == "starting":
            end(run, "failed", *_why_it_ended(run, stage, child.returncode))
        time.sleep(0.02)
    # Polling collects the children that have ended: none remains as a zombie while this process lives.
    _children[:] = [child for child in _children if child.poll() is None]
    return run


@contextlib.contextmanager
def _held(experiment: Experiment, env_files: Collection[Path]) -> Iterator[None]:
    """Hold the folder, if it is there yet, so that it is not renamed. UsageError if that of the settings is gone."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(files.FolderGone):
            stack.enter_context(files.folder_held(experiment.root))
        _require_same_experiment(experiment, env_files)
        yield


def _require_same_experiment(experiment: Experiment, env_files: Collection[Path]) -> None:
    """UsageError if the folder of the settings is gone: launching would start a new experiment in its place."""
    env = experiment.root / ".env"
    if env in env_files and not os.path.lexists(env):
        raise UsageError(f"{experiment.root} was removed after its settings were read; {NEW_PLACE}.")


def _why_it_ended(run: Run, stage: str, code: int) -> tuple[int, str]:
    """The exit code, as a shell has it, and the sentence for a process that ended before it took over."""
    if code >= 0:
        how = f"{stage} did not start: its process ended with exit code {code}"
    else:
        how = f"{stage} did not start: its process was killed by {_signal_name(-code)}"
        if -code == signal.SIGKILL:
            how += ", as the system does when memory runs out"
    if words := run.last_words():
        where = f"it said: {words}"
    else:
        where = f"{run.output_path} has its output" if run.has_output() else "it wrote nothing; start it again"
    return 128 - code if code < 0 else code or 1, f"{how}; {where}."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


@contextlib.contextmanager
def launch_lock(experiment: Experiment) -> Iterator[None]:
    """One launch at a time: each run gets a number of its own. BitnetError if another launch does not end."""
    deadline = time.monotonic() + _DYING_SECONDS

    def give_up() -> None:
        if time.monotonic() > deadline:
            raise BitnetError(f"Another launch in {experiment.root} does not end; try again, or end its process.")

    with files.locked(experiment.logs / ".launch.lock", on_wait=give_up):
        yield


def _prepare(experiment: Experiment, stage: str, argv: list[str]) -> Run:
    """Make the run's folder with its first record. UsageError if another launch has started the stage meanwhile."""
    history, now = History.read(experiment), datetime.now(UTC)
    _require_idle(experiment, stage, history)
    run = Run(experiment.logs / f"{stage}-{now:%Y%m%dT%H%M%SZ}-{os.urandom(2).hex()}")
    record = RunRecord(
        id=run.id,
        stage=stage,
        state="starting",
        settings=experiment.settings.to_record(),
        origins=dict(experiment.settings.origins),
        argv=argv,
        number=history.next_number,
        folder=str(run.path.resolve()),
        created=now.timestamp(),
        created_uptime=process.uptime(),
        host=socket.gethostname(),
        boot_id=process.boot_id(),
        fingerprint=history.fingerprint(stage),
    )
    run.path.mkdir()
    try:
        keep_room_for_end(run)
        run.write(record)
    except BaseException:  # without a record the folder is not a run, and each attempt would leave one more
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run
