"""What answers and scores texts in place of a student: llama.cpp with its GGUF where it has one, else this program.

The answers are then those of the model that is deployed, and a student of some size is not decoded in eager PyTorch.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.evaluation.scorers import SLOTS, server_scorer, student_scorer
from bitnet_core.evaluation.student_answers import served_answers, student_answers
from bitnet_core.export import gguf
from bitnet_core.export.card import IN_PROCESS
from bitnet_core.export.running import LLAMACPP
from bitnet_core.files.half_written import scratch_beside
from bitnet_core.model.student import Student
from bitnet_core.runs.reporter import Reporter
from bitnet_core.suites.likelihood import TextScorer
from bitnet_core.suites.run import Answerer
from bitnet_core.teachers.embedded.server import LlamaServer
from bitnet_core.tokenizer.student import StudentTokenizer

GGUF_TYPE = "TQ2_0"


@dataclass(frozen=True)
class StudentFile:
    """The student's GGUF of type `kind`; without `path`, `why` says why there is none."""

    path: Path | None
    why: str = ""
    kind: str = GGUF_TYPE


@contextlib.contextmanager
def student_file(
    packed: Student, tokenizer: StudentTokenizer, *, embedded: bool, device: torch.device, scratch: Path
) -> Iterator[StudentFile]:
    """Export a packed student for as long as the block runs. `embedded` says whether its teacher is in llama.cpp.

    On a GPU a teacher elsewhere is compared with the student there, so none is exported. The student ends on the CPU.
    """
    if device.type != "cpu" and not embedded:
        yield StudentFile(None, f"it computes on {device.type}, and its teacher is not in llama.cpp")
        return
    with scratch_beside(scratch / "exported") as folder:
        path = folder / f"student-{GGUF_TYPE}.gguf"
        try:
            gguf.write(packed.cpu(), tokenizer, path, GGUF_TYPE)
            found = StudentFile(path)
        except BitnetError as error:
            found = StudentFile(None, str(error).rstrip("."))
        yield found


@dataclass(frozen=True)
class StudentRuntime:
    """A student that answers prompts and scores texts; `name` says where, and `why` why not in llama.cpp."""

    name: str
    why: str
    answers: Answerer
    scorer: TextScorer


@contextlib.contextmanager
def student_runtime(
    file: StudentFile,
    packed: Student,
    tokenizer: StudentTokenizer,
    max_tokens: int,
    reporter: Reporter,
    device: torch.device,
) -> Iterator[StudentRuntime]:
    """Open the student: its GGUF in llama.cpp, or itself on `device` where it has none or llama.cpp can't run it.

    `max_tokens` is the longest answer to a prompt.
    """
    positions = packed.config.max_position_embeddings
    why = file.why
    with contextlib.ExitStack() as stack:
        if file.path is not None:
            server = LlamaServer(file.path, "student", parallel=SLOTS, context=positions * SLOTS)
            try:
                stack.enter_context(server)
            except Stopped:
                raise
            except BitnetError as error:
                why = str(error).rstrip(".")
            else:
                answers = served_answers(server, tokenizer, positions, max_tokens, reporter)
                yield StudentRuntime(LLAMACPP, "", answers, server_scorer(server, tokenizer, positions))
                return
        answers = student_answers(packed.to(device), tokenizer, max_tokens, reporter)
        yield StudentRuntime(IN_PROCESS, why, answers, stack.enter_context(student_scorer(packed, tokenizer)))
