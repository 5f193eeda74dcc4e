"""A folder as a target: what other programs and threads do to it meanwhile."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bitnet_core.files import trees
from bitnet_core.storage.pull import Pull
from bitnet_core.storage.push import Push
from bitnet_core.storage.state import opened
from bitnet_core.storage.target import NoSuchObject, Refused
from bitnet_core.storage.targets import local
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.under import Under
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import complete_state, machine, restored, write
from tests.storage.pushing import state_of
from tests.storage.stands.gdrive import no_link


def test_a_put_and_a_delete_that_empties_its_folder_do_not_harm_each_other(tmp_path: Path) -> None:
    def put_and_delete(writer: int) -> None:
        target = FolderTarget("local", tmp_path)
        for number in range(60):
            key = f"exp/reports/r.revisions/{number:06d}-{writer}"
            target.put(key, b"x", only_if_absent=number % 2 == 0)
            assert target.get(key) == b"x"
            target.delete(key)
            with pytest.raises(NoSuchObject):
                target.get(key)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put_and_delete, range(4)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_in_the_place_of_a_folder_is_refused_and_is_not_taken_for_the_object(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"somebody's")
    for only_if_absent in (True, False):
        with pytest.raises(Refused, match="can't be used"):
            FolderTarget("local", tmp_path).put("a/b", b"x", only_if_absent=only_if_absent)
    assert (tmp_path / "a").read_bytes() == b"somebody's"
    assert not list((tmp_path / "_temp").iterdir())


def test_a_folder_whose_name_is_not_utf8_holds_a_copy(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"dr\xffve")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, "reports/r.json", b"{}")
    place = Under(FolderTarget("local", folder), "exp/")
    with opened(one.root, place.place, "mark") as state:
        Push(one, place, state).run()
    published = complete_state(place)
    with opened(two.root, place.place, "mark") as state:
        Pull(two, place, state, published).run(published.manifest.files)
    assert (two.root / "reports/r.json").read_bytes() == b"{}"
    assert place.place.endswith("dr\\udcffve/exp/")


def test_a_disk_that_is_not_mounted_is_refused_and_not_replaced_by_a_folder(tmp_path: Path) -> None:
    """What `check` refuses, a push refuses as well."""
    target = FolderTarget("local", tmp_path / "disk" / "copy")
    for call in (target.check, lambda: target.put("a", b"x"), lambda: target.put("a", b"x", only_if_absent=True)):
        with pytest.raises(Refused, match="is not there; mount its disk, or create its folder"):
            call()
    assert not list(tmp_path.iterdir())
    (tmp_path / "disk").mkdir()
    target.put("a", b"x")
    assert target.get("a") == b"x"


@pytest.mark.parametrize(("older", "newer"), [("reports/a", "reports/a/b/c"), ("reports/a/b/c", "reports/a")])
@pytest.mark.parametrize("size", [1, 33 << 20])
def test_a_file_that_became_a_folder_is_stored_where_a_file_cannot_be_one(
    tmp_path: Path, older: str, newer: str, size: int
) -> None:
    one, place = machine(tmp_path / "one"), FolderTarget("local", tmp_path / "copy")
    (tmp_path / "copy").mkdir()

    def pushed() -> dict[str, bytes]:
        with state_of(one) as state:
            Push(one, place, state).run()
        return restored(place, complete_state(place))

    write(one, older, bytes(size))
    pushed()
    shutil.rmtree(one.reports)
    write(one, newer, bytes(size + 1))
    write(one, "reports/z", b"0")
    for number in range(4):
        write(one, "reports/z", b"%d" % number)
        assert set(pushed()) == {"settings.env", newer, "reports/z"}
        write(one, newer, bytes(size + 2 + number))
    assert pushed()[newer] == bytes(size + 5)


def test_a_push_that_is_killed_while_it_takes_the_name_of_a_manifest_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file system has no links, as exFAT and mounted drives."""

    def killed(path: Path, to: Path) -> Path:
        if to.parent.name == "manifests":
            raise SystemExit
        return rename(path, to)

    rename = Path.replace
    monkeypatch.setattr(os, "link", no_link)
    place = FolderTarget("local", tmp_path / "copy")
    one = machine(tmp_path / "one")
    write(one, "reports/r.json", b"1")
    with state_of(one) as state:
        Push(one, place, state).run()
        before = newest(place)
        write(one, "reports/r.json", b"22")
        with monkeypatch.context() as patched, pytest.raises(SystemExit):
            patched.setattr(Path, "replace", killed)
            Push(one, place, state).run()
        assert newest(place) == before
        assert verify(place, before).faults == []
        Push(one, place, state).run()
    after = complete_state(place)
    assert after.manifest.counter > before.manifest.counter
    assert restored(place, after)["reports/r.json"] == b"22"


def test_a_claim_of_a_writer_who_is_gone_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(local, "_CLAIM_PAUSE", 0.001)
    place = FolderTarget("local", tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "rmdir", lambda _: None)
        place.put("folder/x", b"1", only_if_absent=True)
    (claim,) = (tmp_path / "_temp").iterdir()
    place.delete("folder/x")
    place.put("folder/x", b"2", only_if_absent=True)
    assert place.get("folder/x") == b"2"
    assert not claim.exists()


def test_what_others_keep_in_the_folder_is_not_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders deeper than Python recurses and than a path may be, and names that no object has."""
    target = FolderTarget("local", tmp_path / "copy")
    target.put("data/a", b"ours")
    monkeypatch.chdir(tmp_path / "copy")
    for _ in range(2500):
        Path("a").mkdir()
        os.chdir("a")
    monkeypatch.undo()
    for name in (b"\xff", b"a\x1b[31m", "e\u0301".encode(), b"back\\slash"):
        (Path(os.fsdecode(os.fsencode(tmp_path / "copy") + b"/" + name))).write_bytes(b"theirs")
    os.mkfifo(tmp_path / "copy" / "pipe")
    assert [(one.key, one.size) for one in target.list("")] == [("data/a", 4)]
    left = trees.remove(tmp_path / "copy")
    assert left is not None and left.strerror == "its folders are too deep"
    subprocess.run(["rm", "-r", str(tmp_path / "copy")], check=True)  # pytest itself can't
