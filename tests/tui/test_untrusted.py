"""Every screen shows text from outside, and what the terminal is sent is read: safe signs, and markup as it is."""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

import bitnet_tui
from bitnet_core.errors import BitnetError
from bitnet_core.runs.exports import GGUF, Exported
from bitnet_core.secrets.inventory import Held
from bitnet_core.secrets.places import VaultLocked
from bitnet_tui import keymap
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.exported import ExportedScreen
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.screens.message import MessageScreen
from bitnet_tui.screens.vault import VaultScreen
from bitnet_tui.services import keys, probing
from bitnet_tui.services.launching import Launched
from bitnet_tui.services.tracing import TraceSession
from bitnet_tui.widgets.words import Ellipses, SafeLines
from tests.hostile import FOLDER, MARKUP, TEXT, UTF8_TEXT, assert_harmless, experiment
from tests.tui.every_screen import names_of_all
from tests.tui.pilots import settled, shown, words
from tests.tui.simulated import ready
from tests.tui.terminal import Terminal

_SEQUENCES = re.compile(r"\x1b\[[0-9;?<>=$]*[A-Za-z]|\x1b]22;\w+\x07|\x1b]52;c;[\w+/]{20,}=*\x07")
"""What Textual moves and colours with, and the pointer's shape. An escape that is left came from outside."""
LITERAL = "[@click=app.quit]x[/]"


