"""What the process of a run does around its stage.

It takes the secrets from the inherited pipe, holds the stage's lock, runs the stage, and records how it ended. For a
mistake of the user the end is one sentence; for a bug `output.log` gets a traceback, without the values of variables.
"""

import contextlib
import dataclasses
import errno
import faulthandler
import glob
import platform
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from bitnet_core import process
from bitnet_core.errors import (
    FREE_MEMORY,
    BitnetError,
    Stopped,
    explained,
    is_about_the_machine,
    lacks_memory,
    lacks_package,
)
from bitnet_core.files import half_written
from bitnet_core.limits import ask_before_imports
from bitnet_core.runs import catalog, clock
from bitnet_core.runs.companion import upload_after, upload_beside
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.event_files import EventWriter
from bitnet_core.runs.events import RunStarted
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.launch import lock_path, stage_lock
from bitnet_core.runs.notifier import start_beside
from bitnet_core.runs.presence import Gone, GoneWithCopy
from bitnet_core.runs.record import Run, RunRecord, end
from bitnet_core.secrets import handover, known, log_filter
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DeviceOptions
from bitnet_core.text import flat

_Result = TypeVar("_Result")
NICENESS = 2
"""A stage leaves a busy machine's processors to the app first, so that keys answer; to others it gives way little."""
_REPORTED = ("bitnet-tui", "torch", "transformers", "pyarrow", "xllamacpp")
_IRREPLACEABLE = ("data", "checkpoints")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM}


def main(argv: list[str], run_stage: Callable[[StageContext], dict[str, Any]]) -> int:
    """Run the stage of the run folder `argv[0]`, record its end, and return the exit code."""
    run = Run(Path(argv[0]))
    known.keep_out_of_core_dumps()
    ask_before_imports()
    keys = handover.read_from_pipe()
    redact = Redactor(keys.values())
    # Needed without keys too: it masks whatever looks like one.
    finish_log = log_filter.start(redact)
    faulthandler.enable()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    record = run.record()
    if record.stage in catalog.STAGES:  # a pipeline passes its own priority on
        process.let_others_go_first(NICENESS)
    experiment = Experiment.from_settings(Settings.from_record(record.settings, record.origins))
    try:
        events = EventWriter(run.events_path, redact)
    except OSError as error:
        return _ended(run, record, *_explain(error, experiment, redact))
    context = StageContext(record.stage, run.path, experiment, events, keys)
    signal.signal(signal.SIGTERM, lambda *_: context.request_stop())
    try:
        with stage_lock(experiment, record.stage, run.id) as note, context.presence:
            if run.record().state != "starting":  # it was stopped before it began
                return 130
            _watch(context)
            record = _in_presence(lambda: _take_over(run, context), context)
            if note:
                context.log(note)
            start_beside(context, record)
            context.require_writable(record.stage)
            with upload_beside(context):
                summary = _in_presence(lambda: run_stage(context), context)
    except Exception as error:  # noqa: BLE001 - every end is recorded, whatever caused it
        found = _explain(error, experiment, redact)
        _let_go(error)
        code = _ended(run, record, *found)
    else:
        code = _ended(run, record, "succeeded", 0, None, redact.tree(summary))
    upload_after(context)
    finish_log()
    return code


def _watch(context: StageContext) -> None:
    """Let `check_stop` notice when the experiment, the lock or the folder that the stage fills is gone."""
    stage, experiment = context.stage, context.experiment
    context.presence.watch(experiment.root, f"restore it, or start {stage} again in a new one")
    lock = lock_path(experiment, stage)
    context.presence.watch(lock, f"make sure that no other run of {stage} is active, then start it again")
    for folder in {name for name, _ in catalog.stage(stage).outputs if name in _IRREPLACEABLE}:
        fix = f"what is stored elsewhere is kept: start {stage} again, and it writes what is missing"
        context.presence.watch(getattr(experiment, folder), fix)


