"""What the processes that run llama.cpp share: its environment and parameters, a completion, and how it failed.

Importing it loads no library, so that a process can measure its memory before llama.cpp is loaded.
"""

import json
import re
from typing import IO, Any

from bitnet_core.process import PATIENT_THREADS, last_lines
from bitnet_core.secrets.handover import environment_without_secrets
from bitnet_core.text import crop, flat

_REASON_CELLS = 200
_SAID = re.compile(
    r"(?<![\d.])[\d.]++ E (?:\w+ +)?\w+ *: *(?:error loading model: *)?(?P<what>.+)|: (?P<abort>GGML_ASSERT.+)"
)
"""A line of llama.cpp on an error, or on why it aborted."""


def environment() -> dict[str, str]:
    """That of a process which runs llama.cpp.

    By default llama.cpp, before it aborts, lets gdb print where: that takes half a minute, and hides why.
    """
    return PATIENT_THREADS | environment_without_secrets() | {"GGML_NO_BACKTRACE": "1"}


def cause(log: IO[str], code: int | None) -> str:
    """Why a process that ran llama.cpp ended, in a few words: its abort, its first error, or the log's last line.

    Without any, its exit `code`.
    """
    lines = last_lines(log)
    said = list(filter(None, map(_SAID.search, lines)))
    aborts = [one["abort"] for one in said if one["abort"]]
    errors = [one["what"] for one in said if one["what"]]
    found = next(iter(aborts[-1:] or errors or lines[-1:]), f"it ended with {code}")
    return crop(flat(found), _REASON_CELLS).rstrip(".")


def parameters(
    gguf: str,
    *,
    context: int,
    threads: int,
    api_key: str,
    slots: int = 1,
    reorder: bool = False,
) -> Any:
    """xllamacpp's parameters of a server for one model, on a free port of this machine.

    `reorder` lets llama.cpp keep a second copy of some weights, in the order that suits this processor.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.api_keys = [api_key]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = slots
    params.n_ctx = context
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.ui = False
    params.endpoint_slots = False  # it tells what others ask for
    params.cors_origins = "localhost"  # else it tells a browser that any page may read the answers
    params.no_extra_bufts = not reorder
    # A cache of old prompts would only add to the memory that is measured.
    params.cache_ram_mib = 0
    params.verbosity = 1
    return params


def complete(server: Any, request: dict[str, Any], field: str) -> dict[str, Any]:
    """The server's greedy answer to a request for a completion. RuntimeError with its words if it lacks `field`."""
    answer = server.handle_completions({"temperature": 0, "cache_prompt": True, **request})
    told: dict[str, Any] = json.loads(answer) if isinstance(answer, str | bytes) else answer
    if field not in told:
        raise RuntimeError(str(told)[:300])
    return told