class Sent:
    """What the app sent to its terminal."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(self) -> str:
        return _SEQUENCES.sub("", "".join(self.parts))

    def check(self, *wanted: str) -> None:
        text = self.text()
        assert_harmless(text)
        for one in (LITERAL, *wanted):
            assert one in text, f"{one!r} is not shown: {text.split()}"
        self.parts.clear()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    found = Sent()
    monkeypatch.setattr(App, "is_headless", False)
    monkeypatch.setattr(HeadlessDriver, "write", lambda _, data: found.parts.append(data))
    yield found


def _refuse(error: Exception) -> Callable[..., Any]:
    def call(*_: object, **__: object) -> Any:
        raise error

    return call


async def test_the_list_of_experiments(home: Path, sent: Sent):
    experiment(home)
    experiment(home, LITERAL.replace("/", "") + "\x1b]52;c;cHduZWQ=\x07")
    broken = home / f"{FOLDER}2"
    (broken / "logs").mkdir(parents=True)
    (broken / ".env").write_text(f"KD_TAU='{LITERAL}\x1b[2J'\n")
    async with BitnetApp(home).run_test(size=(200, 40)) as pilot:
        await settled(pilot)
        pilot.app.screen.look()  # the list knows its width now
        await settled(pilot)
        sent.check("[red]·[31m·[2J·]52;c;cHduZWQ=·", "·gnp.·x·· ✓ forged", "[@click=app.quit]x[]·]52;")
        assert pilot.app.is_running


@pytest.mark.parametrize(("title", "ups"), [("Train the student   ✗", 0), ("Collect traces   ✓", 1)])
async def test_an_experiment(home: Path, sent: Sent, title: str, ups: int):
    root = experiment(home)
    async with BitnetApp(home, root).run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        await pilot.press(*["up"] * ups)
        for view in "7321":  # nothing was collected, so that Traces tells only that
            await pilot.press(view)
            await settled(pilot)
            assert title in shown(pilot)
            assert view == "2" or LITERAL in shown(pilot)
        sent.check()


def _hostile_files(root: Path) -> None:
    """Checkpoints, reports and settings that say `UTF8_TEXT` wherever a text may be, and wherever none may be."""
    for folder in ("checkpoints", "reports"):
        (root / folder).mkdir()
    about = dict.fromkeys(("config", "best", "sha256", "origin", "recipe", "tokenizer_hash", "policy"), UTF8_TEXT)
    for step in (1, 2):
        weights = root / "checkpoints" / f"mini_bitnet_step_{step:08d}.pt"
        weights.write_bytes(b"x")
        loss = {"heldout_loss": 2.0 / step, "step": step, "seen_tokens": step * 10}
        health = about | loss | {"checkpoint": UTF8_TEXT, "activation_bits": UTF8_TEXT if step == 1 else 8}
        weights.with_name(f"{weights.stem}_health.json").write_text(json.dumps(health))
    report = {"tables": [{"name": UTF8_TEXT, "columns": [UTF8_TEXT], "rows": [[UTF8_TEXT]]}], "qei": UTF8_TEXT}
    texts = {"prompt": UTF8_TEXT, "text": UTF8_TEXT, "student": UTF8_TEXT, "teacher": UTF8_TEXT}
    for name in ("mini_evaluation_report", "teacher_baseline", "pipeline_summary", "dryrun_7b_memory"):
        (root / "reports" / f"{name}.json").write_text(json.dumps(report | {"answers": [texts], "samples": [texts]}))
    with (root / ".env").open("a") as env:
        env.write(
            f"TEACHER_PROVIDER=vllm\nSTORAGE_BACKEND=local\nSTORAGE_LOCAL_DIR='/{UTF8_TEXT}'\nRUN_NAME='{UTF8_TEXT}'\n"
        )


def _said_of_traces(_: TraceSession, request: dict[str, Any]) -> dict[str, Any]:
    row = {"prompt_idx": 0, "prompt": TEXT, "tokens": 1, "finish_reason": TEXT, "other": 0.5, "kl": 0.5}
    scored = {"step": 1, "scope": TEXT, "sequences": 1, "mean_kl": 0.5, "outdated": TEXT}
    token = {"token": TEXT, "text": TEXT, "other": 0.5, "kl": 0.5, "student": 0.1, "student_other": 0.1}
    likely = [{"token": TEXT, "probability": 0.5, "student": 0.25}]
    token |= {
        "position": 0,
        "candidates": likely,
        "student_top": likely,
        "teacher": {"token": TEXT, "first": 0, "pieces": 1},
    }
    rejected = {"prompt_idx": 0, "prompt": TEXT, "answer": TEXT, "finish_reason": TEXT}
    answers: dict[str, dict[str, Any]] = {
        "list": {"total": 1, "matched": 1, "offset": 0, "sequences": [row], "at": 0},
        "show": row | {"positions": [token], "completion_tokens": 1},
        "worst": {"tokens": [{"prompt_idx": 0, "position": 0}]},
        "rejects": {"rejected": [{"reason": TEXT, "answers": 1, "examples": [rejected]}]},
    }  # fmt: skip
    return answers[request["ask"]] | {"scored": scored, "scores_problem": TEXT}


async def _opened(pilot: Pilot[None], sent: Sent, keys: Iterable[str]) -> set[str]:
    """Press each key and go back to this screen; the names of the screens that were seen."""
    begin = pilot.app.screen
    seen = {type(begin).__name__}
    for key in keys:
        await pilot.press(key)
        await settled(pilot)
        assert_harmless(sent.text())
        sent.parts.clear()
        seen.add(type(pilot.app.screen).__name__)
        while pilot.app.screen is not begin:
            await pilot.press("escape")
            await settled(pilot)
    return seen


async def test_every_screen(home: Path, sent: Sent, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(TraceSession, "ask", _said_of_traces)
    _hostile_files(experiment(home))
    _hostile_files(experiment(home, f"{FOLDER}2"))
    keymap.place().parent.mkdir(parents=True, exist_ok=True)
    keymap.place().write_text(f"{json.dumps(UTF8_TEXT)} = {json.dumps(UTF8_TEXT)}\n")
    seen = {"WelcomeScreen", "VaultScreen", "MessageScreen"}  # other tests show them
    async with BitnetApp(home).run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        seen |= await _opened(pilot, sent, ("r", "x", "U", "K", "f3", "B", "t", "f1", "ctrl+p"))
        for key, step in (("n", "ctrl+n"), ("D", "ctrl+b")):
            await pilot.press(key)
            await settled(pilot)
            seen |= await _opened(pilot, sent, (step,))
            assert key == "D" or "As in [red]" in words(pilot)
            while isinstance(pilot.app.screen, NewExperimentScreen):
                await pilot.press("escape")
                await settled(pilot)
        await pilot.press("space", "down", "space", "c")
        await settled(pilot)
        seen |= await _opened(pilot, sent, "cby")
        await pilot.press("escape", "enter")
        await settled(pilot)
        for tab, keys in {"1": "VWaP", "2": "NRo", "3": "", "4": "TE", "5": "U", "6": "o", "7": "wY"}.items():
            await pilot.press(tab)
            await settled(pilot)
            seen |= await _opened(pilot, sent, keys)
        await pilot.press("a")
        await settled(pilot)
        seen |= await _opened(pilot, sent, ("enter",))
        pilot.app.push_screen(ExportedScreen(Exported(Path(TEXT), GGUF, 200, TEXT, 16, 0.0)))
        await settled(pilot)
        sent.check()
    assert seen | {"ExportedScreen"} >= names_of_all()


async def test_a_refused_start_and_a_warning(home: Path, sent: Sent):
    root = ready(experiment(home))
    async with BitnetApp(home, root, launch=_refuse(BitnetError(TEXT))).run_test(size=(200, 40)) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        await pilot.press("y")  # its traces are outdated
        await settled(pilot)
        assert isinstance(pilot.app.screen, MessageScreen)
        sent.check("·]52;c;cHduZWQ=·")


async def test_notifications(home: Path, sent: Sent):
    app = BitnetApp(home, ready(experiment(home)), launch=lambda *_: Launched("run", (TEXT,)))
    async with app.run_test(size=(200, 40), notifications=True) as pilot:
        await settled(pilot)
        app.notify(TEXT, title=TEXT)
        await settled(pilot)
        sent.check("·]52;c;cHduZWQ=·")
        assert isinstance(app.screen, ExperimentScreen)
        app.screen._stop_sent("", set(), TEXT)
        await settled(pilot)
        sent.check("Not stopped")
        await pilot.press("r")
        await settled(pilot)
        await pilot.press("y")  # its traces are outdated
        await settled(pilot)
        sent.check("Settings")


async def test_a_locked_vault(home: Path, sent: Sent, tmp_path: Path):
    root = ready(experiment(home))
    locked = VaultLocked(tmp_path / FOLDER, TEXT)
    async with BitnetApp(home, root, launch=_refuse(locked)).run_test(size=(200, 40)) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        await pilot.press("y")  # its traces are outdated
        await settled(pilot)
        assert isinstance(pilot.app.screen, VaultScreen)
        sent.check("·]52;c;cHduZWQ=·")
        await pilot.press("escape")
        await settled(pilot)
        sent.check("·]52;c;cHduZWQ=·")


async def test_a_question(home: Path, sent: Sent):
    async with BitnetApp(home).run_test(size=(200, 40)) as pilot:
        pilot.app.push_screen(ConfirmScreen(TEXT, TEXT, TEXT, TEXT))
        await settled(pilot)
        sent.check()
        await pilot.click("#yes")
        await settled(pilot)
        assert pilot.app.is_running


async def test_the_keys(home: Path, sent: Sent, monkeypatch: pytest.MonkeyPatch):
    class Inventory:
        def status(self, _: object) -> tuple[str, tuple[Held, ...]]:
            held = Held("OPENAI_API_KEY", f"{TEXT}/.env", "\x1b[2J\x9b", plain=True, movable=True)
            return TEXT, (held,)

        def vault_notes(self) -> tuple[str, ...]:
            return (TEXT,)

        @property
        def places(self) -> Any:
            return type("Places", (), {"existing_vault": Path(FOLDER)})

        move = _refuse(BitnetError(TEXT))

    monkeypatch.setattr(keys, "inventory", lambda *_: Inventory())
    async with BitnetApp(home).run_test(size=(200, 40)) as pilot:
        await settled(pilot)
        pilot.app.action_keys()
        await settled(pilot)
        sent.check("·]52;c;cHduZWQ=·")
        await pilot.press("m")
        await settled(pilot)
        sent.check("·]52;c;cHduZWQ=·")


@pytest.mark.parametrize(
    "report",
    [
        {"reachable": False, "problem": TEXT},
        {"reachable": True, "key_accepted": True, "models": [TEXT, "m"], "problem": TEXT},
        {"reachable": True, "key_accepted": True, "model": "m", "chat": False, "problem": TEXT},
    ],
)
async def test_a_new_experiment(home: Path, sent: Sent, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any]):
    monkeypatch.setattr(probing.Probe, "run", lambda _: report)
    async with BitnetApp(home).run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        pilot.app.new_experiment()
        await settled(pilot)
        await pilot.press("ctrl+n")
        await settled(pilot)
        cards = pilot.app.screen.query_one("#cards", OptionList)
        cards.highlighted = cards.get_option_index("vllm")
        await settled(pilot)
        pilot.app.screen.query_one("#model", Input).value = TEXT
        await settled(pilot)
        sent.check()
        await pilot.press("ctrl+t")
        await settled(pilot)
        sent.check("·]52;c;cHduZWQ=·")


async def test_welcome_and_help_in_a_hostile_workspace(home: Path, sent: Sent):
    async with BitnetApp(home / (LITERAL.replace("/", "|") + FOLDER)).run_test(size=(200, 60)) as pilot:
        await settled(pilot)
        assert "x[|][red]·[31m" in sent.text()
        assert_harmless(sent.text())
        await pilot.press("f1")
        await settled(pilot)
        assert_harmless(sent.text())


async def test_what_slips_through_a_widget_is_caught_at_the_line(home: Path, sent: Sent):
    async with BitnetApp(home).run_test(size=(200, 60)) as pilot:
        await pilot.app.screen.mount(OptionList(TEXT, markup=False), Input(TEXT), Input(placeholder=TEXT))
        await settled(pilot)
        sent.check()


@pytest.mark.skipif(not Path("/dev/ptmx").exists(), reason="no pseudo-terminals")
def test_the_bytes_of_a_real_terminal(home: Path):
    experiment(home)
    with Terminal("--home", str(home), columns=160, rows=40) as app:
        app.until("52;c;cHduZWQ=")  # the folder's name in the list
        app.press("\r")
        app.until("7 Log")
        app.until(LITERAL)
        app.wait_until_quiet(0.5)  # its keys act when it is complete
        app.press("7")
        app.until("upload of S [@click")
        app.press("q")
        assert app.wait() == 0
        written = app.written.decode()
    assert_harmless(_SEQUENCES.sub("", written).replace("\r", ""))


async def test_a_line_keeps_its_width():
    from rich.cells import cell_len
    from rich.segment import Segment
    from textual.color import Color

    for text in (TEXT, "\u00a0\u3000a", "plain 中文", "\t|\n"):
        (one,) = SafeLines().apply([Segment(text)], Color(0, 0, 0))
        assert cell_len(one.text) == cell_len(text)
        assert_harmless(one.text)


def test_an_ellipsis_is_three_dots_where_there_is_room_for_them():
    from rich.segment import Segment
    from rich.style import Style
    from textual.color import Color

    bold = Style(bold=True)
    line = [Segment("a name th…  next", bold), Segment("  starting…", bold), Segment("    ")]
    drawn = Ellipses().apply(line, Color(0, 0, 0))
    assert [text for text, _, _ in drawn] == ["a name th…  next", "  starting.", "..  "]
    assert [style for _, style, _ in drawn] == [bold, bold, None]
    (alone,) = Ellipses().apply([Segment("…  ")], Color(0, 0, 0))
    assert alone.text == "..."


async def test_markup_that_is_clicked_does_nothing(home: Path, sent: Sent):
    async with BitnetApp(home).run_test(size=(80, 24)) as pilot:
        pilot.app.push_screen(MessageScreen("what", LITERAL * 20))
        await settled(pilot)
        await pilot.click(".long")
        await settled(pilot)
        assert pilot.app.is_running
        assert MARKUP.split()[0] == LITERAL


def test_no_widget_of_the_app_reads_markup():
    """Textual's widgets that read markup by default are used in one place, told not to, or given our own words."""
    found = []
    for path in Path(bitnet_tui.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("textual"):
                found += [f"{path.name}: {one.name}" for one in node.names if one.name in {"Static", "Label", "Link"}]
            if isinstance(node, ast.Attribute) and node.attr in {"from_markup", "from_text"}:
                found += [f"{path.name}: {ast.unparse(node)}"]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "OptionList":
                found += [] if any(one.arg == "markup" for one in node.keywords) else [f"{path.name}: OptionList"]
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Button" and not _is_ours(node.args[0]):
                found += [f"{path.name}: {ast.unparse(node)}"]
    assert found == ["words.py: Static"]


def _is_ours(label: ast.expr) -> bool:
    """A constant, one of two constants, or content that is not parsed any more."""
    if isinstance(label, ast.IfExp):
        return _is_ours(label.body) and _is_ours(label.orelse)
    return isinstance(label, ast.Constant) or ast.unparse(label).startswith("Content(")
