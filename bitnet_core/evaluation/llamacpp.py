"""Run a GGUF in llama.cpp to time it by turns: the parent's side of `llamacpp_process`."""

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.export.gguf_read import read_keys
from bitnet_core.files import utf8_name
from bitnet_core.process import lines_of, pipe_of, start_helper
from bitnet_core.teachers.embedded.library import cause, environment

CONTEXT_STEP = 256
"""llama.cpp rounds a context up to this many tokens."""
_KV_VALUES, _KV_BYTES = 2, 2
"""K and V, in 16 bits."""


@dataclass(frozen=True)
class Memory:
    """Bytes that a model takes in llama.cpp, by the same rule for every model.

    `file` is what is mapped of the file, `kv_cache` is None where the file does not tell its size; it is in `runtime`
    then. `process` is the whole process, Python and the library included; `weights` is the file on disk.
    """

    weights: int
    file: int
    kv_cache: int | None
    runtime: int
    process: int
    how: str

    @property
    def deployed(self) -> int:
        """What deploying the model costs: file, KV cache and what the runtime adds."""
        return self.file + (self.kv_cache or 0) + self.runtime


@dataclass(frozen=True)
class Speed:
    """Tokens/s of one turn: by the clock of llama.cpp, and by the time of processors that its process has used.

    The second one counts the whole request, and is the same however many programs wait for the processors.
    """

    by_wall: float
    by_processor: float


class Served:
    """A model that waits for turns."""

    def __init__(self, child: "subprocess.Popen[str]", check_stop: Callable[[], None], failure: Callable[[], str]):
        self._child, self._failure = child, failure
        self._lines = lines_of(child, "llama.cpp", check_stop)
        self.about: dict[str, Any] = self._read()

    def turn(self, prompt: Sequence[int], tokens: int, answers: int) -> Speed:
        """Decode `tokens` tokens after a prompt, `answers` times. A turn on a new prompt also reads it."""
        request = {"prompt": list(map(int, prompt)), "tokens": tokens, "answers": answers}
        return Speed(**self._ask(request))

    def memory(self) -> Memory:
        """What it takes after its turns so far."""
        return Memory(**self._ask({}))

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # it has ended, which reading finds
            pipe_of(self._child.stdin).write(json.dumps(request) + "\n")
            pipe_of(self._child.stdin).flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = next(self._lines, "")
        if not line:
            raise BitnetError(self._failure())
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def served(
    gguf: Path, context: int, threads: int, check_stop: Callable[[], None], *, reorder: bool = False
) -> Iterator[Served]:
    """Load a GGUF in a process of its own. BitnetError if llama.cpp can't; `check_stop` may raise to stop.

    `context` is a multiple of CONTEXT_STEP. With `reorder`, llama.cpp may keep weights twice, in another order.
    """
    job = {
        "gguf": utf8_name(gguf),
        "context": context,
        "threads": threads,
        "kv_cache": kv_bytes(read_keys(gguf), context),
        "reorder": reorder,
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = start_helper("bitnet_core.evaluation.llamacpp_process", job, log, environment())

        def failure() -> str:
            child.wait()
            return (
                f"llama.cpp can't run {gguf.name} ({cause(log, child.returncode)}); free some memory and try again."
            )

        try:
            yield Served(child, check_stop, failure)
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe_of(pipe).close()


def kv_bytes(keys: Mapping[str, Any], context: int) -> int | None:
    """Bytes of the KV cache of `context` tokens; None where the keys of a GGUF do not tell.

    2 · 2 bytes · layers · KV heads · head size · tokens.
    """
    kind = keys.get("general.architecture")

    def value(name: str) -> int:
        found = keys.get(f"{kind}.{name}")
        return found if type(found) is int and found > 0 else 0

    heads = value("attention.head_count")
    size = value("attention.key_length") or (value("embedding_length") // heads if heads else 0)
    a_token = value("block_count") * value("attention.head_count_kv") * size
    return _KV_VALUES * _KV_BYTES * a_token * context if a_token else None
