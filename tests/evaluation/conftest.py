"""Small random sequences and students, small enough to recompute by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.traces.dataset import TraceSequence

VOCAB, TOP_K = 320, 5


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def config() -> StudentConfig:
    return StudentConfig(
        vocab_size=VOCAB,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=64,
    )


@pytest.fixture
def student(config: StudentConfig) -> Student:
    made = Student(config).eval()
    for parameter in made.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, 0.0, 0.1)
    return made


def make_sequence(seed: int, *, prompt: int = 5, completion: int = 11, heldout: bool = True) -> TraceSequence:
    """Random candidates, lists of different lengths, positions without candidates, tokens outside them."""
    rng = np.random.default_rng(seed)
    ids_CK = np.stack([rng.choice(VOCAB, TOP_K, replace=False) for _ in range(completion)]).astype(np.int32)
    masses = rng.dirichlet(np.ones(TOP_K + 1), completion)
    masses[:, :TOP_K] = -np.sort(-masses[:, :TOP_K], axis=1)
    counts = rng.integers(1, TOP_K + 1, completion)
    other = masses[:, TOP_K].copy()
    for row, count in enumerate(counts):
        other[row] += masses[row, count:TOP_K].sum()
        masses[row, count:TOP_K] = 0
        ids_CK[row, count:] = 0
    kd_valid = rng.random(completion) < 0.8
    kd_valid[0] = True
    observed = np.where(
        rng.random(completion) < 0.8, ids_CK[np.arange(completion), rng.integers(0, counts)], 7
    ).astype(np.int32)
    observed[0] = ids_CK[0, 0]
    with np.errstate(divide="ignore"):
        logprobs = np.log(masses[:, :TOP_K]).astype(np.float32)
        other_log = np.log(other).astype(np.float32)
    ids_CK[~kd_valid] = 0
    logprobs[~kd_valid] = -np.inf
    other_log[~kd_valid] = 0.0
    return TraceSequence(
        prompt_idx=seed,
        prompt_text=f"prompt {seed}",
        completion_text=f"completion {seed}",
        prompt_ids_P=rng.integers(0, VOCAB, prompt).astype(np.int32),
        completion_ids_C=observed,
        topk_ids_CK=ids_CK,
        topk_logprobs_CK=logprobs,
        other_logprob_C=other_log,
        kd_valid_C=kd_valid,
        is_struct_C=np.zeros(completion, bool),
        heldout=heldout,
        finish_reason="stop",
        sequence_hash=f"{seed:064x}",
    )


@pytest.fixture
def sequences() -> list[TraceSequence]:
    return [make_sequence(seed, prompt=2 + seed, completion=6 + 3 * seed) for seed in range(5)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "experiment"
