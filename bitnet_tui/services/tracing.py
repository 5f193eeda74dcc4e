"""Looks through traces and scores the student on them: `bitnet traces …` in processes of their own. Slow."""

import contextlib
import json
import math
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any

from bitnet_core.errors import BitnetError
from bitnet_core.process import kill_group, pipe_of
from bitnet_core.runs.copied import has_traces
from bitnet_core.text import finite, number
from bitnet_tui.remedies import by_keys
from bitnet_tui.services import commands
from bitnet_tui.services.settings import experiment_at

_SECONDS = 300.0
"""Traces that were never read before are first laid out in the cache."""
_IDLE_SECONDS = 120.0
_CHECK_SECONDS = 3600.0
_MOST_SAID = 3


class NoTracesYet(BitnetError):
    """None were collected."""


class TraceSession:
    """The process that answers requests about one experiment's traces. It is started when it is needed, kept for the
    next request, and ended when there was none for a while."""

    def __init__(self, home: Path, root: Path) -> None:
        self._home, self._root = home, root
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._requests: IO[str] | None = None
        self._idle: threading.Timer | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request. BitnetError says why there is none: NoTracesYet if none are collected."""
        if not has_traces(experiment_at(self._root, self._home)[0]):
            raise NoTracesYet(f"There are no traces in {self._root}; collect them first.")
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            child = self._started()
            timer = threading.Timer(_SECONDS, kill_group, (child.pid,))
            timer.daemon = True
            timer.start()
            try:
                line = self._exchanged(child, json.dumps(request))
            finally:
                timer.cancel()
            self._idle = threading.Timer(_IDLE_SECONDS, self.close)
            self._idle.daemon = True
            self._idle.start()
        found = json.loads(line)
        if "problem" in found:
            raise BitnetError(by_keys(str(found["problem"])))
        return dict(found)

    def _exchanged(self, child: "subprocess.Popen[str]", request: str) -> str:
        with contextlib.suppress(OSError):
            if self._requests is not None:
                self._requests.write(request + "\n")
                self._requests.flush()
        line = pipe_of(child.stdout).readline()
        if not line.endswith("\n"):
            complaint = pipe_of(child.stderr).read()
            self._end()
            raise BitnetError(commands.last_sentence(complaint) or "The traces could not be read; try again.")
        return line

    def _started(self) -> "subprocess.Popen[str]":
        if self._child is not None and self._child.poll() is None:
            return self._child
        self._end()
        read_end, write_end = os.pipe()
        arguments = ["--root", str(self._root), "--json", "traces", "browse", "--requests", str(read_end)]
        try:
            self._child = commands.start(self._home, arguments, {}, {}, (read_end,))
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        commands.be_nicer(self._child.pid)
        self._requests = os.fdopen(write_end, "w", encoding="utf-8")
        return self._child

    def close(self) -> None:
        """End the process, if there is one; a later request starts another."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._requests is not None:
            with contextlib.suppress(OSError):
                self._requests.close()
        if self._child is not None:
            kill_group(self._child.pid)
            with self._child:
                pass
        self._child = self._requests = None


def checked(home: Path, root: Path) -> str:
    """What is wrong with the traces, in a sentence; empty if nothing is. BitnetError if they can't be checked."""
    arguments = ["--root", str(root), "traces", "validate"]
    problems = commands.Command(home, arguments, {}, _CHECK_SECONDS, "The check").run().get("problems")
    if not isinstance(problems, list):
        raise BitnetError("The traces were not checked; try again.")
    said = [by_keys(_problem(one)) for one in problems if isinstance(one, dict)]
    more = f"; and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
    return "; ".join(said[:_MOST_SAID]) + more


def _problem(found: dict[str, Any]) -> str:
    """One entry of `bitnet traces validate`; one that has no rows says itself which file is meant."""
    reason, rows = str(found.get("reason")), finite(found.get("rows"))
    return reason if rows is None else f"{Path(str(found.get('file'))).name}, {number(rows)} rows: {reason}"


class Scoring(commands.Command):
    """Scores the newest student on held-out traces. It goes on when its screen is closed, and knows how far it is.

    `done` traces of `total`, which is None until it is known; at its end `scored` of them, or a `problem`.
    """

    done = 0
    total: int | None = None
    scored = 0
    problem = ""
    ended = False

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(home, ["--root", str(root), "traces", "score"], {}, math.inf, "bitnet traces score")
        self.root = root
        self.began = time.monotonic()

    def score(self) -> int:
        """Do it; how many traces were scored. BitnetError if it fails or is cancelled."""
        last: dict[str, Any] = {}
        complaints: list[str] = []
        with self.started({}) as child:
            for last in commands.objects(child, complaints):
                if "done" in last:
                    self.done, self.total = last["done"], last["total"]
        if self.cancelled:
            raise BitnetError("Scoring was stopped; earlier scores are kept.")
        if child.returncode or "path" not in last:
            raise BitnetError(commands.last_sentence("".join(complaints)) or "The student was not scored; try again.")
        return int(last["sequences"])
