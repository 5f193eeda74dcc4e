"""The guide's test of a model: a real `bitnet providers probe` process against a local server."""

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Button, Input, OptionList

from bitnet_core.errors import BitnetError
from bitnet_tui.app import BitnetApp
from bitnet_tui.services.probing import Probe
from tests.teachers.server import Asked, Canned, ChatServer, chat_body
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import files_text, settled, words

KEY = "sk-typed-canary-0123456789"


def _custom(address: str) -> dict[str, str]:
    return {"TEACHER_PROVIDER": "custom"} | ({"CUSTOM_BASE_URL": address} if address else {})


def answering(number: int, asked: Asked) -> Canned:
    top = [
        {"token": "No", "bytes": [78, 111], "logprob": -0.2},
        {"token": "Yes", "bytes": [89, 101, 115], "logprob": -2.0},
    ]
    content = [{**top[0], "top_logprobs": top}]
    return Canned(chat_body("No", content if asked.body.get("logprobs") else None))


async def test_a_model_is_tested_before_anything_is_created_and_the_key_stays_unseen(home: Path) -> None:
    asked: list[Asked] = []

    def noting(number: int, one: Asked) -> Canned:
        asked.append(one)
        return answering(number, one)

    with ChatServer(noting) as server:
        async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("n")
            await settled(pilot)
            await pilot.press("ctrl+n")
            await settled(pilot)
            guide = pilot.app.screen
            assert guide.query_one("#test", Button).disabled
            cards = guide.query_one("#cards", OptionList)
            cards.highlighted = cards.get_option_index("custom")
            await settled(pilot)
            guide.query_one("#model", Input).value = "m"
            guide.query_one("#address", Input).value = server.base_url
            guide.query_one("#key", Input).value = KEY
            await settled(pilot)
            await pilot.press("ctrl+t")
            assert "Asking the model" in words(pilot)
            await settled(pilot)
            assert "answered in" in words(pilot)
            assert "logprobs, 2 candidates a step" in words(pilot)
            assert KEY not in words(pilot)
            guide.query_one("#model", Input).value = "another"
            await settled(pilot)
            assert "answered in" not in words(pilot)
    assert {one.headers["Authorization"] for one in asked} == {f"Bearer {KEY}"}
    assert KEY not in files_text(home.parent)
    assert files_text(home) == ""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list["subprocess.Popen[str]"]:
    """Every process that a probe starts."""
    found: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def popen_and_record(*arguments: Any, **options: Any) -> "subprocess.Popen[str]":
        found.append(popen(*arguments, **options))
        return found[-1]

    monkeypatch.setattr("bitnet_core.process.subprocess.Popen", popen_and_record)
    return found


def silent(_number: int, _asked: Asked) -> Canned:
    time.sleep(30)
    return Canned({})


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BitnetError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def test_a_cancelled_probe_leaves_no_process(home: Path, started: list["subprocess.Popen[str]"]) -> None:
    with ChatServer(silent) as server:
        probe = Probe(home, "custom", "m", _custom(server.base_url), KEY)
        thread, failures = in_thread(probe.run)
        deadline = time.monotonic() + 30
        while not started and time.monotonic() < deadline:
            time.sleep(0.01)
        environ = Path(f"/proc/{started[0].pid}/environ")
        assert KEY not in (environ.read_text() if environ.exists() else "")
        assert KEY not in " ".join(map(str, started[0].args))  # type: ignore[arg-type]
        probe.cancel()
        thread.join(timeout=30)
    assert not thread.is_alive()
    assert started[0].poll() is not None
    assert len(failures) == 1


def test_a_probe_that_takes_too_long_is_ended_with_a_sentence(
    home: Path, started: list["subprocess.Popen[str]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitnet_tui.services.probing.LOADING_SECONDS", 0.2)
    with ChatServer(silent) as server, pytest.raises(BitnetError, match="gave no complete answer in 0s; try again"):
        Probe(home, "custom", "m", _custom(server.base_url), KEY).run()
    assert started[0].poll() is not None


def test_the_commands_own_error_is_passed_on(home: Path) -> None:
    with pytest.raises(BitnetError, match="No address is set for custom"):
        Probe(home, "custom", "m", _custom(""), "").run()
