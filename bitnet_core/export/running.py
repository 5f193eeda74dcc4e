"""Run an export in its runtime, in a process of its own: its distributions, greedy text, speed and memory.

Shapes: T steps, V vocabulary.
"""

import contextlib
import importlib.util
import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.export.hf import WEIGHTS_FILE
from bitnet_core.files import require_regular, utf8_name
from bitnet_core.files.scratch import scratch_folder
from bitnet_core.process import lines_of, pipe_of, start_helper
from bitnet_core.teachers.embedded.library import cause, environment
from bitnet_core.text import crop, flat

_SPARE_CONTEXT = 8
_REASON_CELLS = 200
LLAMACPP, TRANSFORMERS = "llama.cpp", "transformers"
CheckStop = Callable[[], None]


class RuntimeMissing(BitnetError):
    """The runtime is not installed, so nothing can be said of the export."""


@dataclass(frozen=True)
class Task:
    """What to ask a runtime."""

    vocabulary: int
    plain_id: int
    """A token that is neither special nor part of a character."""
    sequences: Sequence[tuple[Sequence[int], int]] = ()
    """(ids, start): distributions are wanted after each token from `start` on."""
    prompts: Sequence[Sequence[int]] = ()
    """Ids to continue greedily."""
    new_tokens: int = 32
    texts: Sequence[str] = ()
    """Texts to cut into tokens; special tokens are written out in them."""


@dataclass(frozen=True)
class Run:
    """What a runtime made of an export."""

    values: list[NDArray[np.float32]]
    """For each sequence [T, V]: logits of transformers; logprobs of llama.cpp, NaN for all but the likeliest."""
    texts: list[str]
    token_ids: list[list[int]]
    tokens_per_s: float | None
    """Median over the prompts; None without one."""
    memory_bytes: int
    """Resident memory that loading it and answering the prompts added, a mapped file included."""


def run_gguf(path: Path, task: Task, check_stop: CheckStop = lambda: None) -> Run:
    """Run a GGUF in llama.cpp on this machine's processors. BitnetError if it can't load or run the file.

    `check_stop` is called about twice a second and may raise, which ends it.
    """
    longest = max(
        [len(ids) for ids, _ in task.sequences] + [len(ids) + task.new_tokens for ids in task.prompts], default=0
    )
    job = {
        "gguf": utf8_name(path),
        "vocabulary": task.vocabulary,
        "plain_id": task.plain_id,
        "context": longest + _SPARE_CONTEXT,
        "threads": threads(),
        "api_key": secrets.token_urlsafe(24),
    }
    return _run("bitnet_core.export.llamacpp_process", job, task, LLAMACPP, path, check_stop)


def run_folder(folder: Path, task: Task, check_stop: CheckStop = lambda: None) -> Run:
    """Run a folder in transformers, as `run_gguf` does a file. RuntimeMissing without accelerate."""
    _require_whole(folder)
    require_accelerate(folder)
    job = {"folder": utf8_name(folder)}
    return _run("bitnet_core.export.transformers_process", job, task, TRANSFORMERS, folder, check_stop)


def require_accelerate(loaded: object) -> None:
    """RuntimeMissing if transformers can't load a packed student here; `loaded` is named in the sentence."""
    if importlib.util.find_spec("accelerate") is None:
        raise RuntimeMissing(
            f"transformers needs accelerate to load {loaded}; run pip install 'bitnet-tui[gguf]' and try again."
        )


def _require_whole(folder: Path) -> None:
    """BitnetError for a folder whose weights are not all there; transformers takes seconds to say so.

    And for one with a pipe or a device in it, whose end every library would wait for.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS_FILE
    try:
        for one in (*folder.glob("*"), *folder.glob("*/*")):  # what the library reads is no deeper
            require_regular(one)
        with safe_open(path, framework="numpy") as tensors:
            list(tensors.keys())
    except (SafetensorError, OSError) as error:
        raise_if_not_the_file(error, path)
        raise BitnetError(
            f"{path} can't be read ({crop(flat(str(error)), _REASON_CELLS)}); export it again."
        ) from error


def threads() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(module: str, job: dict[str, Any], task: Task, runtime: str, path: Path, check_stop: CheckStop) -> Run:
    with scratch_folder("export") as scratch:
        place = scratch / "values.npy"
        job |= {
            "sequences": [(list(map(int, ids)), start) for ids, start in task.sequences],
            "prompts": [list(map(int, ids)) for ids in task.prompts],
            "tokenize": list(task.texts),
            "new_tokens": task.new_tokens,
            "values": str(place),
        }
        told = _answer(module, job, runtime, path, check_stop)
        rows = np.load(place) if task.sequences else np.empty((0, task.vocabulary), np.float32)
    ends = np.cumsum([len(ids) - start for ids, start in task.sequences])
    return Run(
        values=np.split(rows, ends[:-1]) if len(ends) else [],
        texts=told["texts"],
        token_ids=told["token_ids"],
        tokens_per_s=told["tokens_per_s"],
        memory_bytes=told["memory_bytes"],
    )


def _answer(module: str, job: dict[str, Any], runtime: str, path: Path, check_stop: CheckStop) -> dict[str, Any]:
    offline = environment() | {"HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = start_helper(module, job, log, offline)
        try:
            lines = lines_of(child, f"{runtime}, which runs {path},", check_stop)
            line = next(filter(None, lines), "")  # blank ones are signs of life
            if not line:  # how it ended says why
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=10)
        finally:
            child.kill()  # with its line, what it was asked for is complete
            child.wait()
            for pipe in (child.stdin, child.stdout):
                pipe_of(pipe).close()
        if not line:
            raise BitnetError(
                f"{runtime} can't load or run {path} ({cause(log, child.returncode)}); export it again."
            )
    told: dict[str, Any] = json.loads(line)
    return told
