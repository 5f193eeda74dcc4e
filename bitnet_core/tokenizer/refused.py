"""Texts that a student's tokenizer or chat template can't take, and failures of the library that cuts texts."""

from typing import ClassVar

from bitnet_core.errors import BitnetError


class Refused(BitnetError):
    """A prompt or an answer that the student can't read; `reason` is a clause that says why."""

    status: ClassVar[str]
    """The reason for which its sequence is rejected."""
    by: ClassVar[str] = "tokenizer"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NoToken(Refused):
    """The vocabulary has no token for a byte."""

    status = "byte_without_token"


class NotTokenized(Refused):
    """The tokenizer fails on a text, or makes no token of it."""

    status = "refused_by_tokenizer"


def is_failure(error: BaseException) -> bool:
    """Whether an exception says that the Rust library failed.

    A panic there is neither an Exception nor a class that can be imported.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
