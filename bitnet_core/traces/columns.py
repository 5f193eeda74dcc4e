"""Finished sequences as Arrow columns, and the rounding that makes them small. Knows no files.

Logprobs are stored on a grid: the most likely candidate's and the sampled token's within 0.00025, others within
0.001 above one part in a hundred and within 0.008 below. A step whose probabilities would then sum to something that
is off by more than 0.0005 is stored as it is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bitnet_core.tokenizer.steps import Completion, TokenTable, settle
from bitnet_core.traces import schema
from bitnet_core.traces.project import Heard, Projection
from bitnet_core.traces.schema import TraceMetadata

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]

_FINE, _MIDDLE, _COARSE = 2048.0, 512.0, 64.0
_LIKELY, _UNLIKELY = np.log(0.1), np.log(0.01)
_MASS_OFF = 5e-4


@dataclass(frozen=True)
class FinishedSequence:
    """One answered prompt in both layers.

    `heard` is None for an answer that can't be used, `projection` also for one that this student can't read;
    `rejected` says why.
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
    heard: Heard | None
    projection: Projection | None
    rejected: str = ""
    repairs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """A sequence that teacher space keeps."""

    sequence: FinishedSequence
    heard: Heard


@dataclass(frozen=True)
class Kept(Told):
    """A sequence that was not rejected."""

    projection: Projection

    @property
    def stream_text(self) -> str:
        """The completion as the student reads it."""
        return self.heard.text.decode("utf-8", errors="replace")


def told(sequences: Sequence[FinishedSequence]) -> list[Told]:
    """Those that any student may be able to use."""
    return [Told(one, one.heard) for one in sequences if one.heard is not None]


def kept(sequences: Sequence[FinishedSequence]) -> list[Kept]:
    """Those that have both layers."""
    return [
        Kept(one, one.heard, one.projection)
        for one in sequences
        if one.heard is not None and one.projection is not None
    ]


def rounded(logprobs_NK: Float64, other_N: Float64) -> tuple[Float32, Float32]:
    """Both on the grid, rows that stay sorted stay so; -inf stays -inf."""
    both = np.column_stack([logprobs_NK, other_N])
    grid = np.where(both > _LIKELY, _FINE, np.where(both > _UNLIKELY, _MIDDLE, _COARSE))
    if logprobs_NK.shape[1]:
        grid[:, 0] = _FINE
    with np.errstate(invalid="ignore"):
        near = np.minimum(np.round(both * grid) / grid, 0.0)
    near = np.where(np.isfinite(both), near, both)
    near[:, :-1] = np.minimum.accumulate(near[:, :-1], axis=1)
    off_N = np.abs(np.exp(near).sum(axis=1) - np.exp(both).sum(axis=1)) > _MASS_OFF
    near[off_N] = both[off_N]
    stored = near.astype(np.float32)
    return stored[:, :-1], stored[:, -1]


def kd_table(sequences: Sequence[Kept], metadata: TraceMetadata) -> pa.Table:
    """Rows of the public KD format."""
    parts = [_kd_part(one) for one in sequences]
    count = sum(len(one.projection) for one in sequences)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    if not parts:
        return schema.KD.empty_table()
    offsets = np.concatenate([[0], np.cumsum(joined["counts"])]).astype(np.int32)
    texts = [text for one in sequences for text in _texts(one)]
    return pa.table(
        {
            "prompt_idx": _repeated(
                [one.sequence.prompt_idx for one in sequences], [len(o.projection) for o in sequences]
            ),
            "step_idx": joined["step_idx"],
            "teacher_sample_id": joined["sample"],
            "teacher_sample_text": pa.array(texts, pa.string()),
            "topk_ids": pa.ListArray.from_arrays(offsets, joined["ids"]),
            "topk_logprobs": pa.ListArray.from_arrays(offsets, joined["logprobs"]),
            "other_logprob": joined["other"],
            "is_struct_token": pa.array(joined["struct"]),
            "template_hash": pa.repeat(metadata.template_hash, count),
            "tokenizer_hash": pa.repeat(metadata.tokenizer_hash, count),
            "stream_pos": joined["stream_pos"],
        },
        schema=schema.KD,
    )


