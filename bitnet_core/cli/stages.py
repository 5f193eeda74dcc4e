"""Commands that start runs and look after them: one for each stage, `demo`, `runs`, `watch` and `stop`."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bitnet_core.cli.command import (
    Commands,
    answer,
    answer_table,
    ask_passphrase,
    in_use,
    open_experiment,
    resolution,
    warn,
)
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.terminal import OutputClosed

if TYPE_CHECKING:
    from bitnet_core.cli.output import Console
    from bitnet_core.runs.record import Run
    from bitnet_core.settings.resolved import Settings

_ENDS = {"failed": "failed", "cancelled": "been stopped", "interrupted": "been interrupted"}
_ERROR_CHARS = 1000
"""Of a run's error in the list of runs; `--json` has all of it."""
_UPLOAD_SECONDS, _POLL_SECONDS = 2.0, 0.1
"""How long an upload is given to fail or end before it is said to be at work."""
_STAGES = {
    "teacher": "measure the teacher: greedy answers, tokens/s, latency, memory",
    "collect": "sample the teacher with top-k logprobs and keep them as Parquet",
    "train": "distil the traces into a ternary student, with the A8→A4 flip",
    "eval": "measure the student: quality, tokens/s, memory, QEI",
    "dryrun": "one forward pass of a 7B student at A8 and at A4, with its peak memory",
    "pipeline": "all of them in order, skipping what is done and unchanged",
}


def add_to(commands: Commands) -> None:
    for stage, about in _STAGES.items():
        one = commands.add(stage, about, _launch)
        one.add_argument("--detach", action="store_true", help="start it and return at once, printing the run's id")
        if stage == "train":
            one.add_argument(
                "--online", action="store_true", help="ask the teacher's model while training (TRAIN_ONLINE=1)"
            )
            one.add_argument(
                "--from",
                dest="resume_step",
                metavar="STEP",
                type=int,
                help="resume from this step's checkpoint, 0 = start again; newer ones are set aside (RESUME_STEP)",
            )
        if stage == "pipeline":
            one.add_argument("--gate", action="store_true", help="end with exit code 3 if a gate fails (GATE_…)")
    commands.add("demo", "create the experiment `demo` in the workspace and run its pipeline", _demo)
    commands.add("runs", "list the runs of the experiment", _runs)
    watch = commands.add("watch", "follow a run from its first event; Ctrl-C leaves it running", _watch)
    watch.add_argument(
        "run", metavar="RUN", nargs="?", help="a run's id or the start of it (default: what is running now)"
    )
    stop = commands.add("stop", "stop a run; it saves what it can first", _stop)
    stop.add_argument("run", metavar="RUN", help="a run's id or the start of it, such as `train`; or `export`")
    stop.add_argument("--now", action="store_true", help="kill it at once")


