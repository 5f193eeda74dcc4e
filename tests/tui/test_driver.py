"""The app in terminals of other encodings: what is typed, and the signs that it draws with."""

import ast
import os
import queue
import re
import selectors
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.events import Key

import bitnet_tui
from bitnet_core.settings.registry import REGISTRY
from bitnet_tui.app import BitnetApp
from bitnet_tui.driver import AnyTerminal, EndOfInput, in_cells
from bitnet_tui.flood import MOST_WAITING
from bitnet_tui.widgets import chart
from tests.tui.pilots import settled, shown
from tests.tui.simulated import finished_experiment
from tests.tui.terminal import Terminal

_SIGNS = "─━╌│┃┊║╭╮╰╯┼▔▁▌▐▊▎█▼▲▶…→←↑↓↕✓✗◦■▸↻×⠓⡇⠀漢é↘↗"


def test_bytes_that_are_no_text_do_no_harm(home: Path):
    finished_experiment(home)
    with Terminal("--home", str(home)) as terminal:
        terminal.until("7.28")
        for typed in (b"\xff\xfe", b"\xe9", b"z\xe9z", b"\xc3", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\x9b\xff"):
            terminal.send(typed)
            terminal.read(0.15)  # as a burst of its own
            terminal.press("?")
            terminal.until("Open the highlighted experiment")
            terminal.press("?")
            terminal.until_gone("Open the highlighted experiment")
        assert terminal.exit_code is None


def test_only_a_byte_wakes_the_thread_that_reads_what_is_typed(monkeypatch: pytest.MonkeyPatch):
    """One that looked every now and then took a third of all that an idle app took."""
    asked: queue.Queue[float | None] = queue.Queue()
    taken: queue.Queue[Key] = queue.Queue()

    class Selector(selectors.SelectSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            asked.put(timeout)
            return super().select(timeout)

    monkeypatch.setattr(selectors, "SelectSelector", Selector)
    driver = AnyTerminal.__new__(AnyTerminal)
    driver.fileno, keyboard = os.pipe()
    driver._debug = driver._flooded = False
    driver.exit_event = driver._end_of_input = EndOfInput()
    monkeypatch.setattr(driver, "process_message", taken.put)
    thread = threading.Thread(target=driver.run_input_thread, daemon=True)
    thread.start()
    for typed in (b"a", b"b"):
        assert asked.get(timeout=30) is None
        os.write(keyboard, typed)
        assert taken.get(timeout=30).key == typed.decode()
    assert asked.get(timeout=30) is None
    os.write(keyboard, b"\x1b")  # alone, or the beginning of a sequence
    assert asked.get(timeout=30) is not None
    assert taken.get(timeout=30).key == "escape"
    driver.exit_event.set()
    thread.join(30)
    assert not thread.is_alive()


def test_a_flood_of_keys_is_cut_and_the_app_can_be_left(home: Path):
    """Each key that waits takes memory and time, however many a terminal sends that does not mark what is pasted."""
    finished_experiment(home)
    with Terminal("--home", str(home)) as terminal:
        terminal.until("7.28")
        terminal.send(b"\x1b[" + b"1;" * 10 * MOST_WAITING)
        terminal.until("Too many keys came at once")
        terminal.press("\x11")
        assert terminal.wait() == 0


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "", "LC_CTYPE": "", "LANG": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_plain_signs_are_drawn_however_they_are_asked_for(home: Path, variables: dict[str, str]):
    finished_experiment(home)
    with Terminal("--home", str(home), **variables) as terminal:
        terminal.until("7.28")
        assert "|o demo" in terminal.shown and terminal.written.isascii()


@pytest.mark.parametrize(
    ("encoding", "variables"),
    [
        ("ascii", {"LC_ALL": "C"}),
        ("latin-1", {"PYTHONIOENCODING": "latin-1"}),
        ("cp437", {"PYTHONIOENCODING": "cp437"}),
        ("koi8-r", {"PYTHONIOENCODING": "koi8-r:strict"}),
    ],
)
def test_an_encoding_without_our_signs_gets_plain_ones(home: Path, encoding: str, variables: dict[str, str]):
    finished_experiment(home)
    with Terminal("--home", str(home), **variables) as terminal:
        terminal.until("7.28")
        terminal.press("\r")
        terminal.until("1 Live")
        terminal.wait_until_quiet(0.5)
        terminal.press("\x1b[A")
        terminal.until("total")
        terminal.press("?")
        terminal.until("Run what is selected")
        assert terminal.exit_code is None
        assert b"\\u" not in terminal.written
        assert set(re.findall(r"\S*\?\S*", terminal.shown)) <= {"?"}  # a key
        terminal.written.decode(encoding)
        terminal.press("\x1b\x10")
        terminal.until("Curves and numbers")
        assert not re.search(r" - *$", terminal.shown, re.MULTILINE), "the end of the scroll bar"


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C.UTF-8"},
        {"LC_ALL": "", "LC_CTYPE": "C.UTF-8", "LANG": "C"},
        {"LC_ALL": "xx_XX.UTF-8"},  # not installed
        {"LC_ALL": "C", "PYTHONUTF8": "1"},
        {"PYTHONIOENCODING": "cp037"},  # no terminal reads it
    ],
)
def test_an_encoding_with_our_signs_gets_them(home: Path, variables: dict[str, str]):
    finished_experiment(home)
    with Terminal("--home", str(home), **variables) as terminal:
        terminal.until("7.28")
        terminal.until("▌")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "koi8-r", "cp1252", "shift_jis", "gb2312"])
