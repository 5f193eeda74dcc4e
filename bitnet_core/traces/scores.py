"""What a student gives to the tokens of a trace set, as one Parquet file of the experiment. It must not know torch.

A row is one sequence; its lists are as long as the part of the completion that was scored. Values are natural
logarithms at temperature 1, of 16 bits where they are only drawn. The file's metadata says of which checkpoint and of
which traces it is, so that a reader can tell whether it is outdated.
Shapes: C scored completion tokens, K candidates of the teacher, T of the student.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bitnet_core import files
from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.files.writable import writing
from bitnet_core.prompts.parquet import open_parquet
from bitnet_core.tokenizer.arrays import Array, Float32, Float64, Int32, Int64
from bitnet_core.traces.shards import Ragged, ragged

FILE = "trace_scores.parquet"
SCORED_CANDIDATES = 5
"""How many of the student's own most likely tokens are kept."""
_VERSION = 1
_KEY = b"bitnet"
_GROUP = 64
_ALWAYS_ALLOWED = 1 << 24
_PER_BYTE = 64
"""Values of a file, in number and by its bytes: a repeated value takes no room, and any number may be claimed."""
_FIX = "run `bitnet traces score` again"
_SCHEMA = pa.schema(
    [
        ("prompt_idx", pa.int64()),
        ("kl", pa.list_(pa.float32())),
        ("observed", pa.list_(pa.float16())),
        ("other", pa.list_(pa.float16())),
        ("candidates", pa.list_(pa.float16())),
        ("top_ids", pa.list_(pa.int32())),
        ("top", pa.list_(pa.float16())),
    ]
)


class DamagedScores(BitnetError):
    """The file of scores is of no use; the traces themselves can still be looked at."""


@dataclass(frozen=True)
class About:
    """What a file of scores was made of. `scope` is `held-out` or `all`."""

    checkpoint: str
    sha256: str
    step: int
    activation_bits: int | str | None
    """Words where the layers differ."""
    traces: str
    """`content_hash` of the traces."""
    top_k: int
    scope: str
    version: int = _VERSION


@dataclass(frozen=True)
class TokenScores:
    """What a student gives to the first C tokens of one completion."""

    kl_C: Float32
    """The teacher's divergence from it on candidates and Other, in nats; NaN where the teacher has no candidates."""
    observed_C: Float32
    other_C: Float32
    """Outside the teacher's candidates."""
    candidates_CK: Float32
    """Of the teacher's candidates; padding has a probability of 0."""
    top_ids_CT: Int32
    top_CT: Float32


def write(path: Path, about: About, scored: Iterable[tuple[int, TokenScores]]) -> None:
    """Write the scores of sequences as they come. BitnetError if they can't be written."""
    key_values = _SCHEMA.with_metadata({_KEY: json.dumps(asdict(about)).encode()})
    with (
        writing(path),
        files.atomic_path(path) as temp,
        pq.ParquetWriter(temp, key_values, compression="zstd", write_page_checksum=True) as out,
    ):
        waiting: list[dict[str, Any]] = []
        for prompt_idx, one in scored:
            waiting.append(_row(prompt_idx, one))
            if len(waiting) == _GROUP:
                out.write_table(pa.Table.from_pylist(waiting, key_values))
                waiting = []
        out.write_table(pa.Table.from_pylist(waiting, key_values))


def _row(prompt_idx: int, one: TokenScores) -> dict[str, Any]:
    def half(values: Float32) -> Array:  # its smallest number is -65,504
        return np.clip(values, -60_000, 0).astype(np.float16).ravel()

    return {
        "prompt_idx": prompt_idx,
        "kl": one.kl_C.astype(np.float32),
        "observed": half(one.observed_C),
        "other": half(one.other_C),
        "candidates": half(one.candidates_CK),
        "top_ids": one.top_ids_CT.astype(np.int32).ravel(),
        "top": half(one.top_CT),
    }


