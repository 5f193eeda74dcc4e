"""Drives the guide for a new experiment in tests."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from bitnet_core.errors import BitnetError
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.view.guide import pasted
from bitnet_tui.view.guide.draft import Draft
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled

KEY = "sk-very-secret-key-0123456789"
GOOD = {
    "reachable": True, "key_accepted": True, "model": "m", "chat": True, "latency_s": 0.42, "logprobs": True,
    "largest_k": 20, "logprob_mode": "raw", "problem": None, "models": ["m", "another"],
}  # fmt: skip
CHECKED = {"target": "local", "place": "/mnt/copy", "seconds": {"write": 0.01, "read": 0.03}, "free_bytes": 2e9}


def taken(text: str, draft: Draft | None = None, *, bare: bool = False) -> tuple[Draft, dict[str, str]]:
    """The draft and the typed keys with what a pasted text gives."""
    found = pasted.read(text, draft=draft, bare=bare)
    assert found is not None
    return pasted.with_pasted(draft or Draft(), {}, found)


async def opened(pilot: Pilot[None], key: str = "n") -> NewExperimentScreen:
    await settled(pilot)
    await press(pilot, key)
    guide = pilot.app.screen
    assert isinstance(guide, NewExperimentScreen)
    return guide


async def at(pilot: Pilot[None], step: str) -> NewExperimentScreen:
    """The guide at this step, without the way there."""
    guide = await opened(pilot)
    await guide._come_to(step)
    await answered(pilot)
    return guide


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await answered(pilot)


async def answered(pilot: Pilot[None]) -> None:
    """Wait for the workers and what they report: less than `settled`, which also waits for screens."""
    for _ in range(2):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()


def app(home: Path, recorder: RecordingLaunch | None = None) -> BitnetApp:
    return BitnetApp(home, launch=recorder or RecordingLaunch(warning=""))


def answering(monkeypatch: pytest.MonkeyPatch, kind: type, answer: Any) -> list[Any]:
    """Let this command answer at once; what was asked."""
    asked: list[Any] = []

    def run(command: Any) -> Any:
        asked.append(command)
        if isinstance(answer, BitnetError):
            raise answer
        return answer

    monkeypatch.setattr(kind, "run", run)
    return asked


async def choose(pilot: Pilot[None], value: str, cards: str = "#cards") -> None:
    found = pilot.app.screen.query_one(cards)
    found.highlighted = found.get_option_index(value)  # type: ignore[attr-defined]
    await answered(pilot)


def field_of(guide: NewExperimentScreen, name: str) -> Any:
    """The field of a setting in the step that is open; None if it has none."""
    return guide._current.field(name) if guide._current is not None else None
