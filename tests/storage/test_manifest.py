"""Manifests and indexes that come back hostile: each is Damaged in a sentence, and costs little."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.digest import sha256
from bitnet_core.storage.layout import Index, Part, Stored, part_bytes, read_index
from bitnet_core.storage.manifest import Damaged, Manifest
from bitnet_core.storage.names import Escaping, fault, require_key
from bitnet_core.storage.target import Limits
from tests.storage.memory import MemoryTarget

GOOD: dict[str, Any] = {"name": "data/a", "size": 1, "sha256": "0" * 64, "role": "traces"}


def put(target: MemoryTarget, counter: int = 1, **fields: Any) -> str:
    """Put a manifest with these fields under the key that its content has."""
    whole = {"experiment": "0" * 32, "name": "x", "counter": counter, "files": [], "format": 1, **fields}
    data = json.dumps(whole).encode()
    key = f"manifests/{counter:06d}-{sha256(data)}.json"
    target.put(key, data)
    return key


@pytest.mark.parametrize(
    "entry",
    [
        GOOD | {"name": "../x"},
        GOOD | {"name": "/etc/passwd"},
        GOOD | {"name": "data//x"},
        GOOD | {"name": "data/./x"},
        GOOD | {"name": ""},
        GOOD | {"name": "a\\b"},
        GOOD | {"name": "a\x1b[31m"},
        GOOD | {"name": "a\u202eb"},
        GOOD | {"name": "e\u0301"},
        GOOD | {"name": "nul\x00"},
        GOOD | {"name": 5},
        GOOD | {"size": -1},
        GOOD | {"size": 1 << 60},
        GOOD | {"size": 1.5},
        GOOD | {"size": True},
        GOOD | {"size": 10**30},
        GOOD | {"sha256": "0" * 63},
        GOOD | {"sha256": "G" * 64},
        GOOD | {"stem": "data/b"},
        GOOD | {"stem": "data/a.revisions/../../b"},
        GOOD | {"part_bytes": -1},
        GOOD | {"part_bytes": 1 << 40},
        GOOD | {"part_bytes": 1, "size": 1 << 40},
        GOOD | {"size": 1 << 40},
        {"name": "data/a"},
        None,
        [],
        "data/a",
    ],
)
def test_an_impossible_entry_makes_a_manifest_damaged(entry: object) -> None:
    target = MemoryTarget()
    with pytest.raises(Damaged):
        manifests.read(target, put(target, files=[entry]))


@pytest.mark.parametrize(
    "fields",
    [
        {"created": 1e300},
        {"created": -1.0},
        {"files": [GOOD, GOOD]},
        {"files": [GOOD, GOOD | {"name": "data/a/b"}]},
        {"files": [GOOD | {"name": "data/a/b/c"}, GOOD]},
        {"files": {}},
        {"experiment": "short"},
        {"experiment": "../../x" + "0" * 25},
        {"format": "1"},
        {"name": None},
        {"files": [GOOD | {"name": f"d/{n}", "size": 100_000, "part_bytes": 1} for n in range(11)]},
    ],
)
def test_an_impossible_manifest_is_damaged(fields: dict[str, Any]) -> None:
    target = MemoryTarget()
    with pytest.raises(Damaged):
        manifests.read(target, put(target, **fields))


def test_a_manifest_of_too_many_files_is_damaged() -> None:
    target = MemoryTarget()
    key = put(target, files=[GOOD | {"name": f"data/{number}"} for number in range(200_001)])
    with pytest.raises(Damaged):
        manifests.read(target, key)


def test_a_manifest_under_another_counter_or_hash_is_damaged() -> None:
    target = MemoryTarget()
    key = put(target, counter=1)
    target.put("manifests/000009-" + key.partition("-")[2], target.objects[key])
    target.put("manifests/000001-" + "0" * 64 + ".json", target.objects[key])
    with pytest.raises(Damaged):
        manifests.read(target, "manifests/000009-" + key.partition("-")[2])
    assert [one.key for one in manifests.published(target)] == [key]


def test_a_newer_format_is_said_and_not_passed_over() -> None:
    target = MemoryTarget()
    put(target, counter=1)
    put(target, counter=2, format=2)
    with pytest.raises(BitnetError, match="newer version"):
        next(manifests.published(target))


@pytest.mark.parametrize("key", ["\0", "", "../../etc/passwd", "manifests/", "manifests/000001-x.json", "x" * 10_000])
def test_a_parent_that_is_no_manifest_is_never_asked_for(key: str) -> None:
    target = MemoryTarget()
    with pytest.raises(Damaged):
        manifests.read(target, key)
    assert not target.gets


def test_an_object_too_large_for_a_manifest_hides_none() -> None:
    target = MemoryTarget(Limits(object_bytes=1000))
    key = put(target, counter=1)
    large = f"manifests/000002-{'0' * 64}.json"
    target.objects[large], target.times[large] = b" " * 1001, 0.0
    assert manifests.keys(target) == [key]


def test_a_number_after_which_none_can_come_is_damaged_and_never_written() -> None:
    target = MemoryTarget()
    key = put(target, counter=1)
    beyond = put(target, counter=999_999_999_999)
    assert [one.key for one in manifests.published(target)] == [key]
    assert manifests.damaged(target) == [beyond]
    last = manifests.read(target, put(target, counter=10**9)).manifest
    with pytest.raises(BitnetError, match="none can come after it; remove"):
        manifests.key_of(Manifest(last.experiment, last.name, last.counter + 1, []))


def test_foreign_objects_among_the_manifests_are_passed_over() -> None:
    target = MemoryTarget()
    key = put(target, counter=3)
    for name in ("readme.txt", "000004-x.json", "../x", "999999999999999-" + "0" * 64 + ".json", "000005-.json"):
        target.objects[f"manifests/{name}"] = b"x"
        target.times[f"manifests/{name}"] = 0.0
    assert manifests.keys(target) == [key]


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400), where=st.integers(0, 300), what=st.binary(min_size=1, max_size=4))
@example(data=b"[" * 100_000, where=0, what=b"[")
@example(data=b"", where=248, what=b"2")
def test_any_bytes_are_a_manifest_or_damaged(data: bytes, where: int, what: bytes) -> None:
    good = Manifest(experiment="0" * 32, name="x", counter=1, files=[Stored("data/a", 1, "0" * 64, "traces")])
    changed = good.encode()[:where] + what + good.encode()[where + len(what) :]
    for content in (data, changed):
        target = MemoryTarget()
        key = f"manifests/000001-{sha256(content)}.json"
        target.put(key, content)
        try:
            read = manifests.read(target, key)
        except BitnetError as error:
            assert isinstance(error, Damaged) or "newer version" in str(error)
            continue
        for one in read.manifest.files:
            require_key(one.name)


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 10**6), limit=st.integers(100, 50_000), cut=st.integers(0, 200), byte=st.integers(0, 255))
def test_an_index_is_the_one_that_was_written_or_refused(size: int, limit: int, cut: int, byte: int) -> None:
    each = part_bytes(size, Limits(object_bytes=limit))
    if not each:
        return
    lengths = [min(each, size - start) for start in range(0, size, each)]
    data = Index(size, [Part(length, sha256(b"%d" % length)) for length in lengths]).encode()
    stored = Stored("data/a", size, sha256(data), "traces", part_bytes=each)
    assert [part.size for part in read_index(data, stored).parts] == lengths
    assert [length for _, length in stored.objects()][:-1] == lengths
    damaged = data[:cut] + bytes([byte]) + data[cut + 1 :]
    if damaged != data:
        with pytest.raises(BitnetError):
            read_index(damaged, stored)


@pytest.mark.parametrize(
    "parts", [[], [{"size": 5, "sha256": "0" * 64}], [{"size": -5, "sha256": "0" * 64}], [5], None, "x"]
)
def test_an_index_with_other_parts_than_its_manifest_says_is_refused(parts: object) -> None:
    data = json.dumps({"size": 10, "parts": parts, "format": 1}).encode()
    with pytest.raises(BitnetError):
        read_index(data, Stored("data/a", 10, sha256(data), "traces", part_bytes=6))


@settings(max_examples=300)
@given(key=st.text(max_size=40))
def test_an_allowed_key_has_no_way_out(key: str) -> None:
    if fault(key):
        return
    segments = key.split("/")
    assert not key.startswith("/") and all(segment not in ("", ".", "..") for segment in segments)
    assert key.isprintable() and "\\" not in key


@settings(max_examples=300)
@given(key=st.text(min_size=1, max_size=40), other=st.text(min_size=1, max_size=40))
def test_escaping_is_reversible_and_never_confuses_two_keys(key: str, other: str) -> None:
    escaping = Escaping(allowed=r"A-Za-z0-9_.\-")
    try:
        key.encode()
        other.encode()
    except UnicodeEncodeError:
        return
    assert escaping.unescape(escaping.escape(key)) == key
    assert (escaping.escape(key) == escaping.escape(other)) == (key == other)
