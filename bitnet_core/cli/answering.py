"""Requests as JSON lines on stdin, answers as JSON lines on stdout: one model, opened once, until stdin ends.

The app's playground runs two such processes; docs/SERVING.md describes the lines. It knows no model.
"""

import contextlib
import io
import json
import math
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bitnet_core.cli.command import json_line
from bitnet_core.cli.piped import piped_lines
from bitnet_core.errors import UsageError
from bitnet_core.secrets.known import redactor
from bitnet_core.text import is_utf8

MOST_CANDIDATES = 20
_END_SECONDS = 5.0
"""How long an answer may take to end once stdin has: nobody reads it any more."""
_SEEDS = 1 << 32


@dataclass(frozen=True)
class Request:
    """One question, and how to answer it. `bits` None leaves the student's activation bits as they were trained.

    With `follow`, the bytes of a text, nothing is generated: the student's candidates are told at each of its own
    tokens of it.
    """

    id: int
    messages: tuple[dict[str, str], ...]
    max_tokens: int
    temperature: float
    seed: int
    top: int = 0
    bits: int | None = None
    follow: bytes = b""


def request_of(fields: Mapping[str, Any]) -> Request:
    """The request in a JSON object. UsageError for a field that is missing or out of range."""
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise UsageError('messages must be a list of {"role": …, "content": …}.')
    if not all(is_utf8(one["role"]) and is_utf8(one["content"]) for one in messages):
        raise UsageError("A message has half a character in it (a lone surrogate); send whole characters.")
    return Request(
        id=_whole(fields, "id", 0, 1 << 53),
        messages=tuple({"role": one["role"], "content": one["content"]} for one in messages),
        max_tokens=_whole(fields, "max_tokens", 1, 1 << 20),
        temperature=_temperature(fields),
        seed=_whole(fields, "seed", 0, _SEEDS - 1, 0),
        top=_whole(fields, "top", 0, MOST_CANDIDATES, 0),
        bits=None if fields.get("bits") is None else _whole(fields, "bits", 2, 8),
        follow=_inexact(fields.get("follow", "")),
    )


@dataclass(frozen=True)
class _Refused:
    """A line that is not a request; `id` is None where it has none."""

    id: int | None
    problem: str


class Inbox:
    """Reads stdin in a thread. When stdin ends, the answer in progress is stopped, and soon the process ends."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        """Set when the present answer is no longer wanted."""
        self.on_stop: Callable[[], object] = lambda: None
        """Called then, in the reading thread."""
        self._lines: queue.SimpleQueue[Request | _Refused | None] = queue.SimpleQueue()
        self._now = -1
        self._stops: set[int] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def requests(self) -> Iterator[Request]:
        """The requests one after the other. A line that is not a request is answered with an error."""
        while (found := self._lines.get()) is not None:
            if isinstance(found, _Refused):
                emit("error", found.id, problem=found.problem)
                continue
            with self._lock:
                self._now = found.id
                if not self.ended:
                    self.stopped.clear()
                if found.id in self._stops:
                    self.stopped.set()
                self._stops.clear()
            yield found
            with self._lock:
                self._now = -1

    ended = False
    """Whether stdin has ended."""

    def __enter__(self) -> "Inbox":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def _read(self) -> None:
        if isinstance(sys.stdin, io.TextIOWrapper):  # whatever the locale
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
        with contextlib.suppress(OSError):  # a stdin that can't be read has ended
            for line in piped_lines(sys.stdin):
                self._take(line)
        with self._lock:
            self.ended = True
            self.stopped.set()
        self._lines.put(None)
        self.on_stop()
        if not self._closed.wait(_END_SECONDS):
            os._exit(0)  # it hangs; what it has started ends when this process is gone

    def _take(self, line: str | UsageError) -> None:
        fields: Any = None
        try:
            if isinstance(line, UsageError):
                raise line
            fields = json.loads(line)
            if isinstance(fields, dict) and "stop" in fields:
                self._stop(_whole(fields, "stop", 0, 1 << 53))
            else:
                self._lines.put(request_of(fields if isinstance(fields, dict) else {}))
        except UsageError as error:
            found = fields.get("id") if isinstance(fields, dict) else None
            self._lines.put(_Refused(found if type(found) is int else None, str(error)))
        except (ValueError, RecursionError):
            self._lines.put(_Refused(None, "A line is not a JSON object; send one a line."))

    def _stop(self, request: int) -> None:
        """Stop this request, also if it waits for its turn."""
        with self._lock:
            if request != self._now:
                self._stops.add(request)
                return
            self.stopped.set()
        self.on_stop()


def emit(event: str, request: int | None, **fields: Any) -> None:
    """Write one event, with every key masked in a problem. A reader that is gone ends the process."""
    if "problem" in fields:
        fields["problem"] = redactor()(fields["problem"])
    try:
        sys.stdout.write(json_line({"event": event, "id": request, **fields}) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)


def token(data: bytes, logprob: float, top: list[tuple[bytes, float]]) -> dict[str, Any]:
    """One token as the events have it, with probabilities. See `exact`."""
    return {"text": exact(data), "p": _probability(logprob), "top": [[exact(one), _probability(p)] for one, p in top]}


def exact(data: bytes) -> str:
    """Bytes as text that loses nothing: those that are not UTF-8 become lone surrogates (surrogateescape)."""
    return data.decode("utf-8", errors="surrogateescape")


def _inexact(text: object) -> bytes:
    """The bytes that `exact` made a text of. UsageError for anything else."""
    if not isinstance(text, str):
        raise UsageError("follow must be a text.")
    try:
        return text.encode("utf-8", errors="surrogateescape")
    except UnicodeEncodeError:
        raise UsageError("follow has half a character in it (a lone surrogate); send whole characters.") from None


def _probability(logprob: float) -> float | None:
    """The probability, or None if the number is not the logarithm of one. A rounding error above 0 counts as 0."""
    value = math.exp(min(logprob, 0.0)) if logprob < 0.01 else math.nan
    return round(value, 6) if math.isfinite(value) else None


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("role", "content"))


def _whole(fields: Mapping[str, Any], name: str, least: int, most: int, default: int | None = None) -> int:
    value = fields.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise UsageError(f"{name} must be a whole number from {least} to {most:,}.")
    return value


def _temperature(fields: Mapping[str, Any]) -> float:
    value = fields.get("temperature", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise UsageError("temperature must be a number from 0 to 100.")
    return float(value)
