"""What several test files build: a stage's context, events, the events that a run has left, a teacher's steps.

And what they let happen: a change right before a call, a full disk.
"""

import contextlib
import functools
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from bitnet_core.runs.context import StageContext
from bitnet_core.runs.event_files import EventWriter, read_events
from bitnet_core.runs.events import KINDS, Event, to_dict
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.record import Run
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.resolve import from_values
from bitnet_core.tokenizer.steps import Completion, TeacherStep, TokenTable

_BY_KIND = {kind.__struct_config__.tag: kind for kind in KINDS}
_EMPTY: dict[Any, Any] = {str: "", int: 0, float: 0.0, dict[str, Any]: {}, list[str]: [], list[list[Any]]: []}


def event(kind: str, **fields: Any) -> Event:
    """An event of a kind; required fields that are left out are empty or 0. Not the record's first."""
    return _BY_KIND[kind](**{"seq": 1, **_required(kind), **fields})


@functools.cache
def _required(kind: str) -> dict[str, Any]:
    """An empty value for each field that this kind requires."""
    return {one.name: _EMPTY.get(one.type) for one in msgspec.structs.fields(_BY_KIND[kind]) if one.required}


class _Writer(EventWriter):
    """Closed when nothing refers to it any more: hundreds of contexts are made in one process of tests."""

    def close(self) -> None:
        if self._fd >= 0:
            super().close()
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def stage_context(
    root: Path,
    stage: str = "train",
    values: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> StageContext:
    """A stage's context outside a worker process, on an experiment at `root`. No suites, unless `values` say so."""
    settings = from_values({"DRIVE_ROOT": str(root), "EVAL_SUITE": "none", "EVAL_TEXT_WEIGHT": "0", **(values or {})})
    experiment = Experiment.from_settings(settings)
    experiment.ensure()
    run_dir = experiment.logs / f"{stage}-test-{time.monotonic_ns():x}"
    run_dir.mkdir()
    secrets = dict(secrets or {})
    writer = _Writer(run_dir / "events.jsonl", Redactor(secrets.values()))
    return StageContext(stage, run_dir, experiment, writer, secrets)


def events_of(path: Path, kind: str = "") -> list[dict[str, Any]]:
    """The events in a run's record as JSON objects, of one kind or of all."""
    return [to_dict(one) for one in read_events(path) if kind in ("", one.kind)]


def emitted(ctx: StageContext, kind: str = "") -> list[dict[str, Any]]:
    """The events that a stage with this context has emitted, of one kind or of all."""
    return events_of(ctx.run_dir / "events.jsonl", kind)


def history_of(root: Path) -> History:
    """The runs of the experiment at `root`."""
    return History.read(Experiment.from_settings(from_values({"DRIVE_ROOT": str(root)})))


def followed(run: Run) -> list[dict[str, Any]]:
    """Waits for a run's end; all its events as JSON objects."""
    return [to_dict(one) for one in run.follow()]


def completion_of_steps(steps: Sequence[TeacherStep], table: TokenTable) -> Completion:
    """A completion of single steps, with the candidates of each sorted; NaN sorts last."""
    width = max((len(step.top_logprobs) for step in steps), default=0)
    tops_NK = np.full((len(steps), width), -1, np.int32)
    top_logprobs_NK = np.full((len(steps), width), -np.inf)
    for row, step in enumerate(steps):
        tops = zip(step.top_ids, step.top_bytes, step.top_logprobs, strict=True)
        for column, (index, data, logprob) in enumerate(sorted(tops, key=lambda top: _descending(top[2]))):
            tops_NK[row, column], top_logprobs_NK[row, column] = table.number(index, data), logprob
    sampled_N = np.array([table.number(step.token_id, step.data) for step in steps], np.int32)
    return Completion(table, sampled_N, np.array([step.logprob for step in steps]), tops_NK, top_logprobs_NK)


def _descending(logprob: float) -> float:
    return math.inf if math.isnan(logprob) else -logprob


def do_before(monkeypatch: pytest.MonkeyPatch, place: object, name: str, change: Callable[[], object]) -> None:
    """Have something done once, right before the first call of the function that has this name there."""
    real, once = getattr(place, name), [change]

    def changed(*given: Any, **named: Any) -> Any:
        if once:
            once.pop()()
        return real(*given, **named)

    monkeypatch.setattr(place, name, changed)


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Inside the block this process can't make a file longer than so many bytes: a write fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
