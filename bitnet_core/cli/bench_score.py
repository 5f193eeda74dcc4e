"""What `bitnet bench score` does: open the teacher or a student, and score it. Heavy: imported when that runs."""

import sys
from collections.abc import Iterator
from functools import partial

from bitnet_core.cli.ask import CommandHost
from bitnet_core.cli.command import warn
from bitnet_core.cli.silence import doing
from bitnet_core.errors import UsageError
from bitnet_core.evaluation.checks import own_tokenizer
from bitnet_core.evaluation.scorers import student_scorer, teacher_scorer
from bitnet_core.model.precision import pick_device
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.resolved import Resolution
from bitnet_core.settings.values import DataOptions, DeviceOptions, TeacherOptions
from bitnet_core.suites.benchmarks import find
from bitnet_core.suites.likelihood import BenchmarkScore, TextScorer, score_task
from bitnet_core.suites.requests_file import Task, load_task
from bitnet_core.teachers.identity import identify
from bitnet_core.terminal import safe
from bitnet_core.training import checkpoints
from bitnet_core.training.reading import read_chosen

_SEED = 0


def score(
    resolved: Resolution, names: list[str], limit: int | None, model: str, checkpoint: str | None
) -> Iterator[BenchmarkScore]:
    """The figures of the teacher or the student on each benchmark, as they are ready."""
    benchmarks = [find(name) for name in names]
    graded = next((one.name for one in benchmarks if one.kind == "calls"), None)
    if graded is not None:
        raise UsageError(f"{graded} is not scored by likelihood; name it in EVAL_SUITE for `bitnet eval`.")
    tasks = [load_task(one.name, limit) for one in benchmarks]
    device = partial(pick_device, DeviceOptions.of(resolved.settings))
    if model == "teacher":
        options = TeacherOptions.of(resolved.settings)
        host = CommandHost(resolved, identify(options).key_settings)
        opened = teacher_scorer(host, options, device)
    else:
        experiment = Experiment.from_settings(resolved.settings)
        which = "latest" if checkpoint is None else checkpoint
        chosen = partial(checkpoints.chosen, experiment.checkpoints, which, warn)
        path, loaded = read_chosen(chosen, checkpoints.load)
        checkpoints.say_if_untrained(path, loaded.step, warn)
        data = DataOptions.of(resolved.settings).path or experiment.data
        tokenizer = own_tokenizer(path, loaded.tokenizer_hash, loaded.config, data)
        opened = student_scorer(checkpoints.student_from(loaded).to(device()), tokenizer)
    with opened as scorer:
        for task in tasks:
            yield _scored(task, scorer)


def _scored(task: Task, scorer: TextScorer) -> BenchmarkScore:
    doing(f"scoring {task.name}, {len(task.items)} items")

    def on_done(done: int) -> None:
        if sys.stderr.isatty():
            whole = len(task.items)
            safe(sys.stderr).redraw(f"{task.name}: {done}/{whole} items" if done < whole else "")

    return score_task(task, scorer, _SEED, on_done)
