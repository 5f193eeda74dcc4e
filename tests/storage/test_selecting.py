"""Which files a pull brings: areas, and the checkpoint that the trainer calls the best."""

import json
from typing import Any

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.storage.layout import Stored
from bitnet_core.storage.pull import LostFile
from bitnet_core.storage.selecting import area, select


def checkpoint(step: int, *, whole: bool = True) -> list[Stored]:
    stem = f"checkpoints/mini_bitnet_step_{step:08d}"
    names = [f"{stem}.pt", f"{stem}_health.json"] if whole else [f"{stem}.pt"]
    return [Stored(name, 10, "0" * 64, "checkpoint") for name in names]


def chosen(files: list[Stored], which: str, healths: dict[int, Any]) -> set[str]:
    def read(entry: Stored) -> bytes:
        assert entry.name.endswith("_health.json"), "only small files are read"
        found = healths[int(entry.name[29:37])]
        return found if isinstance(found, bytes) else json.dumps(found).encode()

    found = select(files, ["checkpoints"], which, read)
    return {one.name[29:] for one in found}


FILES = [*checkpoint(10), *checkpoint(20), *checkpoint(30), *checkpoint(40, whole=False)]


def test_areas() -> None:
    names = ["reports/a", "data/a", "data.journal/a", "logs/r/run.json", "inputs/p", "settings.env", "checkpoints/a"]
    assert [area(name) for name in names] == ["reports", "data", "data", "logs", "inputs", "settings", "checkpoints"]


def test_the_best_is_what_the_newest_health_file_names() -> None:
    healths = {10: {"best": {"step": 10}}, 20: {"best": {"step": 10}}, 30: {"best": {"step": 20, "heldout_loss": 1}}}
    assert chosen(FILES, "best", healths) == {"00000020.pt", "00000020_health.json"}


@pytest.mark.parametrize(
    "odd",
    [
        b"", b"\xff", b"[" * 100_000, [], {}, {"best": {}}, {"best": None}, {"best": {"step": 99}},
        {"best": {"step": "20"}}, {"best": {"step": None}}, {"best": {"step": 1e300}}, {"best": {"step": -1}},
    ],
)  # fmt: skip
def test_a_health_file_that_names_none_is_passed_over(odd: Any) -> None:
    healths = {10: {"best": {"step": 10}}, 20: {"best": {"step": 10}}, 30: odd}
    assert chosen(FILES, "best", healths) == {"00000010.pt", "00000010_health.json"}
    with pytest.raises(UsageError, match="--checkpoint latest"):
        chosen(FILES, "best", {10: odd, 20: odd, 30: odd})


def test_a_health_file_that_is_lost_is_passed_over_and_told() -> None:
    told: list[str] = []

    def read(entry: Stored) -> bytes:
        if "30" in entry.name:
            raise LostFile(f"{entry.name} is missing")
        return b'{"best": {"step": 10}}'

    found = select(FILES, ["checkpoints"], "best", read, told.append)
    assert {one.name[29:] for one in found} == {"00000010.pt", "00000010_health.json"}
    assert len(told) == 1 and "00000030_health.json is missing there, so the best checkpoint is" in told[0]


def test_the_latest_is_the_newest_whole_one() -> None:
    assert chosen(FILES, "latest", {}) == {"00000030.pt", "00000030_health.json"}


@pytest.mark.parametrize("wrong", ["40", "11", "-1", "first", "9" * 5000, "²"])
def test_a_step_that_is_not_stored_is_named(wrong: str) -> None:
    with pytest.raises(UsageError, match="a step that is stored: 30, 20, 10"):
        chosen(FILES, wrong, {})


def test_without_a_checkpoint_there_is_none_to_choose() -> None:
    files = [Stored("reports/r.json", 1, "0" * 64, "report")]
    assert select(files, [], "all", lambda _: b"") == files
    with pytest.raises(UsageError, match="no complete checkpoint"):
        select(files, [], "latest", lambda _: b"")
