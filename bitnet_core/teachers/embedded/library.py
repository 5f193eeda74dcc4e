"""What the processes that run llama.cpp share: the server's parameters, and a completion.

Importing it loads no library, so that a process can measure its memory before llama.cpp is loaded.
"""

import json
from collections.abc import Sequence
from typing import Any


def parameters(
    gguf: str,
    *,
    context: int,
    threads: int,
    api_keys: Sequence[str],
    slots: int = 1,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Any:
    """xllamacpp's parameters of a server for one model; `port` 0 takes a free one."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.api_keys = list(api_keys)
    params.hostnames = [host]
    params.port = port
    params.n_parallel = slots
    params.n_ctx = context
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.ui = False
    if not api_keys:  # else a page of any site that is open in a browser here could ask, and read the answers
        params.cors_origins = "localhost"
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
