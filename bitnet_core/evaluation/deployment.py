"""Measure a student as it would be deployed: as a GGUF in llama.cpp, beside the embedded teacher.

Both sides of one index run in the same program: the student's GGUF and the teacher's, with the same threads, on the
same prompts, timed by turns, and their memory by one rule.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.evaluation.llamacpp import CONTEXT_STEP, Memory, served
from bitnet_core.evaluation.turns import Spread, ratio, spread, take_turns
from bitnet_core.export.running import threads
from bitnet_core.teachers.opening import Host

SECONDS = 18.0
"""How long the turns go on, if the machine is slow."""
TURN_TOKENS = 4
"""Few, so that both turns of a round have the same load."""
_ROUNDS_A_PROMPT = 9
_PROMPTS = 3


@dataclass(frozen=True)
class Contestant:
    """A model to be timed: its file, and the prompts in its own tokens."""

    name: str
    gguf: Path
    prompts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Side:
    """What was measured of one model."""

    speed: Spread
    memory: Memory


@dataclass(frozen=True)
class Load:
    """How busy the machine was: mean number of running processes in the minute before and after, and processors."""

    before: float | None
    after: float | None
    processors: int


@dataclass(frozen=True)
class Measured:
    """Models in llama.cpp: the student, and the teacher if it is the embedded one. `ratio` is student to teacher."""

    student: Side
    teacher: Side | None
    ratio: Spread | None
    hardware: str
    """The GPU, or how many threads."""
    context: int
    load: Load

    @property
    def how(self) -> str:
        """Where and how the speeds were taken."""
        turns = "by turns, " if self.teacher else ""
        return f"llama.cpp, decoding, {turns}{self.hardware}"


def measure(
    student: Contestant, teacher: Contestant | None, new_tokens: int, host: Host, *, seconds: float = SECONDS
) -> Measured:
    """Time the models by turns and measure their memory. BitnetError if llama.cpp can't run one of them.

    The context of both has room for the longest prompt of either and `new_tokens` more.
    """
    contestants = [student] if teacher is None else [student, teacher]
    longest = max(len(prompt) for one in contestants for prompt in one.prompts[:_PROMPTS])
    context = -(-(longest + max(new_tokens, TURN_TOKENS + 1)) // CONTEXT_STEP) * CONTEXT_STEP
    before, count = _load(), threads()
    with contextlib.ExitStack() as stack:
        models = [stack.enter_context(served(one.gguf, context, count, host.check_stop)) for one in contestants]

        def turns_of(place: int) -> Callable[[int], float]:
            prompts = contestants[place].prompts[:_PROMPTS]
            return lambda number: models[place].turn(prompts[number // _ROUNDS_A_PROMPT % len(prompts)], TURN_TOKENS)

        def after_round(done: int) -> None:
            host.check_stop()
            host.progress(done, None, "rounds", "timing student and teacher by turns")

        for place, one in enumerate(contestants):
            models[place].turn(one.prompts[0], TURN_TOKENS)  # the first one also touches the weights
        turns = take_turns([turns_of(place) for place in range(len(models))], time.monotonic, seconds, after_round)
        sides = [Side(spread(values), model.memory()) for values, model in zip(turns, models, strict=True)]
        device = models[0].about["device"]
    return Measured(
        student=sides[0],
        teacher=sides[1] if teacher else None,
        ratio=ratio(*turns) if teacher else None,
        hardware=device or f"{count} threads",
        context=context,
        load=Load(before, _load(), os.cpu_count() or count),
    )


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 1)
    except (OSError, AttributeError):  # not told here
        return None
