"""Events as lines of a log that a person can read; kinds that have a better place on the screen give none."""

import time
from collections.abc import Callable
from pathlib import PurePath

from bitnet_core.events import Event
from bitnet_tui.view.numbers import count, finite, size
from bitnet_tui.view.spans import crop, printable
from bitnet_tui.view.states import look

_SAMPLE_CELLS = 100
_MARK = {"debug": " ", "info": " ", "warning": "!", "error": "✗", "critical": "✗"}


def of_event(event: Event) -> list[str] | None:
    """The lines of one event, the first with the local time, the others indented; None when it has none."""
    write = _WRITERS.get(str(event.get("kind")))
    text = write(event) if write else None
    if not text:
        return None
    first, *others = printable(text).split("\n")
    return [f"{_clock(event)} {first}", *(f"{'':10} {other}" for other in others)]


def _clock(event: Event) -> str:
    moment = finite(event.get("t"))
    try:
        return time.strftime("%H:%M:%S", time.localtime(moment))
    except (OverflowError, OSError, ValueError):
        return "--:--:--"


def _text(event: Event, name: str) -> str:
    value = event.get(name)
    return "" if value is None else str(value)


def _number(event: Event, name: str) -> float | None:
    return finite(event.get(name))


def _name(event: Event) -> str:
    return PurePath(_text(event, "path")).name or "a file"


def _started(event: Event) -> str:
    return (
        f"  {_text(event, 'stage')} started on {_text(event, 'device') or 'this machine'} (pid {_text(event, 'pid')})"
    )


def _log(event: Event) -> str:
    return f"{_MARK.get(_text(event, 'level'), ' ')} {_text(event, 'message')}"


def _alert(event: Event) -> str:
    advice = _text(event, "advice")
    return f"! {_text(event, 'message')}" + (f"\n{advice}" if advice else "")


def _flip(event: Event) -> str:
    bits = f"A{_text(event, 'from_bits')}→A{_text(event, 'to_bits')}"
    flipped, total = _number(event, "layers_flipped"), _number(event, "layers_total")
    part = f" in {flipped:.0f} of {total:.0f} layers" if flipped and total and flipped < total else ""
    return f"┊ activations flipped {bits}{part} at {count(_number(event, 'seen_tokens'))} seen tokens"


def _checkpoint(event: Event) -> str:
    return f"  checkpoint of step {_text(event, 'step')} kept: {_name(event)}, {size(_number(event, 'bytes'))}"


def _artifact(event: Event) -> str:
    return f"  {_text(event, 'role') or 'artifact'} written: {_name(event)}, {size(_number(event, 'bytes'))}"


def _upload(event: Event) -> str:
    return f"  upload of {_name(event)} to {_text(event, 'target')}: {_text(event, 'state')}"


def _table(event: Event) -> str:
    return f"  results: {_text(event, 'name')}"


def _sample(event: Event) -> str:
    prompt, text = (crop(" ".join(_text(event, name).split()), _SAMPLE_CELLS) for name in ("prompt", "text"))
    return f"› {prompt}\n{text}"


def _finished(event: Event) -> str:
    state = look(_text(event, "state"))
    error = _text(event, "error")
    return f"{state.glyph} {state.word}" + (f": {error}" if error else "")


_WRITERS: dict[str, Callable[[Event], str]] = {
    "run_started": _started,
    "log": _log,
    "alert": _alert,
    "flip": _flip,
    "checkpoint": _checkpoint,
    "artifact": _artifact,
    "upload": _upload,
    "table": _table,
    "sample": _sample,
    "run_finished": _finished,
}
