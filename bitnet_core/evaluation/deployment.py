"""Measure a student as it would be deployed: as a GGUF in llama.cpp, beside the embedded teacher.

Both sides of one index run in the same program: the student's GGUF and the teacher's, with the same threads, on the
same prompt, timed by turns, and their memory by one rule.

On processors they are timed twice. With all threads, by the wall clock, shows what a user gets at the moment. But
with as many threads as processors any other program makes all threads wait for one, at every matrix; such speeds, and
their ratio, follow the load. So what is compared is one thread's processor time, which does not contain the waiting.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.evaluation.llamacpp import CONTEXT_STEP, Memory, Served, Speed, served
from bitnet_core.evaluation.turns import FASTEST_TURNS, Fastest, Spread, fastest, spread, take_turns
from bitnet_core.export.running import threads
from bitnet_core.teachers.opening import Host

COMPARING_SECONDS = 20.0
"""The longest time for turns that are compared."""
_SHOWING_SECONDS = 5.0
"""The longest time for turns that only show the speed at the moment."""
TURN_TOKENS = 4
"""Fewest tokens of a turn."""
_TURN_SECONDS = 0.08
_PROMPTS = 3


@dataclass(frozen=True)
class Contestant:
    """A model to be timed: its file, and the prompts in its own tokens."""

    name: str
    gguf: Path
    prompts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Side:
    """What was measured of one model: memory, and the speed by the wall clock, which other programs lower."""

    speed: Spread
    memory: Memory


@dataclass(frozen=True)
class Compared:
    """Speeds of both by turns, undisturbed where they are sure. `how` says on what and by which clock."""

    student: Fastest
    teacher: Fastest
    how: str

    @property
    def ratio(self) -> float:
        """How many times as fast as the teacher the student is."""
        return self.student.speed / self.teacher.speed


@dataclass(frozen=True)
class Load:
    """How busy the machine was: mean number of running processes in the minute before and after, and processors."""

    before: float | None
    after: float | None
    processors: int

    @property
    def high(self) -> float | None:
        """The larger mean, where more processes wanted to run than there are processors."""
        most = max(self.before or 0.0, self.after or 0.0)
        return most if most > self.processors else None


@dataclass(frozen=True)
class Measured:
    """Models in llama.cpp: the student, and the teacher and the comparison if it is the embedded one."""

    student: Side
    teacher: Side | None
    compared: Compared | None
    hardware: str
    """The GPU, or how many threads, of the sides' speeds."""
    context: int
    load: Load

    @property
    def how(self) -> str:
        """Where and how the sides' speeds were taken."""
        return f"llama.cpp, decoding, {self.hardware}"

    @property
    def compared_how(self) -> str:
        """How the compared speeds were taken; where they are not sure, what makes them so."""
        compared = self.compared
        if compared is None:
            return ""
        ours, theirs, said = compared.student, compared.teacher, f"{compared.how}, by turns"
        if ours.sure and theirs.sure:
            return said
        fewest = min(ours.agreeing, theirs.agreeing)
        load = "" if self.load.high is None else f" (load {self.load.high:g} on {self.load.processors} processors)"
        why = f"only {fewest} of {ours.turns} turns were undisturbed, {FASTEST_TURNS} are needed"
        return f"{said}; uncertain, as {why}{load}"


def measure(
    student: Contestant,
    teacher: Contestant | None,
    new_tokens: int,
    host: Host,
    *,
    seconds: float = COMPARING_SECONDS,
) -> Measured:
    """Time the models by turns and measure their memory. BitnetError if llama.cpp can't run one of them.

    The context of both has room for the longest prompt of either and `new_tokens` more. They are timed on the
    student's prompt of middle length, and the teacher's for it.
    """
    contestants = [student] if teacher is None else [student, teacher]
    longest = max(len(prompt) for one in contestants for prompt in one.prompts[:_PROMPTS])
    context = -(-(longest + max(new_tokens, TURN_TOKENS) + 1) // CONTEXT_STEP) * CONTEXT_STEP
    lengths = [len(prompt) for prompt in student.prompts[:_PROMPTS]]
    middle = lengths.index(sorted(lengths)[len(lengths) // 2])
    prompts = [one.prompts[middle] for one in contestants]
    before, count = _load(), threads()
    with _running(contestants, context, count, host) as models:
        device: str | None = models[0].about["device"]
        limit = seconds if device else min(seconds, _SHOWING_SECONDS)
        shown = _turns(models, prompts, new_tokens, _by_wall, limit, host)
        sides = [Side(spread(values), model.memory()) for values, model in zip(shown, models, strict=True)]
    compared = None
    if teacher is not None and device:
        compared = Compared(fastest(shown[0]), fastest(shown[1]), device)
    elif teacher is not None:
        with _running(contestants, context, 1, host) as models:
            turns = _turns(models, prompts, new_tokens, _by_processor, seconds, host)
        compared = Compared(fastest(turns[0]), fastest(turns[1]), "1 thread, processor time")
    return Measured(
        student=sides[0],
        teacher=sides[1] if teacher else None,
        compared=compared,
        hardware=device or f"{count} threads",
        context=context,
        load=Load(before, _load(), os.cpu_count() or count),
    )


@contextlib.contextmanager
def _running(contestants: Sequence[Contestant], context: int, count: int, host: Host) -> Iterator[list[Served]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(served(one.gguf, context, count, host.check_stop)) for one in contestants]


def _by_wall(turn: Speed) -> float:
    return turn.by_wall


def _by_processor(turn: Speed) -> float:
    return turn.by_processor


def _turns(
    models: Sequence[Served],
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    clock: Callable[[Speed], float],
    seconds: float,
    host: Host,
) -> list[list[float]]:
    """Take turns that are about equally long, whatever the models' speeds; a longer one would meet more load.

    No answer is longer than `new_tokens`: a fast model gives several in a turn.
    """
    for model, prompt in zip(models, prompts, strict=True):
        model.turn(prompt, TURN_TOKENS, 1)  # it also touches the weights and reads the prompt
    speeds = [clock(model.turn(prompt, TURN_TOKENS, 1)) for model, prompt in zip(models, prompts, strict=True)]
    a_turn = max(_TURN_SECONDS, TURN_TOKENS / min(speeds))

    def turn_of(model: Served, prompt: Sequence[int], speed: float) -> Callable[[], float]:
        tokens = max(TURN_TOKENS, min(round(a_turn * speed), new_tokens))
        answers = max(1, round(a_turn * speed / tokens))
        return lambda: clock(model.turn(prompt, tokens, answers))

    def after_round(done: int) -> None:
        host.check_stop()
        host.progress(done, None, "rounds", "timing student and teacher by turns")

    turns = [turn_of(*one) for one in zip(models, prompts, speeds, strict=True)]
    return take_turns(turns, time.monotonic, seconds, after_round)


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 1)
    except (OSError, AttributeError):  # not told here
        return None
