"""Open what scores given text: a student in this process, a GGUF in llama.cpp, or the teacher of the settings."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.benchmarks import Open, Side
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.student import Student
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import Sampling, TeacherOptions
from bitnet_core.suites.causal import CausalScorer
from bitnet_core.suites.likelihood import TextScorer
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.teachers.embedded.scoring import LlamaCppScorer
from bitnet_core.teachers.embedded.server import MAX_CONTEXT, EmbeddedServer
from bitnet_core.teachers.identity import identify
from bitnet_core.teachers.opening import Host, fetch_progress
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer

_SLOTS = 4
"""Pairs that llama.cpp scores at once: on two cores four decode about twice as fast as one."""


@contextlib.contextmanager
def student_scorer(student: Student, tokenizer: StudentTokenizer) -> Iterator[TextScorer]:
    """A student in this process, on its device and at its present activation bits."""

    def logits(ids_BT: Tensor, keep: int) -> Tensor:
        return student.logits(student(ids_BT)[:, -keep:])

    limit = student.config.max_position_embeddings
    with student.held_weights():
        yield TextScorer(tokenizer, CausalScorer(logits, student.output_weight.device, limit))


@contextlib.contextmanager
def gguf_scorer(gguf: Path, tokenizer: StudentTokenizer, context: int) -> Iterator[TextScorer]:
    """A GGUF in llama.cpp, in a process of its own; `context` is the most tokens of one text."""
    with EmbeddedServer(gguf, parallel=_SLOTS, context=context * _SLOTS) as server:
        address = server.base_url.removesuffix("/v1")
        whole = tokenizer.encode_plain(".")[-1]
        scorer = LlamaCppScorer(address, server.api_key, slots=_SLOTS, limit=context - 1, whole=whole)
        yield TextScorer(tokenizer, scorer)


@contextlib.contextmanager
def teacher_scorer(host: Host, options: TeacherOptions, device: Callable[[], torch.device]) -> Iterator[TextScorer]:
    """The teacher of the settings. BitnetError for a provider that can't score given text."""
    teacher = identify(options)
    if teacher.provider.name == "embedded":
        files = ensure_files(fetch_progress(host))
        tokenizer = load_tokenizer(files.tokenizer_dir)
        with gguf_scorer(files.gguf, tokenizer, min(options.context, MAX_CONTEXT)) as scorer:
            yield scorer
    elif teacher.provider.wire == "transformers":
        from bitnet_core.teachers.hf import model, scoring  # only here, because they import transformers

        key = next((found for name in teacher.key_settings if (found := host.secret(name))), None)
        host.progress(0, None, "models", f"loading {teacher.model}")
        loaded = model.load(teacher.model, options, device(), key)
        yield TextScorer(
            loaded.tokenizer, CausalScorer(scoring.logits_of(loaded), loaded.model.device, loaded.context)
        )
    else:
        raise BitnetError(
            f"{teacher.provider.name} gives no probabilities of a text that it did not write, so benchmarks can't "
            "score it; use TEACHER_PROVIDER=embedded or transformers, or give its scores in EVAL_SCORES."
        )


def student_writer(student: Student, tokenizer: StudentTokenizer) -> Callable[[str, int, Sequence[str]], str]:
    """Greedy answers of a student to prompts without a chat template, cut before the first stop string.

    Inside the block of its `student_scorer`, its weights are quantised already.
    """

    def write(prompt: str, most_tokens: int, stops: Sequence[str]) -> str:
        ids = [*tokenizer.opening_ids, *tokenizer.encode(prompt)] or [tokenizer.eos_id]
        sampling = Sampling(max_tokens=most_tokens, temperature=0.0, top_p=1.0)
        made = generate_ids(student, ids, sampling, eos_id=tokenizer.eos_id)
        text = tokenizer.decode(made.ids)
        return text[: min((place for stop in stops if stop and (place := text.find(stop)) >= 0), default=len(text))]

    return write


class Wiring(Host, Protocol):
    """A stage's context: it opens a teacher, and has the settings."""

    @property
    def settings(self) -> Settings: ...


def both_scorers(
    ctx: Wiring, student: Student, tokenizer: StudentTokenizer, device: torch.device
) -> dict[Side, Open]:
    """How each side is opened for public benchmarks."""
    teacher = TeacherOptions.of(ctx.settings)
    return {
        "student": partial(student_scorer, student, tokenizer),
        "teacher": partial(teacher_scorer, ctx, teacher, lambda: device),
    }
