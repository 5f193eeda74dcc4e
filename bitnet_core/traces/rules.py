"""The rules of student-space shards: every row that breaks one is reported.

Works on a whole window at once, without a Python object per row. Shapes: S sequences of a window, N of its KD rows,
M candidates of these rows.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bitnet_core.tokenizer.arrays import Bool, Int64
from bitnet_core.tokenizer.mass import SUM_TOLERANCE, total_mass
from bitnet_core.traces import schema
from bitnet_core.traces.shards import EARLIER, UNKNOWN, Fault, Ragged, Shard, Window, ragged

_RISE = 1e-6
"""How much a candidate may exceed the one before it, by rounding."""


def faults(shard: Shard, window: Window) -> Iterator[Fault]:
    """Every rule that the window breaks. Only a window without faults may be trained on."""
    yield from _null_faults(shard.path, window.rows, window.first_row)
    yield from _null_faults(shard.stream_path, window.streams, window.first_sequence)
    for bad_N, reason in _row_rules(window, shard.metadata, shard.stream_path.name):
        if bad_N.any():
            yield Fault(shard.path, np.flatnonzero(bad_N) + window.first_row, reason)
    for bad_S, reason in _sequence_rules(window, shard.metadata, shard.path.name):
        if bad_S.any():
            yield Fault(shard.stream_path, np.flatnonzero(bad_S) + window.first_sequence, reason)


def require_faultless(shard: Shard, window: Window) -> None:
    """Raise BitnetError for the first fault."""
    for fault in faults(shard, window):
        raise fault.error()


def _null_faults(path: Path, table: pa.Table, first: int) -> Iterator[Fault]:
    for name, column in zip(table.column_names, table.columns, strict=True):
        if column.null_count:
            rows = np.flatnonzero(column.is_null().to_numpy()) + first
            yield Fault(path, rows, f"{name} is null")
        if pa.types.is_list(column.type):
            lists, nulls = ragged(column)
            if len(nulls):
                yield Fault(path, np.unique(lists.owners[nulls]) + first, f"a list in {name} holds null")


def _row_rules(window: Window, metadata: schema.TraceMetadata, stream: str) -> Iterator[tuple[Bool, str]]:
    ids, logprobs = window.lists["topk_ids"], window.lists["topk_logprobs"]
    unknown_N = window.sequence_N == UNKNOWN
    if unknown_N.any():
        yield unknown_N, f"prompt_idx {window.column('prompt_idx')[unknown_N.argmax()]} is not in {stream}"
    back_N = window.sequence_N == EARLIER
    known = np.flatnonzero(window.sequence_N >= 0)
    back_N[known[1:]] |= np.diff(window.sequence_N[known]) < 0
    yield back_N, f"prompt_idx goes back in the order of {stream}"
    yield ids.lengths != logprobs.lengths, "topk_ids and topk_logprobs differ in length"
    yield ids.lengths > metadata.top_k + 1, f"more than {metadata.top_k} candidates"
    outside_M = (ids.values < 0) | (ids.values >= metadata.vocab_size)
    yield _rows_with(outside_M, ids), "a candidate is outside the vocabulary"
    bad_M = ~np.isfinite(logprobs.values) | (logprobs.values > 0)
    bad_N = _rows_with(bad_M, logprobs)
    yield bad_N, "a logprob is not a finite number of at most 0"
    rises_M = np.zeros(len(logprobs.values), bool)
    with np.errstate(invalid="ignore"):  # infinities are reported above
        rises_M[1:] = (np.diff(logprobs.values) > _RISE) & (np.diff(logprobs.owners) == 0)
    yield _rows_with(rises_M, logprobs), "the candidates are not most likely first"
    other_N = window.column("other_logprob")
    bad_other_N = ~np.isfinite(other_N) | (other_N > 0)
    yield bad_other_N, "other_logprob is not a finite number of at most 0"
    yield _repeats(ids), "a candidate appears twice"
    good_M = np.where(bad_M, 0.0, logprobs.values.astype(np.float64))
    mass_N = total_mass(good_M, logprobs.owners, np.where(bad_other_N, 0.0, other_N.astype(np.float64)))
    yield ~(bad_N | bad_other_N) & (np.abs(mass_N - 1) > SUM_TOLERANCE), "the probabilities don't sum to 1"
    for name in ("tokenizer_hash", "template_hash"):
        same = pc.equal(window.rows.column(name), getattr(metadata, name))
        yield ~np.asarray(same.fill_null(False)), f"has another {name}"


def _sequence_rules(window: Window, metadata: schema.TraceMetadata, shard: str) -> Iterator[tuple[Bool, str]]:
    prompts, completions = window.lists["prompt_ids"], window.lists["completion_ids"]
    sequences = len(window.streams)
    yield (prompts.lengths == 0) | (completions.lengths == 0), "the prompt or the completion is empty"
    yield completions.lengths != window.lists["is_struct"].lengths, "is_struct and completion_ids differ in length"
    outside_S = np.zeros(sequences, bool)
    for ids in (prompts, completions):
        outside_S |= _rows_with((ids.values < 0) | (ids.values >= metadata.vocab_size), ids)
    yield outside_S, f"a token is outside the vocabulary of {metadata.vocab_size}"

    known = np.flatnonzero(window.sequence_N >= 0)
    owner_N = window.sequence_N[known]
    position_N = window.column("stream_pos")[known].astype(np.int64)
    beyond_N = (position_N < 0) | (position_N >= completions.lengths[owner_N])
    yield _owners_with(beyond_N, owner_N, sequences), f"stream_pos of {shard} points outside the completion"
    still_N = np.zeros(len(known), bool)
    still_N[1:] = (np.diff(position_N) <= 0) & (np.diff(owner_N) == 0)
    yield _owners_with(still_N, owner_N, sequences), f"stream_pos of {shard} does not grow"
    inside_N = np.flatnonzero(~beyond_N)
    token_N = completions.values[completions.starts[owner_N[inside_N]] + position_N[inside_N]]
    other_token_N = token_N != window.column("teacher_sample_id")[known][inside_N]
    yield (
        _owners_with(other_token_N, owner_N[inside_N], sequences),
        f"teacher_sample_id of {shard} is not the stream's token",
    )


def _rows_with(bad_M: Bool, lists: Ragged) -> Bool:
    return _owners_with(bad_M, lists.owners, len(lists.starts) - 1)


def _owners_with(bad_M: Bool, owners_M: Int64, count: int) -> Bool:
    return np.bincount(owners_M[bad_M], minlength=count) > 0


def _repeats(ids: Ragged) -> Bool:
    """Rows in which a value appears twice."""
    # Row and value in one integer: sorting those is several times as fast as sorting by two keys.
    keys_M = np.sort((ids.owners << 32) + ids.values)
    twice = keys_M[1:][np.diff(keys_M) == 0]
    found_N = np.zeros(len(ids.starts) - 1, bool)
    found_N[(twice + (1 << 31)) >> 32] = True
    return found_N
