"""Run a GGUF in llama.cpp on this machine's processors: its distributions, its greedy text, its speed and memory."""

import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitnet_core.errors import BitnetError
from bitnet_core.process import PATIENT_THREADS, last_line, pipe_of, start_helper
from bitnet_core.secrets.handover import environment_without_secrets

_SPARE_CONTEXT = 8


@dataclass(frozen=True)
class LlamaRun:
    """What llama.cpp made of a file."""

    logprobs: list[NDArray[np.float32]]
    """For each sequence [T, V], natural log."""
    texts: list[str]
    """The greedy continuation of each prompt."""
    token_ids: list[list[int]]
    """How it cut each text."""
    tokens_per_s: float | None
    """Median over the prompts; None without one."""
    memory_bytes: int
    """Resident memory that loading the file and answering the prompts added, the mapped file included."""
    threads: int


def run_gguf(
    path: Path,
    vocabulary: int,
    *,
    plain_id: int,
    sequences: Sequence[tuple[Sequence[int], int]] = (),
    prompts: Sequence[Sequence[int]] = (),
    tokenize: Sequence[str] = (),
    new_tokens: int = 32,
) -> LlamaRun:
    """Run it in a process of its own.

    `sequences` are (ids, start): distributions are returned after each token from `start` on. `prompts` are continued
    greedily for `new_tokens`. `plain_id` is a token that is neither special nor part of a character. BitnetError if
    llama.cpp can't load or run the file.
    """
    longest = max([len(ids) for ids, _ in sequences] + [len(ids) + new_tokens for ids in prompts], default=0)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="bitnet-verify-") as scratch:
        place = Path(scratch) / "logprobs.npy"
        job = {
            "gguf": str(path),
            "vocabulary": vocabulary,
            "plain_id": plain_id,
            "sequences": [(list(map(int, ids)), start) for ids, start in sequences],
            "prompts": [list(map(int, ids)) for ids in prompts],
            "tokenize": list(tokenize),
            "new_tokens": new_tokens,
            "context": longest + _SPARE_CONTEXT,
            "threads": threads,
            "logprobs": str(place),
            "api_key": secrets.token_urlsafe(24),
        }
        told = _answer(path, job)
        rows = np.load(place) if sequences else np.empty((0, vocabulary), np.float32)
    ends = np.cumsum([len(ids) - start for ids, start in sequences])
    return LlamaRun(
        logprobs=np.split(rows, ends[:-1]) if len(ends) else [],
        texts=told["texts"],
        token_ids=told["token_ids"],
        tokens_per_s=told["tokens_per_s"],
        memory_bytes=told["memory_bytes"],
        threads=threads,
    )


def _answer(path: Path, job: dict[str, Any]) -> dict[str, Any]:
    environment = PATIENT_THREADS | environment_without_secrets()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = start_helper("bitnet_core.export.llamacpp_process", job, log, environment)
        try:
            line = pipe_of(child.stdout).readline()
            child.wait(timeout=10)
        finally:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                pipe_of(pipe).close()
        if not line:
            reason = last_line(log) or f"it ended with {child.returncode}"
            raise BitnetError(f"llama.cpp can't load or run {path} ({reason}); export it again.")
    told: dict[str, Any] = json.loads(line)
    return told
