"""The playground: asking teacher and student at once, by keyboard and by mouse, and what ends with the screen."""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot

from bitnet_core.errors import BitnetError
from bitnet_core.files import asset
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens import playing
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.services import playing as services
from bitnet_tui.services.playing import Found, Model, Who
from bitnet_tui.widgets.prompt import PromptField
from tests.cli.test_answer import piece
from tests.cli.test_providers import KEY, sse
from tests.hostile import TEXT, assert_harmless
from tests.teachers.server import ChatServer
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, said, settled, shown, words
from tests.tui.simulated import experiment
from tests.tui.test_untrusted import _SEQUENCES

_SIDES: dict[Who, dict[str, Any]] = {
    "teacher": {"name": "big", "where": "http://t", "logprobs": "yes", "price": {"input": 1, "output": 2}},
    "student": {"name": "demo-step9", "where": "PyTorch, cpu", "logprobs": "yes", "bits": 8},
}


class Scripted:
    """In place of a model's process: tells what the test makes it tell."""

    made: ClassVar[dict[str, "Scripted"]] = {}

    def __init__(self, _home: Path, _root: Path, who: Who, keys: Mapping[str, str]) -> None:
        self.sent: list[dict[str, Any]] = []
        self.keys = dict(keys)
        self.closed = False
        self._events: list[dict[str, Any]] = [{"event": "side", "id": None, **_SIDES[who]}]
        self.made[who] = self

    def send(self, request: Mapping[str, Any]) -> None:
        self.sent.append(dict(request))

    def take(self) -> list[dict[str, Any]]:
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        self.closed = True

    def tell(self, kind: str, **fields: Any) -> None:
        number = self.sent[-1].get("id", self.sent[-1].get("stop"))
        self._events.append({"event": kind, "id": number, **fields})

    def answer(self, *pieces: str, beside: str = "no") -> None:
        for one in pieces:
            self.tell("text", text=one)
            self.tell("tokens", tokens=[{"text": one, "p": 0.75, "top": [[one, 0.75], [beside, 0.125]]}])
        self.tell("end", finish_reason="stop", tokens=len(pieces), tokens_per_s=20.0)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Scripted]:
    monkeypatch.setattr(playing, "Model", Scripted)
    prompts = tuple(f"Prompt {number}?" for number in range(1, 6))
    monkeypatch.setattr(playing.playing, "look", lambda *_: Found(0.5, 16, 7, {}, prompts))
    monkeypatch.setattr(playing.playing, "keys", lambda *_: {"K": "key-value"})
    Scripted.made = {}
    return Scripted.made


async def until(pilot: Pilot[None], text: str | Callable[[], bool]) -> None:
    for _ in range(300):
        if text() if callable(text) else text in words(pilot):
            return
        await pilot.pause(0.05)
    raise AssertionError(f"{text!r} is not in\n{shown(pilot)}")


async def opened(pilot: Pilot[None]) -> None:
    await settled(pilot)
    cast("BitnetApp", pilot.app).redraw_seconds = 0.05
    await pilot.press("P")
    await until(pilot, "Playground")
    await settled(pilot)


