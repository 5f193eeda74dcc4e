"""The form's test of a model: a real `bitnet providers probe` process against a local server."""

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Button, Input

from bitnet_core.errors import BitnetError
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.new_experiment import NewExperimentScreen
from bitnet_tui.services.probing import Probe
from bitnet_tui.view import new_form
from tests.teachers.server import Asked, Canned, ChatServer, chat_body
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import files_text, settled, words

KEY = "sk-typed-canary-0123456789"
FOUND = {
    "reachable": True,
    "key_accepted": True,
    "model": "m",
    "chat": True,
    "latency_s": 0.42,
    "logprobs": True,
    "largest_k": 20,
    "logprob_mode": "raw",
    "problem": None,
}


@pytest.mark.parametrize(
    ("changes", "said", "style"),
    [
        (
            {},
            "It answers in 0.42 s, with logprobs of up to 20 candidates per token, exact at any temperature.",
            "good",
        ),
        ({"logprob_mode": "scaled"}, "collect with KD_TEACHER_TEMPERATURE=1 and KD_TEACHER_TOP_P=1", "warn"),
        ({"logprobs": False}, "but gives no logprobs: good for chat and the baseline only.", "warn"),
        (
            {"price_usd_per_million": {"input": 2.5, "output": 10.0}},
            "$2.50 in and $10.00 out per million tokens.",
            "good",
        ),
        ({"price_usd_per_million": {"input": 0.0, "output": 0.0}}, "exact at any temperature.", "good"),
        ({"reachable": False, "problem": "No answer from x."}, "No answer from x.", "bad"),
        ({"key_accepted": False, "problem": "openai refuses the key."}, "openai refuses the key.", "bad"),
        ({"chat": False, "problem": "m is not there."}, "m is not there.", "bad"),
        ({"model": "", "models": list("abcdefg")}, "It has 7 models: a, b, c, d, e, …. Choose one.", "label"),
        ({"model": "", "models": []}, "", "warn"),
    ],
)
def test_the_report_in_a_sentence(changes: dict[str, Any], said: str, style: str) -> None:
    text, found = new_form.answer({**FOUND, **changes})
    assert said in text
    assert found == style


def test_hidden_fields_are_not_asked_about() -> None:
    values = {field.name: "typed before" for field in new_form.fields()} | {"TEACHER_PROVIDER": "hf"}
    assert new_form.question(values) == {
        "provider": "hf",
        "model": "typed before",
        "values": {"TEACHER_PROVIDER": "hf"},
        "key": "",
    }


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
            form = pilot.app.screen
            assert isinstance(form, NewExperimentScreen)
            assert not form.query_one("#test", Button).display
            form.query_one("#field-TEACHER_PROVIDER").value = "custom"  # type: ignore[attr-defined]
            await settled(pilot)
            assert form.query_one("#test", Button).display
            form.query_one("#field-MODEL", Input).value = "m"
            form.query_one("#field-BASE_URL", Input).value = server.base_url
            form.query_one("#field-KEY", Input).value = KEY
            await settled(pilot)
            await pilot.press("ctrl+t")
            assert "Asking the model" in words(pilot)
            await settled(pilot)
            assert "It answers in" in words(pilot)
            assert "with logprobs of up to 2 candidates per token" in words(pilot)
            assert KEY not in words(pilot)
            form.query_one("#field-MODEL", Input).value = "another"
            await settled(pilot)
            assert "It answers in" not in words(pilot)
    assert {one.headers["Authorization"] for one in asked} == {f"Bearer {KEY}"}
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
