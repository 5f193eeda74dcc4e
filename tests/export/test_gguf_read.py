"""A GGUF of unknown origin is read, or refused in one sentence."""

import re
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.export import gguf, gguf_read
from bitnet_core.model.student import Student
from bitnet_core.tokenizer.student import StudentTokenizer

_SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@pytest.fixture
def path(student: Student, tokenizer: StudentTokenizer, tmp_path: Path) -> Path:
    origin = {"step": 7, "checkpoint_sha256": "ab", "checkpoint": "x.pt"}
    gguf.write(student, tokenizer, tmp_path / "student.gguf", "Q2_0", embedding="Q6_K", origin=origin)
    return tmp_path / "student.gguf"


def test_types_and_origin_are_read(path: Path) -> None:
    about = gguf_read.look(path)
    assert (set(about.linear_types.values()), about.embedding_type) == ({"Q2_0"}, "Q6_K")
    kept = {"step": 7, "checkpoint_sha256": "ab", "checkpoint": "x.pt"}
    assert about.origin == {"activation_bits": 8, "a4_policy": "all", **kept}


@_SHARED
@given(place=st.floats(0, 1, exclude_max=True))
def test_a_file_without_its_end_is_refused(path: Path, place: float) -> None:
    data = path.read_bytes()
    short = path.with_name("short.gguf")
    short.write_bytes(data[: int(len(data) * place)])
    with pytest.raises(BitnetError, match=r"short\.gguf is not a whole GGUF .*; export it again\.$"):
        gguf_read.look(short)


@_SHARED
@given(place=st.integers(0, 20_000), byte=st.integers(0, 255))
def test_any_byte_may_be_wrong(path: Path, place: int, byte: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] = byte
    other = path.with_name("other.gguf")
    other.write_bytes(data)
    try:
        gguf_read.look(other)
    except BitnetError as error:
        assert "\n" not in str(error)


@_SHARED
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_changed_bit_is_found_wherever_it_is(path: Path, place: float, bit: int) -> None:
    gguf_read.require_as_written(path)
    data = bytearray(path.read_bytes())
    at = int(len(data) * place)
    name_end = data.index(gguf.SEAL.encode()) + len(gguf.SEAL)
    assume(not name_end - len(gguf.SEAL) - 8 <= at < name_end)  # without its name it is as one of an earlier version
    data[at] ^= 1 << bit
    other = path.with_name("other.gguf")
    other.write_bytes(data)
    with pytest.raises(BitnetError, match=r"other\.gguf .*; (export|convert) .* again"):
        gguf_read.require_as_written(other)


@pytest.mark.parametrize("where", ["tensors", "keys", "strings"])
def test_a_file_with_holes_does_not_claim_things_without_number(where: str, tmp_path: Path) -> None:
    """Zeros are empty texts, and where a file has none they take no room on the disk."""
    many = (20_000_000).to_bytes(8, "little")
    counts = {"tensors": many + bytes(8), "keys": bytes(8) + many}.get(where, bytes(8) + (1).to_bytes(8, "little"))
    key = (1).to_bytes(8, "little") + b"k" + (9).to_bytes(4, "little") + (8).to_bytes(4, "little") + many
    path = tmp_path / "holes.gguf"
    with path.open("wb") as out:
        out.write(b"GGUF\3\0\0\0" + counts + (key if where == "strings" else b""))
        out.truncate(1 << 29)
    with pytest.raises(BitnetError, match=r"not a whole GGUF \(it claims more than any model has\);"):
        gguf_read.read_keys(path)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (b"\0\0\0\3", "it is a big-endian GGUF"),
        (b"\1\0\0\0", "it is a GGUF of version 1,"),
        (b"\4\0\0\0", "it is a GGUF of version 4,"),
    ],
)
def test_another_format_is_named_and_not_called_damaged(path: Path, version: bytes, reason: str) -> None:
    path.write_bytes(b"GGUF" + version + path.read_bytes()[8:])
    with pytest.raises(BitnetError, match=rf"student\.gguf can't be read \({reason}.*\); convert its model again"):
        gguf_read.look(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"PK\3\4" + bytes(99), "it does not begin as one"),
        (b"GGUF", "its end is missing"),
        (b"GGUF" + b"\xde\xad\xbe\xef" * 99, "its header is damaged: it claims version 4022250974"),
        (b"GGUF" + bytes(99), "its header is damaged: it claims version 0"),
        (b"GGUF\3\0\0\0" + b"\xff" * 99, "it claims more than it holds"),
        (b"GGUF\3\0\0\0" + bytes(8) + struct.pack("<QQ", 1, 2) + b"\xff" * 99, "a text in it is not UTF-8"),
    ],
)  # fmt: skip
def test_garbage_is_named_with_what_is_wrong(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "garbage.gguf"
    path.write_bytes(content)
    for read, fix in ((gguf_read.look, "export it again"), (gguf_read.read_keys, "give a whole GGUF file")):
        with pytest.raises(BitnetError) as refused:
            read(path)
        assert re.fullmatch(rf"{path} is not a whole GGUF[^;]* \({reason}\); {fix}\.", str(refused.value))


def test_a_key_with_two_values_has_none(path: Path) -> None:
    """Each program would take another one of them."""
    data = path.read_bytes()
    key = (1).to_bytes(8, "little") + b"k" + bytes(5)
    count = int.from_bytes(data[16:24], "little") + 2
    path.write_bytes(data[:16] + count.to_bytes(8, "little") + key * 2 + data[24:])
    with pytest.raises(BitnetError, match=r"not a whole GGUF .*\(it has two values of 'k'\)"):
        gguf_read.look(path)
