"""Read teacher space back: the stored steps of each sequence, as completions.

Tokens are identified by their bytes here, because another student's tokenizer has other ids.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core.tokenizer.steps import Completion, TokenTable


@dataclass(frozen=True)
class StoredAnswer:
    """One sequence of teacher space; its N steps with the masses as they were rounded for storage."""

    prompt_idx: int
    completion: Completion
    other_N: npt.NDArray[np.float64]
    bytes_before: Mapping[int, bytes]
    """Bytes of unreported tokens, by the step they precede."""


def stored_answers(path: Path, table: TokenTable) -> Iterator[StoredAnswer]:
    """Every sequence of a shard, with a row group of steps in memory."""
    source = pq.ParquetFile(path)
    waiting: pa.Table | None = None
    for group in range(source.num_row_groups):
        rows = source.read_row_group(group)
        rows = pa.concat_tables([waiting, rows]) if waiting is not None else rows
        owners_N = rows["prompt_idx"].to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(owners_N)) + 1).tolist()]
        spans = list(zip(starts, [*starts[1:], len(owners_N)], strict=True))
        if group < source.num_row_groups - 1:  # the last sequence may continue in the next group
            waiting = rows.slice(spans.pop()[0])
        yield from _split(rows.combine_chunks(), spans, table)


def _split(rows: pa.Table, spans: list[tuple[int, int]], table: TokenTable) -> Iterator[StoredAnswer]:
    tops = rows["top_bytes"].combine_chunks()
    width = tops.type.list_size
    sampled_N = _numbers(rows["token_bytes"].combine_chunks(), table)
    tops_NK = _numbers(tops.flatten(), table).reshape(-1, width)
    top_NK = rows["top_logprobs"].combine_chunks().flatten().to_numpy().reshape(-1, width).astype(np.float64)
    listed_NK = np.arange(width)[None, :] < rows["top_count"].to_numpy()[:, None]
    tops_NK, top_NK = np.where(listed_NK, tops_NK, -1).astype(np.int32), np.where(listed_NK, top_NK, -np.inf)
    own_N = rows["logprob"].to_numpy().astype(np.float64)
    other_N = rows["other_logprob"].to_numpy().astype(np.float64)
    owners_N = rows["prompt_idx"].to_numpy()
    # Shards of an earlier version have no such column.
    before = rows["bytes_before"].to_pylist() if "bytes_before" in rows.column_names else [b""] * len(own_N)
    for begin, end in spans:
        span = slice(begin, end)
        yield StoredAnswer(
            int(owners_N[begin]),
            Completion(table, sampled_N[span], own_N[span], tops_NK[span], top_NK[span]),
            other_N[span],
            {row - begin: before[row] for row in range(begin, end) if before[row]},
        )


def _numbers(spellings: pa.Array, table: TokenTable) -> npt.NDArray[np.int32]:
    encoded = spellings.dictionary_encode()
    known = np.array([table.number(-1, data) for data in encoded.dictionary.to_pylist()], np.int32)
    return known[encoded.indices.to_numpy(zero_copy_only=False)] if len(known) else np.zeros(0, np.int32)
