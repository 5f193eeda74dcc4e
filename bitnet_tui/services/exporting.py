"""Exports a checkpoint for other programs: `bitnet export …` in a process of its own, which outlives the app.

Its record says how far it is, in every app (`bitnet_core/runs/export_run.py`). Slow, so call this in a thread.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from bitnet_core.runs import export_run
from bitnet_core.runs.export_run import ExportRun
from bitnet_core.runs.exports import GGUF, HF
from bitnet_core.runs.launch import leave_running
from bitnet_tui.services.commands import be_nicer, last_sentence, object_of, start

FORMATS = {GGUF: "for llama.cpp: one GGUF file", HF: "for transformers: a folder"}
_LOOK_SECONDS = 0.2
_MOST_SAID = 1 << 16


class Begun:
    """One export that this app has begun: of the checkpoint of a step; `again` replaces one.

    `pid` is its process, 0 before it is started.
    """

    pid = 0

    def __init__(
        self, home: Path, root: Path, form: str, step: int, checkpoint: Path, *, again: bool = False
    ) -> None:
        self.home, self.root, self.form, self.step = home, root, form, step
        self.arguments = ["--root", str(root), "export", form, "--checkpoint", str(checkpoint)]
        self.arguments += ["--force"] if again else []
        self._since = time.monotonic()
        self._ended: ExportRun | None = None

    @property
    def run(self) -> ExportRun:
        """What is known of it without a record."""
        return self._ended or self._told("starting")

    def _told(self, state: str, **more: Any) -> ExportRun:
        return ExportRun(state, self.pid, self.step, (self.form,), time.monotonic() - self._since, **more)

    def made(self, leaves: Callable[[], bool]) -> ExportRun | None:
        """Run it. Returns what came of it, or None if the app `leaves` before its end: it goes on then."""
        with tempfile.TemporaryFile() as said:
            code = self._waited(said, leaves)
            if code is None:
                return None
            found = export_run.latest(self.root)
            if found is not None and found.pid == self.pid:
                return found
            said.seek(0)
            words = said.read(_MOST_SAID).decode(errors="replace")
        if answer := object_of((words.splitlines() or [""])[-1]):  # where nothing can be recorded
            written = tuple(Path(str(one)).name for one in answer.get("exported") or ())
            problems = tuple(map(str, answer.get("problems") or ()))
            verified = bool(answer.get("verified"))
            self._ended = self._told("succeeded", written=written, verified=verified, problems=problems)
            return self._ended
        return self.failed(
            last_sentence(words) or f"It ended without an error message (exit code {code}); try again."
        )

    def failed(self, why: str) -> ExportRun:
        """Note that it could not be started, or has ended without a record."""
        self._ended = self._told("failed", why=why)
        return self._ended

    def _waited(self, said: IO[bytes], leaves: Callable[[], bool]) -> int | None:
        """Its exit code; None if the app leaves before."""
        child = start(self.home, ["--json", *self.arguments], {}, {}, output=said)
        self.pid = child.pid
        be_nicer(child.pid)
        leave_running(child)
        while (code := child.poll()) is None and not leaves():
            time.sleep(_LOOK_SECONDS)
        return code


def seen(root: Path) -> ExportRun | None:
    """The last export of an experiment. What a killed one has left half written is removed."""
    found = export_run.latest(root)
    if found is not None and found.state == "interrupted" and not found.host:
        export_run.clear(root)
    return found
