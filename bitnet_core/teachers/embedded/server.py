"""A llama.cpp server, in a process that ends with its owner: any model's, and the embedded teacher's.

Knows no requests.
"""

import contextlib
import json
import os
import secrets
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Self

from bitnet_core.errors import BitnetError
from bitnet_core.files import utf8_name
from bitnet_core.process import available_bytes, gives, pipe_of, rss_bytes, start_helper
from bitnet_core.teachers.embedded.files import GGUF_BYTES, MAX_CONTEXT, MODEL_NAME
from bitnet_core.teachers.embedded.library import cause, environment
from bitnet_core.text import size

_START_SECONDS = 120.0
_ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
"""By default glibc keeps for each thread what a request has freed there: 600 MB after sixteen of 1 MiB, now 130."""


class LlamaServer:
    """A llama.cpp server in a process of its own, for the duration of a `with` block.

    It generates `parallel` answers at once, which share `context` tokens; 0 is what the model was trained with. It
    listens on this machine alone, on a free port, and demands a key made for it, which is sent through a pipe. With
    `reorder`, llama.cpp may keep weights twice to read prompts faster.
    """

    def __init__(self, gguf: Path, model: str, *, parallel: int = 1, context: int = 0, reorder: bool = False) -> None:
        self.gguf = gguf
        self.model = model
        self.parallel = parallel
        self.context = context
        self.api_key = secrets.token_urlsafe(24)
        self.reorder = reorder
        self.base_url = ""
        self.pid = 0
        self._rss_before = 0
        self._peak_added = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, and return when it accepts requests. BitnetError if it does not start."""
        config = {
            "gguf": utf8_name(self.gguf),
            "model": self.model,
            "api_key": self.api_key,
            "parallel": self.parallel,
            "context": self.context,
            "threads": _available_cores(),
            "reorder": self.reorder,
        }
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            module, around = "bitnet_core.teachers.embedded.child", environment() | _ONE_ARENA
            self._process = start_helper(module, config, log, around)
            try:
                self._wait_until_ready(self._process, log)
            except BaseException:
                self.close()
                raise

    def _wait_until_ready(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        answers = pipe_of(process.stdout)
        line = answers.readline() if gives(answers.fileno(), _START_SECONDS) else ""
        if not line:
            raise BitnetError(self._start_failure(process, log))
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
        self.base_url = ""
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

    def wait(self) -> int:
        """Wait until its process ends, and return the exit code."""
        return self._process.wait() if self._process is not None else 0

    def _start_failure(self, process: subprocess.Popen[str], log: IO[str]) -> str:
        return (
            f"llama.cpp can't serve {self.gguf} ({_reason(process, log)}); give a whole GGUF file of a known model."
        )


class EmbeddedServer(LlamaServer):
    """The embedded teacher's server."""

    def __init__(self, gguf: Path, *, parallel: int = 1, context: int = MAX_CONTEXT) -> None:
        super().__init__(gguf, MODEL_NAME, parallel=parallel, context=context)

    def _start_failure(self, process: subprocess.Popen[str], log: IO[str]) -> str:
        server = "The embedded teacher's server"
        reason = _reason(process, log)
        if process.poll() is None:
            return f"{server} {reason}; close other programs and try again."
        free = available_bytes()
        if free < 8 * GGUF_BYTES:
            return f"{server} ended at once with {size(free)} of memory free; free 1 GB and try again."
        return (
            f"{server} ended at once ({reason}); "
            "reinstall xllamacpp (pip install --force-reinstall xllamacpp) and try again."
        )


def _available_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _reason(process: subprocess.Popen[str], log: IO[str]) -> str:
    """Why it did not start, after waiting a moment for its end: what it said last."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    if process.poll() is None:
        return f"did not start within {_START_SECONDS:.0f} s"
    return cause(log, process.returncode)
