"""The student's first sub-token of every token that a teacher names, looked up once and kept.

A candidate is never cut on its own, where a tokenizer would put a space before it, but behind a boundary that holds
(`StudentTokenizer.encode_bytes` sees to that): the student that would say it has just finished a token. What then
comes first does not depend on what was before, so one lookup a token is enough, and projecting is a gather.
Must not know steps or files.
"""

import threading

import numpy as np
import numpy.typing as npt

from bitnet_core.traces.steps import TokenTable
from bitnet_core.traces.tokenizer import NoToken, StudentTokenizer

Int32 = npt.NDArray[np.int32]


class Vocabulary:
    """Maps the numbers of a `TokenTable` to ids of a tokenizer; grows with the table. Safe for several threads."""

    def __init__(self, tokenizer: StudentTokenizer, table: TokenTable) -> None:
        self.tokenizer = tokenizer
        self.table = table
        self.same = True
        """Whether every id met so far means the same bytes in both vocabularies."""
        self._firsts: Int32 = np.zeros(0, np.int32)
        self._ends: list[int] = []
        self._lock = threading.Lock()
        self._lengths_V = np.array([len(tokenizer.token_bytes(index)) for index in range(tokenizer.vocab_size)])

    def firsts(self) -> Int32:
        """By number: the id of the first sub-token; the end token for what ends a text; -1 where there is none."""
        with self._lock:
            self._grow()
            return self._firsts

    def _grow(self) -> None:
        known, wanted = len(self._firsts), len(self.table)
        if known < wanted:
            ids, spellings = self.table.ids, self.table.spellings
            fresh = range(known, wanted)
            was_same = self.same
            self.same &= all(self._fits(ids[number], spellings[number]) for number in fresh if spellings[number])
            self._ends += [number for number in fresh if not spellings[number]]
            found = [self._first(ids[number], spellings[number]) for number in fresh]
            self._firsts = np.concatenate([self._firsts, np.array(found, np.int32)])
            if was_same and not self.same:  # ids that looked alike were another vocabulary's
                for number in self._ends:
                    self._firsts[number] = self.tokenizer.eos_id

    def lengths(self, ids: Int32) -> npt.NDArray[np.int64]:
        """Bytes of each of these ids."""
        return self._lengths_V[ids]

    def _fits(self, index: int, data: bytes) -> bool:
        """Whether the id may be of this vocabulary: llama.cpp puts bytes that it held back before a token's own."""
        tokenizer = self.tokenizer
        return index < 0 or (index < tokenizer.vocab_size and data.endswith(tokenizer.token_bytes(index)))

    def _first(self, index: int, data: bytes) -> int:
        tokenizer = self.tokenizer
        if not data:
            return index if self.same and index in tokenizer.special_ids else tokenizer.eos_id
        known = 0 <= index < tokenizer.vocab_size and index not in tokenizer.special_ids
        if known and tokenizer.token_bytes(index) == data:
            return index
        whole = tokenizer.ids_by_bytes.get(data)
        if whole is not None:
            return whole
        try:
            return tokenizer.encode_bytes(data)[0]
        except NoToken:
            return -1
