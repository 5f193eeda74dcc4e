"""Hashes of local files, as a manifest has them."""

from pathlib import Path

from bitnet_core.files.regular import open_regular
from bitnet_core.storage.digest import Digest, sha256
from bitnet_core.storage.layout import Index, Part


def hash_file(path: Path, part_bytes: int) -> Digest:
    """The hash of a file's bytes; with `part_bytes`, that of its index. OSError if it can't be read."""
    with open_regular(path) as source:
        if not part_bytes:
            return sha256(source.read())
        parts = [Part(len(data), sha256(data)) for data in iter(lambda: source.read(part_bytes), b"")]
    return sha256(Index(sum(part.size for part in parts), parts).encode())
