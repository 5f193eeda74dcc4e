"""An experiment after its training, as the eval stage's tests have it."""

import contextlib
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bitnet_core import files
from bitnet_core.evaluation.deployed import Deployed
from bitnet_core.evaluation.scorers import teacher_scorer
from bitnet_core.evaluation.student_runtime import StudentFile
from bitnet_core.export import card
from bitnet_core.model.decoding import Generation
from bitnet_core.model.student import Student
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import Sampling, TeacherOptions
from bitnet_core.stages import evaluate, train
from bitnet_core.suites.likelihood import OnDone, Scored, TextScorer
from bitnet_core.teachers.opening import Host
from bitnet_core.traces import schema, writer
from tests.builders import emitted, stage_context
from tests.suites.test_likelihood import Told
from tests.traces.sets import ORIGIN, TOKENIZER, metadata, sequence

SETTINGS = {
    "FORCE_CPU": "1",
    "TORCH_DTYPE": "fp32",
    "MINI_DIM": "256",
    "MINI_LAYERS": "2",
    "TOTAL_STEPS": "6",
    "TRAIN_BATCH_SIZE": "4",
    "LR": "3e-3",
    "BUDGET_TOKENS": "300",
    "FLIP_FRACTION": "0.5",
    "EVAL_MAX_PROMPTS": "2",
    "EVAL_MAX_NEW_TOKENS": "5",
    "EVAL_TEXT_WEIGHT": "0.5",
    "EVAL_LIMIT": "2",
}


BASELINE = {
    "provider": "embedded",
    "model": "teacher",
    "memory": {"bytes": 300_000_000, "origin": "measured"},
    "tokens_per_s": {"end_to_end": 80.0, "decode": 100.0, "origin": "measured"},
}


def write_traces(data: Path, count: int) -> None:
    sequences = [sequence(index) for index in range(count)]
    about = metadata([one.request_key for one in sequences])
    writer.write_shard(data, 0, about, ORIGIN, sequences)
    writer.write_sequences(data, 1, about)
    TOKENIZER.save(data / schema.TOKENIZER_FOLDER)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment after the teacher, collect and train stages."""
    root = tmp_path_factory.mktemp("trained") / "experiment"
    ctx = stage_context(root, "train", SETTINGS)
    write_traces(ctx.experiment.data, 24)
    files.write_json(ctx.experiment.reports / "teacher_baseline.json", BASELINE)
    train.run(ctx)
    return root


class OneBit(TextScorer):
    """Needs one bit for each byte."""

    def score(self, pairs: Sequence[tuple[str, str]], on_done: OnDone = lambda _done: None) -> list[Scored | None]:
        return [Scored(-math.log(2) * len(text.encode()), False) for _, text in pairs]


@pytest.fixture
def root(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, whose student llama.cpp can't have: `tests/evaluation` runs one there. Its teacher stands in."""

    @contextlib.contextmanager
    def not_there(*_: Any, **__: Any) -> Iterator[StudentFile]:
        yield StudentFile(None, "llama.cpp is not here")

    @contextlib.contextmanager
    def one_bit_a_byte(host: Host, options: TeacherOptions, *rest: Any) -> Iterator[TextScorer]:
        if options.provider != "embedded":
            with teacher_scorer(host, options, *rest) as scorer:
                yield scorer
        yield OneBit(TOKENIZER, Told())

    monkeypatch.setattr(evaluate, "student_file", not_there)
    monkeypatch.setattr(evaluate, "teacher_scorer", one_bit_a_byte)
    return shutil.copytree(trained, tmp_path / "experiment")


def context(root: Path, **values: str) -> StageContext:
    return stage_context(root, "eval", SETTINGS | values)


def table(ctx: StageContext, name: str) -> list[list[Any]]:
    (found,) = [event for event in emitted(ctx, "table") if event["name"] == name]
    assert all(len(row) == len(found["columns"]) for row in found["rows"])
    rows: list[list[Any]] = found["rows"]
    return rows


@pytest.fixture
def no_child(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Sequence[int]]]:
    """Replace the measuring processes where a test is about something else; gives the prompts that were asked."""
    asked: list[Sequence[Sequence[int]]] = []

    def stand_in(_packed: Student, prompts: Sequence[Sequence[int]], sampling: Sampling, **_: Any) -> Deployed:
        asked.append(prompts)
        answers = [Generation([3] * 5, "length", len(prompt), 0.1, 0.2) for prompt in prompts]
        return Deployed(answers, {"total": 7}, 100_000_000, "stood in", 1, 2, 3, "stood in", 2)

    monkeypatch.setattr(evaluate, "run_deployed", stand_in)
    monkeypatch.setattr(evaluate, "row_in_transformers", lambda *_: card.not_exported("transformers"))
    return asked
