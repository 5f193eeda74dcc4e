"""The teacher refuses the key."""

from pathlib import Path

import pytest
from textual import events

from bitnet_tui.services.probing import Probe
from tests.tui.guides import GOOD, KEY, answering, app, at, press
from tests.tui.journeys.hand import by_each
from tests.tui.pilots import click_on, files_text, said, settled, shown


@by_each
async def test_a_refused_key_is_told_and_the_button_leads_to_its_field(
    home: Path, monkeypatch: pytest.MonkeyPatch, by: str
):
    refused = {**GOOD, "key_accepted": False, "problem": "OpenAI refuses OPENAI_API_KEY; correct it."}
    asked = answering(monkeypatch, Probe, refused)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        if by == "keys":
            await press(pilot, *["down"] * 6, "enter")
        else:
            await click_on(pilot, "OpenAI")
            await click_on(pilot, "such as")
        await press(pilot, *"g", "enter")
        pilot.app.post_message(events.Paste(KEY))
        await settled(pilot)
        assert KEY not in shown(pilot)
        if by == "keys":
            await press(pilot, "ctrl+t")
        else:
            await click_on(pilot, "Test")
        assert said(pilot, "#found") == "✗ OpenAI refuses “Key”; correct it."
        if by == "mouse":
            await click_on(pilot, "Type another key")
        assert pilot.app.focused is guide.query_one("#key")
        await press(pilot, "x")
        assert said(pilot, "#found") == "not tested: its address or key has changed since the last test"
    assert [probe._key for probe in asked] == [KEY]
    assert KEY not in files_text(home.parent)
