"""What every target does, tried on every stand."""

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.storage.layout import PART_BYTES
from bitnet_core.storage.patient import Patient
from bitnet_core.storage.probe import check
from bitnet_core.storage.pull import Pull
from bitnet_core.storage.push import Push
from bitnet_core.storage.state import opened as opened_state
from bitnet_core.storage.target import AlreadyThere, Corrupt, NoSuchObject, Refused, Target, Unreachable
from bitnet_core.storage.verify import newest, repair, verify
from tests.storage.experiments import CHECKPOINT, fill, machine
from tests.storage.stand import Running, Stand, opened

NAMES = [
    "plain.json",
    "a folder/with blanks/and more.txt",
    "ünïcödé/日本語/🙂.txt",
    "signs/#hash?question%25percent+plus[brackets]~tilde",
    "signs/'quote\"double&and=equals;semi,comma@at$dollar!bang(round){curly}",
    "signs/colon:star*less<greater>pipe|caret^back`tick",
    "dots/.hidden/..two/trailing.",
    "blanks/ leading and trailing /x",
    "percent/%2F%00%zz/=2F=00",
    "long/" + "n" * 200,
    "deep/" + "/".join("abcdefghij"),
    "model.pt.parts/00000",
    "model.pt.revisions/000003-0badcafe.parts/00000",
    "aux/con/nul.txt",
]


ERRORS = (NoSuchObject, Corrupt, AlreadyThere, Refused, Unreachable)
"""What a call may raise; a test lets everything else through, UsageError too."""
LONG = os.environ.get("STORAGE_LONG") == "1"


@cache
def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("share", [1, *([0.5] if LONG else [])])
def test_the_largest_object_comes_back_as_it_was_put(target: Target, running: Running, share: float) -> None:
    data = content(int(share * min(target.limits.object_bytes, running.most_bytes)) + (share < 1))
    target.put("folder/object.bin", data)
    assert target.get("folder/object.bin") == data
    assert [(one.key, one.size) for one in target.list("folder/")] == [("folder/object.bin", len(data))]


def test_objects_come_back_with_the_names_and_bytes_that_they_were_given(target: Target) -> None:
    objects = {name: name.encode() for name in NAMES} | {f"size/{size}": content(size) for size in (0, 1, 1000)}
    for name, data in objects.items():
        target.put(name, data)
        assert target.get(name) == data, name
    assert {one.key: one.size for one in target.list("")} == {name: len(data) for name, data in objects.items()}
    for name in objects:
        target.delete(name)
    assert not list(target.list(""))


def test_a_listing_has_what_is_below_its_prefix_and_nothing_beside_it(target: Target) -> None:
    for name in ("a/1", "a/b/2", "ab/3", "a.txt", "c"):
        target.put(name, b"x")
    assert {one.key for one in target.list("a/")} == {"a/1", "a/b/2"}
    assert {one.key for one in target.list("")} == {"a/1", "a/b/2", "ab/3", "a.txt", "c"}
    assert not list(target.list("missing/"))
    assert not list(target.list("c/"))


def test_a_listing_knows_when_objects_were_written(target: Target) -> None:
    target.put("a", b"1")
    target.put("b", b"2")
    times = [one.modified for one in target.list("")]
    assert all(time is not None and time > 1.7e9 for time in times)


def test_many_objects_are_all_listed(target: Target, running: Running) -> None:
    """In one folder there are more than a page of a listing has, and there are folders beside it."""
    most = 1200 if LONG else running.page + 50
    names = {f"many/05/{number:05d}.bin" for number in range(most)} | {f"many/{n:02d}/x.bin" for n in range(12)}
    with ThreadPoolExecutor(target.limits.workers) as pool:
        list(pool.map(lambda name: Patient(target).put(name, name.encode()), sorted(names)))
    assert {one.key for one in target.list("many/")} == names


def test_a_put_replaces_what_was_there(target: Target) -> None:
    target.put("x", b"older and longer")
    target.put("x", b"newer")
    assert target.get("x") == b"newer"
    assert len(list(target.list(""))) == 1


