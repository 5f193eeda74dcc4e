"""The exports of an experiment: how to take one to another machine, and what to type there. Pure."""

import getpass
import re
import shlex
import socket
import time
from pathlib import Path

import bitnet_tui
from bitnet_core.runs.export_run import ExportRun
from bitnet_core.runs.exports import GGUF, HF, INSTALL_TRANSFORMERS, Exported, ask_line, llamacpp_line, serve_line
from bitnet_core.text import ago, duration, flat, listed, printable, size, width
from bitnet_tui.key_names import key
from bitnet_tui.remedies import by_keys
from bitnet_tui.view.spans import Line, Span, line, short, wrapped

_SERVED = (
    "Then serve it. To let others reach it, set a key there (bitnet keys set LLAMACPP_API_KEY) "
    "and add --host 0.0.0.0:"
)
_PARTS = re.compile(r"[^\s/]*(?:/+|\s+)|[^\s/]+")
_OF_PROGRAM = "pyproject.toml README.md LICENSE assets bitnet_core bitnet_tui"
"""What it is installed from."""
_INDENT = "  "
_RUNTIME = {GGUF: "llama.cpp", HF: "transformers"}


def names(exported: tuple[Exported, ...]) -> str:
    """`demo-step200-TQ2_0.gguf (16 MB), demo-step200-hf (53 MB)`."""
    return ", ".join(f"{flat(one.path.name)} ({size(one.bytes)})" for one in exported)


def question(step: int, here: tuple[Exported, ...]) -> str:
    """The title above the formats."""
    trained = "" if step else ", not trained yet"
    return f"{'Run or export' if here else 'Export'} the student of step {step}{trained}"


def choice(kind: str, what: str, here: Exported | None, *, compared: bool = False) -> str:
    """One format as an entry of a list: what it is for, or that it is there, and whether it is still `compared`."""
    if here is None:
        return f"{kind:<6}{what}"
    state = "▸ written, being compared" if compared else "✓ exported"
    return f"{kind:<6}{state}, {size(here.bytes)}: how to run it"


def told(run: ExportRun) -> tuple[str, str]:
    """How an export is doing or how it ended: in which style to say what. While it runs, one line of 76 cells."""
    style, words = _said(run)
    return style, f"{words} {key('checkpoints.export')} shows how to run it." if run.state == "succeeded" else words


def notice(run: ExportRun) -> tuple[str, str]:
    """The same as a notice: without how to run it, whose key works in the tab alone, and without a full stop."""
    style, words = _said(run)
    return style, words.removesuffix(".")


def _said(run: ExportRun) -> tuple[str, str]:
    what = f"The export of {_student(run)}"
    programs = f" for {listed([_RUNTIME.get(one, one) for one in run.formats])}" if run.formats else ""
    if run.active:
        spent = f"{duration(run.seconds)} so far. {key('checkpoints.export')} can stop it"
        if run.written:
            return "value", f"Comparing what was exported of {_student(run)}, {spent}."
        return "value", f"Exporting {_student(run)}{programs}, {spent}."
    again = f"{key('checkpoints.export')} exports it again"
    if run.host:
        return "label", f"{what}{programs} was begun on {flat(run.host)}; from here it can't be seen whether it runs."
    if run.state == "cancelled":
        return "warn", f"{what}{programs} was stopped; {again}."
    if run.state == "interrupted":
        half = "it is written, but it was not compared with the student" if run.written else "nothing of it is left"
        return "warn", f"{what}{programs} was killed: {run.why}; {half}. {again}."
    if run.state == "failed":
        return "bad", f"{what} failed: {by_keys(run.why)}"
    style, how = _outcome(run)
    return style, f"Exported {_student(run)}, {how}: {', '.join(map(flat, run.written))}."


def _student(run: ExportRun) -> str:
    return "the student" if run.step is None else f"step {run.step}"


def _outcome(run: ExportRun) -> tuple[str, str]:
    if run.problems:
        return "warn", f"but {' '.join(map(flat, run.problems))}"
    return ("good", "verified") if run.verified else ("warn", "not verified")


def still_words(run: ExportRun) -> str:
    """Why no other export begins now."""
    return f"The export of {_student(run)} is still running."


