"""What is typed into the guide while a test runs stays, its field keeps the focus, and the test ends."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from bitnet_tui.screens import keyed
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.services.probing import Probe
from bitnet_tui.services.storing import Check, Login
from tests.tui.guides import CHECKED, GOOD, KEY, answered, app, at, choose, field_of, press
from tests.tui.pilots import burst, said, until

_LISTED = {**GOOD, "model": None}
_ONE = {**_LISTED, "models": ["only"]}
_NO_LOGPROBS = {**GOOD, "logprobs": False}


class Gated:
    """Commands of a kind that answer when they are let; `asked` are those that were run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type, *reports: dict[str, Any]) -> None:
        self._reports = list(reports)
        self.asked: list[Any] = []
        self._let = threading.Semaphore(0)

        def run(command: Any) -> Any:
            self.asked.append(command)
            while not (command.cancelled or self._let.acquire(timeout=0.01)):
                pass
            return self._reports.pop(0) if not command.cancelled else {}

        monkeypatch.setattr(kind, "run", run)

    def let(self) -> None:
        self._let.release()


async def _asking(pilot: Pilot[None], gated: Gated, start: str) -> NewExperimentScreen:
    """An own server is asked for its models, from this field."""
    guide = await at(pilot, "teacher")
    await choose(pilot, "custom")
    guide.query_one("#address", Input).value = "http://127.0.0.1:1/v1"
    guide.query_one(start).focus()
    await answered(pilot)
    await pilot.press("ctrl+t")
    await until(pilot, lambda: len(gated.asked) == 1)
    return guide


@pytest.mark.parametrize("report", [_ONE, _LISTED])
async def test_models_that_arrive_take_no_field_from_the_one_who_went_there(
    home: Path, monkeypatch: pytest.MonkeyPatch, report: dict[str, Any]
):
    probes = Gated(monkeypatch, Probe, report, _NO_LOGPROBS)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await _asking(pilot, probes, "#address")
        await pilot.press("tab", "tab")
        key = guide.query_one("#key", Input)
        probes.let()
        await until(pilot, lambda: "Asking the server" not in said(pilot, "#found"))
        assert key.has_focus
        if report is _ONE:
            await until(pilot, lambda: len(probes.asked) == 2)
            probes.let()
            await until(pilot, lambda: "no logprobs" in said(pilot, "#found"))
            assert not said(pilot, "#hint").startswith("Enter goes to the empty field.")
        await pilot.press(*KEY)
        assert (key.has_focus, key.value, guide.typed_keys) == (True, KEY, {"CUSTOM_API_KEY": KEY})


@pytest.mark.parametrize("before", [1, 3])
async def test_models_that_arrive_between_two_letters_lose_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, before: int
):
    """The field has the first letters, of which its step does not know yet, when the answer comes."""
    probes = Gated(monkeypatch, Probe, _ONE, GOOD)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await _asking(pilot, probes, "#key")
        key, model = guide.query_one("#key", Input), guide.query_one("#model", Input)
        burst(pilot.app, KEY[:before])
        probes.let()
        burst(pilot.app, KEY[before:])
        await until(pilot, lambda: key.value == KEY)
        assert key.has_focus and model.value in ("", "only")
        await answered(pilot)
        assert "answered" not in said(pilot, "#found")


async def test_a_test_ends_with_a_change_of_what_it_is_about_and_that_is_said(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    probes = Gated(monkeypatch, Probe, GOOD)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await _asking(pilot, probes, "#key")
        asking = "Asking the server for its models; esc stops it."
        assert said(pilot, "#found") == asking
        monkeypatch.setattr(keyed, "_LONG_SECONDS", 0)
        await until(pilot, lambda: said(pilot, "#found") in (f"{asking} {seconds} s so far" for seconds in range(60)))
        await press(pilot, "s")
        assert said(pilot, "#found") == "stopped: “Key” was changed meanwhile"
        assert probes.asked[0].cancelled and not guide.busy
        await press(pilot, "k")
        assert said(pilot, "#found") == "stopped: “Key” was changed meanwhile"
        guide.query_one("#model", Input).value = "m"
        await answered(pilot)
        await pilot.press("ctrl+t")
        await until(pilot, lambda: len(probes.asked) == 2)
        probes.let()
        await until(pilot, lambda: "answered in 0.42 s" in said(pilot, "#found"))
        await press(pilot, "-")
        assert said(pilot, "#found") == "not tested: its address or key has changed since the last test"


async def test_a_test_is_made_at_once_however_many_slow_calls_have_not_ended(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    """Python's own pool has room for four calls more than there are processors."""
    probes = Gated(monkeypatch, Probe, _LISTED)
    gate = threading.Event()
    async with app(home).run_test(size=(80, 24)) as pilot:
        await at(pilot, "teacher")
        await choose(pilot, "vllm")
        try:
            for number in range((os.cpu_count() or 1) + 4):
                pilot.app.run_worker(lambda: gate.wait(600), thread=True, group=f"slow-{number}")
            await pilot.press("ctrl+t")
            await until(pilot, lambda: len(probes.asked) == 1, 20)
        finally:
            gate.set()
            probes.let()


@pytest.mark.parametrize("kind", [Check, Login])
async def test_a_test_of_the_storage_goes_on_until_something_is_typed(
    home: Path, monkeypatch: pytest.MonkeyPatch, kind: type
):
    running = Gated(monkeypatch, kind, CHECKED)
    target, name = ("local", "STORAGE_LOCAL_DIR") if kind is Check else ("onedrive", "ONEDRIVE_CLIENT_ID")
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        await choose(pilot, target)
        field_of(guide, name).value = "/mnt/copy"
        await answered(pilot)
        guide.call_next(guide.action_test if kind is Check else guide.action_login)
        await until(pilot, lambda: len(running.asked) == 1)
        shown = said(pilot, "#found")
        for step in ("student", "storage"):
            await guide._come_to(step)
            await pilot.pause()
        assert (said(pilot, "#found"), running.asked[0].cancelled) == (shown, False)
        field_of(guide, name).focus()
        await pilot.press("x")
        await until(pilot, lambda: "was changed meanwhile" in said(pilot, "#found"))
        assert running.asked[0].cancelled and not guide.busy