def test_put_only_if_absent_leaves_what_is_there(target: Target) -> None:
    target.put("folder/x", b"first", only_if_absent=True)
    with pytest.raises(AlreadyThere):
        target.put("folder/x", b"second", only_if_absent=True)
    assert target.get("folder/x") == b"first"
    target.delete("folder/x")
    target.put("folder/x", b"third", only_if_absent=True)
    assert target.get("folder/x") == b"third"


def test_one_of_sixteen_writers_wins(target: Target, stand: Stand) -> None:
    for turn in range(3 if stand.races else 1):
        key = f"race/{turn}"

        def put(writer: int, key: str = key) -> int | None:
            try:
                target.put(key, b"%d" % writer, only_if_absent=True)
            except AlreadyThere:
                return None
            except Unreachable:
                if stand.races:
                    raise
            return writer  # it has written, or may have

        with ThreadPoolExecutor(16) as pool:
            winners = [one for one in pool.map(put, range(16)) if one is not None]
        stored = int(target.get(key))
        if stand.races:
            assert winners == [stored]
        else:
            assert stored in winners


def test_deleting_is_idempotent(target: Target) -> None:
    target.put("folder/x", b"1")
    target.put("folder/y", b"2")
    for _ in range(2):
        target.delete("folder/x")
    target.delete("never/there")
    with pytest.raises(NoSuchObject):
        target.get("folder/x")
    assert target.get("folder/y") == b"2"


def test_what_is_not_there_is_said(target: Target) -> None:
    for key in ("missing", "missing/folder/x", "x.txt/below"):
        with pytest.raises(NoSuchObject):
            target.get(key)


def test_calls_from_many_threads(target: Target) -> None:
    def both(number: int) -> bool:
        data = content(20_000, number)
        target.put(f"threads/{number % 3}/{number}", data)
        return target.get(f"threads/{number % 3}/{number}") == data

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(both, range(24)))


def test_an_experiment_comes_back_and_what_is_damaged_there_is_named_and_mended(
    target: Target, tmp_path: Path
) -> None:
    """With objects and parts of the target's own size in `make test-storage`, and of 100 kB else."""
    if not LONG:
        target.limits = replace(target.limits, object_bytes=100_000)
    place, most = Patient(target), target.limits.object_bytes
    part = min(PART_BYTES, most)
    edges = {f"data/{size}": size for size in (0, 1, most - 1, most, most + 1, most + part - 1, most + part)}
    odd = {"data/ a #? % + [x] ~é🙂/ü.txt": 777, CHECKPOINT: 50_000_000 if LONG else 250_001}
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    contents = fill(one, {**edges, **odd})
    with opened_state(one.root, place.place) as state:
        Push(one, place, state).run()
    stored = newest(place)
    assert verify(place, stored).faults == []
    changed, gone = (next(iter(stored.manifest.by_name()[name].objects()))[0] for name in (CHECKPOINT, "data/1"))
    whole = {key: place.get(key) for key in (changed, gone)}
    place.put(changed, bytes([whole[changed][0] ^ 1]) + whole[changed][1:])
    place.delete(gone)
    report = verify(place, stored)
    assert {(fault.file, fault.what) for fault in report.faults} == {(CHECKPOINT, "changed"), ("data/1", "missing")}
    repair(one, place, stored, report)
    assert {key: place.get(key) for key in whole} == whole
    assert verify(place, stored).faults == []
    with opened_state(two.root, place.place) as state:
        Pull(two, place, state, stored).run(stored.manifest.files)
    assert {name: (two.root / name).read_bytes() for name in contents} == contents


def test_a_usable_place_is_found_usable(target: Target) -> None:
    found = check(target)
    assert found.seconds.keys() == {"look", "write", "read", "list", "delete"}
    assert found.free_bytes is None or found.free_bytes > 0
    assert not list(target.list(""))


