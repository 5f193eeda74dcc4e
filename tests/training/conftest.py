"""A tiny problem of realistic shape: the next token follows from the last one, and the teacher knows the rule."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.precision import Precision
from bitnet_core.model.student import Student
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.dataset import TraceSequence, TraceSet
from bitnet_core.training.online import OnlineTeacher
from bitnet_core.training.trainer import Trainer
from tests.builders import emitted, stage_context

VOCAB, TOP_K = 512, 6
TINY = {
    "TOTAL_STEPS": "8",
    "BUDGET_TOKENS": "100000",
    "TRAIN_BATCH_SIZE": "4",
    "LR": "3e-3",
    "LOG_INTERVAL": "2",
    "CHECKPOINT_INTERVAL": "1000",
    "SCHEDULER_TMAX": "8",
    "MAX_SEQ_LEN": "48",
}


def make_sequence(index: int, *, prompt: int = 6, completion: int = 14, heldout: bool = False) -> TraceSequence:
    """Token t is followed by (3t + 1) mod 40 with mass 0.7, by its two neighbours with 0.1 each."""
    rng = np.random.default_rng(index)
    stream = [int(rng.integers(0, 40))]
    for _ in range(prompt + completion - 1):
        stream.append((3 * stream[-1] + 1) % 40)
    before = np.array(stream[prompt - 1 : -1])
    likely = (3 * before + 1) % 40
    ids_CK = np.stack([likely, likely + 40, likely + 80] + [np.zeros_like(likely)] * (TOP_K - 3), axis=1)
    masses_K = np.array([0.7, 0.1, 0.1] + [0.0] * (TOP_K - 3))
    with np.errstate(divide="ignore"):
        logprobs_CK = np.tile(np.log(masses_K), (completion, 1)).astype(np.float32)
    return TraceSequence(
        prompt_idx=index,
        prompt_text="",
        completion_text="",
        prompt_ids_P=np.array(stream[:prompt], np.int32),
        completion_ids_C=np.array(stream[prompt:], np.int32),
        topk_ids_CK=ids_CK.astype(np.int32),
        topk_logprobs_CK=logprobs_CK,
        other_logprob_C=np.full(completion, np.log(0.1), np.float32),
        kd_valid_C=np.ones(completion, bool),
        is_struct_C=np.arange(completion) % 5 == 0,
        heldout=heldout,
        finish_reason="stop",
        sequence_hash=f"{index:064x}",
    )


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """A second thread doesn't speed up tiny matmuls, and slows them a hundredfold when its core is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def sequences() -> list[TraceSequence]:
    rng = np.random.default_rng(7)
    return [
        make_sequence(n, prompt=int(rng.integers(2, 9)), completion=int(rng.integers(5, 30)), heldout=n % 8 == 0)
        for n in range(48)
    ]


class StageTrainer(Trainer):
    """A trainer that reports to a stage's context, and keeps its checkpoints in that experiment."""

    ctx: StageContext

    def run(self) -> dict[str, Any]:
        return super().run(self.ctx)


def events(trainer: StageTrainer, kind: str) -> list[dict[str, Any]]:
    """What the trainer's run has recorded, of one kind."""
    return emitted(trainer.ctx, kind)


@pytest.fixture
def make_trainer(tmp_path: Path, sequences: list[TraceSequence]) -> Callable[..., StageTrainer]:
    """Build a trainer in its own experiment; the same arguments give the same run."""

    def make(
        values: dict[str, str] | None = None,
        *,
        name: str = "experiment",
        dtype: torch.dtype = torch.float32,
        resume: bool = False,
        tokenizer_hash: str = "t" * 64,
        make_teacher: Callable[[Student], OnlineTeacher] | None = None,
        **shape: Any,
    ) -> StageTrainer:
        ctx = stage_context(tmp_path / name, "train", TINY | (values or {}))
        options = TrainOptions.of(ctx.settings)
        sizes = {
            "vocab_size": VOCAB,
            "hidden_size": 256,
            "intermediate_size": 256,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 64,
        }
        torch.manual_seed(options.seed)
        student = Student(StudentConfig(**sizes | shape))
        trainer = StageTrainer(
            student,
            TraceSet(sequences, VOCAB, TOP_K, tokenizer_hash, "p" * 64, "teacher"),
            options,
            folder=ctx.experiment.checkpoints,
            device=torch.device("cpu"),
            precision=Precision(dtype, "test"),
            teacher=make_teacher(student) if make_teacher else None,
        )
        trainer.ctx = ctx
        if resume:
            trainer.resume(ctx)
        return trainer

    return make
