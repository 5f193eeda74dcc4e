"""Looks at runs in real processes, which take their time."""

import time
from collections.abc import Callable
from typing import TypeVar

from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.record import Run
from bitnet_core.settings.resolve import from_values

Starter = Callable[..., Run]
"""The fixture `start`."""
_T = TypeVar("_T")


def eventually(look: Callable[[], _T | None]) -> _T:
    """What `look` finds; the test fails if it finds nothing in a minute."""
    deadline = time.monotonic() + 60
    while not (found := look()):
        assert time.monotonic() < deadline, "waited a minute in vain"
        time.sleep(0.02)
    return found


def wait(run: Run, *states: str) -> str:
    return eventually(lambda: state if (state := run.state()) in states else None)


def history_of(run: Run) -> History:
    return History.read(Experiment.from_settings(from_values({"DRIVE_ROOT": str(run.path.parents[1])})))


def pid_of(run: Run) -> int:
    pid = run.record().pid
    assert pid is not None
    return pid
