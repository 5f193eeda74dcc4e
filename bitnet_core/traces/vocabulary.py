"""The student's first sub-token of every token that a teacher names, looked up once and kept.

A candidate is never encoded alone, where some tokenizers put a space before it, but as it would be behind finished
text (`StudentTokenizer.encode_bytes`). Its first sub-token then doesn't depend on what came before, so one lookup per
token is enough, and projecting a completion is indexing into an array. It must not know files.
"""

import threading
from collections.abc import Callable

import numpy as np

from bitnet_core.tokenizer.arrays import Int32, Int64
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.steps import Completion, TokenTable
from bitnet_core.tokenizer.student import StudentTokenizer


def is_behind_held_back(part: bytes, whole: bytes) -> bool:
    """Whether `whole` can be the token `part` with bytes before it that llama.cpp held back.

    It holds a text back while it ends inside a character, so what comes next goes on inside that character.
    """
    return len(part) < len(whole) and whole.endswith(part) and 0x80 <= part[:1].ljust(1)[0] < 0xC0


class Vocabulary:
    """Maps the numbers of a `TokenTable` to ids of a tokenizer; grows with the table. Safe for several threads.

    Whether the teacher has the student's own vocabulary is decided for each answer alone (`contains`), so that a
    sequence never depends on other answers.
    """

    def __init__(self, tokenizer: StudentTokenizer, table: TokenTable) -> None:
        self.tokenizer = tokenizer
        self.table = table
        self._contained = _PerToken(self._is_contained)
        self._first_if_shared = _PerToken(self._find_first_if_shared)
        self._first = _PerToken(self._find_first)
        self._lock = threading.Lock()

    def contains(self, completion: Completion) -> bool:
        """Whether every token of the answer is one of this vocabulary, with the same id if it has one."""
        with self._lock:
            contained = np.append(self._contained.grown(self.table), True)  # index -1 is padding
        return bool(contained[completion.tops_NK].all() and contained[completion.sampled_N].all())

    def first_ids(self, *, shared: bool) -> Int32:
        """The id of each token's first sub-token, by the token's number in the table.

        The end token stands for any token that ends the text; -1 for one that can't be spelled. `shared`: the teacher
        has this vocabulary, and its tokens are the student's own.
        """
        with self._lock:
            return (self._first_if_shared if shared else self._first).grown(self.table)

    def lengths(self, ids: Int32) -> Int64:
        """Bytes of each of these ids."""
        return self.tokenizer.lengths_V[ids]

    def _is_contained(self, index: int, data: bytes) -> bool:
        tokenizer = self.tokenizer
        if not data:
            return True
        if index < 0:
            return data in tokenizer.ids_by_bytes
        if index >= tokenizer.vocab_size:
            return False
        return data == tokenizer.token_bytes(index) or is_behind_held_back(tokenizer.token_bytes(index), data)

    def _find_first_if_shared(self, index: int, data: bytes) -> int:
        tokenizer = self.tokenizer
        if not data:
            return index if index in tokenizer.special_ids else tokenizer.eos_id
        known = 0 <= index < tokenizer.vocab_size and index not in tokenizer.special_ids
        if known and tokenizer.token_bytes(index) == data:
            return index
        whole = tokenizer.ids_by_bytes.get(data)
        return self._find_first(index, data) if whole is None else whole

    def _find_first(self, _: int, data: bytes) -> int:
        try:
            return self.tokenizer.encode_bytes(data)[0] if data else self.tokenizer.eos_id
        except Refused:
            return -1


class _PerToken:
    """A number for each token of a table, found when it is first needed."""

    def __init__(self, find: Callable[[int, bytes], int]) -> None:
        self._find = find
        self._values = np.zeros(0, np.int32)

    def grown(self, table: TokenTable) -> Int32:
        fresh = range(len(self._values), len(table))
        if fresh:
            found = [self._find(table.ids[number], table.spellings[number]) for number in fresh]
            self._values = np.concatenate([self._values, np.array(found, np.int32)])
        return self._values
