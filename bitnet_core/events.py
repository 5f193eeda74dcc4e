"""The event record of a run: one JSON object a line, written whole, read while it grows."""

import json
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
KINDS = (
    "run_started",
    "progress",
    "metric",
    "flip",
    "checkpoint",
    "sample",
    "trace",
    "table",
    "artifact",
    "upload",
    "alert",
    "log",
    "run_finished",
)
Event = dict[str, Any]


def _strict(value: Any, redact: Callable[[str], str]) -> Any:
    """JSON has no NaN: a loss that is not finite is written as null, and its alert says why."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {redact(str(key)): _strict(item, redact) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item, redact) for item in value]
    if isinstance(value, (str, Path)):
        return redact(str(value))
    return value


class EventWriter:
    """Appends events; every line reaches the file in one write, so a reader sees all of it or none."""

    def __init__(self, path: Path, redact: Callable[[str], str] = lambda text: text) -> None:
        earlier = path.read_bytes() if path.exists() else b""
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._seq = earlier.count(b"\n")
        self._torn = not earlier.endswith(b"\n") and bool(earlier)
        self._lock = threading.Lock()
        self._redact = redact

    def emit(self, kind: str, **fields: Any) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no event kind")
        with self._lock:
            head = {"v": SCHEMA_VERSION, "t": round(time.time(), 3), "seq": self._seq, "kind": kind}
            line = json.dumps(head | _strict(fields, self._redact), ensure_ascii=False, allow_nan=False)
            # After a write that a full disk or a kill cut short, the next event starts on a line of its own.
            data = (("\n" if self._torn else "") + line + "\n").encode(errors="replace")
            self._torn = True
            while data:
                data = data[os.write(self._fd, data) :]
            self._torn = False
            self._seq += 1

    def close(self) -> None:
        os.close(self._fd)


class EventReader:
    """Follows a growing file. A torn last line is not there yet; a truncated or replaced one starts anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._inode: int | None = None

    def read_new(self, limit_bytes: int = 1 << 24) -> list[Event]:
        """Return the events that came since the last call; lines that are no events are passed over."""
        try:
            with self.path.open("rb") as source:
                status = os.fstat(source.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset = status.st_ino, 0
                source.seek(self._offset)
                data = source.read(limit_bytes)
        except FileNotFoundError:
            return []
        whole, newline, _torn = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return [event for line in whole.split(b"\n") if (event := _parse(line)) is not None]


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and event.get("kind") in KINDS else None


def read_events(path: Path) -> list[Event]:
    """Every event that the file holds now."""
    return EventReader(path).read_new(limit_bytes=-1)
