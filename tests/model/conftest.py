"""A small student's shape, one thread and one seed for all tests of models."""

import pytest
import torch

from bitnet_core.model.config import StudentConfig
from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]


@pytest.fixture
def config() -> StudentConfig:
    return StudentConfig(
        vocab_size=320,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
