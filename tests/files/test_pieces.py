"""Data written in pieces is the data, also where the system writes less than it was given."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.files import pieces
from bitnet_core.files.pieces import write_at


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 70), st.integers(1, 50), st.integers(0, 20))
def test_every_byte_is_written_once_at_its_place(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, piece: int, most: int, offset: int
) -> None:
    path = tmp_path_factory.mktemp("pieces") / "file"
    written: list[int] = []
    real = os.pwrite

    def short(fd: int, some: memoryview, at: int) -> int:
        written.append(len(some))
        return real(fd, some[:most], at)

    with pytest.MonkeyPatch.context() as patch, path.open("xb") as out:
        patch.setattr(pieces, "_PIECE_BYTES", piece)
        patch.setattr(os, "pwrite", short)
        write_at(out.fileno(), data, offset)
    assert path.read_bytes() == (bytes(offset) + data if data else b"")
    assert max(written, default=0) <= piece


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with full.open("wb") as out, pytest.raises(OSError, match="No space left"):
        write_at(out.fileno(), b"x")
