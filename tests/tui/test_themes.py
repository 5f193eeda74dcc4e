"""The six themes: legible, told apart by colour-blind readers where promised, chosen with a preview and kept."""

import itertools
from pathlib import Path

import pytest
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.console import Console
from textual.color import Color
from textual.theme import Theme

from bitnet_tui.app import BitnetApp
from bitnet_tui.rules import Rules
from bitnet_tui.services import preferences
from bitnet_tui.theme import CURVES, STYLES, lettered, plot_styles
from bitnet_tui.themes import THEMES, instead
from bitnet_tui.widgets.table import Table
from tests.tui.conftest import RecordingLaunch
from tests.tui.contrast import TERMINALS, contrast
from tests.tui.pilots import click_on, settled, words
from tests.tui.simulated import experiment

_MADE = {theme.name: theme for theme, _ in THEMES.values()}
_COLOURED = [theme for theme in _MADE.values() if not theme.ansi]
# Machado, Oliveira and Fernandes (2009), severity 1: linear RGB as protanopes, deuteranopes and tritanopes see it.
_BLIND = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.3039)),
}


def _variables(theme: Theme) -> dict[str, str]:
    return theme.to_color_system().generate() | theme.variables


def _linear(colour: str) -> tuple[float, ...]:
    parts = [value / 255 for value in Color.parse(colour).rgb]
    return tuple(one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)


def _contrast(one: str, other: str) -> float:
    return contrast(Color.parse(one), Color.parse(other))


def _lab(linear: tuple[float, ...]) -> tuple[float, float, float]:
    """CIE L*a*b* for D65."""
    rows = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    whites = (0.95047, 1.0, 1.08883)
    xyz = [
        sum(m * max(0.0, c) for m, c in zip(row, linear, strict=True)) / white
        for row, white in zip(rows, whites, strict=True)
    ]
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _seen_distance(one: str, other: str, matrix: tuple[tuple[float, ...], ...]) -> float:
    seen = [
        _lab(tuple(sum(m * c for m, c in zip(row, _linear(colour), strict=True)) for row in matrix))
        for colour in (one, other)
    ]
    return sum((a - b) ** 2 for a, b in zip(*seen, strict=True)) ** 0.5


def test_there_are_six_and_each_colours_every_style():
    assert len(_MADE) == 6
    for theme in _MADE.values():
        known = _variables(theme)
        for style in STYLES.values():
            for word in style.split():
                assert not word.startswith("$") or word[1:] in known, (theme.name, word)


@pytest.mark.parametrize("theme", _COLOURED, ids=lambda theme: theme.name)
def test_what_is_to_be_read_is_legible(theme: Theme):
    least = 7 if theme.name == "bitnet-contrast" else 4.5
    of = _variables(theme)
    for name in ("foreground", "label", "faint", "accent", "success", "warning", "error", "flip", *CURVES.values()):
        assert _contrast(of[name], of["background"]) >= least, name
    for ground in ("accent", "flip"):
        assert _contrast(of["on-accent"], of[ground]) >= least, ground


@pytest.mark.parametrize("terminal", TERMINALS)
def test_what_has_a_ground_of_its_own_is_legible_in_16_colours(terminal: str):
    """Shades are told apart by other means, and have a test of their own."""
    colours, of = TERMINALS[terminal][0], _variables(_MADE["bitnet-terminal"])
    for name, style in STYLES.items():
        ink, _, ground = style.replace("bold ", "").partition(" on ")
        if ground and "shade" not in name:
            one, other = (of[colour.removeprefix("$")] for colour in (ink, ground))
            assert "default" not in f"{one} {other}", f"{name}: nobody knows what it is on the other"
            numbers = [Color.parse(each).rich_color.number for each in (one, other)]
            assert _contrast(*(colours[number or 0] for number in numbers)) >= 4, name


@pytest.mark.parametrize("kind", _BLIND)
def test_colours_that_mean_something_are_told_apart_by_colour_blind_readers(kind: str):
    of = _variables(_MADE["bitnet-colour-blind"])
    for group in (("success", "warning", "error"), ("curve-loss", "curve-kl", "curve-ce", "curve-format")):
        for one, other in itertools.combinations(group, 2):
            assert _seen_distance(of[one], of[other], _BLIND[kind]) > 20, (one, other)
    dark = _variables(_MADE["bitnet-dark"])
    curves = ("curve-loss", "curve-kl", "curve-ce", "curve-format")
    assert all(_seen_distance(dark[a], dark[b], _BLIND[kind]) > 10 for a, b in itertools.combinations(curves, 2))