def test_a_wrong_key_is_refused_with_a_fix(running: Running, tmp_path: Path) -> None:
    if not running.wrong_keys:
        pytest.skip("this stand takes everybody")
    with opened(running, tmp_path, keys=running.wrong_keys) as target:
        for call in (
            target.check,
            lambda: check(target),
            lambda: target.put("x", b"1"),
            lambda: target.get("x"),
            lambda: list(target.list("")),
        ):
            with pytest.raises(Refused) as refused:
                call()
            message = str(refused.value)
            assert message.endswith(".") and ";" in message, message
            assert not any(value in message for value in running.wrong_keys.values())


def test_a_server_that_does_not_answer_is_unreachable(running: Running, tmp_path: Path) -> None:
    if not running.dead:
        pytest.skip("this stand has no address")
    with pytest.raises(Unreachable), opened(running, tmp_path, settings=running.dead) as target:
        for call in calls(target)[2:4]:
            assert isinstance(failure(call), Unreachable) or target.name == "dynamodb"  # of which the bucket is dead
        target.put("x", b"1")


def failure(call: Callable[[], object]) -> BitnetError | None:
    """What the call fails with, if that is one of a target's errors, with a sentence."""
    try:
        call()
    except ERRORS as error:
        assert str(error).endswith("."), str(error)
        return error
    return None


def calls(target: Target) -> list[Callable[[], object]]:
    """Each of the five, on an object of one name; the two kinds of put come first."""
    return [
        lambda: target.put("folder/x", b"1"),
        lambda: target.put("folder/x", b"1", only_if_absent=True),
        lambda: target.get("folder/x"),
        lambda: list(target.list("")),
        lambda: target.delete("folder/x"),
        target.check,
    ]


def test_every_stand_makes_its_target_fail_somehow(running: Running) -> None:
    assert running.wrong_keys or running.dead or running.nowhere


def test_a_place_that_cannot_be_used_is_refused(running: Running, tmp_path: Path) -> None:
    if not running.nowhere:
        pytest.skip("this stand has no such place")
    failures: list[BitnetError | None] = []

    def use() -> None:
        with opened(running, tmp_path, settings=running.nowhere) as target:
            failures.extend(failure(call) for call in calls(target))

    for put in [refused] if (refused := failure(use)) else failures[:2]:
        assert isinstance(put, Refused | Unreachable)
        assert ";" in str(put) or isinstance(put, Unreachable), str(put)


@pytest.mark.parametrize(
    "other", [b"", b"garbage", b"longer" * 1000, None], ids=["empty", "garbage", "long", "too long"]
)
def test_bytes_of_another_program_cause_no_other_error(
    running: Running, target: Target, other: bytes | None, request: pytest.FixtureRequest
) -> None:
    """None: one byte more than an object may have."""
    if running.overwrite is None:
        pytest.skip("this stand can't change an object behind the target's back")
    if other is None and running.most_bytes < target.limits.object_bytes:
        pytest.skip("this stand is slow with large objects")
    mine = content(997, hash(request.node.name))
    target.put("folder/x", mine)
    new = bytes(target.limits.object_bytes + 1) if other is None else other
    assert running.overwrite(mine, new) == 1
    found: list[bytes] = []
    why = failure(lambda: found.append(target.get("folder/x")))
    assert why is not None or new.startswith(found[0])  # some servers remember the size
    assert failure(lambda: list(target.list(""))) is None
    target.put("folder/x", mine)
    assert target.get("folder/x") == mine
    target.delete("folder/x")


def test_a_name_within_the_limits_is_taken(target: Target) -> None:
    if target.name == "rclone":
        pytest.skip("how long a name may be is the remote's affair")
    limits = target.limits
    segment = "n" * min(limits.segment_bytes, limits.key_bytes)
    path = "/".join(["s" * (limits.key_bytes // 60 - 1)] * 60)
    for name in (segment, path):
        target.put(name, b"1")
        assert target.get(name) == b"1"
        assert name in {one.key for one in target.list("")}


def test_a_name_over_the_limits_is_taken_or_refused(target: Target) -> None:
    for name in ("n" * (target.limits.segment_bytes + 1), "/".join(["segment"] * (target.limits.key_bytes // 7))):
        if failure(lambda name=name: target.put(name, b"1")) is None:  # type: ignore[misc]
            assert target.get(name) == b"1"