def test_a_plain_sign_is_as_wide_as_the_sign_that_it_replaces(encoding: str):
    for sign in _SIGNS:
        assert cell_len(in_cells(sign, encoding)) == cell_len(sign)


def test_each_sign_that_the_app_draws_has_a_plain_one():
    used = {sign for one in REGISTRY.values() for sign in one.help if not sign.isascii()} | {"±"}
    assert "τ" in used
    for path in Path(bitnet_tui.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                used |= {sign for sign in node.value if not sign.isascii()}
    assert "☑" in used
    assert [sign for sign in sorted(used - {"�"}) if in_cells(sign, "ascii") == "?"] == []
    assert in_cells("☐", "ascii") != in_cells("☑", "ascii")


def test_plain_signs():
    assert in_cells(_SIGNS, "ascii") == "-=-||:#+++++--||||#v^>~><^v|+xo#>~x** ??ev^"
    assert in_cells(_SIGNS, "utf-8") == _SIGNS
    assert in_cells("(95 %: ±0.02)", "ascii") == "(95 %:+-0.02)"
    assert in_cells("La línea de Ångström, 线", "ascii") == "La linea de Angstrom, ??"
    assert in_cells("0 ≤ 0.05 ≥≤ 1 ≥", "ascii") == "0 <=0.05 ><=1 >"


@pytest.mark.parametrize("value", ["zzz", "", "TRUECOLOR"])
def test_a_wrong_variable_of_textual_is_named(home: Path, value: str):
    with Terminal("--home", str(home), TEXTUAL_COLOR_SYSTEM=value) as terminal:
        terminal.until(f"bitnet-tui: TEXTUAL_COLOR_SYSTEM is {value!r}; set it to one of auto, standard, 256, ")


@pytest.mark.parametrize("name", ["COLUMNS", "LINES"])
@pytest.mark.parametrize("value", ["²", "٣", "9" * 5000])
def test_a_size_that_is_no_number_is_named(home: Path, name: str, value: str):
    with Terminal("--home", str(home), **{name: value}) as terminal:
        terminal.until(f"bitnet-tui: {name} is {value[:20]!r}; set it to a number of cells, or unset it.")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TEXTUAL_FPS", "1" + 400 * "0", "set it to at most 1,000"),
        ("TEXTUAL_FPS", "1000000", "set it to at most 1,000"),
        ("TEXTUAL_DIM_FACTOR", "1" + 400 * "0", "set it to at most 100"),
        ("ESCDELAY", "1" + 400 * "0", "set it to at most 60,000"),
    ],
)
def test_a_variable_that_ends_textual_in_a_traceback_is_named(home: Path, name: str, value: str, said: str):
    with Terminal("--home", str(home), **{name: value}) as terminal:
        assert terminal.wait() == 2
        told = terminal.written.replace(b"\0", b"").decode(errors="replace")
        assert f"bitnet-tui: {name} is " in told
        assert f"{said}, or unset it." in told


def test_a_log_of_textuals_that_can_not_be_written_is_named(home: Path, tmp_path: Path):
    with Terminal("--home", str(home), TEXTUAL_LOG=str(tmp_path / "nowhere" / "log")) as terminal:
        terminal.until("which can't be written (No such file or directory); correct it, or unset it.")
    with Terminal("--home", str(home), TEXTUAL_LOG="/dev/full") as terminal:
        terminal.until("TEXTUAL_LOG is '/dev/full', which can't be written (No space left on device); free space")


