"""A stylesheet is loaded when its screen first opens, and stays: it must not reach into any other screen.

That of the list is there from the start. The app finds the rules of a widget itself; they have to be Textual's.
"""

import re
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest
from textual.app import App
from textual.color import Color
from textual.css import stylesheet
from textual.css.stylesheet import Stylesheet, StylesheetError

import bitnet_tui
from bitnet_tui.app import BitnetApp
from bitnet_tui.loading import load_next, modules
from bitnet_tui.rules import Rules
from bitnet_tui.screens.experiments import ExperimentsScreen
from bitnet_tui.widgets.buttons import KeyButton
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled, shown
from tests.tui.simulated import finished_experiment

_SHARED = {"cards", "guide", "storage"}
"""How a card looks, on each dialog; a rail with its steps, and the step about storage, in the guide and alone."""
_TEXTUALS = Stylesheet._parse_rules  # before a fixture puts another in its place
_ALL = sorted(Path(bitnet_tui.__file__).parent.rglob("*.tcss"))


def _looks(app: App[None]) -> list[tuple[str, list[str]]]:
    """Each widget of the screen, and each part of one, with the rules that hold for it."""
    looks = []
    for one in app.screen.walk_children(with_self=True):
        looks.append((str(one.css_identifier), one._css_styles.css.splitlines()))
        looks += [
            (f"{one.css_identifier} {name}", part.css.splitlines()) for name, part in one._component_styles.items()
        ]
    return looks


@pytest.mark.parametrize("keys", ["", "n", "U", "a", "f3", "K", "?", "D", "r", "x", "enter", "enter 2", "enter V",
                                  "enter 6", "P", "ctrl+p"])  # fmt: skip
async def test_a_screen_looks_as_textual_alone_has_it_when_every_other_one_has_been_open(
    home: Path, keys: str
) -> None:
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(160, 50)) as pilot:
        await settled(pilot)
        for key in keys.split():
            await pilot.press(key)
            await settled(pilot)
        before = _looks(pilot.app)
        sheet = pilot.app.stylesheet.copy()
        assert type(sheet) is Stylesheet
        for path in _ALL:
            if not sheet.has_source(str(path), ""):
                sheet.read(path)
        if not isinstance(pilot.app.screen, ExperimentsScreen):
            (listed,) = (one for one in sheet.source if one[0].endswith("experiments.tcss"))
            del sheet.source[listed]
        pilot.app.stylesheet = sheet
        sheet.parse()
        sheet.update(pilot.app)
        sheet.update(pilot.app.screen)
        changed = {
            name: sorted({*old} ^ {*new})
            for (name, old), (_, new) in zip(before, _looks(pilot.app), strict=True)
            if old != new
        }
        assert changed == {}


def test_a_sheet_is_parsed_once_until_a_variable_changes(monkeypatch: pytest.MonkeyPatch):
    parsed = Mock(wraps=stylesheet.parse)
    monkeypatch.setattr(stylesheet, "parse", parsed)
    monkeypatch.setattr(Stylesheet, "_parse_rules", _TEXTUALS)
    rules = Rules(variables={"wanted": "red"})
    for number in range(100):
        rules.add_source(f"#one-{number} {{ color: $wanted; }}", ("", f"Widget{number}"))
    rules.parse()
    rules.add_source("#last { color: $wanted; }", ("", "Last"))
    rules.reparse()
    assert (parsed.call_count, len(rules.rules)) == (101, 101)
    rules.set_variables({"wanted": "blue"})
    rules.reparse()
    assert parsed.call_count == 202
    assert {rule.styles.color for rule in rules.rules} == {Color.parse("blue")}


async def test_a_widget_gets_its_styles_when_it_has_a_place(home: Path, monkeypatch: pytest.MonkeyPatch):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        styled = Mock(wraps=pilot.app.stylesheet.apply)
        monkeypatch.setattr(pilot.app.stylesheet, "apply", styled)
        with pilot.app._context():
            made = KeyButton("Copy", "log.copy", id="made")
            assert made.has_class("-textual-compact") and not styled.called
            await pilot.app.screen.mount(made)
        assert made.styles.min_width is not None and styled.called


async def test_what_was_parsed_ahead_is_not_parsed_when_its_screen_opens(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Stylesheet, "_parse_rules", _TEXTUALS)
    finished_experiment(home, "kd")
    names = modules()
    while load_next(names):
        pass
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert len(list(cast("Rules", pilot.app.stylesheet).ahead())) > 100
        monkeypatch.setattr(stylesheet, "parse", Mock(side_effect=AssertionError))
        await pilot.press("enter", "7")
        await settled(pilot)
        assert "follow" in shown(pilot)


def test_a_sheet_that_cannot_be_read_or_parsed_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    rules, parsed, sheets = Rules(), [], [path for path in _ALL if path.parent.name == "screens"]
    gone, wrong = sheets[:2]

    def read(path: Path, **_: object) -> str:
        return "".join([] if path != gone else path.with_name("gone").open())

    def parse(_: str, read_from: tuple[str, str], **__: object) -> None:
        if read_from[0] == str(wrong):
            raise StylesheetError
        parsed.append(read_from[0])

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(rules, "_parse_rules", parse)
    assert len([*rules.ahead()]) > len(sheets)
    assert {str(path) for path in sheets} - {*parsed} == {str(gone), str(wrong)}


def test_a_screen_has_one_stylesheet_of_its_own_and_what_several_share_is_named():
    screens = Path(bitnet_tui.__file__).parent / "screens"
    users: dict[str, set[str]] = {}
    for path in screens.rglob("*.py"):
        for name in re.findall(r'"(?:\.\./)?(\w+)\.tcss"', path.read_text(encoding="utf-8")):
            users.setdefault(name, set()).add(path.stem)
    assert {path.stem for path in screens.rglob("*.tcss")} == users.keys()
    shared = {name for name, by in users.items() if len(by) > 1}
    assert shared == _SHARED
