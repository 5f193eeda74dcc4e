"""What a terminal may send: keys of any protocol, sizes, mouse, pastes of any length and content."""

import os
import random
import select
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from textual.events import AppBlur, AppFocus, Key, MouseMove, Paste
from textual.message import Message

from bitnet_tui import noticing
from bitnet_tui.app import BitnetApp
from bitnet_tui.sequences import MOST_PASTED, PASTE_SECONDS, AnySequences
from bitnet_tui.start import IN_BROWSER
from bitnet_tui.widgets.inputs import SteadyInput
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import notices, settled, until, words
from tests.tui.simulated import finished_experiment
from tests.tui.terminal import Terminal

_NO_SENSE = [
    "\x1b[1114112u",
    "\x1b[99999999999999999999u",
    "\x1b[97;;1114112u",
    "\x1b[97;;97:99999999999u",
    "\x1b[27;5;99999999999~",
    "\x1b[::;:::u",
    "\x1b[48;0;0;0;0t\x1b[<35;3;3M",
    "\x1b[48;24;80;0;0t\x1b[<0;3;3M\x1b[<0;3;3m",
]


def _told(messages: Iterable[Message]) -> list[tuple[str, str]]:
    return [
        ("paste", one.text) if isinstance(one, Paste) else ("key", one.key)
        for one in messages
        if isinstance(one, Key | Paste)
    ]


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("\x1b[97;1:1u", "a"),
        ("\x1b[97;1:2u", "a"),
        ("\x1b[97:65;2:1;65u", "A"),
        ("\x1b[97:65:113;;u", "a"),
        ("\x1b[1;1:1B", "down"),
        ("\x1b[1;2:2B", "shift+down"),
        ("\x1b[3;1:1~", "delete"),
        ("\x1b[13;1:1u", "enter"),
        ("\x1b[97;1:3u", None),
        ("\x1b[1;1:3B", None),
        ("\x1b[B", "down"),
        ("\x1b[1;5B", "ctrl+down"),
        *((typed, None) for typed in _NO_SENSE[:5]),
    ],
)
def test_a_key_of_any_protocol_is_that_key_or_nothing(typed: str, key: str | None):
    assert _told(AnySequences().feed(typed)) == ([("key", key)] if key else [])


@pytest.mark.parametrize("size", ["0;0;0;0", "24;80;0;0", "0;80;480;800", "24;0;480;800", "24;80;480;800"])
def test_a_size_that_is_typed_is_not_told_and_moves_no_mouse(size: str):
    parser = AnySequences()
    assert list(parser.feed(f"\x1b[?2048;1$y\x1b[48;{size}t")) == []
    moved = [one for one in parser.feed("\x1b[<35;3;3M\x1b[<35;4;4M") if isinstance(one, MouseMove)]
    assert [(one.x, one.y) for one in moved] == [(2, 2), (3, 3)]
    assert _told(parser.feed("q")) == [("key", "q")]


_PASTES = "ab\x1b[200~x\x1b[31m" + "rxq" * 40 + "\x1b[201~q\x1b[B\x1b[200~\x1b[20\x00\x1b[201~\x1b[200~\x1b[201~r"


def test_of_a_flood_of_focus_reports_the_last_counts():
    parser = AnySequences()
    assert [type(one) for one in parser.feed("\x1b[I\x1b[O" * 500 + "\x1b[I" + "a")] == [AppFocus, Key]
    assert [type(one) for one in parser.feed("\x1b[Ob" + "\x1b[I\x1b[O" * 500)] == [AppBlur, Key, AppBlur]
    assert [type(one) for one in parser.feed("\x1b[I")] == [AppFocus]


def test_what_is_pasted_is_never_keys():
    """Text copied from a terminal has escape sequences; what follows them would start and delete things."""
    wanted = [
        *(("key", one) for one in "ab"),
        ("paste", "x\x1b[31m" + "rxq" * 40),
        ("key", "q"),
        ("key", "down"),
        ("paste", "\x1b[20"),
        ("paste", ""),
        ("key", "r"),
    ]
    assert _told(AnySequences().feed(_PASTES)) == wanted
    for seed in range(200):
        chance, parser, rest = random.Random(seed), AnySequences(), _PASTES
        told = []
        while rest:
            cut = chance.randint(1, 9)
            told += _told(parser.feed(rest[:cut]))
            rest = rest[cut:]
        assert told == wanted, seed


