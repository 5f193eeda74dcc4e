"""The test of a storage target fails."""

from pathlib import Path

import pytest
from textual import events

from bitnet_core.errors import BitnetError
from bitnet_tui.services.storing import Check
from tests.tui.guides import answering, app, at, field_of, press
from tests.tui.journeys.hand import by_each
from tests.tui.pilots import click_on, notices, said, settled, words


@by_each
async def test_a_storage_test_that_fails_says_how_to_mend_it_and_does_not_hold_one_up(
    home: Path, monkeypatch: pytest.MonkeyPatch, by: str
):
    refused = BitnetError("There is no bucket my-distil; create it, or correct S3_BUCKET.")
    asked = answering(monkeypatch, Check, refused)

    async def try_it() -> None:
        if by == "keys":
            await press(pilot, "ctrl+t")
        else:
            await click_on(pilot, "Test")

    async def tab_to(selector: str) -> None:
        for _ in guide.focus_chain:
            if pilot.app.focused is not guide.query_one(selector):
                await press(pilot, "tab")
        assert pilot.app.focused is guide.query_one(selector)

    async with app(home).run_test(size=(80, 24), notifications=True) as pilot:
        guide = await at(pilot, "storage")
        if by == "keys":
            await press(pilot, "down", "down")
        else:
            await click_on(pilot, "S3 or compatible")
        await try_it()
        assert "Bucket: needed for this target." in words(pilot)
        bucket = field_of(guide, "S3_BUCKET")
        assert pilot.app.focused is bucket
        pilot.app.post_message(events.Paste("my-distil"))
        await settled(pilot)
        assert "needed for this target" not in words(pilot)
        await try_it()
        assert said(pilot, "#found") == "✗ There is no bucket my-distil; create it, or correct “Bucket”."
        assert pilot.app.focused is bucket
        if by == "keys":
            await tab_to("#offer")
            await press(pilot, "enter")
        else:
            await click_on(pilot, "empty = AWS")
            assert pilot.app.focused is not bucket
            await click_on(pilot, "Go to Bucket")
        assert pilot.app.focused is bucket
        if by == "keys":
            await tab_to(f"#{guide.query('#form Input').last().id}")
            last = pilot.app.focused
            await press(pilot, "enter")  # the last field says how to go on, or back to what is to be mended
            assert (guide._step, pilot.app.focused) == ("storage", last)
            assert said(pilot, "#problem") == "The test failed; ctrl+n continues anyway."
            await press(pilot, "ctrl+o")
            assert pilot.app.focused is bucket
        await press(pilot, "end", *"other")
        if by == "keys":
            await press(pilot, "enter")  # what it named has changed
        else:
            await try_it()
        assert [one.values["S3_BUCKET"] for one in asked] == ["my-distil", "my-distilother"]
        if by == "keys":
            await tab_to("#field-STORAGE_SYNC")
            await press(pilot, "left", "ctrl+n", "ctrl+b")
        else:
            await click_on(pilot, "at the end")
            await click_on(pilot, "Next ›")
            assert guide._step == "student"
            await click_on(pilot, "‹ Back")
        assert field_of(guide, "S3_BUCKET").value == "my-distilother"
        assert guide.draft.get("STORAGE_SYNC") == "end"
        await press(pilot, "ctrl+s")
        await settled(pilot)
        told = "The test of the storage target failed: There is no bucket my-distil"
        assert any(told in one for one in notices(pilot))
