"""A trace set of two shards with 20 sequences."""

from pathlib import Path

import pytest

from bitnet_core.traces import writer
from tests.tokenizer.vocabularies import mistral, sentencepiece_model  # noqa: F401
from tests.traces.sets import ORIGIN, metadata, sequence


@pytest.fixture
def data(tmp_path: Path) -> Path:
    sequences = [sequence(index) for index in range(20)]
    for shard, part in enumerate((sequences[:12], sequences[12:])):
        writer.write_shard(tmp_path, shard, metadata([one.request_key for one in part]), ORIGIN, part)
    writer.write_sequences(tmp_path, 2, metadata([]))
    return tmp_path
