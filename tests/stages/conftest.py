"""The trainer's sequences, and one thread: the stages run on the same tiny models."""

from tests.training.conftest import _one_thread, sequences

__all__ = ["_one_thread", "sequences"]
