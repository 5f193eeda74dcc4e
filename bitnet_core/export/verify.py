"""Whether an export computes what the student computes: reloaded in its runtime and compared, step by step.

The steps are those of the student's own greedy answers to the packaged prompts. Both runtimes round inputs to 8 bits,
so a student trained at 4 bits is compared at 8, and what that changes is told apart.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bitnet_core.errors import BitnetError
from bitnet_core.export import gguf_read, hf
from bitnet_core.export.compare import Comparison, compare, margins, noise, same_top
from bitnet_core.export.parting import Parting, partings
from bitnet_core.export.reference import logits, logprobs, logprobs_as_llamacpp
from bitnet_core.export.running import LLAMACPP, TRANSFORMERS, CheckStop, Run, Task, run_folder, run_gguf
from bitnet_core.model import integers
from bitnet_core.model.student import Student
from bitnet_core.prompts.prompt import load_prompts
from bitnet_core.text import number, share
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.student import StudentTokenizer

PROMPTS_FILE = "baseline.txt"
RUNTIME_BITS = 8
_PROMPTS = 6
NEW_TOKENS = 20
_SHORT_PROMPTS = 1 / 2
"""The share of the student's positions that a prompt may take."""
_MOST_KL_TRANSFORMERS, _MOST_KL_F16, _MOST_KL_ROUNDED = 1e-4, 1e-5, 2e-3
_LEAST_AGREEMENT = 0.98
_AGAIN = "export it again, and report this if it happens again"
LONGER = "train with a larger MAX_SEQ_LEN"
_OTHER_TOKENS = "send it token ids, or train with another tokenizer"
_TEXTS = ("The rain in Spain, naïve café: 東京 🌧!", '{"name": "Alice", "age": 30}\n\n  12345 x=y')


@dataclass(frozen=True)
class Answers:
    """The student's greedy answers in this process, at the bits of the runtimes."""

    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]

    def sequences(self) -> list[tuple[list[int], int]]:
        """(ids, start) of each: all steps of an answer."""
        pairs = zip(self.prompts, self.answers, strict=True)
        return [([*prompt, *answer[:-1]], len(prompt) - 1) for prompt, answer in pairs]


@dataclass(frozen=True)
class Problem:
    """What is wrong with an export, and what to do; together a sentence."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}."


@dataclass(frozen=True)
class Verification:
    """What a runtime made of an export, beside the student."""

    runtime: str
    path: Path
    bytes: int
    compared_with: str
    found: Comparison
    texts: list[str]
    partings: list[Parting]
    """Where those that are not the student's leave it."""
    same_tokens: bool
    """Whether it cuts texts into tokens as the student's tokenizer does."""
    tokens_per_s: float | None
    memory_bytes: int
    most_kl: float
    closer: str = ""
    """The type of llama.cpp in which its embedding would be closer to the student's, if there is one."""

    def problems(self) -> list[Problem]:
        """What is wrong with the export; none if it computes the student."""
        found, name = [], f"{self.path.name} in {self.runtime}"
        again = f"export it again with --embedding {self.closer}" if self.closer else _AGAIN
        rounded = self.found.rounded_kl
        kl, alike = (self.found.mean_kl, "") if rounded is None else (rounded, ", its inputs rounded alike")
        if not kl <= self.most_kl:
            away = f"has a mean KL of {number(kl)} from the student{alike}, above {self.most_kl:g}"
            found.append(Problem(f"{name} {away}", again))
        agreement = self.found.decided_agreement
        if agreement is not None and agreement < _LEAST_AGREEMENT:
            where = f"on {share(1 - agreement)} of the steps where the margin exceeds its rounding"
            found.append(Problem(f"{name} has another most likely token {where}", again))
        if not self.same_tokens:
            found.append(Problem(f"{name} cuts texts into other tokens than the student's tokenizer", _OTHER_TOKENS))
        return found


def choose_prompts(student: Student, tokenizer: StudentTokenizer, fix: str) -> list[list[int]]:
    """Ids of packaged prompts that the student is asked. BitnetError, with the `fix`, if none fits its positions."""
    most = int(student.config.max_position_embeddings * _SHORT_PROMPTS)
    found: list[list[int]] = []
    for prompt in load_prompts(None, PROMPTS_FILE):
        try:
            ids = tokenizer.encode_prompt(prompt.messages).ids
        except Refused:
            continue
        if len(ids) <= most and len(found) < _PROMPTS:
            found.append(ids)
    if not found:
        raise BitnetError(
            f"No packaged prompt fits into {most} of the student's positions, so an export can't be compared with it"
            f"; {fix}."
        )
    return found


