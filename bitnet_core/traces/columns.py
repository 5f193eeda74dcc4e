"""Finished sequences as Arrow columns of both layers. It must not know files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from bitnet_core.tokenizer.arrays import Array
from bitnet_core.tokenizer.mass import round_sampled, round_to_grid
from bitnet_core.traces import schema
from bitnet_core.traces.answer import CheckedAnswer
from bitnet_core.traces.project import Projection
from bitnet_core.traces.schema import TraceMetadata


@dataclass(frozen=True)
class FinishedSequence:
    """One answered prompt in both layers.

    `answer` is None if the answer is unusable, `projection` also if this student can't read it; `rejected` is the
    reason.
    """

    prompt_idx: int
    sequence_hash: str
    request_key: str
    messages_json: str
    rendered_prompt: str
    prompt_ids: Sequence[int]
    completion_text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    text_matches_bytes: bool
    answer: CheckedAnswer | None
    projection: Projection | None
    rejected: str = ""
    repairs: Mapping[str, int] = field(default_factory=dict)


STORED_FIELDS = (
    *("prompt_idx", "sequence_hash", "request_key", "messages_json", "rendered_prompt", "completion_text"),
    *("finish_reason", "prompt_tokens", "completion_tokens", "text_matches_bytes", "rejected"),
)
"""Fields of a FinishedSequence that are columns of SEQUENCES_FILE."""


def sequence_table(sequences: Sequence[FinishedSequence], origin: Mapping[str, Any]) -> pa.Table:
    """A row for each sequence, rejected ones too; all rows share `origin`."""
    rows = [{name: getattr(one, name) for name in STORED_FIELDS} | dict(origin) for one in sequences]
    return pa.Table.from_pylist(rows, schema=schema.SEQUENCES)


def kd_table(sequences: Sequence[FinishedSequence], metadata: TraceMetadata) -> pa.Table:
    """Rows of the public KD format."""
    parts = [_kd_part(*one) for one in _projected(sequences)]
    if not parts:
        return schema.KD.empty_table()
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    offsets = np.concatenate([[0], np.cumsum(joined["counts"])]).astype(np.int32)
    rows = len(joined["prompt_idx"])
    lists_and_hashes = {
        "topk_ids": pa.ListArray.from_arrays(offsets, joined["ids"]),
        "topk_logprobs": pa.ListArray.from_arrays(offsets, joined["logprobs"]),
        "template_hash": pa.repeat(metadata.template_hash, rows),
        "tokenizer_hash": pa.repeat(metadata.tokenizer_hash, rows),
    }
    return pa.table(joined | lists_and_hashes, schema=schema.KD)


def _kd_part(sequence: FinishedSequence, answer: CheckedAnswer, projection: Projection) -> dict[str, Array]:
    """Columns of one sequence; of the lists, their values and how many each row has."""
    logprobs_RK, other_R = round_to_grid(projection.topk_logprobs_RK, projection.other_R)
    given_RK = projection.topk_ids_RK >= 0
    spellings = answer.steps.table.spellings
    teacher_tokens = answer.steps.sampled_N[projection.step_idx_R].tolist()
    return {
        "prompt_idx": np.full(len(projection), sequence.prompt_idx, np.int64),
        "step_idx": projection.step_idx_R,
        "teacher_sample_id": projection.completion_ids_C[projection.stream_pos_R],
        "teacher_sample_text": np.array(
            [spellings[number].decode("utf-8", errors="replace") for number in teacher_tokens], object
        ),
        "counts": projection.counts_R,
        "ids": projection.topk_ids_RK[given_RK],
        "logprobs": logprobs_RK[given_RK],
        "other_logprob": other_R,
        "is_struct_token": projection.is_struct_C[projection.stream_pos_R],
        "stream_pos": projection.stream_pos_R,
    }


def stream_table(sequences: Sequence[FinishedSequence]) -> pa.Table:
    """The student's whole token streams, one row per sequence."""
    projected = _projected(sequences)
    return pa.table(
        {
            "prompt_idx": [one.prompt_idx for one, _, _ in projected],
            "prompt_text": [one.rendered_prompt for one, _, _ in projected],
            "completion_text": [answer.text.decode("utf-8", errors="replace") for _, answer, _ in projected],
            "prompt_ids": [one.prompt_ids for one, _, _ in projected],
            "completion_ids": [projection.completion_ids_C for _, _, projection in projected],
            "is_struct": [projection.is_struct_C for _, _, projection in projected],
            "finish_reason": [one.finish_reason for one, _, _ in projected],
            "sequence_hash": [one.sequence_hash for one, _, _ in projected],
        },
        schema=schema.STREAM,
    )