async def test_a_prompt_goes_to_both_and_any_token_can_be_looked_behind(home: Path, scripted: dict[str, Scripted]):
    root = experiment(home, "demo").root
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await opened(pilot)
        await until(pilot, "costs at most")
        teacher, student = scripted["teacher"], scripted["student"]
        assert teacher.keys == {"K": "key-value"}
        assert teacher.sent == student.sent == []
        pilot.app.screen.query_one("#temperature").focus()
        await pilot.press("x", "enter")
        assert "Temperature: give a number" in words(pilot)
        await pilot.press("backspace", *"0.5", "escape", "w")
        assert "Only the student is asked" in words(pilot)
        await pilot.press("w", "w", "b", "b", "i", *"Why?", "enter")
        await until(pilot, lambda: bool(student.sent))
        assert teacher.sent[0]["messages"] == [{"role": "user", "content": "Why?"}]
        assert (teacher.sent[0]["temperature"], teacher.sent[0]["max_tokens"], teacher.sent[0]["seed"]) == (
            0.5,
            16,
            7,
        )
        assert (student.sent[0]["bits"], "bits" in teacher.sent[0]) == (4, False)
        student.answer("It", " sank", beside=" floats")
        await pilot.press("n")
        assert "The student still reads the teacher's answer" in words(pilot)
        teacher.answer("It", " floats", ".")
        await until(pilot, lambda: len(student.sent) == 2)
        assert student.sent[1]["follow"] == "It floats."
        along = (("It", 0.25), (" floats", 0.125), (".", 0.0625))
        tokens = [{"text": one, "p": p, "top": [[one, p]]} for one, p in along]
        student.tell("followed", tokens=tokens)
        await until(pilot, "token 3 of 3 .")  # the worst one, as soon as it is known
        assert "Complete 3 tokens 20.0 tokens/s" in words(pilot)
        await pilot.press("left")
        await until(pilot, "token 2 of 3 ␣floats")
        row = next(line for line in shown(pilot).split("\n") if line.strip().startswith("␣floats"))
        assert "0.750" in row
        assert "0.125" in row
        await pilot.press("n")
        assert "token 3 of 3 ." in words(pilot)
        await pilot.press("n")
        assert "token 2 of 3" in words(pilot)
        await click_on(pilot, "sank")
        assert "token 2 of 2 ␣sank" in words(pilot)
        await pilot.press("tab", "shift+tab", "home")
        assert "token 1 of 2 It" in words(pilot)
        await pilot.press("y")
        assert pilot.app.clipboard == "It sank"
        for size, rows in (((120, 36), 12), ((200, 55), 17)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
            assert pilot.app.screen.query_one("#behind").outer_size.height == rows
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(pilot.app.screen, ExperimentScreen))
        assert teacher.closed
        assert student.closed
        await pilot.press("escape")
        await opened(pilot)
        await until(pilot, "It floats.")


async def test_what_hostile_models_say_is_drawn_as_signs_and_copied_clean(
    home: Path, scripted: dict[str, Scripted], monkeypatch: pytest.MonkeyPatch
):
    sent: list[str] = []
    root = experiment(home, "demo").root
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await opened(pilot)
        await until(pilot, "costs at most")
        monkeypatch.setattr(type(pilot.app), "is_headless", False)
        monkeypatch.setattr(HeadlessDriver, "write", lambda _, data: sent.append(data))
        teacher, student = scripted["teacher"], scripted["student"]
        await pilot.press(*"i", *"Why?", "enter")
        await until(pilot, lambda: bool(student.sent))
        for one in (teacher, student):
            one.tell("note", text=TEXT)
            one.tell("side", name=TEXT, where=TEXT, logprobs=TEXT, bits=TEXT, price=TEXT)
            one.tell(TEXT, text=TEXT)
            one.answer("\udce6", "\udcbc x", TEXT, "a" * 30_000, beside=TEXT)
            for token in ({"text": 5, "p": "x", "top": None}, {"text": TEXT, "p": 1e999, "top": [[TEXT, "y"], 5]}, 5):
                one.tell("tokens", tokens=[token])
            one.tell("tokens", tokens=TEXT)
            one.tell("followed", tokens=[{"text": TEXT, "p": 0.5, "top": [[TEXT, 0.5]]}])
        await until(pilot, "Complete")
        await pilot.press("end", "home", "right", "right", "right", "n", "n")
        await settled(pilot)
        assert_harmless(_SEQUENCES.sub("", "".join(sent)))
        await pilot.press("y")
        await settled(pilot)
        assert "·· x" in pilot.app.clipboard
        assert_harmless(pilot.app.clipboard.replace("\t", ""))
        student.tell("error", problem=TEXT)
        student.tell("gone", problem=TEXT)
        await until(pilot, "[@click=app.quit]x[/]")
        assert_harmless(_SEQUENCES.sub("", re.sub(r"\x1b\]52;c;[\w+/=]*\x07", "", "".join(sent))))


