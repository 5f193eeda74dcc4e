"""The guide's step "Storage": its test, what mends what that found, and a login."""

import threading
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_tui.services.storing import Check, Login
from bitnet_tui.view.guide.draft import STEPS
from bitnet_tui.widgets.guide import Cards, Pick
from tests.tui.guides import CHECKED, KEY, answered, answering, app, at, choose, field_of, opened, press
from tests.tui.pilots import click_on, files_text, said, settled, words


@pytest.mark.parametrize("size", [(60, 15), (80, 24)])
async def test_all_that_a_test_found_can_be_read_by_keys(home: Path, monkeypatch: pytest.MonkeyPatch, size: Any):
    why = "It refuses the file (a policy of the place forbids it, for all keys, with no exception); ask its owner"
    answering(monkeypatch, Check, BitnetError(f"{why}. {why}. {why}, now."))
    async with app(home).run_test(size=size) as pilot:
        guide = await at(pilot, "storage")
        await choose(pilot, "local")
        field_of(guide, "STORAGE_LOCAL_DIR").value = "/mnt/copy"
        await answered(pilot)
        assert not guide.query_one("#results").focusable
        await press(pilot, "ctrl+t")
        assert "now." not in words(pilot)
        for _ in guide.focus_chain:
            if pilot.app.focused is not guide.query_one("#results"):
                await press(pilot, "tab")
        assert "the rest of what the test found" in said(pilot, "#hint")
        await press(pilot, "G")
        assert "now." in words(pilot)


async def test_a_bucket_that_is_not_there_is_created_once_that_was_agreed(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[list[str]] = []

    def run(check: Check) -> dict[str, Any]:
        asked.append(check.arguments[-2:])
        if "--create" in check.arguments:
            return CHECKED
        raise BitnetError("S3 refuses (NoSuchBucket: none); create the bucket, or correct S3_BUCKET.")

    monkeypatch.setattr(Check, "run", run)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        await click_on(pilot, "S3 or compatible")
        field_of(guide, "S3_BUCKET").value = "my-distil"
        field_of(guide, "S3_BUCKET").focus()
        await answered(pilot)
        await press(pilot, "ctrl+t")
        assert guide.query_one("#offer").has_focus
        for answer in ("#no", "#yes"):
            await click_on(pilot, "Create the bucket", last=True)
            assert "Create the bucket my-distil?" in words(pilot) and "at Amazon" in words(pilot)
            assert len(asked) == 1
            await pilot.click(answer)
            await settled(pilot)
        assert asked == [["store", "check"], ["check", "--create"]]
        assert "✓ written, read, listed, deleted" in said(pilot, "#found")


async def test_a_target_that_works_shows_what_was_measured_and_its_keys_are_not_in_the_command(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = answering(monkeypatch, Check, CHECKED)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        await choose(pilot, "s3")
        field_of(guide, "S3_BUCKET").value = "my-distil"
        field_of(guide, "AWS_SECRET_ACCESS_KEY").value = KEY
        field_of(guide, "S3_ENDPOINT_URL").value = "127.0.0.1:9000"
        await settled(pilot)
        await press(pilot, "ctrl+t")
        assert "20 ms each" in said(pilot, "#found")
        assert "2 GB free" in said(pilot, "#found")
    (one,) = asked
    assert (one.values["S3_BUCKET"], one._typed) == ("my-distil", {"AWS_SECRET_ACCESS_KEY": KEY})
    assert one.values["S3_ENDPOINT_URL"] == "http://127.0.0.1:9000"
    assert KEY not in str(asked[0].arguments) + str(asked[0].values)
    assert KEY not in files_text(home.parent)


async def test_a_login_shows_its_page_and_code(home: Path, monkeypatch: pytest.MonkeyPatch):
    def run(login: Any) -> dict[str, str]:
        login._show("https://example.org/device", "ABCD-EFGH")
        return {"kept": "ONEDRIVE_REFRESH_TOKEN is kept in the vault."} if gate.wait(30) else {}

    gate = threading.Event()
    monkeypatch.setattr(Login, "run", run)
    async with app(home).run_test(size=(80, 24)) as pilot:
        await at(pilot, "storage")
        await choose(pilot, "onedrive")
        await pilot.click("#login")
        await pilot.pause(0.2)
        assert "https://example.org/device" in words(pilot)
        assert "ABCD-EFGH" in words(pilot)
        gate.set()
        await settled(pilot)
        assert said(pilot, "#found") == "✓ logged in   “Refresh token” is kept in the vault."


async def test_enter_leads_to_what_the_target_needs_from_the_list_and_past_the_last_field(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        assert "enter continues." in said(pilot, "#hint")
        for _ in range(3):
            guide.query_one(Cards).action_cursor_down()
        await guide.action_enter()  # before the list has told of it, and before the form is there
        assert guide.draft.backend == "webdav"
        address = field_of(guide, "WEBDAV_URL")
        assert (guide._step, guide.focused) == ("storage", address)
        await answered(pilot)
        guide.set_focus(guide.query_one(Cards))
        await answered(pilot)
        assert "enter goes to “Address”." in said(pilot, "#hint")
        guide.set_focus(guide.query_one(Pick))
        await answered(pilot)
        assert said(pilot, "#hint").startswith("Enter goes to the empty field.")
        await press(pilot, "enter")
        assert said(pilot, "#problem") == "Address: needed for this target."
        assert (guide._step, guide.focused) == ("storage", address)
        await press(pilot, *"a.b", "ctrl+n")
        assert guide._step == "student"


async def test_the_form_of_the_target_chosen_last_is_the_one_that_enter_leads_into(home: Path):
    """Two targets that follow each other have fields with the same name."""
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        cards = guide.query_one(Cards)
        await choose(pilot, "s3")
        cards.highlighted = cards.get_option_index("dynamodb")
        cards.highlighted = cards.get_option_index("s3")
        await guide.action_enter()
        await press(pilot, *"runs")
        assert guide.draft.get("S3_BUCKET") == "runs" == field_of(guide, "S3_BUCKET").value


async def test_a_test_is_offered_where_there_is_something_to_test(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await opened(pilot)
        servers = {"teacher": "custom", "storage": "s3"}
        for step in STEPS:
            await guide._come_to(step)
            await answered(pilot)
            assert "test" not in said(pilot, "#head")
            await press(pilot, "ctrl+t")
            assert said(pilot, "#problem") == "There is nothing to test here."
            if step in servers:
                await choose(pilot, servers[step])
                assert "ctrl+t test" in said(pilot, "#head")
        await guide._come_to("machine")
        await press(pilot, "alt+right")
        assert guide._step == "teacher"
        await press(pilot, "alt+left")
        assert guide._step == "machine" and "back" not in said(pilot, "#head")