def waits_words(run: ExportRun, form: str, step: int) -> str:
    """When an export begins that was chosen while another one runs."""
    return f"{form} of step {step} is exported when the export of {_student(run)} has ended, if the app is open then."


def stop_words(run: ExportRun, waiting: int = 0) -> str:
    """An entry of the list of formats. The exports that wait for this one are dropped with it."""
    rest = f", and drop {'the one that waits' if waiting == 1 else f'the {waiting} that wait'}" if waiting else ""
    return f"Stop the export of {_student(run)} that is running{rest}"


def facts(one: Exported, cells: int) -> tuple[Line, ...]:
    """Where it is, how large, and how old."""
    about = line(Span(f"{size(one.bytes)}, written {ago(one.written, time.time())}", "label"))
    return (*_broken("", short(one.path), cells), about)


def command_lines(what: str, command: str, cells: int) -> tuple[Line, ...]:
    """What a command is for, and the whole of it."""
    return (*wrapped("", what, "label", cells), *_broken(_INDENT, command, cells))


def _broken(indent: str, text: str, cells: int) -> list[Line]:
    """Lines that are broken at spaces and in paths, but not in names unless one is longer than a line."""
    rows = [""]
    parts = _PARTS.findall(text)
    if parts[-1:] == ["."]:  # where scp copies to: alone on a line it reads as the end of a sentence
        parts[-2:] = ["".join(parts[-2:])]
    for part in parts:
        if rows[-1] and width(f"{rows[-1]}{part}".rstrip()) > cells - len(indent):
            rows.append("")
        rows[-1] += part
    return [one for row in rows for one in wrapped(indent, row.rstrip(), "value", cells)]


def commands(one: Exported) -> tuple[tuple[str, str], ...]:
    """What each command that is typed on the other machine is for, and the command."""
    name = one.path.name
    user, host = _here()
    there = f"{user}{host}"
    copied = f"scp {'-r ' if one.kind == HF else ''}{there}:{shlex.quote(_from_home(one.path))} ."
    copy = (
        f"Type this on the other machine to copy it there ({key('app.copy')} copies the marked command "
        f"whole, a click the one under it; {key('move.up')} and {key('move.down')} mark another). "
        f"If {flat(host)} is not found there, put the address of this machine in its place:"
    )
    serve, ask = serve_line(one.kind, name), ask_line(one.kind, name)
    if one.kind == HF:
        after: tuple[tuple[str, str], ...] = (
            ("Install there what runs it:", INSTALL_TRANSFORMERS),
            ("Ask it something. Loading takes a minute on a machine without a GPU:", ask),
            ("Or serve it:", serve),
        )
    else:
        after = (
            ("Serve it with llama.cpp, without bitnet-tui:", llamacpp_line(name)),
            ("Ask the server something, in a second terminal:", ask),
            ("Or serve it with bitnet-tui. Install that there first, without your experiments:", _install(there)),
            (_SERVED, serve),
        )
    return ((copy, printable(copied)), *((what, printable(command)) for what, command in after))


def _install(there: str) -> str:
    """What installs this program on the other machine: from its folder here, if it runs from one."""
    program = Path(bitnet_tui.__file__).parent.parent
    if program.name.endswith("-packages"):  # pip has put it there
        return "pip install bitnet-tui"
    sent = shlex.quote(f"tar -cf - -C {shlex.quote(_from_home(program))} {_OF_PROGRAM}")
    return f"mkdir -p bitnet-tui && ssh {there} {sent} | tar -xf - -C bitnet-tui && pip install ./bitnet-tui"


def _from_home(path: Path) -> str:
    """A path as `scp` takes it on the other side: from the home folder, where it is shorter."""
    whole, head = str(path.absolute()), "~/"
    shown = short(path)
    return shown.removeprefix(head) if shown.startswith(head) and whole.endswith(shown[1:]) else whole


def _here() -> tuple[str, str]:
    """This user with an @, empty if it has no name; and this machine, as another one may name it."""
    try:
        return f"{getpass.getuser()}@", socket.gethostname()
    except (OSError, KeyError):
        return "", socket.gethostname()
