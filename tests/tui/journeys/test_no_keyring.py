"""A machine without a keyring."""

from pathlib import Path

import pytest
from textual import events

from bitnet_core.secrets import places as key_places
from bitnet_tui import noticing
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.vault import VaultScreen
from tests.tui.guides import KEY, app, at, press
from tests.tui.journeys.hand import by_each
from tests.tui.pilots import click_on, files_text, said, settled, words


@by_each
async def test_without_a_keyring_the_key_goes_to_a_vault(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch, by: str
):
    monkeypatch.setattr(noticing, "reading_seconds", lambda _: 3600.0)  # no notice goes by itself

    async def type_twice(first: str, second: str) -> None:
        if by == "keys":
            await press(pilot, "ctrl+u", *first, "enter", "ctrl+u", *second, "enter")
        else:
            await click_on(pilot, "passphrase, at least")
            await press(pilot, *first)
            await click_on(pilot, "repeat the passphrase")
            await press(pilot, *second)
            await pilot.click("#open")  # the guide's own "Create" shows beneath
            await settled(pilot)

    async with app(home).run_test(size=(80, 24), notifications=True) as pilot:
        await at(pilot, "teacher")
        if by == "keys":
            await press(pilot, *["down"] * 6, "enter", *"gpt-4o-mini", "enter")
        else:
            await click_on(pilot, "OpenAI")
            await click_on(pilot, "such as gpt")
            await press(pilot, *"gpt-4o-mini")
            await click_on(pilot, "paste it here")
        pilot.app.post_message(events.Paste(KEY))
        await settled(pilot)
        if by == "keys":
            await press(pilot, "ctrl+n", "ctrl+n", "ctrl+n")
        else:
            await click_on(pilot, "○ Review")
        assert "It first asks for a passphrase, for the vault that your keys will be in." in words(pilot)
        if by == "keys":
            await press(pilot, *["ctrl+b"] * 4)
        else:
            await click_on(pilot, "● Machine")
        assert "Keys will be kept in a vault, an encrypted file; its passphrase is asked for at the end." in words(
            pilot
        )
        if by == "keys":
            await press(pilot, "ctrl+s")
        else:
            await click_on(pilot, "● Review")
            await click_on(pilot, "Create", last=True)
        assert isinstance(pilot.app.screen, VaultScreen)
        assert "The OS keyring is switched off" in words(pilot)
        if by == "keys":
            await type_twice("short", "shore")
            assert "The two passphrases differ" in words(pilot)
            await press(pilot, "shift+tab")
        await type_twice("short", "short")
        assert "at least 8" in said(pilot, "#problem")
        await type_twice("correct-horse", "correct-horse")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert "1 key is in the vault." in words(pilot)
    (made,) = key_places._open_vaults.values()
    assert made.read() == {"OPENAI_API_KEY": KEY}
    assert KEY not in files_text(isolated)
    assert "correct-horse" not in files_text(isolated)
