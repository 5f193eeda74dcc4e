"""`bitnet-tui`: reads the options, checks the terminal, then starts the app. Textual is imported last."""

import argparse
import contextlib
import gc
import os
import sys
from collections.abc import Container
from pathlib import Path

from bitnet_core import __version__
from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files.typed import typed_path
from bitnet_core.terminal import safe_streams

NO_TERMINAL = (
    "bitnet-tui needs a terminal that can move its cursor; use `bitnet-tui --plain`, or the `bitnet` command."
)
IN_BROWSER = "textual.drivers.web_driver:WebDriver"
"""What textual-serve sets TEXTUAL_DRIVER to."""
_OBJECTS_BETWEEN_COLLECTIONS, _NO_OLD_ONES = 50_000, 1_000_000
_MOST = {"TEXTUAL_FPS": 1000, "TEXTUAL_DIM_FACTOR": 100, "ESCDELAY": 60_000}
"""Numbers that Textual reads; beyond these it ends in a traceback or draws all the time."""
_COLOURS = ("auto", "standard", "256", "truecolor", "windows")


def main(argv: list[str] | None = None) -> int:
    """Run the app; a wrong option is one sentence on stderr and exit code 2."""
    # By default, every 700 objects that stay; importing makes hundreds of thousands, and none of them is garbage.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, _NO_OLD_ONES)  # until the app is there, see `garbage`
    with safe_streams():
        return _guarded(argv)


def _guarded(argv: list[str] | None) -> int:
    try:
        try:
            return _run(_parser().parse_args(argv))
        finally:
            sys.stdout.flush()
    except BitnetError as error:
        from bitnet_core.secrets.known import redactor

        sys.stderr.write("".join(f"bitnet-tui: {line}\n" for line in redactor()(str(error)).split("\n")))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - a bug outside the app's own loop: write a report without keys
        from bitnet_tui import crash

        sys.stderr.write(f"bitnet-tui: {crash.report(error)}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bitnet-tui",
        description="Terminal experiment manager for distilling a language model into a ternary student.",
        epilog="Runs continue when the app is closed, and are shown again when it is opened.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--home", type=typed_path, metavar="DIR", help="the workspace: a folder of experiments (BITNET_HOME)"
    )
    parser.add_argument("--root", type=typed_path, metavar="DIR", help="open this experiment right away")
    parser.add_argument("--plain", action="store_true", help="print the experiments as text and exit")
    parser.add_argument(
        "--web", action="store_true", help="show it in a browser on this machine; needs the extra `web`"
    )
    parser.add_argument(
        "--port", type=_port, default=0, metavar="N", help="with --web: its port (default: a free one)"
    )
    parser.add_argument("--no-mouse", action="store_true", help="don't use the mouse")
    parser.add_argument("--version", action="version", version=f"bitnet-tui {__version__}")
    return parser


def _run(options: argparse.Namespace) -> int:
    home = _home(options.home)
    root = options.root.absolute() if options.root else None
    if root is not None:
        _require_experiment(root)
        root = _as_listed(root, home)
    if options.plain:
        from bitnet_tui.plain import listing

        sys.stdout.write(listing(home, root))
        return 0
    if options.web:
        return _serve(home, root, options.port)
    in_browser = os.environ.get("TEXTUAL_DRIVER") == IN_BROWSER
    on_terminal = all(one.isatty() for one in (sys.stdin, sys.stdout, sys.stderr))  # Textual draws on stderr
    if not in_browser and (not on_terminal or os.environ.get("TERM", "dumb") == "dumb"):
        raise UsageError(NO_TERMINAL)
    _require_variables()
    from bitnet_core.secrets.known import keep_out_of_core_dumps

    keep_out_of_core_dumps()
    gc.disable()  # until its first paint: looking at all that it is made of takes 10 ms
    try:
        from bitnet_tui.app import BitnetApp

        app = BitnetApp(home, root)
        app.run(mouse=not options.no_mouse)
    finally:
        gc.enable()
    if not app.return_code and not in_browser:
        _say_what_runs(home, root, app.stops_sent)
    return app.return_code or 0


