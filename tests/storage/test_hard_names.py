"""Names that a target can hold at first or as they are, but not later, escaped, or beside others."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.pull import Pull
from bitnet_core.storage.push import Push, Pushed
from bitnet_core.storage.state import opened
from bitnet_core.storage.target import Limits, Target
from bitnet_core.storage.targets import box, dropbox, onedrive, webdav
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import content, machine, write
from tests.storage.memory import MemoryTarget


def push(experiment: Experiment, target: Target) -> Pushed:
    with opened(experiment.root, "memory") as state:
        return Push(experiment, target, state).run()


@pytest.mark.parametrize("name", ["n" * 246, "报" * 82, "/".join(["folders" * 6] * 23)])
def test_a_name_whose_revisions_would_be_too_long_stops_before_the_first_byte(tmp_path: Path, name: str) -> None:
    target = MemoryTarget()
    one = machine(tmp_path / "one")
    write(one, f"data/{name}", b"1")
    with pytest.raises(UsageError, match=r"is longer than (245|981) bytes; rename it"):
        push(one, target)
    assert not target.objects


def test_a_file_in_very_many_folders_is_not_stored_and_not_brought(tmp_path: Path) -> None:
    """To make them, and to remove them, Python goes as deep as they are."""
    target, one, two = MemoryTarget(), machine(tmp_path / "one"), machine(tmp_path / "two")
    deepest = f"data/{'a/' * 63}b"
    write(one, deepest, b"1")
    push(one, target)
    with opened(two.root, "memory") as state:
        state_of = newest(target)
        Pull(two, target, state, state_of).run(state_of.manifest.files)
    assert (two.root / deepest).read_bytes() == b"1"
    write(one, f"data/{'a/' * 64}b", b"1")
    with pytest.raises(UsageError, match="it is in more than 64 folders; rename it"):
        push(one, target)
    whole = newest(target).manifest
    (entry,) = [file for file in whole.files if file.name == deepest]
    deeper = replace(entry, name=f"data/{'a/' * 1400}b")
    forged = replace(whole, counter=whole.counter + 1, files=[*whole.files, deeper])
    with pytest.raises(manifests.Damaged, match="it is in more than 100 folders"):
        manifests.decoded(manifests.key_of(forged), forged.encode())


def test_the_longest_name_can_change(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    target = FolderTarget("local", tmp_path / "copy")
    target.limits = Limits(object_bytes=4000)
    one = machine(tmp_path / "one")
    for data in (b"1", b"2", content(9000), content(9000, 1)):
        write(one, f"data/{'n' * 245}", data)
        push(one, target)
    assert not verify(target, newest(target)).faults


@pytest.mark.parametrize("escape", [module._NAMES.escape for module in (webdav, dropbox, box, onedrive)])
def test_a_name_that_is_too_long_once_escaped_stops_before_the_first_byte(
    tmp_path: Path, escape: Callable[[str], str]
) -> None:
    target = MemoryTarget(Limits(spelled=escape))
    one = machine(tmp_path / "one")
    write(one, f"data/{'=' * 90}", b"1")
    with pytest.raises(UsageError, match="as the target escapes it, is longer than 245 bytes; rename it"):
        push(one, target)
    assert not target.objects


@pytest.mark.parametrize("renamed", ["reports/summary.json", "Reports/x", "reports/A/x"])
def test_a_name_that_differs_from_a_stored_one_only_in_case_stops_before_the_first_byte(
    tmp_path: Path, renamed: str
) -> None:
    target = MemoryTarget(Limits(case_sensitive=False))
    one = machine(tmp_path / "one")
    names = ["data/reports/Summary.json", "data/reports/a/y"]
    for name in names:
        write(one, name, b"1")
    push(one, target)
    before = dict(target.objects)
    for name in names:
        (one.root / name).unlink()
    write(one, f"data/{renamed}", b"2")
    with pytest.raises(UsageError, match=r"which is stored, differ only in upper and lower case; rename it"):
        push(one, target)
    assert target.objects == before


def test_of_two_names_that_differ_only_in_how_they_are_composed_one_is_left_and_said(tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    for form in ("NFC", "NFD"):
        write(one, f"data/{unicodedata.normalize(form, 'é')}", form.encode())
    if len(list(one.data.iterdir())) == 1:
        pytest.skip("this file system takes both for one")
    (left,) = push(one, MemoryTarget()).left
    assert left.endswith(" is not stored: one that looks the same is stored; rename one of them.")


def test_a_file_with_a_decomposed_name_is_the_one_that_is_stored(tmp_path: Path) -> None:
    one, target = machine(tmp_path / "one"), MemoryTarget()
    path = write(one, f"data/{unicodedata.normalize('NFD', 'é/é')}", b"1")
    push(one, target)
    with opened(one.root, "memory") as state:
        published = newest(target)
        done = Pull(one, target, state, published).run(published.manifest.files)
        assert [name for name in done.files if name.startswith("data/")] == []
        path.unlink()
        Pull(one, target, state, published).run(published.manifest.files)
    assert [file.read_bytes() for file in one.data.rglob("*") if file.is_file()] == [b"1"]
    assert not push(one, target).left


@pytest.mark.parametrize("seen_by", ["what is in it", "its own name"])
def test_a_folder_that_takes_two_cases_for_one_says_so(tmp_path: Path, seen_by: str) -> None:
    """As exFAT or a Mac's disk: one file is there under both names, for which a link stands here."""
    copy = tmp_path / "Copy"
    copy.mkdir()
    names = ["data/reports/x", "data/Reports/y"]
    one = machine(tmp_path / "one")
    for name in names:
        write(one, name, b"1")
    if len(list(one.data.iterdir())) == 1:
        pytest.skip("the disk of the tests is such a folder itself")
    assert FolderTarget("local", copy).limits.case_sensitive
    if seen_by == "its own name":
        (tmp_path / "cOPY").symlink_to(copy)
    else:
        (copy / "Notes").write_text("")
        (copy / "nOTES").hardlink_to(copy / "Notes")
    target = FolderTarget("local", copy)
    with pytest.raises(UsageError, match="differ only in upper and lower case; rename one of them"):
        push(one, target)
    assert not list(target.list("data/"))
