"""Run a student as it would be deployed, and measure it: the parent's side of `deployed_process`.

The packed form is run. A decode step on `nano` takes up to a quarter longer than from unpacked fp32 weights (see
benchmarks/bench_decode.py), but the memory and speed of one index must belong to one program.
"""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from bitnet_core.errors import BitnetError
from bitnet_core.files.half_written import scratch_beside
from bitnet_core.model.decoding import Generation
from bitnet_core.model.packing import save_packed
from bitnet_core.model.student import Student
from bitnet_core.process import last_line, lines_of, pipe_of, start_helper
from bitnet_core.settings.values import Sampling

_PATIENCE_SECONDS = 10


@dataclass(frozen=True)
class Deployed:
    """What was measured, memory in bytes. `memory_bytes` is the figure for QEI; `weights` are exact, by part.

    `program_bytes` were resident before the student was loaded; the other resident figures were added to them later.
    """

    answers: list[Generation]
    weights: dict[str, int]
    memory_bytes: int
    memory_how: str
    program_bytes: int
    rss_loaded_bytes: int
    rss_peak_bytes: int
    peak_how: str
    threads: int
    gpu: str = ""
    """The name of the GPU that computed, or empty."""

    @property
    def hardware(self) -> str:
        """What computed: the GPU, or how many threads."""
        return self.gpu or f"{self.threads} threads"

    @property
    def decode_tokens_per_s(self) -> float | None:
        """All decoded tokens over all decoding time; None when no answer had a second token."""
        tokens = sum(len(answer.ids) - 1 for answer in self.answers)
        seconds = sum(answer.decode_s for answer in self.answers)
        return tokens / seconds if tokens and seconds else None

    @property
    def end_to_end_tokens_per_s(self) -> float:
        """All new tokens over prefill and decoding time."""
        seconds = sum(answer.prefill_s + answer.decode_s for answer in self.answers)
        return sum(len(answer.ids) for answer in self.answers) / seconds


def run_deployed(
    packed: Student,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    eos_id: int,
    seed: int,
    device: str,
    scratch: Path,
    on_answer: Callable[[int, Generation], None] = lambda _place, _answer: None,
    check_stop: Callable[[], None] = lambda: None,
) -> Deployed:
    """Answer `prompts` (token ids) in a process of its own.

    `on_answer` is called with the number of each answered prompt and the answer, `check_stop` about twice a second;
    both may raise, which ends the process. `scratch` is a folder for the packed file while this runs. Raises
    BitnetError with the message of the process, or with how it ended.
    """
    job = {
        "prompts": [list(map(int, prompt)) for prompt in prompts],
        "sampling": asdict(sampling),
        "eos_id": eos_id,
        "seed": seed,
        "device": device,
    }
    answers: list[Generation] = []
    with scratch_beside(scratch / "packed") as folder:
        path = folder / "student.pt"
        save_packed(packed, path)
        with _child(job | {"path": str(path)}, check_stop) as lines:
            for line in lines:
                check_stop()
                kind = line.pop("kind")
                if kind == "error":
                    raise BitnetError(line["message"])
                if kind == "answer":
                    place = line.pop("place")
                    answers.append(Generation(**line))
                    on_answer(place, answers[-1])
                elif kind == "done":
                    return Deployed(answers=answers, **line)
    raise AssertionError("the process ended normally, but without a result")  # pragma: no cover


@contextmanager
def _child(job: dict[str, Any], check_stop: Callable[[], None]) -> Iterator[Iterator[dict[str, Any]]]:
    """Start the process and yield its lines; end it when the block is left, also by an exception."""
    with tempfile.TemporaryFile("w+") as errors:
        child = start_helper("bitnet_core.evaluation.deployed_process", job, errors)
        try:
            yield _lines(child, errors, check_stop)
        finally:
            child.kill()
            child.wait(_PATIENCE_SECONDS)
            with suppress(BrokenPipeError):
                pipe_of(child.stdin).close()
            pipe_of(child.stdout).close()


def _lines(
    child: "subprocess.Popen[str]", errors: IO[str], check_stop: Callable[[], None]
) -> Iterator[dict[str, Any]]:
    for line in lines_of(child, "The process that measures the student", check_stop):
        yield json.loads(line)
    code = child.wait(_PATIENCE_SECONDS)
    if code < 0:
        reason = f"signal {-code}" + (", most likely for lack of memory" if code == -9 else "")
    else:
        reason = last_line(errors) or f"exit code {code}"
    raise BitnetError(
        f"The process that measures the student ended early ({reason}); free some memory and try again."
    )