def _kd_part(one: Kept) -> dict[str, npt.NDArray[np.generic]]:
    projection = one.projection
    logprobs_RK, other_R = rounded(projection.topk_logprobs_RK, projection.other_R)
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


def _texts(one: Kept) -> Iterator[str]:
    steps = one.heard.steps
    spellings = steps.table.spellings
    for number in steps.sampled_N[one.projection.step_idx_R].tolist():
        yield spellings[number].decode("utf-8", errors="replace")


def stream_table(sequences: Sequence[Kept]) -> pa.Table:
    """The students' whole token streams, a row each."""
    return pa.table(
        {
            "prompt_idx": [one.sequence.prompt_idx for one in sequences],
            "prompt_text": [one.sequence.rendered_prompt for one in sequences],
            "completion_text": [one.stream_text for one in sequences],
            "prompt_ids": [one.sequence.prompt_ids for one in sequences],
            "completion_ids": [one.projection.completion_ids_C for one in sequences],
            "is_struct": [one.projection.is_struct_C for one in sequences],
            "finish_reason": [one.sequence.finish_reason for one in sequences],
            "sequence_hash": [one.sequence.sequence_hash for one in sequences],
        },
        schema=schema.STREAM,
    )


def step_table(sequences: Sequence[Told], top_k: int) -> pa.Table:
    """Teacher space: every step, with candidates by their bytes."""
    spelled = {id(one.heard.steps.table): one.heard.steps.table for one in sequences}
    # Other answers may be read meanwhile, and the tables grow: what is padded with is the end of what was taken here.
    arrays = {key: _spellings(table) for key, table in spelled.items()}
    parts = [_step_part(one.heard.steps, top_k, len(arrays[id(one.heard.steps.table)]) - 1) for one in sequences]
    if not parts:
        return schema.teacher_steps(top_k).empty_table()
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    top_bytes = pa.concat_arrays(
        [
            arrays[id(one.heard.steps.table)].take(pa.array(part["tops"].ravel()))
            for one, part in zip(sequences, parts, strict=True)
        ]
    )
    token_bytes = pa.concat_arrays(
        [arrays[id(one.heard.steps.table)].take(pa.array(one.heard.steps.sampled_N)) for one in sequences]
    )
    return pa.table(
        {
            "prompt_idx": _repeated(
                [one.sequence.prompt_idx for one in sequences], [len(one.heard.steps) for one in sequences]
            ),
            "step_idx": np.concatenate([np.arange(len(one.heard.steps), dtype=np.int32) for one in sequences]),
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
                one.heard.before.get(row, b"") for one in sequences for row in range(len(one.heard.steps))
            ],
        },
        schema=schema.teacher_steps(top_k),
    )


def _step_part(steps: Completion, top_k: int, padding: int) -> dict[str, npt.NDArray[np.generic]]:
    wide = max(0, top_k - steps.tops_NK.shape[1])
    tops_NK = np.pad(steps.tops_NK, ((0, 0), (0, wide)), constant_values=-1)
    settled = settle(steps.top_logprobs_NK)
    settled_NK = np.pad(settled.logprobs_NK, ((0, 0), (0, wide)), constant_values=-np.inf)
    logprobs_NK, other_N = rounded(settled_NK, settled.other_N)
    ids = np.array(steps.table.ids, np.int32)
    return {
        "token_id": ids[steps.sampled_N],
        "logprob": np.minimum(np.round(steps.logprobs_N * _FINE) / _FINE, 0.0).astype(np.float32),
        "count": (tops_NK >= 0).sum(axis=1).astype(np.int32),
        "tops": np.where(tops_NK >= 0, tops_NK, padding),
        "logprobs": logprobs_NK,
        "other": other_N,
        "clamped": settled.clamped_N,
        "listed": (steps.tops_NK == steps.sampled_N[:, None]).any(axis=1),
    }


def _spellings(table: TokenTable) -> pa.Array:
    """By number; one more for padding."""
    return pa.array([*table.spellings, b""], pa.binary())


def _repeated(values: Sequence[int], counts: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.repeat(np.array(values, np.int64), counts)
