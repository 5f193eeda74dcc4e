"""The embedded teacher as its stages see it: files that are there, and a server of their own while they need it."""

import contextlib
import json
import os
import secrets
import select
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO

import psutil

from bitnet_core.errors import BitnetError
from bitnet_core.process import PATIENT_THREADS, last_line, pipe_of, rss_bytes, start_helper
from bitnet_core.secrets import environment_without_secrets
from bitnet_core.teachers.embedded.files import GGUF_BYTES, MODEL_NAME, EmbeddedFiles, Progress, ensure_files

__all__ = ["MODEL_NAME", "EmbeddedFiles", "EmbeddedServer", "Progress", "ensure_files"]

MAX_CONTEXT = 8192
"""What the model was trained for."""
_START_SECONDS = 120.0


class EmbeddedServer:
    """A llama.cpp server in a process of its own, for the length of a `with` block.

    `parallel` answers are made at once and share `context` tokens. The key is made for this server and goes
    to it through a pipe.
    """

    def __init__(
        self, gguf: Path, *, parallel: int = 1, context: int = MAX_CONTEXT, threads: int | None = None
    ) -> None:
        self.gguf = gguf
        self.parallel = parallel
        self.context = context
        self.threads = threads or available_cores()
        self.model = MODEL_NAME
        self.api_key = secrets.token_urlsafe(24)
        self.base_url = ""
        self.pid = 0
        self._rss_before = 0
        self._peak_added = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "EmbeddedServer":
        self.start()
        return self

    def start(self) -> None:
        """Return when it can be asked. BitnetError when it does not start."""
        config = {
            "gguf": str(self.gguf),
            "model": self.model,
            "api_key": self.api_key,
            "parallel": self.parallel,
            "context": self.context,
            "threads": self.threads,
        }
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            environment = PATIENT_THREADS | environment_without_secrets()
            self._process = start_helper("bitnet_core.teachers.embedded.child", config, log, environment)
            try:
                self._greet(self._process, log)
            except BaseException:
                self.close()
                raise

    def _greet(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        answers = pipe_of(process.stdout)
        ready, _, _ = select.select([answers], [], [], _START_SECONDS)
        line = answers.readline() if ready else ""
        if not line:
            raise BitnetError(_no_start(process, log))
        told = json.loads(line)
        self.base_url = told["address"] + "/v1"
        self.pid = told["pid"]
        self._rss_before = told["rss_before"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, at once while it is starting."""
        process, self._process = self._process, None
        if process is None:
            return
        if not self.base_url:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def memory(self) -> int:
        """Resident bytes added by loading and running the model: the most seen at any call so far."""
        if self.pid:
            self._peak_added = max(self._peak_added, rss_bytes(self.pid) - self._rss_before)
        return self._peak_added


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _no_start(process: subprocess.Popen[str], log: IO[str]) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    if process.poll() is None:
        return (
            f"The embedded teacher's server did not start within {_START_SECONDS:.0f} s; "
            "close other programs and try again."
        )
    last = last_line(log) or "no message"
    free = psutil.virtual_memory().available
    if free < 8 * GGUF_BYTES:
        return (
            f"The embedded teacher's server ended at once with {free >> 20} MB of memory free; "
            "free 1 GB and try again."
        )
    return (
        f"The embedded teacher's server ended at once ({last}); "
        "reinstall xllamacpp (pip install --force-reinstall xllamacpp) and try again."
    )
