"""`bitnet …`: one subcommand a stage, plus the tools around them. The same core as the app, without a screen.

Imports only the light half, and what a command needs only when it runs: `bitnet --help` answers at once.
"""

import argparse
import importlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitnet_core import __version__
from bitnet_core.errors import BitnetError, UsageError

if TYPE_CHECKING:
    from bitnet_core.runs.experiment import Experiment
    from bitnet_core.runs.record import Run
    from bitnet_core.settings.resolved import Resolution

_STAGES = {
    "teacher": "measure the teacher: greedy answers, tokens/s, latency, memory",
    "collect": "sample the teacher with top-k logprobs and keep them as Parquet",
    "train": "distil the traces into a ternary student, with the A8→A4 flip",
    "eval": "measure the student: quality, tokens/s, memory, QEI",
    "dryrun": "one forward pass of a 7B student at A8 and at A4, with its peak memory",
    "pipeline": "all of them in order, skipping what is done and unchanged",
}
_EPILOG = """\
options that every command takes, before or after its name:
  --root DIR           the experiment's folder (DRIVE_ROOT)
  --env FILE           a .env file to read instead of ./.env
  --set NAME=VALUE     a setting, stronger than any other place (repeatable)
  --json               answers and events as JSON lines

exit codes: 0 done, 1 failed, 2 wrong use or settings, 3 gates not met, 130 stopped
first time here: `bitnet demo` needs no key and no GPU
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; every mistake of the user's is one sentence on stderr and an exit code."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except BitnetError as error:
        _complain("".join(f"bitnet: {line}\n" for line in str(error).splitlines()))
        return error.exit_code
    except BrokenPipeError:  # the reader of our output (`| head`) has left: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _complain(f"bitnet: {error.filename or 'a file'} can't be used ({error.strerror}).\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - a bug of ours: its trace, but no key in it
        import traceback

        _complain("".join(traceback.format_exception(error)))
        return 1


def _complain(text: str) -> None:
    """Onto stderr, with every key masked that this process has met."""
    from bitnet_core.secrets import redactor

    sys.stderr.write(redactor()(text))


def _run(argv: list[str]) -> int:
    shared, rest = _shared_parser().parse_known_args(argv)
    if rest and rest[0] not in ("--help", "-h", "--version"):
        from bitnet_core import secrets
        from bitnet_core.secrets import command_line

        secrets.keep_out_of_core_dumps()
        command_line.refuse_values(shared.assignments, rest)
    arguments = _parser().parse_args(rest, namespace=shared)
    if arguments.command is None:
        _parser().print_help()
        return 2
    handler: Callable[[argparse.Namespace], int] = arguments.handler
    return handler(arguments)


class _Parser(argparse.ArgumentParser):
    """What it says of a wrong call repeats words of it, so that is masked like everything else."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stderr:
            _complain(message)
        else:
            super()._print_message(message, file)


