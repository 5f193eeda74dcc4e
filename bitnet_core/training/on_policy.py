"""Steps whose answers the student writes itself, for a teacher to score: generalised distillation, arXiv 2306.13649.

In a share of the steps the answers of a batch are replaced by the student's own to the same prompts, sampled at
temperature 1 from what it is at that step, and no longer than what they replace. A step's number and the seed decide
whether and how, so a training that resumes writes the same.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from bitnet_core.model.rows import decode_rows
from bitnet_core.model.sampling import Decoding
from bitnet_core.model.student import Student
from bitnet_core.pretrained.wanted import nobody_scores
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.traces.examples import Example
from bitnet_core.training.batches import Rewrite
from bitnet_core.training.online import OnlineTeacher

_STREAM = 0x0B0


def author(student: Student, options: TrainOptions, teacher: OnlineTeacher | None) -> "Author | None":
    """The student as an author, if ON_POLICY_FRACTION is above 0. UsageError without a teacher to score it."""
    if not options.on_policy.fraction:
        return None
    if teacher is None:
        raise nobody_scores(options.on_policy.fraction)
    return Author(student, options.on_policy.fraction, options.seed, teacher.eos_id)


class Author:
    """Decides in which steps the student writes, and lets it. `fraction` is their share."""

    def __init__(self, student: Student, fraction: float, seed: int, eos_id: int) -> None:
        self._student, self._fraction, self._seed, self._eos_id = student, fraction, seed, eos_id

    def of_step(self, step: int) -> Rewrite | None:
        """What writes the answers of the next step's batches; None if they are to stay."""
        rng = np.random.default_rng([self._seed, _STREAM, step])
        if rng.random() >= self._fraction:
            return None
        return lambda rows: self._written(rows, rng)

    def _written(self, rows: Sequence[Sequence[Example]], rng: np.random.Generator) -> list[list[Example]]:
        examples = [example for row in rows for example in row]
        lengths = [example.supervised for example in examples]
        written = [0] * len(examples)

        def is_shorter(place: int, _id: int, _logits_V: Tensor) -> bool:
            written[place] += 1
            return written[place] < lengths[place]

        with self._student.held_weights():
            answers = iter(
                decode_rows(
                    self._student,
                    [one.sequence.prompt_ids_P[-one.prompt :].tolist() for one in examples],
                    Decoding(max_tokens=max(lengths), temperature=1.0),
                    seeds=rng.integers(2**31, size=len(examples)).tolist(),
                    eos_id=self._eos_id,
                    on_id=is_shorter,
                )
            )
        return [[_with_answer(example, next(answers)) for example in row] for row in rows]


def _with_answer(example: Example, ids: Sequence[int]) -> Example:
    sequence: TraceSequence = replace(
        example.sequence,
        completion_ids_C=np.array(ids, np.int32),
        topk_ids_CK=np.zeros((len(ids), 0), np.int32),
        topk_logprobs_CK=np.zeros((len(ids), 0), np.float32),
        other_logprob_C=np.zeros(len(ids), np.float32),
        kd_valid_C=np.zeros(len(ids), bool),
        is_struct_C=np.zeros(len(ids), bool),
    )
    return Example(sequence, example.prompt, len(ids))
