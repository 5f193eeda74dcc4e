"""What the commands share: their place in the parser, the settings, the experiment, answers and hidden input.

`bitnet --help` imports every family of commands, so what only a running command needs is imported inside its
function.
"""

import argparse
import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitnet_core.errors import FREE_MEMORY, BitnetError, UsageError, explained, lacks_memory, lacks_package
from bitnet_core.runs.presence import NEW_PLACE, Presence
from bitnet_core.terminal import safe
from bitnet_core.text import capital

if TYPE_CHECKING:
    from bitnet_core.runs.experiment import Experiment
    from bitnet_core.settings.resolved import Resolution, Settings

Handler = Callable[[argparse.Namespace], int]
"""Runs a command with its parsed arguments; returns the exit code."""
in_use = Presence("the command")
"""The experiment that this process's command is about."""
_LONGEST_WORD, _LONGEST_LINE = 500, 2000
"""In terminal cells, of the command line that a complaint quotes."""
CHECKPOINT_HELP = "best, latest, a step, or a file (default: latest)"


class Commands:
    """The subcommands of `bitnet`; each family of commands adds its own.

    Only a command that is among `words`, those of the command line, gets a real parser.
    """

    def __init__(self, parser: argparse.ArgumentParser, epilog: str, words: Sequence[str]) -> None:
        def parser_of_command(**options: Any) -> Any:
            return type(parser)(**options) if options["prog"].split()[-1] in words else _Unused()

        made: Any = parser_of_command  # argparse calls it like the class that it expects
        self._subparsers = parser.add_subparsers(
            dest="command", metavar="COMMAND", title="commands", parser_class=made
        )
        self._epilog = epilog

    def add(self, name: str, about: str, handler: Handler) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = self._subparsers.add_parser(
            name,
            help=about,
            description=f"{capital(about)}.",
            epilog=self._epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(handler=handler)
        return added


class _Unused:
    """In place of a parser that is not needed: making all of them would take a tenth of the time of `--help`."""

    def __getattr__(self, name: str) -> "_Unused":
        return self

    def __call__(self, *_: object, **__: object) -> "_Unused":
        return self


# -- settings and experiment ---------------------------------------------------------------------------------------


def overrides(arguments: argparse.Namespace) -> dict[str, str]:
    """The settings given with `--set`, by name."""
    given: dict[str, str] = {}
    for assignment in arguments.assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment} has no value; write --set {name}=VALUE.")
        given[name] = value
    return given


def _resolved(arguments: argparse.Namespace, *, in_experiment: bool = True) -> "Resolution":
    from bitnet_core.secrets.known import resolve_and_remember

    if arguments.root is not None and in_experiment:
        _use(arguments.root.absolute())  # before its settings are read: it may be renamed meanwhile
    resolved = resolve_and_remember(overrides(arguments), root=arguments.root, env_file=arguments.env)
    root = resolved.settings.values.get("DRIVE_ROOT")
    if isinstance(root, Path) and in_experiment:
        _use(root)
    return resolved


def _use(root: Path) -> None:
    with contextlib.suppress(OSError):  # it may be new, or may be entered and not listed
        in_use.watch(root, NEW_PLACE)


def resolution(arguments: argparse.Namespace, *, repeat: bool = False, in_experiment: bool = True) -> "Resolution":
    """The resolved settings. Warnings go to stderr; an error in the settings is a UsageError.

    With `repeat`, also the warnings that were said before and need nothing to be done. `in_experiment` is false for a
    command that renames and deletes experiments: what fails after that did not fail because one is gone.
    """
    from bitnet_core.settings.said import unsaid

    resolved = _resolved(arguments, in_experiment=in_experiment)
    for problem in resolved.problems if repeat else unsaid(resolved):
        if problem.severity == "warning":
            warn(problem.message)
    resolved.checked()
    return resolved


def settings_to_look_with(arguments: argparse.Namespace) -> "Settings":
    """The settings as they are: a mistake in one must not keep a run from being seen and stopped.

    UsageError if the command line or a place is wrong.
    """
    from bitnet_core.settings.places import PlaceOptions
    from bitnet_core.settings.said import unsaid

    resolved = _resolved(arguments)
    if arguments.assignments or any(
        resolved.settings.values.get(name) is None for name in PlaceOptions.setting_names()
    ):
        resolved.checked()
    for problem in unsaid(resolved):
        warn(problem.message, problem.severity)
    return resolved.settings