class ScoreFile:
    """A file of scores. Only each token's KL is kept in memory. DamagedScores for a file of another version, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about = self._read(self._look)
        self.prompt_idx_S: Int64
        self.kl: Ragged
        self.prompt_idx_S, self.kl = self._read(_divergences)
        self._place = {int(index): place for place, index in enumerate(self.prompt_idx_S)}

    def mean_kl_S(self) -> Float64:
        """Of each sequence, over tokens that have candidates; NaN where none has."""
        known_N = np.isfinite(self.kl.values)
        means = np.full(len(self.prompt_idx_S), np.nan)
        owners_N = self.kl.owners[known_N]
        counts = np.bincount(owners_N, minlength=len(means))
        sums = np.bincount(owners_N, self.kl.values[known_N], minlength=len(means))
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    def mean_kl(self) -> float | None:
        """Over all tokens that have candidates; None if there is none."""
        known_N = self.kl.values[np.isfinite(self.kl.values)]
        return float(known_N.mean(dtype=np.float64)) if len(known_N) else None

    def kl_C(self, prompt_idx: int) -> Float32 | None:
        place = self._place.get(prompt_idx)
        return None if place is None else self.kl[place]

    def of(self, prompt_idx: int, vocabulary: int) -> TokenScores | None:
        """The scores of one sequence; None if it was not scored. DamagedScores for an id outside the vocabulary."""
        place = self._place.get(prompt_idx)
        return None if place is None else self._read(lambda file: self._sequence(file, place, vocabulary))

    def damaged(self) -> DamagedScores:
        return DamagedScores(f"{self.path} is not a file of scores that can be read; {_FIX}.")

    def _sequence(self, file: pq.ParquetFile, place: int, vocabulary: int) -> TokenScores:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if place < rows:
                break
            place -= rows
        table = file.read_row_group(group).slice(place, 1)
        lists = {name: ragged(table.column(name))[0].values for name in _SCHEMA.names[1:]}
        scored = len(lists["kl"])
        top_ids_CT = lists["top_ids"].reshape(scored, len(lists["top_ids"]) // max(1, scored))
        if np.any((top_ids_CT < 0) | (top_ids_CT >= vocabulary)):
            raise ValueError("an id is not a token's")
        return TokenScores(
            kl_C=lists["kl"],
            observed_C=lists["observed"].astype(np.float32).reshape(scored),
            other_C=lists["other"].astype(np.float32).reshape(scored),
            candidates_CK=lists["candidates"].astype(np.float32).reshape(scored, self.about.top_k),
            top_ids_CT=top_ids_CT,
            top_CT=lists["top"].astype(np.float32).reshape(top_ids_CT.shape),
        )

    def _read(self, read: Callable[[pq.ParquetFile], Any]) -> Any:
        try:
            with open_parquet(self.path) as file:
                return read(file)
        except (pa.ArrowException, OSError, KeyError, IndexError, ValueError, RecursionError) as error:
            raise_if_not_the_file(error, self.path)
            raise self.damaged() from error

    @staticmethod
    def _look(file: pq.ParquetFile) -> About:
        if not file.schema_arrow.remove_metadata().equals(_SCHEMA):
            raise ValueError("other columns")
        about = msgspec.json.decode((file.metadata.metadata or {})[_KEY], type=About)
        if about.version != _VERSION:
            raise ValueError("another version")
        return about


def _divergences(file: pq.ParquetFile) -> tuple[Int64, Ragged]:
    held = [file.metadata.row_group(group).column(_SCHEMA.names.index("kl")) for group in range(file.num_row_groups)]
    most = max(_ALWAYS_ALLOWED, _PER_BYTE * sum(one.total_compressed_size for one in held))
    if sum(one.num_values for one in held) > most:
        raise ValueError("it claims more than it holds")
    table = file.read(["prompt_idx", "kl"])
    table.validate(full=True)
    prompt_idx = table.column("prompt_idx")
    if prompt_idx.null_count or len(prompt_idx.unique()) < len(prompt_idx):
        raise ValueError("a sequence has no number of its own")
    return prompt_idx.to_numpy(), ragged(table.column("kl"))[0]
