"""What `bitnet bench score` does: open the teacher or a student, and score it. Heavy: imported when that runs."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bitnet_core.cli.ask import CommandHost
from bitnet_core.errors import UsageError
from bitnet_core.evaluation.checks import own_tokenizer
from bitnet_core.evaluation.scorers import student_scorer, teacher_scorer
from bitnet_core.model.precision import pick_device
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.resolved import Resolution
from bitnet_core.settings.values import DataOptions, DeviceOptions, TeacherOptions
from bitnet_core.suites.benchmarks import find
from bitnet_core.suites.likelihood import BenchmarkScore, TextScorer, score_benchmark
from bitnet_core.suites.requests_file import Item, load
from bitnet_core.teachers.identity import identify
from bitnet_core.terminal import safe
from bitnet_core.training import checkpoints

_SEED = 0


def score(
    resolved: Resolution, names: list[str], limit: int | None, model: str, checkpoint: Path | None
) -> Iterator[BenchmarkScore]:
    """The figures of the teacher or the student on each benchmark, as they are ready."""
    benchmarks = [find(name) for name in names]
    graded = next((one.name for one in benchmarks if one.kind == "calls"), None)
    if graded is not None:
        raise UsageError(f"{graded} is not scored by likelihood; name it in EVAL_SUITE for `bitnet eval`.")
    items = {one.name: load(one, limit) for one in benchmarks}
    device = partial(pick_device, DeviceOptions.of(resolved.settings))
    if model == "teacher":
        options = TeacherOptions.of(resolved.settings)
        host = CommandHost(resolved, identify(options).key_settings)
        opened = teacher_scorer(host, options, device)
    else:
        experiment = Experiment.from_settings(resolved.settings)
        path = checkpoint or checkpoints.require_latest(experiment.checkpoints)
        loaded = checkpoints.load(path)
        tokenizer = own_tokenizer(loaded, path, DataOptions.of(resolved.settings).path or experiment.data)
        opened = student_scorer(checkpoints.student_from(loaded).to(device()), tokenizer)
    with opened as scorer:
        for one in benchmarks:
            yield _scored(one.name, scorer, items[one.name])


def _scored(name: str, scorer: TextScorer, items: list[Item]) -> BenchmarkScore:
    def on_done(done: int) -> None:
        if sys.stderr.isatty():
            safe(sys.stderr).redraw(f"{name}: {done}/{len(items)} items" if done < len(items) else "")

    return score_benchmark(find(name), items, scorer, _SEED, on_done)
