"""A teacher's answer, checked: what makes it usable, before any projection.

Checking is cheap: collecting does it when an answer arrives, and again when the answer's shard is written. It must
not know files, providers or wire formats.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bitnet_core.tokenizer.arrays import Float64
from bitnet_core.tokenizer.mass import Mass, first_fault, rebalance, settle, text_fault
from bitnet_core.tokenizer.steps import Completion
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.vocabulary import Vocabulary, is_behind_held_back


class Rejected(Exception):
    """The sequence is unusable; `reason` is a short code that is counted."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class CheckedAnswer:
    """A usable answer of N steps."""

    steps: Completion
    """With the tokens that were really sampled, see `_split_held_back`."""
    bytes_before: Mapping[int, bytes]
    """Bytes of tokens that the server did not report, by the step they precede."""
    text: bytes
    shares_vocabulary: bool
    """Whether all tokens are of the student's own vocabulary."""
    mass: Mass


def check_answer(completion: Completion, vocabulary: Vocabulary) -> CheckedAnswer:
    """Check an answer as the provider gave it. Raises Rejected for an unusable one; never drops a step."""
    _reject_faults(completion)
    shares_vocabulary = vocabulary.contains(completion)
    mass = settle(completion.top_logprobs_NK)
    completion, bytes_before = _split_held_back(completion, vocabulary.tokenizer if shares_vocabulary else None)
    return _checked(completion, bytes_before, shares_vocabulary, mass)


def check_stored(
    completion: Completion,
    bytes_before: Mapping[int, bytes],
    other_N: Float64,
    vocabulary: Vocabulary,
) -> CheckedAnswer:
    """As `check_answer`, for an answer read back from teacher space with its rounded Other."""
    _reject_faults(completion)
    mass = rebalance(completion.top_logprobs_NK, other_N)
    return _checked(completion, bytes_before, vocabulary.contains(completion), mass)


def _reject_faults(completion: Completion) -> None:
    reason = first_fault(completion)
    if reason is not None:
        raise Rejected(reason)


def _checked(
    completion: Completion, bytes_before: Mapping[int, bytes], shares_vocabulary: bool, mass: Mass
) -> CheckedAnswer:
    text = _whole_text(completion, bytes_before)
    reason = text_fault(completion, text)
    if reason is not None:
        raise Rejected(reason)
    return CheckedAnswer(completion, bytes_before, text, shares_vocabulary, mass)


def _whole_text(completion: Completion, bytes_before: Mapping[int, bytes]) -> bytes:
    """The completion's bytes, unreported ones included."""
    if not bytes_before:
        return completion.text()
    spellings = completion.table.spellings
    return b"".join(
        bytes_before.get(row, b"") + spellings[number] for row, number in enumerate(completion.sampled_N.tolist())
    )


# -- tokens that a server held back ----------------------------------------------------------------------


def _split_held_back(completion: Completion, own: StudentTokenizer | None) -> tuple[Completion, dict[int, bytes]]:
    """The completion with the tokens that were really sampled, and the unreported bytes before some of them.

    llama.cpp holds a token back while the text ends inside a character. It then reports the character's last token
    with the bytes of all of them, and no step for the earlier ones. `own` is the teacher's tokenizer, if known.
    """
    bytes_before: dict[int, bytes] = {}
    sampled_N = completion.sampled_N.copy()
    spellings = completion.table.spellings
    for row, number in enumerate(completion.sampled_N.tolist()):
        last = _last_token(completion, row, number, own)
        if last is not None:
            sampled_N[row] = last
            bytes_before[row] = spellings[number].removesuffix(spellings[last])
    return (replace(completion, sampled_N=sampled_N), bytes_before) if bytes_before else (completion, bytes_before)


def _last_token(completion: Completion, row: int, number: int, own: StudentTokenizer | None) -> int | None:
    """The number of the token that step `row` sampled, if `number` has the bytes of earlier tokens before it."""
    table = completion.table
    index, data = table.ids[number], table.spellings[number]
    if index < 0 or len(data) < 2 or data.isascii():
        return None
    for other in completion.tops_NK[row].tolist():
        same_id = other >= 0 and other != number and table.ids[other] == index
        if same_id and is_behind_held_back(table.spellings[other], data):
            return int(other)
    if own is not None and index < own.vocab_size and index not in own.special_ids:
        known = own.token_bytes(index)
        if is_behind_held_back(known, data):
            return table.number(index, known)
    return None