_LEFT = (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?25h")
"""What gives the terminal back: its own screen, no mouse, a cursor."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1])
def test_a_kill_leaves_the_terminal_in_order(home: Path, number: signal.Signals):
    finished_experiment(home)
    with Terminal("--home", str(home)) as terminal:
        before = terminal.modes
        terminal.until("7.28")
        assert terminal.modes != before
        terminal.signal(number)
        assert terminal.wait() == 128 + number
        assert all(code in terminal.written for code in _LEFT)
        assert terminal.modes == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_app_has_ended_ends_its_program_without_a_word(home: Path, number: signal.Signals):
    finished_experiment(home)
    code = f"""
import os
from bitnet_tui import start
start._say_what_runs = lambda *_: os.kill(os.getpid(), {int(number)})
start.main(["--home", {str(home)!r}])
"""
    with Terminal(command=(sys.executable, "-c", code)) as terminal:
        before = terminal.modes
        terminal.until("7.28")
        terminal.press("q")
        assert terminal.wait() == -number
        assert b"bug" not in terminal.written
        assert terminal.modes == before


def test_signals_to_go_on_draw_everything_again_and_start_nothing_twice(home: Path):
    """SIGCONT comes without SIGTSTP after SIGSTOP, which no program can see."""
    finished_experiment(home)
    with Terminal("--home", str(home)) as terminal:
        before = terminal.modes
        terminal.until("7.28")
        terminal.wait_until_quiet(0.3)
        for _ in range(3):
            terminal.wipe()
            terminal.signal(signal.SIGCONT)
            terminal.until("7.28")  # others may have drawn there meanwhile
        terminal.signal(signal.SIGTSTP)
        terminal.wait_until_stopped()
        terminal.wipe()
        terminal.signal(signal.SIGCONT)
        terminal.until("7.28")
        terminal.press("q")
        assert terminal.wait() == 0
        assert terminal.modes == before


def test_the_app_ends_with_its_terminal(home: Path):
    finished_experiment(home)
    with Terminal("--home", str(home)) as terminal:
        terminal.until("7.28")
        terminal.hang_up()
        assert terminal.wait() == 128 + signal.SIGHUP


def last_row(written: bytes) -> int:
    """The lowest row that was drawn on."""
    return max((int(row) for row in re.findall(rb"\x1b\[(\d+);\d+H", written)), default=0)


def test_a_terminal_that_claims_a_huge_size_is_drawn_on_in_part(home: Path):
    finished_experiment(home)
    with Terminal("--home", str(home), columns=60_000, rows=60_000) as terminal:
        deadline = time.monotonic() + 60
        while last_row(terminal.written) < 100:
            assert time.monotonic() < deadline
            terminal.read(0.5)
        terminal.press("q")
        assert terminal.wait() == 0
        assert last_row(terminal.written) <= 1000


def test_no_size_that_is_typed_is_believed_and_the_window_is_followed(home: Path):
    finished_experiment(home)
    with Terminal("--home", str(home)) as terminal:
        terminal.until("7.28")
        for size in ("60000;60000", "0;0", "1;1", "5;20"):
            terminal.press(f"\x1b[?2048;1$y\x1b[48;{size};0;0t")
        terminal.press("?")
        terminal.until("Open the highlighted experiment")
        assert last_row(terminal.written) <= 24
        assert "too small" not in terminal.shown
        terminal.resize(20, 5)
        terminal.signal(signal.SIGWINCH)
        terminal.until("needs 60")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_terminal_that_takes_no_output_keeps_no_app_that_is_told_to_end(home: Path, number: signal.Signals):
    finished_experiment(home)
    with Terminal("--home", str(home)) as terminal:
        before = terminal.modes
        terminal.until("7.28")
        used = [-1.0]
        while used[-1] != used[-20:][0] or len(used) < 20:  # until it waits for somebody to take what it draws
            terminal.resize(200 + len(used) % 2, 60)  # each draws the whole screen
            terminal.signal(signal.SIGWINCH)
            time.sleep(0.02)
            used.append(terminal.processor_seconds)
        terminal.signal(number)
        assert terminal.wait_unread() == 128 + number
        assert terminal.modes == before


async def test_where_signs_are_plain_boxes_are_no_letters_and_curves_have_some(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    exp = finished_experiment(home)
    for plain in (True, False):
        monkeypatch.setattr(BitnetApp, "plain", plain)
        async with BitnetApp(home, exp.root).run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            assert chart.with_letters(pilot.app) == plain
            await pilot.press("7")
            await settled(pilot)
            assert ("[x] follow" in shown(pilot), "☑ follow" in shown(pilot)) == (plain, not plain)
            await pilot.press("V")
            await settled(pilot)
            assert ("with...  space" in shown(pilot), "with…    space" in shown(pilot)) == (plain, not plain)
