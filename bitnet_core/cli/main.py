"""The entry point of `bitnet`: the global options, the commands of every family, and what an error looks like.

Imports only the light half, and what a command needs only when it runs, so that `bitnet --help` answers at once.
"""

import argparse
import sys
from typing import Any

from bitnet_core import __version__
from bitnet_core.cli import (
    bench,
    experiments,
    export,
    keys,
    plan,
    prompts,
    providers,
    results,
    serve,
    settings,
    silence,
    stages,
    store,
    traces,
)
from bitnet_core.cli.command import Commands, Handler, complain, failure, in_use
from bitnet_core.errors import BitnetError, lacks_memory
from bitnet_core.files.typed import typed_path
from bitnet_core.runs.presence import Gone
from bitnet_core.terminal import safe_streams

_FAMILIES = (
    stages,
    results,
    plan,
    export,
    serve,
    store,
    experiments,
    bench,
    settings,
    traces,
    providers,
    prompts,
    keys,
)
_EPILOG = """\
options of every command, before or after its name:
  --root DIR           the experiment's folder (DRIVE_ROOT)
  --env FILE           a .env file to read instead of ./.env
  --set NAME=VALUE     a setting; it overrides every other source (repeatable)
  --json               answers and events as JSON lines

exit codes: 0 done, 1 failed, 2 wrong use or settings, 3 gates not met, 130 stopped
first time here: `bitnet demo` needs no key and no GPU
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; a user's mistake is one sentence on stderr."""
    with safe_streams():
        return _guarded(sys.argv[1:] if argv is None else argv)


def _guarded(argv: list[str]) -> int:
    try:
        try:
            with in_use:
                return _blaming_what_is_gone(argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - a user's mistake, memory, a broken installation or a bug
        sentence = failure(error)
        if lacks_memory(error) and not isinstance(error, OSError):
            sys.stderr.write(f"bitnet: {sentence}\n")  # masking it would take memory
        elif sentence:
            lines = sentence.split("\n")
            complain("".join(f"bitnet: {line}\n" for line in lines), quotes=isinstance(error, BitnetError))
        else:
            import traceback

            # A bug: show its traceback with every key masked.
            complain("".join(traceback.format_exception(error)))
        return error.exit_code if isinstance(error, BitnetError) else 1


def _blaming_what_is_gone(argv: list[str]) -> int:
    """Run the command. If it fails because its experiment is gone, say that, whichever file it missed first."""
    try:
        return _run(argv)
    except Gone:
        raise
    except Exception:
        in_use.require()
        raise


def _run(argv: list[str]) -> int:
    shared, rest = _shared_parser().parse_known_args(argv)
    if rest and rest[0] not in ("--help", "-h", "--version"):
        from bitnet_core.secrets import command_line, known

        known.keep_out_of_core_dumps()
        command_line.refuse_values(shared.assignments, rest)
    parser = _parser(rest)
    arguments = parser.parse_args(rest, namespace=shared)
    if arguments.command is None:
        parser.print_help()
        return 2
    from bitnet_core.limits import ask_before_imports
    from bitnet_core.settings.resolve import working_folder

    working_folder()  # in a folder that is gone, torch's libraries end the process with their own message
    ask_before_imports()
    handler: Handler = arguments.handler
    if arguments.json:
        return handler(arguments)
    with silence.broken(f"`bitnet {arguments.command}` is at work"):
        return handler(arguments)


class _Parser(argparse.ArgumentParser):
    """Masks keys in argparse's complaints, which quote the command line, and cuts what is quoted at length."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is sys.stderr:
            complain(message, quotes=True)
        else:
            super()._print_message(message, file)


def _shared_parser() -> argparse.ArgumentParser:
    """The global options, parsed first so that they work on either side of the command."""
    parser = _Parser(prog="bitnet", add_help=False, allow_abbrev=False)
    parser.add_argument("--root", type=typed_path)
    parser.add_argument("--env", type=typed_path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="assignments")
    parser.add_argument("--json", action="store_true")
    return parser


def _parser(words: list[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="bitnet",
        description="Distil a large language model into a ternary BitNet-style student.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"bitnet {__version__}")
    commands = Commands(parser, _EPILOG, words)
    for family in _FAMILIES:
        family.add_to(commands)
    return parser