def _shared_parser() -> argparse.ArgumentParser:
    """The global options, taken out first so that they work on either side of the command."""
    parser = _Parser(prog="bitnet", add_help=False, allow_abbrev=False)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--env", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments")
    parser.add_argument("--json", action="store_true")
    return parser


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="bitnet",
        description="Distil a large language model into a ternary BitNet-style student.",
        epilog=_EPILOG,
        formatter_class=form,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bitnet {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def command(name: str, about: str, handler: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=_EPILOG, formatter_class=form
        )
        added.set_defaults(handler=handler)
        return added

    for stage, about in _STAGES.items():
        one = command(stage, about, _launch)
        one.add_argument("--detach", action="store_true", help="start it and return at once, printing the run's id")
    command("demo", "create the experiment `demo` in the workspace and run its pipeline", _demo)
    command("runs", "list the runs of the experiment", _runs)
    watch = command("watch", "follow a run from its first event on; Ctrl-C leaves it running", _watch)
    watch.add_argument("run", metavar="RUN", nargs="?", help="a run's id or its beginning; what runs now if left out")
    stop = command("stop", "stop a run: it saves what it has and ends", _stop)
    stop.add_argument("run", metavar="RUN", help="a run's id or its beginning, such as `train`")
    stop.add_argument("--now", action="store_true", help="kill it at once")
    config = command("config", "show every setting with its value and where it came from", _config)
    config.add_argument("--check", action="store_true", help="only report problems; exit 2 if one needs fixing")
    config.add_argument("--example", action="store_true", help="print the text of .env.example")
    traces = command("traces", "look into collected traces, or project them onto another tokenizer", _traces)
    traces.add_argument("action", choices=("stats", "show", "validate", "project"))
    traces.add_argument(
        "prompt", nargs="?", type=int, metavar="N", help="show: the sequence's prompt_idx (default: first)"
    )
    traces.add_argument("--rows", type=int, default=20, metavar="N", help="show: positions to list (default: 20)")
    providers = command("providers", "list the providers and what they can do, or ask one", _providers)
    actions = providers.add_subparsers(dest="action", metavar="probe", title="actions")
    probe = actions.add_parser("probe", help="ask a model what it can do, with requests of one token")
    probe.add_argument("provider", metavar="NAME", help="such as openai; `bitnet providers` lists them")
    probe.add_argument("--model", default="", help="the model (default: the one in the settings)")
    chat = command("chat", "ask the chat provider (PROVIDER) one question; Ctrl-C gives up", _chat)
    chat.add_argument("prompt", nargs="?", metavar="TEXT", help="the question; read from stdin if left out")
    traces.add_argument("--tokenizer", metavar="T", help="project: a folder, a file, or a name on the hub")
    traces.add_argument("--template", default="", help="project: a chat template instead of the tokenizer's")
    traces.add_argument("--out", type=Path, metavar="DIR", help="project: where to (default: beside the traces)")
    prompts = command("prompts", "write prompts from topic templates, for KD_PROMPTS_FILE", _prompts)
    prompts.add_argument("--count", type=int, metavar="N", help="how many; all are different")
    prompts.add_argument("--seed", type=int, default=0, metavar="S", help="same seed, same prompts (default: 0)")
    prompts.add_argument("--topics", default="", metavar="A,B", help="these topics alone")
    prompts.add_argument("--templates", type=Path, metavar="FILE", help="a template file of your own")
    prompts.add_argument("--out", type=Path, metavar="FILE", help="write here (JSON lines) instead of to stdout")
    prompts.add_argument("--list", action="store_true", help="show the topics instead")
    command("init", "create the experiment's folders", _init)
    keys = command("keys", "keep API keys out of files: in the OS keyring or an encrypted vault", _keys)
    done = ("set", "list", "status", "delete", "move")
    keys.add_argument("action", nargs="?", default="status", choices=done, help="status if left out")
    keys.add_argument("names", nargs="*", metavar="NAME", help="such as OPENAI_API_KEY; its value comes from stdin")
    keys.add_argument(
        "--to", type=str.lower, choices=("keyring", "vault"), default="", help="set, move: this place and no other"
    )
    keys.add_argument("--all", action="store_true", help="move: every key that stands in a .env")
    keys.add_argument("--plain-text", action="store_true", help="set: write it into .env, readable by whoever can")
    return parser


def _resolution(arguments: argparse.Namespace, root: Path | None = None) -> "Resolution":
    """Resolve the settings; warnings go to stderr, errors end the command."""
    from bitnet_core.secrets.resolving import resolve

    overrides: dict[str, str] = {}
    for assignment in arguments.assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment} has no value; write --set {name}=VALUE.")
        overrides[name] = value
    resolution = resolve(overrides, root=root or arguments.root, env_file=arguments.env)
    for problem in resolution.problems:
        if problem.severity == "warning":
            _complain(f"bitnet: warning: {problem.message}\n")
    resolution.checked()
    return resolution


def _experiment(arguments: argparse.Namespace) -> "Experiment":
    """The experiment to read from: it must be one."""
    from bitnet_core.runs.experiment import Experiment, Workspace, is_experiment

    settings = _resolution(arguments).settings
    experiment = Experiment.from_settings(settings)
    if not is_experiment(experiment.root):
        there = Workspace(settings.path("BITNET_HOME")).experiments()[:3]
        known = " or ".join(f"--root {os.path.relpath(path)}" for path in there)
        raise UsageError(
            f"{experiment.root} is no experiment; " + (f"give {known}." if known else "start one with `bitnet demo`.")
        )
    return experiment


def _launch(arguments: argparse.Namespace, root: Path | None = None) -> int:
    from bitnet_core.cli import keys as keys_command
    from bitnet_core.runs.launch import launch
    from bitnet_core.teachers import stage_keys

    resolution = _resolution(arguments, root)
    stage: str = arguments.command
    keys = stage_keys.for_stage(stage, resolution, keys_command.ask_passphrase)
    if keys.warning:
        _complain(f"bitnet: warning: {keys.warning}\n")
    run = launch(resolution.settings, stage, keys.values)
    if getattr(arguments, "detach", False):
        _answer(arguments, {"run": run.id, "path": str(run.path)}, run.id)
        return 0
    return _follow(run, arguments, stop_on_interrupt=True)


