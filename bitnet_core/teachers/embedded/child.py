"""The process that serves a GGUF: `python -m bitnet_core.teachers.embedded.child`.

It reads its configuration, API key included, as one JSON line from stdin, listens on a free port, and writes its
address as one JSON line to stdout. It ends when stdin is closed, which happens however its parent dies. It must
not know settings, stages or experiments.
"""

import json
import os
import signal
import sys
from typing import Any

from bitnet_core.process import limit_growth, parents_pipe, rss_bytes
from bitnet_core.teachers.embedded.library import parameters

_REQUEST_BYTES = 1 << 30
_WAITING = 64
"""Connections beyond those of the answers that are made."""


def main() -> int:
    # Ctrl-C reaches the whole group of processes; the parent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with parents_pipe() as parent:
        config = json.loads(sys.stdin.readline())
        import xllamacpp  # noqa: F401 - before measuring: the memory of the library is not the model's

        rss_before = rss_bytes()
        server = _serve(config)
        # llama.cpp itself reads a request of any size, keeps any number of connections, and a thread for each.
        limit_growth(_REQUEST_BYTES, config["parallel"] + _WAITING)
        line = {"address": server.listening_address, "rss_before": rss_before, "pid": os.getpid()}
        parent.write(json.dumps(line) + "\n")
    _end_with_stdin()
    return 0


def _serve(config: dict[str, Any]) -> Any:
    import xllamacpp

    params = parameters(
        config["gguf"],
        context=config["context"],
        threads=config["threads"],
        api_key=config["api_key"],
        slots=config["parallel"],
        reorder=config["reorder"],
    )
    params.model_alias = {config["model"]}
    # One pool for all slots: a long answer may use what short ones leave free.
    params.kv_unified = True
    params.warmup = False
    return xllamacpp.Server(params)


def _end_with_stdin() -> None:
    """Wait until the parent is gone, then exit at once: the threads of the server have nothing to save."""
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    raise SystemExit(main())
