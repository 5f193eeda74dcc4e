"""The process in which a deployed student is measured: `python -m bitnet_core.evaluation.deployed_process`.

It reads one job as a JSON line from stdin, loads the packed student, answers the prompts and writes JSON lines to
stdout: {"kind": "alive" | "answer" | "done" | "error", ...}. In a process of its own, memory is used by the student
alone, not by training state, traces or the parent's caches. It must not know settings or stages.

Memory is what loading and running add to a process that already has the program in memory (Python, torch, and what
torch imports at its first computation): the most resident bytes after any answer, minus those before loading; on a
GPU, torch's own peak. A tiny student is run first, so that the program is complete before anything is measured.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.memory import peak_rss
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.packing import load_packed, pack_student, save_packed, weight_bytes
from bitnet_core.model.student import Student
from bitnet_core.process import rss_bytes
from bitnet_core.settings.values import Sampling

_WARM_UP_TOKENS = 2
_ALIVE_SECONDS = 0.5


def main() -> int:
    job = json.loads(sys.stdin.readline())
    try:
        _run(job)
    except BitnetError as error:
        _say("error", message=str(error))
        return 1
    except BrokenPipeError:  # the parent is gone
        return 1
    return 0


def _run(job: dict[str, Any]) -> None:
    device = torch.device(job["device"])
    sampling = Sampling(**job["sampling"])
    path = Path(job["path"])
    _complete_program(path.with_name("tiny.pt"), device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = rss_bytes()
    with peak_rss() as peak:
        student = load_packed(path, device)
        loaded = rss_bytes()
        weights = weight_bytes(student)
        _say("alive")
        # The first pass also pays for starting threads and touching the weights, so it is not counted.
        warm_up = Sampling(max_tokens=min(_WARM_UP_TOKENS, sampling.max_tokens))
        generate_ids(student, job["prompts"][0], warm_up)
        most = rss_bytes()
        for place, prompt_ids in enumerate(job["prompts"]):
            generator = torch.Generator(device).manual_seed(job["seed"] + place)
            made = generate_ids(
                student, prompt_ids, sampling, eos_id=job["eos_id"], generator=generator, on_token=_alive()
            )
            most = max(most, rss_bytes())
            _say("answer", place=place, **asdict(made))
    memory, how, gpu = most - before, "resident, added by loading and running", ""
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device)
        gpu = torch.cuda.get_device_name(device)
        how = "peak of the device memory that torch allocated for the packed student"
    _say(
        "done",
        weights=weights,
        memory_bytes=memory,
        memory_how=how,
        program_bytes=before,
        rss_loaded_bytes=loaded - before,
        rss_peak_bytes=peak.bytes - before,
        peak_how=peak.how,
        threads=torch.get_num_threads(),
        gpu=gpu,
    )


def _complete_program(path: Path, device: torch.device) -> None:
    """Load and run a student of a few hundred kilobytes, so that everything is imported."""
    tiny = StudentConfig(
        8, 256, 256, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=8
    )
    save_packed(pack_student(Student(tiny)), path)
    generate_ids(load_packed(path, device), [1, 2], Sampling(max_tokens=4, temperature=1.0, top_p=0.5))


def _alive() -> Callable[[], None]:
    """A callback between tokens that sends a sign of life now and then, at which the parent may decide to stop."""
    last = time.monotonic()

    def between() -> None:
        nonlocal last
        if time.monotonic() - last > _ALIVE_SECONDS:
            last = time.monotonic()
            _say("alive")

    return between


def _say(kind: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **fields}, allow_nan=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
