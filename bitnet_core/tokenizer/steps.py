"""Steps of the teacher as the provider reported them; `mass` has the rule for their probabilities.

A single step is a `TeacherStep`. A whole completion is a `Completion`: arrays of token numbers, so that millions of
steps are cheap. Pure: no tokenizer, no provider, no files.
"""

import threading
from dataclasses import dataclass, replace

import numpy as np

from bitnet_core.tokenizer.arrays import Float64, Int32


@dataclass(frozen=True)
class TeacherStep:
    """One sampled token with its candidates. An id is -1 if the provider gives none; bytes are exact."""

    token_id: int
    data: bytes
    logprob: float
    top_ids: tuple[int, ...]
    top_bytes: tuple[bytes, ...]
    top_logprobs: tuple[float, ...]


class TokenTable:
    """Numbers the distinct tokens that a teacher has reported, so that a step is a few small integers.

    A token is its id (-1 if the provider gives none) and its exact bytes; the same id with other bytes is another
    entry. Entries are never removed or renumbered. Safe for several threads.
    """

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.spellings: list[bytes] = []
        self.ids_with_several: set[int] = set()
        """The ids that were told with several spellings."""
        self._numbers: dict[tuple[int, bytes], int] = {}
        self._known_ids: set[int] = set()
        self._lock = threading.Lock()
        self.by_json: dict[int | bytes | None, tuple[object, str | None, int]] = {}
        """A reader's memory: the JSON of a token's bytes, its text and its number, by its id, or by that JSON."""

    def __len__(self) -> int:
        return len(self.ids)

    def number(self, index: int, data: bytes) -> int:
        """The number of a token; a new one if the token is new."""
        found = self._numbers.get((index, data))
        if found is not None:
            return found
        with self._lock:
            found = self._numbers.get((index, data))
            if found is None:
                found = len(self.ids)
                if index in self._known_ids:
                    self.ids_with_several.add(index)
                if index >= 0:
                    self._known_ids.add(index)
                self.spellings.append(data)
                self.ids.append(index)  # last, because the length of `ids` is the table's
                self._numbers[index, data] = found
        return found


@dataclass(frozen=True)
class Completion:
    """The steps of one answer as columns: N steps with at most K candidates each, as the provider reported them.

    Tokens are numbers of `table`. Logprobs are natural logs. Each candidate is there once, most likely first; the
    rest of a row is padding (-1 and -inf).
    """

    table: TokenTable
    sampled_N: Int32
    logprobs_N: Float64
    tops_NK: Int32
    top_logprobs_NK: Float64

    def __len__(self) -> int:
        return len(self.sampled_N)

    def step(self, row: int) -> TeacherStep:
        """One step on its own."""
        kept = self.tops_NK[row] >= 0
        tops = self.tops_NK[row][kept].tolist()
        return TeacherStep(
            token_id=self.table.ids[self.sampled_N[row]],
            data=self.table.spellings[self.sampled_N[row]],
            logprob=float(self.logprobs_N[row]),
            top_ids=tuple(self.table.ids[number] for number in tops),
            top_bytes=tuple(self.table.spellings[number] for number in tops),
            top_logprobs=tuple(self.top_logprobs_NK[row][kept].tolist()),
        )

    def at_most(self, most: int) -> "Completion":
        """With the `most` likeliest candidates of each step; a sampled one beyond them takes the last place."""
        if self.tops_NK.shape[1] <= most:
            return self
        tops_NK, top_logprobs_NK = self.tops_NK[:, :most].copy(), self.top_logprobs_NK[:, :most].copy()
        rows, columns = np.nonzero(self.tops_NK[:, most:] == self.sampled_N[:, None])
        tops_NK[rows, -1] = self.sampled_N[rows]
        top_logprobs_NK[rows, -1] = self.top_logprobs_NK[rows, most + columns]
        return replace(self, tops_NK=tops_NK, top_logprobs_NK=top_logprobs_NK)

    def text(self) -> bytes:
        """The bytes of all sampled tokens, joined."""
        return b"".join(self.table.spellings[number] for number in self.sampled_N.tolist())