def _launch(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs.launch import launch
    from bitnet_core.teachers import stage_keys

    if getattr(arguments, "gate", False):
        arguments.assignments.append("GATE_ENFORCE=1")
    if getattr(arguments, "online", False):
        arguments.assignments.append("TRAIN_ONLINE=1")
    if getattr(arguments, "resume_step", None) is not None:
        arguments.assignments.append(f"RESUME_STEP={arguments.resume_step}")
    resolved = resolution(arguments)
    stage: str = arguments.command
    keys = stage_keys.for_stage(stage, resolved, ask_passphrase)
    if keys.warning:
        warn(keys.warning)
    if stage in ("train", "pipeline"):
        _warn_of_training(stage, resolved.settings)
    run = launch(resolved.settings, stage, keys.values, env_files=resolved.env_files)
    if getattr(arguments, "detach", False):
        with _outlived_by(run, _bitnet(arguments)):
            answer(arguments, {"run": run.id, "path": str(run.path)}, run.id)
            sys.stdout.flush()
        return 0
    code = _follow(run, arguments, stop_on_interrupt=True)
    if said := _of_the_copy(run, resolved.settings, _bitnet(arguments)):
        sys.stderr.write(f"bitnet: {said}\n")
    return code


def _warn_of_training(stage: str, settings: "Settings") -> None:
    """Say that a training with these settings has diverged before, or that it would read outdated traces."""
    from bitnet_core.runs.changes import stale_traces
    from bitnet_core.runs.experiment import Experiment
    from bitnet_core.runs.history import History

    try:
        history = History.read(Experiment.from_settings(settings))
    except BitnetError:  # which the launch tells
        return
    if ended := history.diverged():
        warn(f"With these settings training has failed before. {ended.error}")
    if stage == "train" and (changed := stale_traces(history)):
        warn(f"The traces are outdated ({changed}); `bitnet pipeline` collects them again and trains.")


def _bitnet(arguments: argparse.Namespace) -> str:
    """How a command about this experiment begins, to be typed as it stands."""
    import shlex

    return f"bitnet --root {shlex.quote(str(arguments.root))}" if arguments.root else "bitnet"


def _of_the_copy(run: "Run", settings: "Settings", bitnet: str) -> str:
    """How the copy on the storage target stands after a run, in a sentence; empty if no upload was started."""
    from bitnet_core.runs.event_files import read_events
    from bitnet_core.runs.events import Alert, Upload
    from bitnet_core.runs.experiment import Experiment
    from bitnet_core.runs.history import History
    from bitnet_core.settings.storage import StorageOptions

    options = StorageOptions.of(settings)
    if not options.has_target or options.sync == "off":
        return ""
    experiment, began = Experiment.from_settings(settings), run.record().created
    deadline = time.monotonic() + _UPLOAD_SECONDS
    while True:
        upload = History.read(experiment).latest("upload")
        active = upload is not None and _is_active(upload.run)
        of_this_run = upload is not None and (active or (upload.record.ended or upload.record.created) >= began)
        if (of_this_run and not active) or time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    if upload is None or not of_this_run:
        return ""
    if not active:
        if upload.run.state() == "succeeded":
            return "the copy is up to date."
        why = upload.run.record().error or f"{upload.run.gone()}."
        return f"the copy was not brought up to date: {why} `{bitnet} store push` tries it again."
    told = [event for event in read_events(upload.run.events_path) if isinstance(event, Alert | Upload)]
    if told and isinstance(told[-1], Alert) and told[-1].code.startswith("storage_"):
        return f"the copy is not up to date yet: {told[-1].message} `{bitnet} watch upload` follows it."
    return f"the copy is being brought up to date; `{bitnet} watch upload` follows it."


def _demo(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs.experiment import Workspace
    from bitnet_core.settings.values import PlaceOptions

    settings = resolution(arguments).settings
    places = PlaceOptions.of(settings)
    given = settings.origin("DRIVE_ROOT") in ("command line", "environment")
    root = places.root if given else places.home / "demo"
    Workspace(root.parent).demo(root.name)
    arguments.command, arguments.root = "pipeline", root
    code = _launch(arguments)
    if code == 0 and not arguments.json:
        sys.stdout.write("open it with `make tui` (or `bitnet-tui`); the README explains these figures\n")
    return code


def _runs(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs import clock
    from bitnet_core.runs.finding import without_again
    from bitnet_core.runs.history import History
    from bitnet_core.text import duration, state_word

    rows: list[list[str]] = []
    records: list[dict[str, Any]] = []
    history = History.read(open_experiment(arguments))
    for entry in history.entries:
        (run, record), state = entry, entry.state
        seconds = record.seconds(clock.now(record.boot_id) if state == "running" else None)
        rows.append([run.id, state_word(state), duration(seconds), _short(without_again(entry.error))])
        fields = {"run": run.id, "stage": record.stage, "state": state, "path": str(run.path), "pid": record.pid}
        records.append(fields | {"started": record.began.wall, "seconds": seconds, "error": entry.error or None})
    for run, problem in history.unreadable:
        rows.append([run.id, "unreadable", duration(None), _short(problem)])
        fields = {"run": run.id, "stage": None, "state": "unreadable", "path": str(run.path), "pid": None}
        records.append(fields | {"started": None, "seconds": None, "error": problem})
    if not rows:
        in_use.require()
    if not rows and not arguments.json:
        sys.stdout.write("no runs yet\n")
        return 0
    answer_table(arguments, "runs", ["run", "state", "time", "error"], rows, records)
    return 0


def _short(error: str) -> str:
    from bitnet_core.runs.events import cut

    return cut(error, _ERROR_CHARS)


def _watch(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs.history import History

    history = History.read(open_experiment(arguments))
    run = history.find(arguments.run) if arguments.run is not None else history.active("pipeline") or history.active()
    return _follow(run or history.newest(), arguments, stop_on_interrupt=False, with_health=not arguments.json)


def _stop(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs import export_run
    from bitnet_core.runs.history import History
    from bitnet_core.text import state_word

    experiment = open_experiment(arguments)
    if arguments.run == export_run.EXPORT:
        state = export_run.stop(experiment.root, now=arguments.now)
        answer(arguments, {"run": arguments.run, "state": state}, f"{arguments.run} is {state_word(state)}")
        return 0
    run = History.read(experiment).find(arguments.run)
    if not run.is_active():
        raise UsageError(f"{run.id} is not running: it has {_ENDS.get(run.state(), 'finished')}.")
    if arguments.now:
        run.kill()
    state = run.stop()
    error = run.record().error or None
    why = f": {error}" if error else ""
    answer(arguments, {"run": run.id, "state": state, "error": error}, f"{run.id} is {state_word(state)}{why}")
    return 0


class _Left(BaseException):
    """Ctrl-C while watching.

    Python ends by SIGINT after a KeyboardInterrupt in `exec` of text, which makes dataclasses, even if it is caught.
    """


def _follow(run: "Run", arguments: argparse.Namespace, *, stop_on_interrupt: bool, with_health: bool = False) -> int:
    """Show a run's events, and those of a pipeline's stages, until it ends. Returns its exit code.

    With `stop_on_interrupt`, the first Ctrl-C stops the run and the next one kills it; without, it is left running.
    `with_health` adds how each stage is doing, in words, when that changes.
    """
    import signal

    from bitnet_core.cli.output import Console

    interrupts, advised = 0, False

    def on_signal(*_: Any) -> None:
        nonlocal interrupts
        if not stop_on_interrupt:
            raise _Left
        interrupts += 1
        if interrupts == 1:
            sys.stderr.write("\nbitnet: stopping; the run saves what it can first (again to kill it at once).\n")
            run.request_stop()
        else:
            run.kill()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _outlived_by(run, _bitnet(arguments)):
            advised = _show_events(run, Console(as_json=arguments.json), with_health=with_health)
    except _Left:
        sys.stderr.write(f"\nbitnet: {_going_on(run, _bitnet(arguments)) or _how_it_ended(run)}\n")
        return 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    state, record = run.state(), run.record()
    if state == "interrupted":
        import shlex

        from bitnet_core.files.writable import require_writable_folder

        stage = record.stage if record.stage in _STAGES else "STAGE"
        again = f"start it again: `bitnet --root {shlex.quote(str(arguments.root or run.path.parents[1]))} {stage}`"
        try:  # where its files can't be written any more, a run can't say why it ended
            require_writable_folder(run.path, again)
        except BitnetError as error:
            raise BitnetError(f"{run.id} was interrupted ({run.gone(record)}). {error}") from error
        raise BitnetError(f"{run.id} was interrupted ({run.gone(record)}){'' if advised else f'; {again}'}.")
    return record.exit_code if record.exit_code is not None else 1


@contextmanager
def _outlived_by(run: "Run", bitnet: str) -> Iterator[None]:
    """If our output is closed, say that the run goes on."""
    try:
        yield
    except OutputClosed as error:
        raise OutputClosed(f"{error} {_going_on(run, bitnet)}".rstrip()) from None


def _going_on(run: "Run", bitnet: str) -> str:
    """That the run goes on and how to stop it; empty if it has ended or its record is gone."""
    if not _is_active(run):
        return ""
    host = run.foreign_host()
    how = f"stop it on {host}, where it runs" if host else f"`{bitnet} stop {run.id}` stops it"
    return f"{run.id} keeps running; {how}."


def _how_it_ended(run: "Run") -> str:
    from bitnet_core.text import state_word

    try:
        return f"{run.id} has ended: it is {state_word(run.state())}."
    except BitnetError as error:
        return str(error)


def _is_active(run: "Run") -> bool:
    """False too while its record is gone, which `follow` awaits."""
    from bitnet_core.runs.record import NoRecord

    try:
        return run.is_active()
    except NoRecord:
        return False


def _show_events(
    run: "Run", console: "Console", until: Callable[[], bool] = lambda: False, *, with_health: bool = False
) -> bool:
    """A pipeline's progress names the run of the stage at work; that run's events are shown in its place.

    Returns whether the health said last advises how to go on.
    """
    from bitnet_core.cli.watching import HealthLines
    from bitnet_core.runs.catalog import PIPELINE
    from bitnet_core.runs.events import Progress

    shown: set[str] = set()
    lines = HealthLines(run, console.line) if with_health and not run.id.startswith(f"{PIPELINE.name}-") else None
    for event in run.follow(until, idle=lines.look if lines else lambda: None):
        if lines:
            lines.feed(event)
        child_id = event.run if isinstance(event, Progress) else ""
        if not child_id or child_id in shown:
            console.event(run.id, lines.shown(event) if lines else event)
            continue
        shown.add(child_id)
        child = run.child(child_id)
        if child and _is_active(run) and _is_active(child):
            _show_events(child, console, until=lambda: not _is_active(run), with_health=with_health)
    if lines:
        lines.look()
    return lines is not None and lines.advises
