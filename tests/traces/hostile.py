"""Checks of what the readers of traces do with any bytes: each takes bytes, and fails only if a reader does."""

import functools
import json
import struct
import tempfile
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.traces import schema, writer
from bitnet_core.traces.reproject import _sequences
from bitnet_core.traces.rules import faults
from bitnet_core.traces.trace_set import open_shards
from bitnet_core.traces.writer import metadata_of
from tests.traces.sets import ORIGIN, VOCABULARY, metadata, sequence

_EDIT = struct.Struct("<BIB")
FILES = (schema.kd_shard(0), schema.kd_stream(0), schema.teacher_shard(0), schema.sequences_part(0))


def check_metadata(data: bytes) -> None:
    """Metadata is None, or every field has its type and can be written again."""
    found = schema.read_metadata({schema.METADATA_KEY: data})
    if found is None:
        return
    assert all(isinstance(getattr(found, name), int) for name in ("schema_version", "vocab_size", "top_k"))
    assert all(isinstance(value, int | float) for value in found.counts.values())
    assert all(isinstance(key, str) for key in found.keys)
    assert min(found.top_k, found.vocab_size) >= 1
    assert found.top_k <= REGISTRY["TEACHER_TOP_LOGPROBS"].high and found.vocab_size <= schema.MOST_TOKENS
    assert schema.read_metadata({b"bitnet": found.as_key_values()["bitnet"].encode()}) == found


def check_shards(data: bytes) -> None:
    """A sound set whose bytes are changed as `data` says is read, or refused in one sentence.

    `data` is a list of edits of 6 bytes: a file, an offset (from the end, where the sizes are), the byte there.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {file: bytearray(content) for file, content in sound_set().items()}
        for which, offset, value in _EDIT.iter_unpack(data[: len(data) // _EDIT.size * _EDIT.size]):
            content = files[FILES[which % len(FILES)]]
            content[-1 - offset % len(content)] = value
        (folder / ".sequences").mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
            metadata_of(folder / file)
        read_everything(folder)


def read_everything(folder: Path) -> None:
    try:
        for shard in open_shards(folder):
            for window in shard.windows():
                list(faults(shard, window))
    except BitnetError as error:
        assert str(error).count("\n") == 0
    try:
        for _ in _sequences(folder / schema.teacher_shard(0), folder / schema.sequences_part(0), VOCABULARY, []):
            pass
    except BitnetError as error:
        assert str(error).count("\n") == 0


@functools.cache
def sound_set() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        writer.write_shard(Path(name), 0, metadata(["key0", "key1"]), ORIGIN, [sequence(0), sequence(1)])
        return {file: (Path(name) / file).read_bytes() for file in FILES}


@functools.cache
def sound_metadata() -> dict[str, object]:
    found: dict[str, object] = json.loads(metadata(["key0"]).as_key_values()["bitnet"])
    return found
