"""A folder as a target: what other programs and threads do to it meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bitnet_core.storage.target import NoSuchObject, Refused
from bitnet_core.storage.targets.local import FolderTarget


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