def _projected(
    sequences: Sequence[FinishedSequence],
) -> list[tuple[FinishedSequence, CheckedAnswer, Projection]]:
    """The sequences that this student can read: they have rows in both layers."""
    return [
        (one, one.answer, one.projection)
        for one in sequences
        if one.answer is not None and one.projection is not None
    ]


def step_table(sequences: Sequence[FinishedSequence], top_k: int) -> pa.Table:
    """Teacher space: every step of a usable answer, with its candidates' bytes."""
    answered = [(one, one.answer) for one in sequences if one.answer is not None]
    if not answered:
        return schema.teacher_steps(top_k).empty_table()
    tables = {id(answer.steps.table): answer.steps.table for _, answer in answered}
    # Other threads may add tokens meanwhile; padding refers to the end of these copies.
    spellings = {key: pa.array([*table.spellings, b""], pa.binary()) for key, table in tables.items()}
    own = [spellings[id(answer.steps.table)] for _, answer in answered]
    parts = [_step_part(*one, top_k, len(array) - 1) for one, array in zip(answered, own, strict=True)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def spelled(name: str) -> pa.Array:
        return pa.concat_arrays(
            [array.take(pa.array(part[name].ravel())) for array, part in zip(own, parts, strict=True)]
        )

    bytes_and_lists = {
        "token_bytes": spelled("sampled"),
        "top_bytes": pa.FixedSizeListArray.from_arrays(spelled("tops"), top_k),
        "top_logprobs": pa.FixedSizeListArray.from_arrays(joined["logprobs"].ravel(), top_k),
    }
    return pa.table(joined | bytes_and_lists, schema=schema.teacher_steps(top_k))


def _step_part(sequence: FinishedSequence, answer: CheckedAnswer, top_k: int, padding: int) -> dict[str, Array]:
    """Columns of one sequence; of the bytes, the places in the array of spellings, whose `padding` is empty."""
    steps, mass = answer.steps, answer.mass
    missing = max(0, top_k - steps.tops_NK.shape[1])
    tops_NK = np.pad(steps.tops_NK, ((0, 0), (0, missing)), constant_values=-1)
    padded_NK = np.pad(mass.logprobs_NK, ((0, 0), (0, missing)), constant_values=-np.inf)
    logprobs_NK, other_N = round_to_grid(padded_NK, mass.other_N)
    count = len(steps)
    return {
        "prompt_idx": np.full(count, sequence.prompt_idx, np.int64),
        "step_idx": np.arange(count, dtype=np.int32),
        "token_id": np.array([steps.table.ids[number] for number in steps.sampled_N.tolist()], np.int32),
        "sampled": steps.sampled_N,
        "logprob": round_sampled(steps.logprobs_N),
        "top_count": (tops_NK >= 0).sum(axis=1).astype(np.int32),
        "tops": np.where(tops_NK >= 0, tops_NK, padding),
        "logprobs": logprobs_NK,
        "other_logprob": other_N,
        "mass_clamped": mass.clamped_N,
        "sampled_in_top": (steps.tops_NK == steps.sampled_N[:, None]).any(axis=1),
        "bytes_before": np.array([answer.bytes_before.get(row, b"") for row in range(count)], object),
    }