def test_each_colour_is_one_of_256_and_the_terminals_are_its_own():
    steps = (0, 0x5F, 0x87, 0xAF, 0xD7, 0xFF)
    greys = {(8 + 10 * n,) * 3 for n in range(24)}
    for theme in _COLOURED:
        for name, value in theme.variables.items():
            if value.startswith("#"):
                rgb = Color.parse(value).rgb
                assert rgb in greys or all(part in steps for part in rgb), (theme.name, name)
    styles = plot_styles(_variables(_MADE["bitnet-terminal"]))
    drawn = [styles[name].color for name in ("kl", "loss", "bad")]
    assert [one.number if one else None for one in drawn] == [12, None, 9]
    assert drawn[1] == RichColor.default()
    assert lettered("bitnet-terminal", "256", no_color=False)
    assert [lettered("bitnet-dark", colours, no_color=False) for colours in ("256", "standard")] == [False, True]


@pytest.mark.parametrize("theme", _MADE.values(), ids=lambda theme: theme.name)
def test_the_shades_of_tokens_are_told_apart_in_16_colours_and_legible(theme: Theme):
    of = _variables(theme) | instead(theme, no_color=False, few=True)
    grounds = [of["background"], *(of[f"shade-{step}"] for step in range(1, 5))]
    if theme.ansi:
        assert len(set(grounds)) == 5
        return
    assert len(set(map(_in_16, grounds))) == 5
    for step in range(1, 5):
        assert _contrast(of[f"on-shade-{step}"], of[f"shade-{step}"]) >= 3.5
        assert _in_16(of[f"on-at-shade-{step}"]) != _in_16(of[f"at-shade-{step}"])
    assert _in_16(of["chosen"]) not in (_in_16(of["background"]), _in_16(of["on-chosen"]))


def _in_16(colour: str) -> int | None:
    return RichColor.parse(colour).downgrade(ColorSystem.STANDARD).number


@pytest.mark.parametrize("theme", _COLOURED, ids=lambda theme: theme.name)
def test_the_shades_of_tokens_stand_out_from_the_ground_and_from_each_other(theme: Theme):
    of = _variables(theme)
    for step in range(1, 5):
        assert _contrast(of[f"shade-{step}"], of["background"]) >= (1.5 if theme.dark else 1.35), step
        assert _contrast(of[f"on-shade-{step}"], of[f"shade-{step}"]) >= 4.5, step
    as_seen = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    for one, other in itertools.combinations(range(1, 5), 2):
        assert _seen_distance(of[f"shade-{one}"], of[f"shade-{other}"], as_seen) > 20, (one, other)


def test_with_16_colours_the_shades_of_tokens_are_those_for_them(home: Path):
    app = BitnetApp(home)
    app.theme = "bitnet-dark"
    for colours, shade in (("standard", "#000087"), ("truecolor", "#005f87")):
        app.console = Console(color_system=colours, force_terminal=True)
        assert app.get_css_variables()["shade-2"] == shade, colours


@pytest.mark.parametrize("theme", _MADE)
def test_without_colours_the_shades_of_tokens_are_in_the_order_of_their_brightness(
    home: Path, monkeypatch: pytest.MonkeyPatch, theme: str
):
    monkeypatch.setenv("NO_COLOR", "1")
    app = BitnetApp(home)
    app.theme = theme
    of = {name: Color.parse(value).monochrome.hex for name, value in app.get_css_variables().items() if "#" in value}
    ground = of.get("background", "#000000")
    steps = [_contrast(of[f"shade-{step}"], ground) for step in range(1, 5)]
    assert all(b > 1.3 * a for a, b in itertools.pairwise([1.0, *steps])), steps
    assert _contrast(of["accent"], ground) > steps[-1]
    for step in range(1, 5):
        assert _contrast(of[f"on-shade-{step}"], of[f"shade-{step}"]) >= 3.5
        assert _contrast(of[f"on-at-shade-{step}"], of[f"at-shade-{step}"]) >= 7
        assert _contrast(of[f"at-shade-{step}"], ground) > steps[-1], "the token that is looked at stands out most"


