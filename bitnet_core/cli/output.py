"""Events on the command line: lines of text, with a progress line redrawn in place on a terminal, or JSON lines."""

import shutil
import sys
import time
from typing import TextIO

from bitnet_core.cli.command import json_line
from bitnet_core.runs.catalog import UPLOAD
from bitnet_core.runs.event_words import describe, mark
from bitnet_core.runs.events import Event, Table, Upload, to_dict
from bitnet_core.tables import render_table
from bitnet_core.terminal import safe
from bitnet_core.text import head

_PLAIN_PROGRESS_SECONDS = 10.0
_PLAIN_WIDTH = 120
_INDENT = "  "


class Console:
    """Writes the events of one or more runs to a stream."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        self._stream = safe(stream or sys.stdout)
        self._json = as_json
        self._live = self._stream.isatty() and not as_json
        self._open_line = False
        self._last_progress = 0.0

    def event(self, run_id: str, event: Event) -> None:
        if self._json:
            self._stream.write(json_line(to_dict(event) | {"run": run_id}) + "\n")
            self._stream.flush()
            return
        if isinstance(event, Upload) and not run_id.startswith(f"{UPLOAD.name}-"):
            return  # the files of a copy would drown the lines of the stage beside which it is made
        text = render(event, shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns)
        if event.kind == "progress":
            self._progress(text)
        elif text:
            self.line(text)

    def line(self, text: str) -> None:
        """Write a line, over the progress line if there is one."""
        self.close()
        self._stream.write(text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Remove the progress line, if there is one."""
        if self._open_line:
            self._stream.redraw("")
            self._open_line = False

    def _progress(self, text: str) -> None:
        now = time.monotonic()
        if self._live:
            # A wrapped line could not be redrawn in place.
            self._stream.redraw(head(self._stream.as_written(text), shutil.get_terminal_size().columns - 1))
            self._open_line = True
        elif now - self._last_progress >= _PLAIN_PROGRESS_SECONDS:
            self._last_progress = now
            self.line(text)


def render(event: Event, cells: int | None = None) -> str:
    """One event as text; empty for an event that is not for people. `cells` is the terminal's width."""
    if isinstance(event, Table):
        return render_table(event.name, event.columns, event.rows, cells)
    text = describe(event)
    if not text:
        return ""
    first, *others = text.split("\n")
    return "\n".join([f"{mark(event)} {first}", *(_INDENT + other for other in others)])