async def test_by_mouse_and_one_side_that_hangs_or_is_lost_leaves_the_other(
    home: Path, scripted: dict[str, Scripted], monkeypatch: pytest.MonkeyPatch
):
    root = experiment(home, "demo").root
    async with BitnetApp(home, root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await click_on(pilot, "as trained")
        await click_on(pilot, "Prompt 3?")
        teacher, student = scripted["teacher"], scripted["student"]
        await until(pilot, lambda: bool(teacher.sent and student.sent))
        assert teacher.sent[0]["messages"][-1]["content"] == "Prompt 3?"
        assert student.sent[0]["bits"] == 8
        student.answer("Yes", *[f" word{number}" for number in range(80)])
        await until(pilot, "Complete 81 tokens")
        await click_on(pilot, "word79")
        await until(pilot, "token 81 of 81")
        await pilot.press("home", "pagedown", "k", "h", "down")
        await until(pilot, lambda: "token 81 of 81" not in words(pilot))
        await pilot.press("end")
        await until(pilot, "token 81 of 81 ␣word79")
        await until(pilot, lambda: "word79" in shown(pilot))
        monkeypatch.setattr(type(pilot.app.screen), "quiet", lambda *_: 20.0)
        await until(pilot, "Nothing for 20s; s stops waiting")
        await pilot.press("r")
        await until(pilot, "The last answers are not complete; s stops them.")
        await pilot.press("1", "s")
        assert "Prompt 1?" not in pilot.app.screen.query_one(PromptField).text
        await until(pilot, lambda: teacher.sent[-1] == {"stop": 0})
        teacher.tell("end", finish_reason="stopped", tokens=None)
        await until(pilot, "Stopped")
        assert "not complete" not in words(pilot)
        await pilot.press("r")
        await until(pilot, lambda: student.sent[-1].get("seed") == 8)
        student.answer("No")
        teacher._events.append({"event": "gone", "problem": "The server died; start it again."})
        await until(pilot, "✗ The server died; start it again.")
        assert "No" in said(pilot, "#student-text .words")
        await click_on(pilot, "[ earlier")
        await until(pilot, "prompt 1 of 2")
        assert "Yes" in said(pilot, "#student-text .words")
        await click_on(pilot, "i or a click" if "i or a click" in shown(pilot) else "Prompt 3?")
        await until(pilot, lambda: isinstance(pilot.app.focused, PromptField))
        await pilot.press("down")
        await until(pilot, "prompt 2 of 2")
        await click_on(pilot, "Ask")
        await until(pilot, lambda: scripted["teacher"] is not teacher and bool(scripted["teacher"].sent))


@pytest.mark.parametrize("provider", ["openai", "embedded"])
def test_what_is_missing_is_told_before_a_process_starts(home: Path, provider: str):
    exp = experiment(home, "demo")
    with (exp.root / ".env").open("a") as env:
        env.write(f"TEACHER_PROVIDER={provider}\nOPENAI_MODEL=m\nEVAL_TEMPERATURE=0.5\n")
    found = services.look(home, exp.root)
    assert (found.temperature, dict(found.problems)) == (
        0.5,
        {"student": "There is no student yet: training saves the first one."},
    )
    assert len(set(found.examples)) == 5
    assert set(found.examples) <= set(asset("prompts/baseline.txt").read_text().splitlines())
    if provider == "embedded":
        assert services.keys(home, exp.root) == {}
    else:
        with pytest.raises(BitnetError, match="There is no key for OpenAI; press a to enter one, then ask"):
            services.keys(home, exp.root)
    (exp.checkpoints / "x.pt").write_text("")
    assert not services.look(home, exp.root).problems


async def test_a_real_teacher_is_asked_only_by_a_key_and_ends_with_the_screen(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    """A process of its own and a server; there is no student yet."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    made: list[Model] = []

    class Watched(Model):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(playing, "Model", Watched)
    reply = sse(piece("Hel"), piece("lo", end="stop"))
    with ChatServer(lambda *_: reply) as server:
        exp = experiment(home, "demo")
        with (exp.root / ".env").open("a") as env:
            env.write(f"TEACHER_PROVIDER=openai\nTEACHER_MODEL=gpt-4o-mini\nTEACHER_BASE_URL={server.base_url}\n")
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
            await opened(pilot)
            await until(pilot, "costs at most")
            await until(pilot, "There is no student yet")
            assert server.asked == []
            await pilot.press("1")
            await until(pilot, "Complete 2 tokens")
            await pilot.press("end")
            await until(pilot, "token 2 of 2 lo")
            assert "0.905" in words(pilot)
            assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"
            process = made[0]._process
            assert process is not None
            assert process.poll() is None
            assert KEY not in " ".join(map(str, process.args))
        await asyncio.to_thread(process.wait, 60)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