@pytest.mark.parametrize("theme", _MADE)
async def test_without_colours_everything_can_be_read(home: Path, monkeypatch: pytest.MonkeyPatch, theme: str):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TEXTUAL_THEME", theme)
    experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        drawn = [one for strip in pilot.app.screen._compositor.render_strips() for one in strip if one.text.strip()]
    assert any("kd" in one.text for one in drawn)
    for one in drawn:
        assert one.style and one.style.color and one.style.bgcolor
        text, ground = (Color.from_rich_color(colour) for colour in (one.style.color, one.style.bgcolor))
        assert len(set(text.rgb)) == len(set(ground.rgb)) == 1
        assert _contrast(text.hex, ground.hex) > 1.5, one.text


async def test_a_terminal_with_16_colours_has_its_own_theme_and_its_own_choice(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    experiment(home, "kd")
    preferences.keep_theme("bitnet-light")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLORTERM", raising=False)
    assert BitnetApp(home).theme == "bitnet-terminal"
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        black, unnamed = RichColor.from_ansi(0), RichColor.default()
        for keys in (["slash"], ["k"], ["escape", "ctrl+p"], ["n", "e"], ["escape"]):
            await pilot.press(*keys)
            await settled(pilot)
            for strip in pilot.app.screen._compositor.render_strips():
                drawn = {(one.style.color, one.style.bgcolor) for one in strip if one.style and one.text.strip()}
                assert (black, unnamed) not in drawn, (keys, strip.text)
        await pilot.press("t")
        await settled(pilot)
        await click_on(pilot, "High contrast", times=2)
    assert (preferences.read().theme(), BitnetApp(home).theme) == ("bitnet-light", "bitnet-contrast")


async def test_a_theme_that_is_not_ours_has_all_that_our_styles_name(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TEXTUAL_THEME", "nord")
    exp = experiment(home, "kd")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert (pilot.app.theme, "not run yet" in words(pilot)) == ("nord", True)


async def test_a_theme_is_shown_while_one_chooses_and_kept_for_next_time(home: Path):
    experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("t", "down")
        await settled(pilot)
        assert "━━ total" in words(pilot)
        await pilot.press("down")
        await settled(pilot)
        assert pilot.app.theme == "bitnet-contrast"
        assert "T total" in words(pilot)  # its curves have letters
        await pilot.press("escape")
        assert pilot.app.theme == "bitnet-dark" and preferences.read().theme() == ""
        await pilot.press("t")
        await settled(pilot)
        table = pilot.app.screen_stack[0].query_one("#entries", Table)
        for theme in ("bitnet-terminal", "bitnet-light"):
            pilot.app.theme = theme
            pilot.app.get_css_variables()
            table.render_line(0)  # with the variables of the new theme, and the styles of the one before
            await settled(pilot)
            underlined = all(one.style and one.style.underline for one in table.render_line(0))
            assert underlined == (theme == "bitnet-terminal")
        await click_on(pilot, "Evening")
        assert (pilot.app.theme, preferences.read().theme()) == ("bitnet-evening", "")
        await click_on(pilot, "Cancel")
        assert (pilot.app.theme, preferences.read().theme()) == ("bitnet-dark", "")
        await pilot.press("t")
        await settled(pilot)
        await click_on(pilot, "Evening")
        await click_on(pilot, "Keep")
        assert pilot.app.theme == preferences.read().theme() == "bitnet-evening"
        preferences.place().unlink()
        preferences.place().mkdir()
        await pilot.press("t")
        await settled(pilot)
        await click_on(pilot, "Keep")
        assert "not kept for next time" in words(pilot)
    preferences.place().rmdir()
    for kept, shown in (
        ('{"theme": "bitnet-light"}', "bitnet-light"),
        ('{"theme": 3}', "bitnet-dark"),
        ("{", "bitnet-dark"),
    ):
        preferences.place().write_text(kept)
        assert BitnetApp(home).theme == shown


@pytest.mark.parametrize("theme", ["bitnet-light", "bitnet-dark", "nord"])
async def test_the_first_theme_is_there_without_reading_the_styles_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, theme: str
):
    read_again: list[str] = []
    reparse = Rules.reparse
    monkeypatch.setattr(Rules, "reparse", lambda self: (read_again.append(""), reparse(self))[1])
    monkeypatch.setenv("TEXTUAL_THEME", theme)
    experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert read_again == []
        assert pilot.app.screen.styles.background == Color.parse(pilot.app.theme_variables["background"])
        assert pilot.app.has_class("-dark-mode") == pilot.app.current_theme.dark
        before = pilot.app.screen.styles.background
        pilot.app.theme = "bitnet-contrast"
        await settled(pilot)
        assert read_again and pilot.app.screen.styles.background != before
