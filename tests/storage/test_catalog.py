"""A kind of target is told in several places, and they agree."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.registry import SECTIONS as REGISTERED
from bitnet_core.settings.storage import SECTIONS
from bitnet_core.settings.targets import STORAGE_BACKENDS
from bitnet_core.storage.catalog import KINDS, Kind
from tests.storage.stand import all_stands

ROOT = Path(__file__).parents[2]
README_NAMES = {"local": "a folder", "mongodb_atlas": "MongoDB"}
"""Where README's table has another name than the kind's title."""


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the table of a page whose head begins with this, without the head."""
    lines = (ROOT / page).read_text().partition(f"\n| {heading} |")[2].splitlines()[2:]
    table = lines[: lines.index("")] if "" in lines else lines
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def extras() -> dict[str, list[str]]:
    found: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    return found


def test_the_same_kinds_are_in_every_list() -> None:
    assert set(STORAGE_BACKENDS) == set(SECTIONS) == set(KINDS)
    assert len(set(STORAGE_BACKENDS)) == len(STORAGE_BACKENDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_kind_reads_settings_that_there_are(kind: Kind) -> None:
    assert set(SECTIONS[kind.backend]) <= set(REGISTERED)
    assert importlib.util.find_spec(f"bitnet_core.storage.targets.{kind.module}")
    assert all(not REGISTRY[name].secret for name in kind.needs)
    assert all(name == kind.folder for name in kind.needs if REGISTRY[name].kind == "path")
    module = Path(str(importlib.util.find_spec(f"bitnet_core.storage.targets.{kind.module}").origin))  # type: ignore[union-attr]
    assert "\ndef create(" in module.read_text() or not kind.creates
    assert bool(kind.creates) == bool(kind.lacks)
    secrets = {name for name, one in REGISTRY.items() if one.secret and one.section in SECTIONS[kind.backend]}
    assert {*kind.keys, kind.login} - {""} <= secrets


def test_every_section_belongs_to_a_kind() -> None:
    assert {name for name in REGISTERED if name.startswith("Storage")} == {
        name for names in SECTIONS.values() for name in names
    }


def test_every_extra_is_declared_and_installed_by_all_of_them() -> None:
    named = {kind.extra for kind in KINDS.values()} - {""} | {"rclone"}
    (every,) = extras()["storage"]
    assert named <= set(extras())
    assert set(every.removeprefix("bitnet-tui[").removesuffix("]").split(",")) == named


def test_each_kind_is_tested() -> None:
    """A stand is called after its kind, and all of them are tried by `test_target_contract.py`."""
    stands = [one.name for one in all_stands()]
    for kind in KINDS:
        assert any(re.match(rf"{kind.removesuffix('_atlas')}\b", name) for name in stands), kind


def test_the_page_has_a_row_for_each_kind() -> None:
    table = rows("docs/storage.md", "STORAGE_BACKEND")
    assert {cells[0].split("`")[1] for cells in table} == set(KINDS)
    for cells in table:
        kind = KINDS[cells[0].split("`")[1]]
        assert cells[3] == (f"`[{kind.extra}]`" if kind.extra else "`[rclone]`" if kind.backend == "rclone" else "")
        assert all(f"`{name}" in cells[1] for name in kind.needs), cells
        assert set(re.findall(r"`([A-Z][A-Z0-9_]+)", cells[1] + cells[2])) <= set(REGISTRY), cells


def test_the_page_says_what_is_atomic_for_each_kind() -> None:
    named = " ".join(cells[0] for cells in rows("docs/storage.md", "target"))
    assert set(re.findall(r"`(\w+)`", named)) == set(KINDS)


def test_readme_lists_each_kind_and_says_what_it_was_tested_against() -> None:
    tested = ", ".join(cells[0] for cells in rows("README.md", "target"))
    listed = (ROOT / "README.md").read_text().partition("`STORAGE_BACKEND` is ")[2].partition(".")[0]
    for kind in KINDS.values():
        name = README_NAMES.get(kind.backend, kind.title.removeprefix("AWS "))
        for place in (tested, listed):
            assert re.search(rf"\b{re.escape(name)}\b", " ".join(place.split())), kind.title
