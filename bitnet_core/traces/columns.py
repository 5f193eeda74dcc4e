"""Finished sequences as Arrow columns of both layers. It must not know files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bitnet_core.tokenizer.mass import round_sampled, round_to_grid
from bitnet_core.tokenizer.steps import TokenTable
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


@dataclass(frozen=True)
class Answered:
    """A sequence with a usable answer: it has rows in teacher space."""

    sequence: FinishedSequence
    answer: CheckedAnswer


@dataclass(frozen=True)
class Projected(Answered):
    """A sequence that this student can read: it has rows in both layers."""

    projection: Projection


def answered(sequences: Sequence[FinishedSequence]) -> list[Answered]:
    return [Answered(one, one.answer) for one in sequences if one.answer is not None]


def projected(sequences: Sequence[FinishedSequence]) -> list[Projected]:
    return [
        Projected(one, one.answer, one.projection)
        for one in sequences
        if one.answer is not None and one.projection is not None
    ]


def kd_table(sequences: Sequence[Projected], metadata: TraceMetadata) -> pa.Table:
    """Rows of the public KD format."""
    if not sequences:
        return schema.KD.empty_table()
    parts = [_kd_part(one) for one in sequences]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = [len(one.projection) for one in sequences]
    offsets = np.concatenate([[0], np.cumsum(joined["counts"])]).astype(np.int32)
    texts = [text for one in sequences for text in _texts(one)]
    return pa.table(
        {
            "prompt_idx": _repeated([one.sequence.prompt_idx for one in sequences], rows),
            "step_idx": joined["step_idx"],
            "teacher_sample_id": joined["sample"],
            "teacher_sample_text": pa.array(texts, pa.string()),
            "topk_ids": pa.ListArray.from_arrays(offsets, joined["ids"]),
            "topk_logprobs": pa.ListArray.from_arrays(offsets, joined["logprobs"]),
            "other_logprob": joined["other"],
            "is_struct_token": pa.array(joined["struct"]),
            "template_hash": pa.repeat(metadata.template_hash, sum(rows)),
            "tokenizer_hash": pa.repeat(metadata.tokenizer_hash, sum(rows)),
            "stream_pos": joined["stream_pos"],
        },
        schema=schema.KD,
    )


def _kd_part(one: Projected) -> dict[str, npt.NDArray[np.generic]]:
    projection = one.projection
    logprobs_RK, other_R = round_to_grid(projection.topk_logprobs_RK, projection.other_R)
    given_RK = projection.topk_ids_RK >= 0
    return {
        "step_idx": projection.step_idx_R,
        "sample": projection.completion_ids_C[projection.stream_pos_R],
        "counts": projection.counts_R,
        "ids": projection.topk_ids_RK[given_RK],
        "logprobs": logprobs_RK[given_RK],
        "other": other_R,
        "struct": projection.is_struct_C[projection.stream_pos_R],
        "stream_pos": projection.stream_pos_R,
    }


def _texts(one: Projected) -> Iterator[str]:
    """The teacher tokens that the rows start with."""
    steps = one.answer.steps
    spellings = steps.table.spellings
    for number in steps.sampled_N[one.projection.step_idx_R].tolist():
        yield spellings[number].decode("utf-8", errors="replace")


def stream_table(sequences: Sequence[Projected]) -> pa.Table:
    """The student's whole token streams, one row per sequence."""
    return pa.table(
        {
            "prompt_idx": [one.sequence.prompt_idx for one in sequences],
            "prompt_text": [one.sequence.rendered_prompt for one in sequences],
            "completion_text": [one.answer.text.decode("utf-8", errors="replace") for one in sequences],
            "prompt_ids": [one.sequence.prompt_ids for one in sequences],
            "completion_ids": [one.projection.completion_ids_C for one in sequences],
            "is_struct": [one.projection.is_struct_C for one in sequences],
            "finish_reason": [one.sequence.finish_reason for one in sequences],
            "sequence_hash": [one.sequence.sequence_hash for one in sequences],
        },
        schema=schema.STREAM,
    )


def step_table(sequences: Sequence[Answered], top_k: int) -> pa.Table:
    """Teacher space: every step, with its candidates' bytes."""
    if not sequences:
        return schema.teacher_steps(top_k).empty_table()
    tables = {id(one.answer.steps.table): one.answer.steps.table for one in sequences}
    # Other threads may add tokens meanwhile; padding refers to the end of these copies.
    spellings = {key: _spellings(table) for key, table in tables.items()}
    own = [spellings[id(one.answer.steps.table)] for one in sequences]
    parts = [_step_part(one.answer, top_k, len(array) - 1) for one, array in zip(sequences, own, strict=True)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    steps = [len(one.answer.steps) for one in sequences]
    top_bytes = pa.concat_arrays(
        [array.take(pa.array(part["tops"].ravel())) for array, part in zip(own, parts, strict=True)]
    )
    token_bytes = pa.concat_arrays(
        [array.take(pa.array(one.answer.steps.sampled_N)) for array, one in zip(own, sequences, strict=True)]
    )
    return pa.table(
        {
            "prompt_idx": _repeated([one.sequence.prompt_idx for one in sequences], steps),
            "step_idx": np.concatenate([np.arange(count, dtype=np.int32) for count in steps]),
            "token_id": joined["token_id"],
            "token_bytes": token_bytes,
            "logprob": joined["logprob"],
            "top_count": joined["count"],
            "top_bytes": pa.FixedSizeListArray.from_arrays(top_bytes, top_k),
            "top_logprobs": pa.FixedSizeListArray.from_arrays(joined["logprobs"].ravel(), top_k),
            "other_logprob": joined["other"],
            "mass_clamped": pa.array(joined["clamped"]),
            "sampled_in_top": pa.array(joined["listed"]),
            "bytes_before": [
                one.answer.bytes_before.get(row, b"")
                for one, count in zip(sequences, steps, strict=True)
                for row in range(count)
            ],
        },
        schema=schema.teacher_steps(top_k),
    )


def _step_part(answer: CheckedAnswer, top_k: int, padding: int) -> dict[str, npt.NDArray[np.generic]]:
    steps, mass = answer.steps, answer.mass
    missing = max(0, top_k - steps.tops_NK.shape[1])
    tops_NK = np.pad(steps.tops_NK, ((0, 0), (0, missing)), constant_values=-1)
    padded_NK = np.pad(mass.logprobs_NK, ((0, 0), (0, missing)), constant_values=-np.inf)
    logprobs_NK, other_N = round_to_grid(padded_NK, mass.other_N)
    ids = np.array(steps.table.ids, np.int32)
    return {
        "token_id": ids[steps.sampled_N],
        "logprob": round_sampled(steps.logprobs_N),
        "count": (tops_NK >= 0).sum(axis=1).astype(np.int32),
        "tops": np.where(tops_NK >= 0, tops_NK, padding),
        "logprobs": logprobs_NK,
        "other": other_N,
        "clamped": mass.clamped_N,
        "listed": (steps.tops_NK == steps.sampled_N[:, None]).any(axis=1),
    }


def _spellings(table: TokenTable) -> pa.Array:
    """By token number; the last entry is padding."""
    return pa.array([*table.spellings, b""], pa.binary())


def _repeated(values: Sequence[int], counts: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.repeat(np.array(values, np.int64), counts)
