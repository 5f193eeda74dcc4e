"""Hashes of local files, as a manifest has them."""

from pathlib import Path

from bitnet_core.files.regular import open_regular
from bitnet_core.storage.digest import Digest, sha256
from bitnet_core.storage.layout import Index, Known, Part
from bitnet_core.storage.snapshot import LocalFile


def hash_file(path: Path, part_bytes: int) -> Digest:
    """The hash of a file's bytes; with `part_bytes`, that of its index. OSError if it can't be read."""
    with open_regular(path) as source:
        if not part_bytes:
            return sha256(source.read())
        parts = [Part(len(data), sha256(data)) for data in iter(lambda: source.read(part_bytes), b"")]
    return sha256(Index(sum(part.size for part in parts), parts).encode())


def hash_of(file: LocalFile, size_of_part: int) -> Known | None:
    """The hash of a file's content; None if it can't be read, or is a database whose newest part is in its log."""
    if file.content is not None:
        return Known(sha256(file.content), 0)
    if file.is_database and file.path.with_name(f"{file.path.name}-wal").exists():
        return None
    try:
        return Known(hash_file(file.path, size_of_part), size_of_part)
    except OSError:
        return None
