"""Listings folder by folder go on where they were cut."""

import pytest

from bitnet_core.storage import walk
from bitnet_core.storage.patient import ATTEMPTS, Patient
from bitnet_core.storage.target import Found, Refused, Unreachable
from bitnet_core.storage.walk import Inside, Walk, bounded
from tests.storage.memory import MemoryTarget

FOLDERS = 40


class Tree(MemoryTarget):
    """Folders in each other, each with an object; each is cut off so many times before it is listed."""

    def __init__(self, cuts: int) -> None:
        super().__init__()
        self.cuts = cuts
        self.asked: dict[str, int] = {}

    def list(self, prefix: str) -> Walk:
        return Walk(prefix, self._look)

    def _look(self, folder: str) -> Inside:
        self.asked[folder] = self.asked.get(folder, 0) + 1
        if self.asked[folder] <= self.cuts:
            raise Unreachable("The connection was cut.")
        depth = folder.count("/")
        return [Found(f"{folder}x", depth)], [f"{folder}f/"] if depth < FOLDERS else []


def test_a_tree_is_listed_although_each_folder_is_cut_off() -> None:
    tree = Tree(ATTEMPTS - 1)
    found = list(Patient(tree, first_wait=0.0).list(""))
    assert [one.size for one in found] == list(range(FOLDERS + 1))
    assert set(tree.asked.values()) == {ATTEMPTS}


def test_a_folder_that_is_always_cut_off_ends_the_listing() -> None:
    tree = Tree(ATTEMPTS)
    with pytest.raises(Unreachable):
        list(Patient(tree, first_wait=0.0).list(""))
    assert tree.asked == {"": ATTEMPTS}


def test_a_tree_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "MOST_LISTED", 9)
    passed = bounded("s3://place")

    def look(folder: str) -> Inside:
        return [], [f"{folder}{name}/" for name in passed(["deeper"])]

    with pytest.raises(Refused, match="s3://place lists more than 9 files and folders; check the server"):
        list(Walk("", look))
