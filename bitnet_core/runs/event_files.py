"""Files of events: appended one line at a time, and followed while they grow."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from bitnet_core.runs import tolerant
from bitnet_core.runs.events import DECODER, SCHEMA_VERSION, Event, Log, cut, parse
from bitnet_core.runs.lines import LINE_BYTES, Line, LineReader, count_lines
from bitnet_core.runs.strict_json import strict

_TEXT_CHARS = (1 << 16, 1 << 10, 1 << 6)
"""To how many characters the texts of an event are cut that is too long for a line: the first that does."""
_MOST_CHUNKS = 2000
"""How much a reader reads without finding an event before it returns, so that its caller may go on: 64 MiB."""


class EventWriter:
    """Appends events. Each line is one write: a reader sees all of it or nothing. Safe to use from threads.

    An event that is too long for a reader loses the ends of its texts, each with a mark, or else its optional fields;
    what is too long even so is replaced by a warning.
    """

    def __init__(self, path: Path, redact: Callable[[str], str] = str) -> None:
        self._seq, self._torn = count_lines(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._lock = threading.Lock()
        self._redact = redact

    def emit(self, event: Event) -> None:
        """Append the event with its time and number."""
        with self._lock:
            event = msgspec.structs.replace(event, v=SCHEMA_VERSION, t=round(time.time(), 3), seq=self._seq)
            line = self._line(event)
            # If a full disk or a kill cut the last write short, the next event still gets a line of its own.
            data = (b"\n" if self._torn else b"") + line
            self._torn = True
            while data:
                data = data[os.write(self._fd, data) :]
            self._torn = False
            self._seq += 1

    def close(self) -> None:
        os.close(self._fd)

    def _line(self, event: Event) -> bytes:
        # The names of kinds and fields are ours, even where a key looks like one.
        fields = msgspec.to_builtins(event).items()
        whole = {name: value if name == "kind" else strict(value, self._redact) for name, value in fields}
        line = _encoded(whole)
        if len(line) < LINE_BYTES:
            return line
        for shorter in _shortened(event, whole):
            if len(_encoded(shorter)) < LINE_BYTES:
                return _encoded(shorter)
        message = f"An event of {len(line)} bytes ({event.kind}) was too long to be written, and was left out."
        return self._line(Log(v=event.v, t=event.t, seq=event.seq, level="warning", message=message))


def _encoded(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="replace")


def _shortened(event: Event, value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The event's JSON object with ever shorter texts, at last without what is optional."""
    for limit in _TEXT_CHARS:
        value = _with_cut_texts(value, limit)
        yield value
    kept = ["kind", *Event.__struct_fields__, *(f.name for f in msgspec.structs.fields(event) if f.required)]
    yield {name: value[name] for name in kept}


def _with_cut_texts(value: Any, limit: int) -> Any:
    if isinstance(value, dict):
        return {cut(key, limit): _with_cut_texts(item, limit) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_cut_texts(item, limit) for item in value]
    return cut(value, limit) if isinstance(value, str) else value


class EventReader:
    """Follows a growing file. Leaves a torn last line for later; starts again in a truncated or replaced file.

    When it starts again, the first event gets the number 0: it tells that what was read before no longer holds. With
    `remark`, a `log` event says so, and also names the first line of each kind that can't be read, or a file that
    can't be.
    """

    def __init__(self, path: Path, *, remark: bool = False, last_bytes: int | None = None) -> None:
        """`last_bytes` as of `LineReader`."""
        self._lines = LineReader(path, last_bytes=last_bytes)
        self._remark = remark
        self._said: set[str] = set()
        self._restarts = 0
        self._time = 0.0

    @property
    def at_end(self) -> bool:
        """Whether the last call read all that there was."""
        return self._lines.at_end

    @property
    def left(self) -> int:
        """How many bytes the last call left for later."""
        return self._lines.left

    @property
    def size(self) -> int:
        """Of the file, in bytes, at the last call."""
        return self._lines.size

    def read_new(self) -> list[Event]:
        """Events that were not read before. If there are none and `at_end` is true, the file has no more for now."""
        for _ in range(_MOST_CHUNKS):
            try:
                lines = self._lines.read_new()
            except OSError as error:
                return self._say("file", 0, f"{self._lines.path} can't be read ({error.strerror}).")
            self._said.discard("file")
            events = self._at_once(lines)
            if events is None:
                events = [event for line in lines for event in self._events(line)]
            if events and self._restarts != self._lines.restarts:
                events = self._begun_again(events)
            if events or self.at_end:
                return events
        return []

    def _begun_again(self, events: list[Event]) -> list[Event]:
        self._restarts = self._lines.restarts
        first, *rest = events
        message = f"{self._lines.path.name} was changed by another program; this is what it says now."
        said = [Log(level="warning", message=message, seq=1, t=first.t)] if self._remark else []
        return [msgspec.structs.replace(first, seq=0), *said, *rest]

    def _at_once(self, lines: list[Line]) -> list[Event] | None:
        """The events of lines that are all as they should be; else None. Nearly all are, and this is quicker."""
        try:
            if not lines or lines[0].number == 0 or any(tolerant.may_be_deep(line.data or b"") for line in lines):
                return None
            events = [DECODER.decode(line.data or b"") for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        self._time = events[-1].t
        return events if all(event.seq for event in events) else None

    def _events(self, line: Line) -> list[Event]:
        """The event in a line, or what is to be said about the line."""
        if line.number == 0:
            self._said.clear()
        if line.data is None:
            return self._pass_over("long", line.number, f"it is longer than {LINE_BYTES >> 20} MiB")
        try:
            event = parse(line.data)
        except ValueError as error:
            return self._pass_over("odd", line.number, str(error))
        self._time = event.t
        # Lines of other programs may lack their number, and number 0 means that the file starts over.
        return [event if event.seq else msgspec.structs.replace(event, seq=line.number)]

    def _pass_over(self, why: str, number: int, reason: str) -> list[Event]:
        message = f"Line {number + 1} of {self._lines.path.name} was skipped ({reason}); so are others like it."
        return self._say(why, number, message)

    def _say(self, why: str, number: int, message: str) -> list[Event]:
        """Once for each `why`."""
        if not self._remark or why in self._said:
            return []
        self._said.add(why)
        return [Log(level="warning", message=message, seq=number, t=self._time or time.time())]


def each_event(path: Path) -> Iterator[Event]:
    """Every event now in the file, in bounded memory."""
    reader = EventReader(path)
    while (events := reader.read_new()) or not reader.at_end:
        yield from events


def read_events(path: Path) -> list[Event]:
    """Every event now in the file."""
    return list(each_event(path))