def _demo(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs.experiment import Workspace, demo_env_text

    settings = _resolution(arguments).settings
    given = settings.origin("DRIVE_ROOT") in ("command line", "environment")
    root = settings.path("DRIVE_ROOT") if given else settings.path("BITNET_HOME") / "demo"
    if not (root / ".env").exists():
        Workspace(root.parent).create(root.name, demo_env_text())
    arguments.command, arguments.root = "pipeline", root
    code = _launch(arguments, root)
    if code == 0 and not arguments.json:
        sys.stdout.write("look at it with `make tui` (or `bitnet-tui`); README says what these figures are\n")
    return code


def _follow(run: "Run", arguments: argparse.Namespace, *, stop_on_interrupt: bool) -> int:
    """Render a run's events until its end; a pipeline's stages are followed too. Returns its exit code."""
    from bitnet_core.cli.output import Console

    console = Console(as_json=arguments.json)
    asked = 0

    def on_signal(*_: Any) -> None:
        nonlocal asked
        if not stop_on_interrupt:
            raise KeyboardInterrupt
        asked += 1
        if asked == 1:
            sys.stderr.write("\nbitnet: stopping; it saves what it has (again to kill it at once).\n")
            run.request_stop()
        else:
            run.kill()

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _render(run, console)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nbitnet: {run.id} goes on; `bitnet stop {run.id}` stops it.\n")
        return 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    state, record = run.state(), run.record()
    if state == "interrupted":
        raise BitnetError(f"{run.id} was interrupted (its process is gone); `bitnet {run.stage}` resumes it.")
    return record.exit_code if record.exit_code is not None else 1


def _render(run: "Run", console: Any, until: Callable[[], bool] = lambda: False) -> None:
    from bitnet_core.runs.events import Progress
    from bitnet_core.runs.record import Run

    followed: set[str] = set()
    for event in run.follow(until):
        child_id = (event.run or None) if isinstance(event, Progress) else None
        if child_id is None or child_id in followed:
            console.event(run.id, event)
            continue
        followed.add(child_id)
        child = Run(run.path.parent / child_id)
        if run.is_active() and child.is_active():
            _render(child, console, until=lambda: not run.is_active())


def _runs(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs.history import History
    from bitnet_core.text import duration, render_table

    rows = []
    for run, record in History.read(_experiment(arguments)).entries:
        began = record.started or record.created
        state = run.state_of(record)
        lasted = (record.ended or (time.time() if state == "running" else began)) - began
        if arguments.json:
            fields = {"run": run.id, "stage": record.stage, "state": state, "path": str(run.path), "pid": record.pid}
            sys.stdout.write(json.dumps(fields | {"started": began, "seconds": lasted, "error": record.error}) + "\n")
        rows.append([run.id, state, duration(lasted), record.error or ""])
    if not arguments.json:
        text = render_table("runs", ["run", "state", "time", "error"], rows) if rows else "no runs yet"
        sys.stdout.write(text + "\n")
    return 0


def _watch(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs.history import History

    history = History.read(_experiment(arguments))
    run = history.find(arguments.run) if arguments.run else history.active("pipeline") or history.active()
    return _follow(run or history.find(""), arguments, stop_on_interrupt=False)


def _stop(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs.history import History

    run = History.read(_experiment(arguments)).find(arguments.run)
    if not run.is_active():
        raise UsageError(f"{run.id} is not running; it is {run.state()}.")
    if arguments.now:
        run.kill()
    state = run.stop()
    _answer(arguments, {"run": run.id, "state": state}, f"{run.id} is {state}")
    return 0


def _config(arguments: argparse.Namespace) -> int:
    from bitnet_core.secrets import redactor
    from bitnet_core.secrets.resolving import resolve
    from bitnet_core.settings.docs import env_example
    from bitnet_core.settings.registry import REGISTRY
    from bitnet_core.text import render_table

    if arguments.example:
        sys.stdout.write(env_example())
        return 0
    if arguments.check:
        overrides = dict(item.partition("=")[::2] for item in arguments.assignments)
        problems = resolve(overrides, root=arguments.root, env_file=arguments.env).problems
        for problem in problems:
            _complain(f"bitnet: {problem.severity}: {problem.message}\n")
        told = redactor().tree([{"severity": one.severity, "message": one.message} for one in problems])
        _answer(arguments, {"problems": told}, "" if problems else "settings are fine")
        return 2 if any(problem.to_fix for problem in problems) else 0
    resolution = _resolution(arguments)
    values, rows = resolution.settings.to_record(), []
    for setting in REGISTRY.values():
        if setting.secret:
            shown: Any = "set" if setting.name in resolution.secrets else None
            origin = resolution.secret_origins.get(setting.name, "")
        else:
            shown, origin = values[setting.name], resolution.settings.origin(setting.name)
        if arguments.json:
            fields = {"name": setting.name, "value": shown, "origin": origin, "section": setting.section}
            sys.stdout.write(json.dumps(fields | {"secret": setting.secret}) + "\n")
        rows.append(
            [setting.name, "" if shown is None else str(int(shown) if isinstance(shown, bool) else shown), origin]
        )
    if not arguments.json:
        sys.stdout.write(render_table("settings", ["name", "value", "from"], rows) + "\n")
    return 0


def _traces(arguments: argparse.Namespace) -> int:
    """The heavy half is imported by name: what only asks for help must not wait for it."""
    if arguments.prompt is not None and arguments.action != "show":
        raise UsageError(f"bitnet traces {arguments.action} takes no sequence; `bitnet traces show N` shows one.")
    if arguments.rows < 0:
        raise UsageError("--rows is below 0; give the number of positions to list.")
    settings = _resolution(arguments).settings
    data = settings.maybe_path("KD_DATA_PATH") or settings.path("DATA_DIR")
    if (arguments.action == "project") != (arguments.tokenizer is not None):
        raise UsageError("bitnet traces project needs --tokenizer T, and no other action takes it.")
    if arguments.action == "project":
        return _project(arguments, data)
    inspect = importlib.import_module("bitnet_core.traces.inspect")
    if arguments.action == "validate":
        problems = inspect.validate(data)
        _answer(arguments, {"problems": problems}, inspect.validate_text(data, problems))
        return 1 if problems else 0
    if arguments.action == "stats":
        found = inspect.stats(data)
        _answer(arguments, found, "" if arguments.json else inspect.stats_text(found))
    else:
        found = inspect.show(data, arguments.prompt, arguments.rows)
        _answer(arguments, found, "" if arguments.json else inspect.show_text(found))
    return 0


def _project(arguments: argparse.Namespace, data: Path) -> int:
    reproject = importlib.import_module("bitnet_core.traces.reproject")

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{done}/{total} shards" if done < total else "\r\x1b[K")

    found = reproject.reproject(data, arguments.tokenizer, arguments.template, arguments.out, progress)
    _answer(arguments, found, "" if arguments.json else reproject.text(found))
    return 0


def _providers(arguments: argparse.Namespace) -> int:
    from bitnet_core.cli import providers as providers_command

    return providers_command.providers(arguments, _resolution(arguments), _columns())


def _chat(arguments: argparse.Namespace) -> int:
    from bitnet_core.cli import providers as providers_command

    prompt = arguments.prompt if arguments.prompt is not None else sys.stdin.read()
    if not prompt.strip():
        raise UsageError("bitnet chat needs a question; give it after the command or on stdin.")
    return providers_command.chat(arguments, _resolution(arguments), prompt)


def _columns() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _prompts(arguments: argparse.Namespace) -> int:
    from bitnet_core.prompts.templates import lines, load_topics, write
    from bitnet_core.text import render_table

    topics = load_topics(arguments.templates, [name.strip() for name in arguments.topics.split(",") if name.strip()])
    if arguments.list:
        for topic in topics if arguments.json else ():
            fields = {"topic": topic.name, "about": topic.about, "weight": topic.weight, "prompts": topic.size}
            sys.stdout.write(json.dumps(fields) + "\n")
        if not arguments.json:
            rows = [[topic.name, topic.about, len(topic.templates), topic.weight, topic.size] for topic in topics]
            columns = ["topic", "about", "templates", "weight", "different prompts"]
            sys.stdout.write(render_table("topics", columns, rows, _columns()) + "\n")
        return 0
    if arguments.count is None or arguments.count < 1:
        raise UsageError("bitnet prompts needs --count N, 1 or more; --list shows the topics.")
    if arguments.out is None:
        sys.stdout.writelines(lines(topics, arguments.count, arguments.seed))
        return 0
    write(arguments.out, topics, arguments.count, arguments.seed)
    fields = {"path": str(arguments.out), "prompts": arguments.count, "seed": arguments.seed}
    _answer(
        arguments, fields, f"{arguments.count} prompts are in {arguments.out}; collect them with KD_PROMPTS_FILE."
    )
    return 0


def _init(arguments: argparse.Namespace) -> int:
    from bitnet_core.runs.experiment import Experiment

    experiment = Experiment.from_settings(_resolution(arguments).settings)
    experiment.ensure()
    _answer(arguments, {"root": str(experiment.root)}, f"{experiment.root} is ready")
    return 0


def _keys(arguments: argparse.Namespace) -> int:
    from bitnet_core.cli import keys as keys_command

    # A file that is to be written need not be there to be read.
    new = arguments.plain_text and arguments.env is not None and not arguments.env.exists()
    reading = argparse.Namespace(**vars(arguments) | {"env": None}) if new else arguments
    return keys_command.run(arguments, _resolution(reading))


def _answer(arguments: argparse.Namespace, fields: dict[str, Any], text: str) -> None:
    line = json.dumps(fields) if arguments.json else text
    if line:
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
