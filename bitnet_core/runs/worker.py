"""What the process of one run does around its stage.

It takes the secrets from the inherited pipe, holds the stage's lock, runs the stage, and writes the end down
whatever happens: one sentence for a user's mistake, a traceback in `output.log` (without locals) for a bug of ours.
"""

import dataclasses
import errno
import faulthandler
import platform
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from bitnet_core import files, process, secrets
from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.events import EventWriter, RunStarted
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.launch import stage_lock
from bitnet_core.runs.record import Run, end
from bitnet_core.secrets import log_filter
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DeviceOptions

_REPORTED = ("bitnet-tui", "torch", "transformers", "pyarrow", "xllamacpp")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main(argv: list[str], run_stage: Callable[[StageContext], dict[str, Any]]) -> int:
    """Run the stage of the run folder `argv[0]`, write its end down, and return the exit code."""
    run = Run(Path(argv[0]))
    secrets.keep_out_of_core_dumps()
    keys = secrets.read_from_pipe()
    redact = secrets.Redactor(keys.values())
    # Without a key too: what has the shape of one is masked.
    finish_log = log_filter.start(redact)
    faulthandler.enable()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    record = run.record()
    settings = Settings.from_record(record.settings, record.origins)
    experiment = Experiment.from_settings(settings)
    events = EventWriter(run.events_path, redact)
    context = StageContext(record.stage, run.path, experiment, settings, events, keys)
    signal.signal(signal.SIGTERM, lambda *_: context.request_stop())
    try:
        with stage_lock(experiment, record.stage):
            if run.record().state != "starting":  # stopped before it had begun
                return 130
            me = process.current()
            run.write(
                dataclasses.replace(
                    record,
                    state="running",
                    pid=me.pid,
                    process_start=me.start,
                    boot_id=me.boot_id,
                    started=time.time(),
                )
            )
            _announce(context, me.pid)
            for folder in (experiment.checkpoints, experiment.data, experiment.reports):
                for leftover in files.remove_leftovers(folder):
                    context.log(f"{leftover} was left half-written by a run that was killed; removed.")
            summary = run_stage(context)
    except Exception as error:  # noqa: BLE001 - the last line of defence: every end is written down
        state, code, message = _explain(error, experiment, redact)
        end(run, state, code, redact(message))
    else:
        code = 0
        end(run, "succeeded", code, None, redact.tree(summary))
    finish_log()
    return code


def _announce(context: StageContext, pid: int) -> None:
    versions = {"python": platform.python_version()}
    for name in _REPORTED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    context.emit(
        RunStarted(
            stage=context.stage,
            run=context.run_id,
            pid=pid,
            host=socket.gethostname(),
            device=_device(DeviceOptions.of(context.settings)),
            versions=versions,
        )
    )


def _device(options: DeviceOptions) -> str:
    """The device a stage will take, told without importing torch; stages that compute log the real one."""
    if options.force_cpu:
        return "cpu"
    if options.device != "auto":
        return options.device
    if Path("/proc/driver/nvidia/version").exists():
        return "cuda"
    return "mps" if (sys.platform, platform.machine()) == ("darwin", "arm64") else "cpu"


def _explain(error: Exception, experiment: Experiment, redact: secrets.Redactor) -> tuple[str, int, str]:
    """State, exit code and the one sentence to show."""
    if isinstance(error, Stopped):
        return "cancelled", error.exit_code, str(error)
    if isinstance(error, BitnetError):
        return "failed", error.exit_code, str(error)
    if isinstance(error, OSError) and error.errno in _FULL:
        place = error.filename or experiment.root
        return (
            "failed",
            1,
            f"The disk is full at {place}; free space and start the stage again, nothing made is lost.",
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            "failed",
            1,
            f"{error.filename} can't be written ({error.strerror}); mend its permissions and try again.",
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "failed", 1, "Memory ran out; take a smaller TRAIN_BATCH_SIZE, MAX_SEQ_LEN or MINI_PRESET."
    sys.stderr.write(redact("".join(traceback.format_exception(error))))
    return (
        "failed",
        1,
        f"A bug in bitnet-tui ended the stage ({type(error).__name__}: {error}); output.log has the trace.",
    )