def verify_folder(
    folder: Path,
    student: Student,
    tokenizer: StudentTokenizer,
    answers: Answers,
    check_stop: CheckStop = lambda: None,
) -> Verification:
    """Compare a folder in transformers with the student. BitnetError if it can't be loaded, or gives no numbers."""
    hf.require_same_model(folder, student, tokenizer)
    sequences = answers.sequences()
    run = run_folder(folder, _task(student, tokenizer, answers, sequences), check_stop)
    theirs = np.concatenate(run.values)
    if not np.isfinite(theirs).all():  # to `compare`, NaN is what llama.cpp leaves out
        raise BitnetError(f"{folder} gives logits in {TRANSFORMERS} that are not finite; export it again.")
    # Sums in another order put some inputs on another of their 256 levels, which changes logits by hundredths.
    with _at(student, RUNTIME_BITS), integers.left_out():
        ours = np.concatenate([logits(student, ids, start).numpy() for ids, start in sequences])
    size = sum(one.stat().st_size for one in folder.iterdir() if one.is_file())
    steps = _Steps(ours, theirs, None)
    words, most = "the student at 8 bits, in fp32", _MOST_KL_TRANSFORMERS
    return _verified(TRANSFORMERS, folder, size, words, steps, run, tokenizer, answers, most)


def verify_gguf(
    path: Path,
    student: Student,
    tokenizer: StudentTokenizer,
    answers: Answers,
    check_stop: CheckStop = lambda: None,
) -> Verification:
    """Compare a GGUF in llama.cpp with the student. BitnetError if it can't be loaded."""
    about = gguf_read.look(path)
    sequences = answers.sequences()
    run = run_gguf(path, _task(student, tokenizer, answers, sequences), check_stop)
    whole = set(about.linear_types.values()) == {"F16"}
    bits, words = (None, "the student with unrounded inputs") if whole else (RUNTIME_BITS, "the student at 8 bits")
    with _at(student, bits):
        ours = np.concatenate([logprobs(student, ids, start).numpy() for ids, start in sequences])
    rounded = np.concatenate(
        [
            logprobs_as_llamacpp(student, ids, start, about.linear_types, about.embedding_type).numpy()
            for ids, start in sequences
        ]
    )
    steps = _Steps(ours, np.concatenate(run.values), rounded)
    most = _MOST_KL_F16 if whole else _MOST_KL_ROUNDED
    found = _verified(LLAMACPP, path, path.stat().st_size, words, steps, run, tokenizer, answers, most)
    return replace(found, closer=_closer(student.config.embedding_type, about.embedding_type, whole=whole))


def _closer(kept: str, stored: str, *, whole: bool) -> str:
    """As `Verification.closer`, for an embedding `stored` in one type whose values another one may have `kept`."""
    better = "F16" if whole else kept or ("F16" if stored == "Q8_0" else "Q8_0")
    return "" if stored in (kept, better, "F16") else better


def four_bit_gap(student: Student, answers: Answers) -> Comparison | None:
    """What it costs that the runtimes round to 8 bits, for a student with fewer; None for one at 8 throughout."""
    if set(student.layer_bits) <= {None, RUNTIME_BITS}:
        return None
    sequences = answers.sequences()
    own = np.concatenate([logprobs(student, ids, start).numpy() for ids, start in sequences])
    with _at(student, RUNTIME_BITS):
        theirs = np.concatenate([logprobs(student, ids, start).numpy() for ids, start in sequences])
    return compare(own, theirs)


@contextlib.contextmanager
def _at(student: Student, bits: int | None) -> Iterator[None]:
    """At these activation bits inside the block."""
    own = student.layer_bits
    student.activation_bits = bits
    try:
        yield
    finally:
        student.set_layer_bits(own)


def _task(
    student: Student, tokenizer: StudentTokenizer, answers: Answers, sequences: Sequence[tuple[list[int], int]]
) -> Task:
    return Task(
        student.config.vocab_size,
        _plain_id(tokenizer),
        sequences=sequences,
        prompts=answers.prompts,
        new_tokens=NEW_TOKENS,
        texts=_TEXTS,
    )


def _plain_id(tokenizer: StudentTokenizer) -> int:
    """A token of letters alone."""
    plain = (index for data, index in tokenizer.ids_by_bytes.items() if data.isalpha())
    return next(plain, 0)


@dataclass(frozen=True)
class _Steps:
    """Distributions over the steps of all answers [T, V]; `rounded` are ours with inputs rounded as theirs are."""

    ours: NDArray[np.float32]
    theirs: NDArray[np.float32]
    rounded: NDArray[np.float32] | None


def _verified(
    runtime: str,
    path: Path,
    size: int,
    compared_with: str,
    steps: _Steps,
    run: Run,
    tokenizer: StudentTokenizer,
    answers: Answers,
    most_kl: float,
) -> Verification:
    return Verification(
        runtime=runtime,
        path=path,
        bytes=size,
        compared_with=compared_with,
        found=compare(steps.ours, steps.theirs, steps.rounded),
        texts=run.texts,
        partings=partings(
            run.texts,
            answers.answers,
            tokenizer.decode,
            same_top(steps.ours, steps.theirs),
            margins(steps.ours),
            None if steps.rounded is None else noise(steps.ours, steps.rounded),
        ),
        same_tokens=run.token_ids == [tokenizer.encode(text) for text in _TEXTS],
        tokens_per_s=run.tokens_per_s,
        memory_bytes=run.memory_bytes,
        most_kl=most_kl,
    )
