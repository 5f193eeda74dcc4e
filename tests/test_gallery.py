"""The pictures of the documents: each is shown and can be made anew, and none is in the package."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.tui.gallery.views import REPORT, VIEWS

REPO = Path(__file__).parents[1]
ASSETS = REPO / "assets"
PICTURES = ASSETS / "pictures"


def shown(page: str) -> set[Path]:
    place = REPO / page
    return {
        (place.parent / target).resolve() for target in re.findall(r"!\[[^\]]*\]\(([^)]*\.png)\)", place.read_text())
    }


@pytest.mark.parametrize("page", ["README.md", "docs/APP.md"])
def test_a_page_shows_every_picture_and_no_other(page: str) -> None:
    there = {one.resolve() for one in PICTURES.iterdir()}
    assert there
    assert shown(page) == there


def test_the_command_makes_every_picture_and_no_other() -> None:
    assert {one.name for one in PICTURES.iterdir()} == {f"{name}.png" for name in (*VIEWS, REPORT)}


def test_the_package_has_all_assets_but_the_pictures() -> None:
    wheel = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packed = dict(wheel["force-include"])
    there = {f"assets/{one.name}" for one in ASSETS.iterdir() if one != PICTURES and not one.name.startswith(".")}
    assert packed == {one: f"bitnet_core/{one}" for one in there}