def _in_presence(work: Callable[[], _Result], context: StageContext) -> _Result:
    """What the work returns. Whatever comes of it, Gone is raised if what it worked in is gone."""
    try:
        result = work()
    except GoneWithCopy as gone:
        if lost := context.presence.lost():
            raise Gone(f"{lost}; {gone}") from gone
        raise
    except BaseException:
        context.presence.require()
        raise
    context.presence.require()
    return result


def _take_over(run: Run, context: StageContext) -> RunRecord:
    """Record that this process is the run's, announce it, and remove what killed runs left unfinished."""
    me = process.current()
    identity = dataclasses.replace(run.record(), pid=me.pid, process_start=me.start, boot_id=me.boot_id)
    now, killed = clock.now(me.boot_id), process.oom_kills()
    record = dataclasses.replace(
        identity, state="running", started=now.wall, started_uptime=now.uptime, oom_kills=killed
    )
    run.write(record)
    context.emit(
        RunStarted(
            stage=context.stage,
            run=context.run_id,
            pid=me.pid,
            host=socket.gethostname(),
            device=_device(DeviceOptions.of(context.settings)),
            versions=_versions(),
        )
    )
    experiment = context.experiment
    beside_data = experiment.data.parent.glob(f"{glob.escape(experiment.data.name)}.*")  # such as projections
    for folder in (experiment.checkpoints, experiment.data, *beside_data, experiment.reports, experiment.logs):
        for leftover in half_written.remove_leftovers(folder, below=True):
            context.log(f"{leftover} was left unfinished by a run that was killed; removed.")
    return record


def _ended(
    run: Run, record: RunRecord, state: str, code: int, message: str | None, summary: dict[str, Any] | None = None
) -> int:
    """Record the end, and return the exit code. Where the disk takes no record, it is told in `output.log`."""
    try:
        end(run, state, code, message, summary, record)
    except OSError as error:
        lost = f"How {record.stage} ended can't be recorded {explained(error, 'check the disk')}."
        for sentence in filter(None, (message, lost)):
            sys.stderr.write(f"bitnet: {flat(sentence)}\n")
        return code or 1
    return code


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _REPORTED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _device(options: DeviceOptions) -> str:
    """The device that a stage will use, guessed without importing torch; stages that compute log the real one."""
    if options.force_cpu:
        return "cpu"
    if options.device != "auto":
        return options.device
    if Path("/proc/driver/nvidia/version").exists():
        return "cuda"
    return "mps" if (sys.platform, platform.machine()) == ("darwin", "arm64") else "cpu"


def _let_go(error: BaseException | None) -> None:
    """Free what the frames behind an error hold: it may be all the memory there is, and an end needs some."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        traceback.clear_frames(error.__traceback__)
        seen.append(error)
        error = error.__cause__ or error.__context__


def _explain(error: Exception, experiment: Experiment, redact: Redactor) -> tuple[str, int, str]:
    """The state, the exit code, and the sentence to show. A bug's traceback goes to stderr, which is `output.log`."""
    if isinstance(error, BitnetError):
        return "cancelled" if isinstance(error, Stopped) else "failed", error.exit_code, redact(str(error))
    if sentence := _machine_failure(error, experiment):
        return "failed", 1, redact(sentence)
    sys.stderr.write(redact("".join(traceback.format_exception(error))))
    bug = f"{type(error).__name__}: {error}"
    because = f"The stage failed because of a bug in bitnet-tui ({bug}); output.log has the traceback."
    return "failed", 1, redact(because)


def _machine_failure(error: Exception, experiment: Experiment) -> str:
    """What to do about a failure of the machine; empty for any other error."""
    if lacks_memory(error):
        return f"Memory ran out; choose a smaller TRAIN_BATCH_SIZE, MAX_SEQ_LEN or MINI_PRESET, {FREE_MEMORY}."
    if lacking := lacks_package(error):
        return lacking
    if isinstance(error, OSError) and error.errno in _FULL:
        place = error.filename or experiment.root
        return f"The disk is full at {place}; free space and start the stage again."
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        place = error.filename or experiment.root
        return f"{place} can't be used ({error.strerror}); correct its permissions and try again."
    if isinstance(error, OSError) and is_about_the_machine(error):
        return f"{error.filename or experiment.root} can't be used {explained(error, '')}."
    return ""
