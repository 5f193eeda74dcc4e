"""The process in which llama.cpp runs one model: `python -m bitnet_core.evaluation.llamacpp_process`.

It reads a job as a JSON line from stdin, loads the model and says what it runs on. Then it answers one line with one
line: a turn ({"prompt", "tokens", "answers"}) with its speed, an empty request with the memory. It knows no student
and no teacher: every model is loaded, run and measured alike.
"""

import contextlib
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from bitnet_core.process import parents_pipe, rss_bytes
from bitnet_core.teachers.embedded.library import complete, parameters

_STATUS, _MAPS = Path("/proc/self/status"), Path("/proc/self/maps")


def main() -> int:
    with parents_pipe() as parent:
        job = json.loads(sys.stdin.readline())
        import xllamacpp  # before measuring: the memory of the library is not the model's

        before = _private_bytes()
        server = _serve(xllamacpp, job)
        answer: dict[str, Any] = {"device": _device(xllamacpp)}
        while True:
            parent.write(json.dumps(answer) + "\n")
            parent.flush()
            line = sys.stdin.readline()
            if not line:
                break
            request = json.loads(line)
            answer = _turn(server, request) if request else _memory(job, before)
        os._exit(0)  # the threads of the server have nothing to save


def _serve(xllamacpp: Any, job: dict[str, Any]) -> Any:
    key = secrets.token_urlsafe(24)
    params = parameters(
        job["gguf"], context=job["context"], threads=job["threads"], api_key=key, reorder=job["reorder"]
    )
    params.warmup = True
    return xllamacpp.Server(params)


def _device(xllamacpp: Any) -> str | None:
    """The GPU that it computes on; None for processors."""
    kinds = xllamacpp.ggml_backend_dev_type
    names = (kinds.GGML_BACKEND_DEVICE_TYPE_GPU, kinds.GGML_BACKEND_DEVICE_TYPE_IGPU)
    return next((str(one["description"]) for one in xllamacpp.get_device_info() if one["type"] in names), None)


def _turn(server: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Ask for as many answers as the turn has; the end token is ignored, so that each has as many tokens.

    Of a prompt that was the last turn's too, llama.cpp reads only the last token again, which costs as much as
    decoding one; the first token of an answer comes with it. An answer may end early, at the model's last position,
    so what counts is what was predicted.
    """
    asked = {"prompt": request["prompt"], "ignore_eos": True, "n_predict": request["tokens"] + 1}
    seconds, tokens, began = 0.0, 0, time.process_time()
    for _ in range(request["answers"]):
        timings = complete(server, asked, "timings")["timings"]
        seconds, tokens = seconds + timings["predicted_ms"] / 1000, tokens + timings["predicted_n"]
    processor_seconds = time.process_time() - began
    return {"by_wall": (tokens - request["answers"]) / seconds, "by_processor": tokens / processor_seconds}


def _memory(job: dict[str, Any], before: int) -> dict[str, Any]:
    weights = Path(job["gguf"]).stat().st_size
    added, mapped = _private_bytes() - before, _mapped_bytes(job["gguf"])
    if mapped is None:
        # What was read is among the resident bytes.
        mapped, how = min(weights, added), "resident, added by loading and running"
        added -= mapped
    else:
        how = "file as mapped + KV cache + what llama.cpp added"
    kv_cache = job["kv_cache"]
    kv_cache = None if kv_cache is None or kv_cache > added else kv_cache
    return {
        "weights": weights,
        "file": mapped,
        "kv_cache": kv_cache,
        "runtime": added - (kv_cache or 0),
        "process": rss_bytes(),
        "how": how,
    }


def _private_bytes() -> int:
    """Anonymous resident memory; all resident memory where the kernel does not tell them apart."""
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return rss_bytes()


def _mapped_bytes(gguf: str) -> int | None:
    """How much of the file is mapped; None where that is not told."""
    path, found = os.path.realpath(gguf), 0
    try:
        lines = _MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.endswith(path):
            first, last = (int(edge, 16) for edge in line.split()[0].split("-"))
            found += last - first
    return found


if __name__ == "__main__":
    raise SystemExit(main())