def open_experiment(arguments: argparse.Namespace) -> "Experiment":
    """The experiment to read from. UsageError if its folder is not an experiment."""
    from bitnet_core.runs.experiment import Experiment, Workspace, is_experiment
    from bitnet_core.settings.values import PlaceOptions

    settings = settings_to_look_with(arguments)
    experiment = Experiment.from_settings(settings)
    if not is_experiment(experiment.root):
        known = Workspace(PlaceOptions.of(settings).home).experiments()[:3]
        suggested = " or ".join(f"--root {os.path.relpath(path)}" for path in known)
        advice = f"give {suggested}." if suggested else "start one with `bitnet demo`."
        raise UsageError(f"{experiment.root} is not an experiment; {advice}")
    return experiment


# -- answers and messages ----------------------------------------------------------------------------------------


def answer(arguments: argparse.Namespace, fields: dict[str, Any], text: str) -> None:
    """Write `fields` as a JSON line with `--json`, else `text` if there is any."""
    line = json_line(fields) if arguments.json else text
    if line:
        sys.stdout.write(line + "\n")


def answer_table(
    arguments: argparse.Namespace, name: str, columns: list[str], rows: list[list[Any]], records: list[dict[str, Any]]
) -> None:
    """Write `records` as JSON lines with `--json`, else `rows` as a table."""
    from bitnet_core.tables import render_table

    if arguments.json:
        sys.stdout.writelines(json_line(record) + "\n" for record in records)
    else:
        sys.stdout.write(render_table(name, columns, rows, terminal_columns()) + "\n")


def json_line(fields: Mapping[str, Any], *, readable: bool = False) -> str:
    """The fields as strict JSON. What is not safe to show is an escape, such as `\\u009b`: the data stay exact.

    ASCII; with `readable`, letters stay as they are if stdout can hold them all.
    """
    import json

    plain = not readable or not safe(sys.stdout).holds_all
    try:
        line = json.dumps(fields, ensure_ascii=plain, allow_nan=False)
    except ValueError:
        from bitnet_core.runs.strict_json import strict

        line = json.dumps(strict(fields), ensure_ascii=plain, allow_nan=False)
    return line if line.isprintable() else "".join(map(_printable_json, line))


def _printable_json(char: str) -> str:
    import json

    return char if char.isprintable() else json.dumps(char)[1:-1].replace("\x7f", "\\u007f")


def terminal_columns() -> int | None:
    """The width of the terminal; None if stdout is not one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def failure(error: Exception) -> str:
    """What a command says of an error, in a sentence; empty for a bug."""
    if isinstance(error, BitnetError):
        return str(error)
    if isinstance(error, OSError):
        what = "memory" if lacks_memory(error) and not error.filename else error.filename or "a file"
        return f"{what} can't be used {explained(error, 'check its permissions')}."
    return f"Memory ran out; {FREE_MEMORY}." if lacks_memory(error) else lacks_package(error)


def complain(text: str, *, quotes: bool = False) -> None:
    """Write to stderr with every key masked that this process has met; what `quotes` the command line is cut."""
    from bitnet_core.secrets.known import redactor

    shown = redactor()(text)  # first: of a key that was cut, a part would be shown
    if quotes:
        from bitnet_core.text import crop_middle

        shown = re.sub(r"\S+", lambda word: crop_middle(word[0], _LONGEST_WORD), shown)
        shown = "\n".join(crop_middle(line, _LONGEST_LINE) for line in shown.split("\n"))
    sys.stderr.write(shown)


def warn(sentence: str, severity: str = "warning") -> None:
    """Write a sentence to stderr, on a line of its own."""
    from bitnet_core.secrets.known import redactor
    from bitnet_core.text import flat

    sys.stderr.write(f"bitnet: {severity}: {flat(redactor()(sentence))}\n")


# -- hidden input -------------------------------------------------------------------------------------------------


def ask_passphrase(path: Path, new: bool) -> str | None:
    """The passphrase of the vault at `path`; a `new` one is asked for twice. None without a terminal or an answer.

    It is never read from stdin, which may carry the key itself.
    """
    if not sys.stderr.isatty() or not has_terminal():
        return None
    if not new:
        return type_hidden(f"Passphrase for the vault {path}: ") or None
    from bitnet_core.secrets.vault import SHORTEST_PASSPHRASE

    first = type_hidden(f"New passphrase for the vault {path}, at least {SHORTEST_PASSPHRASE} characters: ")
    if first and type_hidden("Repeat it: ") != first:
        raise UsageError("The two passphrases differ; nothing was kept, so try again.")
    return first or None


def type_hidden(prompt: str) -> str:
    """What is typed at a prompt that does not show it; empty after Ctrl-D."""
    import getpass

    from bitnet_core.text import printable

    try:
        return getpass.getpass(printable(prompt))  # written to the terminal itself
    except EOFError:
        sys.stderr.write("\n")
        return ""


def has_terminal() -> bool:
    """Whether the process has a terminal; without one, getpass would read from stdin."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
