"""List columns as flat arrays, and Arrow columns without nulls. Pure."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """A list column of N rows: row n is `values[starts[n]:starts[n + 1]]`."""

    values: npt.NDArray[Any]
    starts: Int64

    @property
    def lengths(self) -> Int64:
        return np.diff(self.starts)

    @property
    def owners(self) -> Int64:
        """The row of each value."""
        return np.repeat(np.arange(len(self.starts) - 1), self.lengths)

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        return self.values[self.starts[row] : self.starts[row + 1]]


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column's chunks as a single array."""
    array = column.combine_chunks()
    return array if isinstance(array, pa.Array) else pa.concat_arrays(array.chunks)


def without_nulls(column: pa.ChunkedArray) -> pa.Array:
    """Nulls become 0: `rules` reports their rows, and the other rules still need a number there."""
    array = one_array(column)
    return array.fill_null(0) if array.null_count else array


def ragged(column: pa.ChunkedArray) -> tuple[Ragged, Int64]:
    """A list column, and the places of nulls among its values (which become 0). A null list becomes an empty one."""
    array = one_array(column)
    flat = array.flatten()
    lengths = without_nulls(pa.chunked_array([pc.list_value_length(array)])).to_numpy()
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    nulls = np.flatnonzero(np.asarray(flat.is_null())) if flat.null_count else np.zeros(0, np.int64)
    if len(nulls):
        flat = flat.fill_null(False if pa.types.is_boolean(flat.type) else 0)
    return Ragged(flat.to_numpy(zero_copy_only=False), starts), nulls
