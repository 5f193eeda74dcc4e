"""The process in which a GGUF is run by llama.cpp: `python -m bitnet_core.export.llamacpp_process`.

It reads one job as a JSON line from stdin, writes the logprobs of every step to a file, and the rest as one JSON line
to stdout, with blank lines before it as signs of life. In a process of its own, because llama.cpp ends its process
when a file is damaged in some ways, and so that the memory is that of this model alone. It knows no student.
"""

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitnet_core.process import parents_pipe, rss_bytes, say_alive
from bitnet_core.teachers.embedded.library import complete, parameters

MOST_TOLD = 1000
_FORCED = 1e4
"""Added to the logit of the token that is drawn after each step; the logprobs are those without it."""


def main() -> int:
    with parents_pipe() as parent:
        job = json.loads(sys.stdin.readline())
        parent.write(json.dumps(_run(job, partial(say_alive, parent))) + "\n")
        parent.flush()
        os._exit(0)  # the threads of the server have nothing to save


def _run(job: dict[str, Any], alive: Callable[[], None]) -> dict[str, Any]:
    import xllamacpp

    before = rss_bytes()
    server = _serve(xllamacpp, job)
    memory = rss_bytes()
    alive()
    # Speed first: what is asked for below makes large answers, whose memory is not the model's.
    texts, speeds = [], []
    for prompt in job["prompts"]:
        answer = _ask(server, prompt, n_predict=job["new_tokens"])
        texts.append(answer["choices"][0]["text"])
        speeds.append(answer["timings"]["predicted_per_second"])
        memory = max(memory, rss_bytes())
        alive()
    steps = [_logprobs(server, ids, start, job, alive) for ids, start in job["sequences"]]
    if steps:
        np.save(job["values"], np.concatenate(steps))
    return {
        "texts": texts,
        "tokens_per_s": float(np.median(speeds)) if speeds else None,
        "memory_bytes": memory - before,
        "token_ids": [_token_ids(server, job["api_key"], text) for text in job["tokenize"]],
    }


def _serve(xllamacpp: Any, job: dict[str, Any]) -> Any:
    params = parameters(job["gguf"], context=job["context"], threads=job["threads"], api_key=job["api_key"])
    params.warmup = True
    params.check_tensors = True
    return xllamacpp.Server(params)


def _ask(server: Any, prompt: Sequence[int], **fields: Any) -> dict[str, Any]:
    return complete(server, {"prompt": list(prompt), **fields}, "choices")


def _logprobs(
    server: Any, ids: list[int], start: int, job: dict[str, Any], alive: Callable[[], None]
) -> NDArray[np.float32]:
    """The distribution, [T, V], after each token of `ids` from place `start` on: NaN for all but the likeliest.

    They come as text, and telling all of a large vocabulary would take a second a step.
    A drawn end token, or one that is half a character, would come without logprobs, so a plain one is forced.
    """
    told = min(job["vocabulary"], MOST_TOLD)
    table = np.full((len(ids) - start, job["vocabulary"]), np.nan, np.float32)
    for row in range(len(table)):
        prompt = ids[: start + row + 1]
        answer = _ask(server, prompt, n_predict=1, n_probs=told, logit_bias=[[job["plain_id"], _FORCED]])
        for one in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            table[row, one["id"]] = one["logprob"]
        alive()
    return table


def _token_ids(server: Any, key: str, text: str) -> list[int]:
    """How llama.cpp cuts a text whose special tokens are written out."""
    body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.listening_address}/tokenize", body, headers)  # noqa: S310 - loopback
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=60) as reply:
        found: list[int] = json.load(reply)["tokens"]
    return found


if __name__ == "__main__":
    raise SystemExit(main())
