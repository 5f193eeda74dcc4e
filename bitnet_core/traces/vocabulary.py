"""The student's first sub-token of every token that a teacher names, looked up once and kept.

A candidate is never cut on its own, where a tokenizer would put a space before it, but behind a boundary that holds
(`StudentTokenizer.encode_bytes` sees to that): the student that would say it has just finished a token. What then
comes first does not depend on what was before, so one lookup a token is enough, and projecting is a gather.
Must not know files.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from bitnet_core.tokenizer.steps import Completion, TokenTable
from bitnet_core.tokenizer.student import NoToken, StudentTokenizer

Int32 = npt.NDArray[np.int32]
_Kind = TypeVar("_Kind", bound=np.generic)


class Vocabulary:
    """Maps the numbers of a `TokenTable` to ids of a tokenizer; grows with the table. Safe for several threads.

    Whether a teacher has the student's own vocabulary is asked of each answer anew (`is_of`), so that what becomes of
    an answer depends on that answer alone.
    """

    def __init__(self, tokenizer: StudentTokenizer, table: TokenTable) -> None:
        self.tokenizer = tokenizer
        self.table = table
        self._fits = _ByNumber(self._fit, np.bool_)
        self._own = _ByNumber(self._itself, np.int32)
        self._cut = _ByNumber(self._first, np.int32)
        self._lock = threading.Lock()
        self._lengths_V = np.array([len(tokenizer.token_bytes(index)) for index in range(tokenizer.vocab_size)])

    def is_of(self, completion: Completion) -> bool:
        """Whether every token that the answer names is one of this vocabulary, with the same id where it has one."""
        with self._lock:
            fits = np.append(self._fits.grown(self.table), True)  # the last one is for padding
        return bool(fits[completion.tops_NK].all() and fits[completion.sampled_N].all())

    def firsts(self, *, same: bool) -> Int32:
        """By number: the id of the first sub-token; the end token for what ends a text; -1 where there is none.

        `same`: the teacher has this vocabulary, and its tokens are the student's.
        """
        with self._lock:
            return (self._own if same else self._cut).grown(self.table)

    def lengths(self, ids: Int32) -> npt.NDArray[np.int64]:
        """Bytes of each of these ids."""
        return self._lengths_V[ids]

    def _fit(self, index: int, data: bytes) -> bool:
        tokenizer = self.tokenizer
        if not data:
            return True
        if index < 0:
            return data in tokenizer.ids_by_bytes
        # llama.cpp puts bytes that it held back before a token's own.
        return index < tokenizer.vocab_size and data.endswith(tokenizer.token_bytes(index))

    def _itself(self, index: int, data: bytes) -> int:
        tokenizer = self.tokenizer
        if not data:
            return index if index in tokenizer.special_ids else tokenizer.eos_id
        known = 0 <= index < tokenizer.vocab_size and index not in tokenizer.special_ids
        if known and tokenizer.token_bytes(index) == data:
            return index
        whole = tokenizer.ids_by_bytes.get(data)
        return self._first(index, data) if whole is None else whole

    def _first(self, _: int, data: bytes) -> int:
        try:
            return self.tokenizer.encode_bytes(data)[0] if data else self.tokenizer.eos_id
        except NoToken:
            return -1


class _ByNumber(Generic[_Kind]):
    """A value for each token of a table, found when it is first asked for."""

    def __init__(self, find: Callable[[int, bytes], int], kind: type[_Kind]) -> None:
        self._find = find
        self._values: npt.NDArray[_Kind] = np.zeros(0, kind)

    def grown(self, table: TokenTable) -> npt.NDArray[_Kind]:
        fresh = range(len(self._values), len(table))
        if fresh:
            found = [self._find(table.ids[number], table.spellings[number]) for number in fresh]
            self._values = np.concatenate([self._values, np.array(found, self._values.dtype)])
        return self._values
