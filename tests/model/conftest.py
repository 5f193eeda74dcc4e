"""Small students that every model test shares."""

from collections.abc import Iterator

import pytest
import torch

from bitnet_core.model.config import StudentConfig


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


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Tiny matmuls gain nothing from a second thread, and lose a hundredfold when another process has its core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
