"""The exports of an experiment: how to take one to another machine, and what to type there. Pure."""

import getpass
import shlex
import socket
import time

from bitnet_core.runs.exports import GGUF, HF, Exported, other_line, serve_line
from bitnet_core.text import ago, flat, size
from bitnet_tui.view.spans import Line, Span, line, short, wrapped

_RUNTIME = {GGUF: "llama.cpp", HF: "transformers"}
_COPY_WORDS = "Copy it to another machine, typed there:"


def names(exported: tuple[Exported, ...]) -> str:
    """`demo-step200-TQ2_0.gguf (16 MB), demo-step200-hf (53 MB)`."""
    return ", ".join(f"{flat(one.path.name)} ({size(one.bytes)})" for one in exported)


def choice(kind: str, what: str, here: Exported | None) -> str:
    """One format as an entry of a list, with what is there already."""
    there = f"  ✓ exported, {size(here.bytes)}" if here is not None else ""
    return f"{kind:<6}{what}{there}"


def running(step: int, kind: str, began: float, exported: tuple[Exported, ...]) -> tuple[str, str]:
    """How an export is doing that has not ended: in which style to say what. `exported` are those of its step.

    What is written is compared with the student, which takes longer than writing it.
    """
    runtime = _RUNTIME[kind]
    if any(one.kind == kind and one.written >= int(began) for one in exported):
        return "value", f"Step {step} is exported for {runtime}; it is compared with the student there now…"
    return "value", f"Exporting step {step} for {runtime}; this takes a minute…"


def card_lines(one: Exported, cells: int) -> tuple[Line, ...]:
    """Path and size, how to copy it to another machine, and the lines that run it there."""
    name = one.path.name
    copied = f"scp {'-r ' if one.kind == HF else ''}{_here()}:{shlex.quote(str(one.path))} ."
    other, typed = other_line(one.kind, name)
    served = "transformers" if one.kind == HF else "bitnet-tui"
    lines = [*wrapped("", short(one.path), "value", cells)]
    lines += [line(Span(f"{size(one.bytes)}, written {ago(one.written, time.time())}", "label"))]
    for what, command in (
        (_COPY_WORDS, copied),
        (f"Serve it there with {served}:", serve_line(one.kind, name)),
        (f"Or with {other}:" if one.kind != HF else f"Or in {other}:", typed),
    ):
        lines += [(), line(Span(what, "label")), *wrapped("  ", flat(command), "value", cells)]
    return tuple(lines)


def _here() -> str:
    """This user at this machine, as another machine may name them."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return socket.gethostname()