@pytest.mark.parametrize(("typed", "waits"), [("a", False), ("\x1b", True), ("\x1b[200~a", True), ("\x1b[A", False)])
def test_only_after_a_beginning_is_more_waited_for(typed: str, waits: bool):
    parser = AnySequences()
    assert not parser.waits
    list(parser.feed(typed))
    assert parser.waits == waits


def test_no_more_of_a_paste_is_kept_than_is_shown():
    parser = AnySequences()
    told = _told(parser.feed("\x1b[200~"))
    for _ in range(200):
        told += _told(parser.feed("x" * MOST_PASTED))
        assert sum(map(len, parser._pasted or ())) <= MOST_PASTED + 1
    assert [(kind, len(text)) for kind, text in told] == [("paste", MOST_PASTED + 1)]
    assert _told(parser.feed("xq\x1b[201~r")) == [("key", "r")]


class _Clock:
    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr("bitnet_tui.sequences.monotonic", lambda: made.now)
    return made


@pytest.mark.parametrize("begun", ["\x1b[200~", "\x1b[200~qx", "\x1b[200~qx\x1b[20"])
def test_a_paste_whose_end_is_lost_ends_when_nothing_more_comes(clock: _Clock, begun: str):
    parser = AnySequences()
    told = _told(parser.feed(begun))
    clock.now += PASTE_SECONDS - 0.1
    told += _told(parser.tick())
    assert told == []
    told += _told(parser.feed("a"))
    clock.now += PASTE_SECONDS - 0.1
    assert told + _told(parser.tick()) == []
    clock.now += 0.2
    (kind, text), *others = _told(parser.tick())
    assert (kind, text.startswith("qx" if "q" in begun else ""), text[-1], others) == ("paste", True, "a", [])
    assert _told(parser.tick()) == []
    assert _told(parser.feed("q\x1b[200~p\x1b[201~")) == [("key", "q"), ("paste", "p")]


@pytest.mark.parametrize("text", ["q", "x" * (MOST_PASTED + 50)])
def test_the_rest_of_a_paste_that_stalled_is_no_keys(clock: _Clock, text: str):
    parser = AnySequences()
    told = _told(parser.feed(f"\x1b[200~{text}"))
    clock.now += PASTE_SECONDS
    told += _told(parser.tick())
    assert told == [("paste", text[: MOST_PASTED + 1])]
    rest = _told(parser.feed("more\x1b[201~r\x1b[201~s"))
    assert rest == [*([("paste", "more")] if len(text) == 1 else []), ("key", "r"), ("key", "s")]


@pytest.mark.parametrize("more", [0, 1])
async def test_of_a_long_paste_the_beginning_is_taken_and_it_is_said(
    home: Path, more: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(noticing, "reading_seconds", lambda _: 3600.0)  # no notice goes by itself
    finished_experiment(home)
    app = BitnetApp(home, launch=RecordingLaunch())
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("slash")
        await settled(pilot)
        app.post_message(Paste("x" * (MOST_PASTED + more)))
        await settled(pilot)
        assert len(app.screen.query_one("#filter", SteadyInput).value) == MOST_PASTED
        assert "to see all." in words(pilot)
        told = "Only the first 20,000 characters were pasted."
        if more:
            await until(pilot, lambda: any(told in one for one in notices(pilot)))
        assert any(told in one for one in notices(pilot)) == bool(more)


def test_a_terminal_that_makes_no_sense_does_no_harm(home: Path):
    finished_experiment(home)
    with Terminal("--home", str(home)) as terminal:
        terminal.until("7.28")
        terminal.press(*_NO_SENSE)
        terminal.read(0.3)
        terminal.press("?")
        terminal.until("Open the highlighted experiment")


def test_a_page_that_makes_no_sense_does_no_harm(home: Path):
    finished_experiment(home)
    variables = {**os.environ, "TEXTUAL_DRIVER": IN_BROWSER, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "bitnet_tui", "--home", str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables) as page:
        assert page.stdin and page.stdout
        for typed, wanted in (((), b"7.28"), ([*map(str.encode, _NO_SENSE), b"\xff\xfe", b"", b"?"], b"highlighted")):
            for one in typed:
                page.stdin.write(b"D" + len(one).to_bytes(4, "big") + one)
            page.stdin.flush()
            drawn = b""
            while wanted not in drawn:
                assert select.select([page.stdout], [], [], 60)[0]
                piece = os.read(page.stdout.fileno(), 1 << 16)
                assert piece, drawn[-500:]
                drawn += piece
        page.stdin.write(b"D\0\0\0\1?")
        page.stdin.flush()
        page.stdout.close()  # the server was killed
        page.stdin.close()
        assert page.wait(60) == 0
