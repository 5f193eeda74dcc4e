"""Pushes and pulls of experiments to a target in memory, which holds objects of a few thousand bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage.pull import Pull
from bitnet_core.storage.push import Push, Pushed
from bitnet_core.storage.state import State, opened
from bitnet_core.storage.target import Limits, Target
from tests.storage.experiments import complete_state, content, restored, write
from tests.storage.memory import MemoryTarget

SMALL = Limits(object_bytes=4000)


@contextmanager
def state_of(experiment: Experiment) -> Iterator[State]:
    with opened(experiment.root, "memory") as state:
        yield state


def push(experiment: Experiment, target: Target, **options: bool) -> Pushed:
    with state_of(experiment) as state:
        return Push(experiment, target, state, **options).run()


def pull(experiment: Experiment, target: MemoryTarget, *, force: bool = False) -> list[str]:
    published = complete_state(target)
    with state_of(experiment) as state:
        return Pull(experiment, target, state, published, force=force).run(published.manifest.files).files


def stored(target: MemoryTarget) -> dict[str, bytes]:
    """Every file of the newest complete state, put together from its objects."""
    return restored(target, complete_state(target))


def save(experiment: Experiment, step: int) -> list[Path]:
    stem = f"checkpoints/mini_bitnet_step_{step:08d}"
    return [write(experiment, f"{stem}.pt", content(10_000, step)), write(experiment, f"{stem}_health.json", b"{}")]
