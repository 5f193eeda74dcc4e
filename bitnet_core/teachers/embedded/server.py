"""A llama.cpp server for the embedded teacher, in a process that ends with its owner. Knows no requests."""

import contextlib
import json
import os
import secrets
import select
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from bitnet_core.errors import BitnetError
from bitnet_core.process import PATIENT_THREADS, available_bytes, last_line, pipe_of, rss_bytes, start_helper
from bitnet_core.secrets.handover import environment_without_secrets
from bitnet_core.teachers.embedded.files import GGUF_BYTES, MODEL_NAME
from bitnet_core.text import size

MAX_CONTEXT = 8192
"""The context length that the model was trained with."""
_START_SECONDS = 120.0


class EmbeddedServer:
    """A llama.cpp server in a process of its own, for the duration of a `with` block.

    It generates `parallel` answers at once, which share `context` tokens. Its key is made for it alone, and sent
    through a pipe.
    """

    def __init__(self, gguf: Path, *, parallel: int = 1, context: int = MAX_CONTEXT) -> None:
        self.gguf = gguf
        self.parallel = parallel
        self.context = context
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
        """Start it, and return when it accepts requests. BitnetError if it does not start."""
        config = {
            "gguf": str(self.gguf),
            "model": self.model,
            "api_key": self.api_key,
            "parallel": self.parallel,
            "context": self.context,
            "threads": _available_cores(),
        }
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            environment = PATIENT_THREADS | environment_without_secrets()
            self._process = start_helper("bitnet_core.teachers.embedded.child", config, log, environment)
            try:
                self._wait_until_ready(self._process, log)
            except BaseException:
                self.close()
                raise

    def _wait_until_ready(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        answers = pipe_of(process.stdout)
        readable, _, _ = select.select([answers], [], [], _START_SECONDS)
        line = answers.readline() if readable else ""
        if not line:
            raise BitnetError(_start_failure(process, log))
        ready = json.loads(line)
        self.base_url = ready["address"] + "/v1"
        self.pid = ready["pid"]
        self._rss_before = ready["rss_before"]

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it. A server that is still starting is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        if not self.base_url:
            process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe_of(pipe).close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def memory(self) -> int:
        """Resident bytes that loading and running the model added: the maximum over all calls so far."""
        if self.pid:
            self._peak_added = max(self._peak_added, rss_bytes(self.pid) - self._rss_before)
        return self._peak_added


def _available_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _start_failure(process: subprocess.Popen[str], log: IO[str]) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    server = "The embedded teacher's server"
    if process.poll() is None:
        return f"{server} did not start within {_START_SECONDS:.0f} s; close other programs and try again."
    last = last_line(log) or "no message"
    free = available_bytes()
    if free < 8 * GGUF_BYTES:
        return f"{server} ended at once with {size(free)} of memory free; free 1 GB and try again."
    return (
        f"{server} ended at once ({last}); "
        "reinstall xllamacpp (pip install --force-reinstall xllamacpp) and try again."
    )
