"""The exports of an experiment: how to take one to another machine, and what to type there. Pure."""

import getpass
import shlex
import socket
import time

from bitnet_core.runs.exports import GGUF, HF, Exported, other_line, serve_line
from bitnet_core.text import ago, crop_middle, duration, flat, size
from bitnet_tui.key_names import key
from bitnet_tui.view.spans import Line, Span, line, short, wrapped

_SERVED = {
    GGUF: "Serve it there with bitnet-tui, installed there as it is here. It listens on 127.0.0.1 "
    "unless --host and a key are set:",
    HF: "Serve it there with transformers:",
}
_RUNTIME = {GGUF: "llama.cpp", HF: "transformers"}


def names(exported: tuple[Exported, ...]) -> str:
    """`demo-step200-TQ2_0.gguf (16 MB), demo-step200-hf (53 MB)`."""
    return ", ".join(f"{flat(one.path.name)} ({size(one.bytes)})" for one in exported)


def choice(kind: str, what: str, here: Exported | None) -> str:
    """One format as an entry of a list: what it is for, or that it is there already."""
    return f"{kind:<6}{what}" if here is None else f"{kind:<6}✓ exported, {size(here.bytes)}: how to run it"


def running(step: int, kind: str, began: float, exported: tuple[Exported, ...]) -> tuple[str, str]:
    """How an export is doing that has not ended: in which style to say what. `exported` are those of its step.

    What is written is compared with the student, which takes longer than writing it. The seconds since it began tell
    that it goes on.
    """
    runtime, spent = _RUNTIME[kind], duration(max(0.0, time.time() - began))
    if any(one.kind == kind and one.written >= int(began) for one in exported):
        return "value", f"Step {step} is exported for {runtime}; it is compared with the student there now… {spent}"
    return "value", f"Exporting step {step} for {runtime}; this takes a minute or two… {spent}"


def ended(style: str, words: str) -> tuple[str, str]:
    """The same of one that has ended: what came of it, and how to see what to type."""
    return style, words if style == "bad" else f"{words}. {key('checkpoints.export')} shows how to run it."


def card_lines(one: Exported, cells: int) -> tuple[Line, ...]:
    """Path and size, how to copy it to another machine, and the commands that run it there, each in one line.

    What does not fit is left out of a command's middle: it is there to be copied, whole.
    """
    lines = [*wrapped("", short(one.path), "value", cells)]
    lines += [line(Span(f"{size(one.bytes)}, written {ago(one.written, time.time())}", "label"))]
    for what, command in _steps(one):
        typed = line(Span(f"  {crop_middle(command, max(8, cells - 2))}", "value"))
        lines += [(), *wrapped("", what, "label", cells), typed]
    return tuple(lines)


def commands(one: Exported) -> str:
    """What is typed on the other machine and nothing else, a command a line."""
    return "\n".join(command for _, command in _steps(one))


def _steps(one: Exported) -> tuple[tuple[str, str], ...]:
    """What each command is for, and the command."""
    name = one.path.name
    user, host = _here()
    copied = f"scp {'-r ' if one.kind == HF else ''}{user}{host}:{shlex.quote(str(one.path))} ."
    other, typed = other_line(one.kind, name)
    served = _SERVED[one.kind]
    return (
        (f"Copy it to another machine, typed there; if it can't find {flat(host)}, put its address:", flat(copied)),
        (served, flat(serve_line(one.kind, name))),
        (f"Or {'in' if one.kind == HF else 'with'} {other}:", flat(typed)),
    )


def _here() -> tuple[str, str]:
    """This user with an @, empty if it has no name; and this machine, as another one may name it."""
    try:
        return f"{getpass.getuser()}@", socket.gethostname()
    except (OSError, KeyError):
        return "", socket.gethostname()