def _as_listed(root: Path, home: Path) -> Path:
    """The path by which the list of experiments has this folder: it may be given by a link, or with `..`."""
    with contextlib.suppress(OSError, RuntimeError):
        real = root.resolve()
        if real.parent == home.resolve():
            return home.absolute() / real.name
    return root


def _serve(home: Path, root: Path | None, port: int) -> int:
    """Serve the app to a browser. UsageError if the extra is not installed."""
    try:
        from bitnet_tui.web.server import serve
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("aiohttp", "textual_serve"):
            raise
        raise UsageError(
            "bitnet-tui --web needs an extra; install it with `pip install 'bitnet-tui[web]'`."
        ) from error
    return serve(["--home", str(home), *(["--root", str(root)] if root else [])], port)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("it must be a number from 0 to 65535")
    return int(text)


def _require_variables() -> None:
    """UsageError if a variable has a value with which Textual or Rich can't draw on a terminal."""
    for name, most in _MOST.items():
        number = os.environ.get(name, "")
        with contextlib.suppress(ValueError):  # Textual ignores what is not a number
            if int(number) > most:
                raise UsageError(f"{name} is {number[:20]!r}; set it to at most {most:,}, or unset it.")
    for name in ("COLUMNS", "LINES"):
        size = os.environ.get(name, "")
        if size.isdigit() and not (size.isascii() and len(size) < 9):  # Rich passes over what has no digits alone
            raise UsageError(f"{name} is {size[:20]!r}; set it to a number of cells, or unset it.")
    if log := os.environ.get("TEXTUAL_LOG"):
        try:
            fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
            try:
                os.write(fd, b"\n")  # a full disk shows only when it is written to
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            why = explained(error, "correct it") if isinstance(error, OSError) else "(it is not a path); correct it"
            raise UsageError(f"TEXTUAL_LOG is {log!r}, which can't be written {why}, or unset it.") from error
    given = os.environ.get("TEXTUAL_COLOR_SYSTEM", "auto")
    if given not in _COLOURS:
        known = ", ".join(_COLOURS)
        raise UsageError(f"TEXTUAL_COLOR_SYSTEM is {given!r}; set it to one of {known}, or unset it.")


def _home(given: Path | None) -> Path:
    """The workspace. UsageError if it is a file or can't be read; other wrong settings do no harm here."""
    from bitnet_core.secrets.known import resolve_and_remember
    from bitnet_core.settings.places import PlaceOptions
    from bitnet_tui.services.settings import overrides

    if given:
        _require_readable(given)  # before settings are looked for in it
    home = PlaceOptions.of(resolve_and_remember(overrides(given) if given else None).settings).home
    _require_readable(home)
    return home


def _require_readable(home: Path) -> None:
    """UsageError if the workspace is a file or can't be read. It need not exist."""
    try:
        os.scandir(home).close()
    except FileNotFoundError:
        pass  # the first experiment creates it
    except NotADirectoryError:
        raise UsageError(f"{home} is a file; give --home a folder.") from None
    except OSError as error:
        raise UsageError(f"{home} can't be read ({error.strerror}); give --home another folder.") from error


def _require_experiment(root: Path) -> None:
    """UsageError if the folder is not an experiment or can't be read."""
    from bitnet_core.runs.experiment import is_experiment

    try:
        if root.is_dir() and is_experiment(root):
            return
    except OSError as error:
        raise UsageError(f"{root} can't be read ({error.strerror}); give --root another folder.") from error
    raise UsageError(f"{root} is not an experiment; give --root an experiment's folder, or leave it out.")


def _say_what_runs(home: Path, root: Path | None, stops_sent: Container[str]) -> None:
    from bitnet_tui.plain import going_on

    sys.stdout.writelines(f"{words}\n" for words in going_on(home, root, stops_sent))
