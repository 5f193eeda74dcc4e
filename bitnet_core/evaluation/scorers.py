"""Open what scores given text: a student in this process, a GGUF in llama.cpp, or the teacher of the settings."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.student import Student
from bitnet_core.settings.values import Sampling, TeacherOptions
from bitnet_core.suites.causal import CausalScorer
from bitnet_core.suites.likelihood import TextScorer
from bitnet_core.teachers.embedded.files import MAX_CONTEXT, ensure_files
from bitnet_core.teachers.embedded.scoring import LlamaCppScorer
from bitnet_core.teachers.embedded.server import EmbeddedServer, LlamaServer
from bitnet_core.teachers.identity import identify
from bitnet_core.teachers.opening import Host, fetch_progress
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer

SLOTS = 4
"""Texts that llama.cpp reads or writes at once: on two cores four decode about twice as fast as one."""


@contextlib.contextmanager
def student_scorer(student: Student, tokenizer: StudentTokenizer) -> Iterator[TextScorer]:
    """A student in this process, on its device and at its present activation bits."""

    def logits(ids_BT: Tensor, keep: int) -> Tensor:
        return student.logits(student(ids_BT)[:, -keep:])

    limit = student.config.max_position_embeddings
    with torch.no_grad(), student.held_weights():
        yield TextScorer(tokenizer, CausalScorer(logits, student.output_weight.device, limit))


@contextlib.contextmanager
def gguf_scorer(gguf: Path, tokenizer: StudentTokenizer, context: int) -> Iterator[TextScorer]:
    """A GGUF in llama.cpp, in a process of its own; `context` is the most tokens of one text."""
    with EmbeddedServer(gguf, parallel=SLOTS, context=context * SLOTS) as server:
        yield server_scorer(server, tokenizer, context)


def server_scorer(server: LlamaServer, tokenizer: StudentTokenizer, context: int) -> TextScorer:
    """A running llama.cpp server with SLOTS slots of `context` tokens."""
    address = server.base_url.removesuffix("/v1")
    whole = tokenizer.encode_plain(".")[-1]
    scorer = LlamaCppScorer(address, server.api_key, slots=SLOTS, limit=context - 1, whole=whole)
    return TextScorer(tokenizer, scorer)


@contextlib.contextmanager
def teacher_scorer(
    host: Host, options: TeacherOptions, device: Callable[[], torch.device], room: int = MAX_CONTEXT
) -> Iterator[TextScorer]:
    """The teacher of the settings. BitnetError for a provider that can't score given text.

    `room` is enough tokens for the longest text, so that llama.cpp keeps no larger cache than it needs.
    """
    teacher = identify(options)
    if teacher.provider.name == "embedded":
        files = ensure_files(fetch_progress(host))
        tokenizer = load_tokenizer(files.tokenizer_dir)
        with gguf_scorer(files.gguf, tokenizer, min(options.context, room, MAX_CONTEXT)) as scorer:
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
            f"{teacher.provider.name} gives no probabilities of a text that it did not write, so it can't be scored "
            "on given text; use TEACHER_PROVIDER=embedded or hf, or give scores in EVAL_SCORES."
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
