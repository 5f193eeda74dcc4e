"""The guide's step "Teacher": its test, the models it lists, and what mends what the test found."""

import threading
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.widgets import Button, Input

from bitnet_core.secrets import vault
from bitnet_tui.services import keys
from bitnet_tui.services.probing import Probe
from bitnet_tui.services.storing import Check
from bitnet_tui.widgets.guide import Cards
from tests.tui.guides import CHECKED, GOOD, KEY, answered, answering, app, at, choose, opened, press
from tests.tui.pilots import click_at, click_on, said, settled, shown, until, words


async def test_enter_lists_models_takes_one_tests_it_and_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch):
    reports = [{**GOOD, "model": None}, {**GOOD, "logprobs": False}, GOOD]
    monkeypatch.setattr(Probe, "run", lambda _: reports.pop(0))
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "custom")
        assert "if it asks for one" in shown(pilot)
        await press(pilot, "enter", *"127.0.0.1:1/v1", "enter", "enter", "enter")
        assert said(pilot, "#problem") == "Model is empty: type a name, or press List models (ctrl+t)."
        await press(pilot, "ctrl+t")
        await until(pilot, lambda: "It has 2 models" in shown(pilot) and guide.query_one("#models").has_focus)
        assert said(pilot, "#problem") == ""
        await press(pilot, "enter")
        assert guide.draft.model == "m"
        assert "gives no logprobs" in words(pilot), "the test goes on by itself"
        assert guide.query_one("#model").has_focus  # not Test again
        await press(pilot, "2")
        assert said(pilot, "#found") == "not tested: the last test was of m"
        await guide._come_to("review")
        await settled(pilot)
        assert "! Teacher · not tested: the last test was of m" in words(pilot)
        await guide._come_to("teacher")
        assert said(pilot, "#found") == "not tested: the last test was of m"
        await press(pilot, "ctrl+t")
        assert "answered in 0.42 s" in shown(pilot)
        await press(pilot, "enter")
        assert guide._step == "storage"
        assert not reports
        reports += [{**GOOD, "model": None, "models": ["only"]}, GOOD]
        await press(pilot, "ctrl+b")
        guide.query_one("#model", Input).value = ""
        await press(pilot, "ctrl+t")
        await until(pilot, lambda: "answered in 0.42 s" in shown(pilot))
        assert guide.draft.model == "only", "there is nothing to choose"
    assert not reports


async def test_a_good_model_shows_what_came_back_and_its_list_offers_others(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    answering(monkeypatch, Probe, GOOD)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "vllm")
        await press(pilot, "enter")
        assert pilot.app.focused is guide.query_one("#address")  # it may listen elsewhere than usual
        assert guide.query_one("#address", Input).placeholder == "http://127.0.0.1:8000/v1"
        await press(pilot, "enter", "enter")
        key = guide.query_one("#key", Input)
        assert (pilot.app.focused, key.placeholder) == (key, "only if it asks for one")
        assert said(pilot, "#hint").startswith("Enter goes to the empty field.")
        await press(pilot, "enter")
        assert "Model is empty: type a name, or press List models (ctrl+t)." in said(pilot, "#problem")
        assert guide.query_one("#model").has_focus
        guide.query_one("#model", Input).value = "m"
        await answered(pilot)
        before = {one.id: one.region for one in guide.query("#guide-body Input")}
        await press(pilot, "ctrl+t")
        assert "answered in 0.42 s" in shown(pilot)
        assert "20 candidates a step" in shown(pilot)
        assert "◉ m" in shown(pilot) and "○ another" in shown(pilot)
        await click_on(pilot, "another")
        assert guide.draft.model == "another"
        assert {one.id: one.region for one in guide.query("#guide-body Input")} == before
        await press(pilot, "ctrl+b", "ctrl+n")
        assert guide.query_one("#model", Input).value == "another"
        await press(pilot, "ctrl+t")
        for pasted, model in (("a/third\n", "a/third"), ("no model\n", "a/third"), (f"{KEY}\n", "a/third")):
            guide.query_one("#models").focus()
            pilot.app.post_message(events.Paste(pasted))
            await answered(pilot)
            assert guide.query_one("#model", Input).value == guide.draft.model == model
            await press(pilot, "ctrl+t")


async def test_logprobs_that_depend_on_the_sampling_are_mended_by_a_button(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = answering(monkeypatch, Probe, {**GOOD, "logprob_mode": "scaled"})
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "ollama")
        guide.query_one("#model", Input).value = "m"
        guide.query_one("#test").focus()
        await press(pilot, "enter")
        assert guide.query_one("#offer", Button).label.plain == "ctrl+o Collect at temperature 1"
        await press(pilot, "enter")
        assert len(asked) == 1
        assert guide.query_one("#next").has_focus
        assert guide.draft.get("KD_TEACHER_TEMPERATURE") == guide.draft.get("KD_TEACHER_TOP_P") == "1"


async def test_an_address_that_lacks_v1_is_mended_by_a_button(home: Path, monkeypatch: pytest.MonkeyPatch):
    root = "http://127.0.0.1:8091"
    report = {"provider": "llamacpp", "base_url": root, "reachable": True, "answers_at": f"{root}/v1"}
    answers = threading.Event()
    answers.set()
    asked: list[Probe] = []

    def run(probe: Probe) -> Any:
        asked.append(probe)
        while not (probe.cancelled or answers.wait(0.01)):
            pass
        return {**report, "problem": "set LLAMACPP_BASE_URL to it."}

    monkeypatch.setattr(Probe, "run", run)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "llamacpp")
        guide.query_one("#address", Input).value = root
        await press(pilot, "ctrl+t")
        assert f"✗ Correct “Address”: {root}/v1 answers." in said(pilot, "#found")
        assert guide.query_one("#offer", Button).label.plain == f"ctrl+o Use {root}/v1"
        answers.clear()
        await pilot.press("ctrl+o")
        await until(pilot, lambda: len(asked) == 2)
        await pilot.pause()
        assert guide.query_one("#address", Input).value == f"{root}/v1" == guide.draft.address
        answers.set()
        await settled(pilot)
        assert not asked[1].cancelled, "the new text in its field ends no test"
        assert "Correct “Address”" in said(pilot, "#found"), "its answer is shown"
        guide.query_one("#key", Input).value = KEY
        await settled(pilot)
        await choose(pilot, "vllm")
        assert [guide.query_one(one, Input).value for one in ("#address", "#key")] == [f"{root}/v1", KEY]
        await choose(pilot, "openai")
        assert (guide.query_one("#key", Input).value, guide.typed_keys) == ("", {})


async def test_enter_after_a_failed_test_says_so_and_leaves_every_field_as_it_is(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    why = "Other server can't be reached (no connection); check CUSTOM_BASE_URL."
    asked = answering(monkeypatch, Probe, {"provider": "custom", "reachable": False, "problem": why})
    async with app(home).run_test(size=(120, 36)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "custom")
        guide.query_one("#model", Input).value = "m"
        await answered(pilot)
        await press(pilot, "escape")
        guide = await opened(pilot)
        assert "ctrl+r Start afresh" in words(pilot)
        address, key = guide.query_one("#address", Input), guide.query_one("#key", Input)
        address.focus()
        await press(pilot, "b", "ctrl+t")
        assert (address.value, address.cursor_position) == ("http://b", len("http://b"))
        assert "ctrl+o Change the address" in words(pilot) and "afresh" not in words(pilot)
        key.focus()
        await answered(pilot)
        failed = "The test failed; ctrl+n continues anyway."
        assert said(pilot, "#hint").startswith(failed)
        await press(pilot, "enter")
        assert said(pilot, "#problem") == failed and "ctrl+o Change the address" in words(pilot)
        assert key.has_focus and address.value == "http://b" and len(asked) == 1
        await press(pilot, "x")
        assert said(pilot, "#hint").startswith("Enter tests it again.")
        await press(pilot, "enter")
        assert len(asked) == 2 and guide._step == "teacher"


async def test_fewer_candidates_than_are_asked_for_are_set_by_a_button_or_in_the_review(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    answering(monkeypatch, Probe, {**GOOD, "largest_k": 10, "logprob_mode": "scaled"})
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "ollama")
        guide.query_one("#model", Input).value = "m"
        await press(pilot, "ctrl+t")
        await press(pilot, "ctrl+n", "ctrl+n", "ctrl+n")
        assert "Teacher · the test says: ask for 10, at temperature 1" in words(pilot)
        await click_on(pilot, "Go to Teacher")
        assert "! 10 are fewer than the 20 that will be asked for" in said(pilot, "#found")
        await click_on(pilot, "Ask for 10, at temperature 1")
        wanted = {"TEACHER_TOP_LOGPROBS": "10", "KD_TEACHER_TEMPERATURE": "1", "KD_TEACHER_TOP_P": "1"}
        assert {name: guide.draft.get(name) for name in wanted} == wanted
        assert "✓ collected at temperature 1" in said(pilot, "#found")
        assert "✓ 10 will be asked for" in said(pilot, "#found")
        assert "fewer" not in said(pilot, "#found")
        assert not guide.offers
        await press(pilot, "ctrl+n", "ctrl+n", "ctrl+n")
        assert "the test says" not in words(pilot)
        assert "TEACHER_TOP_LOGPROBS=10" in words(pilot)


async def test_a_test_goes_on_at_another_step_and_ends_with_the_guide(home: Path, monkeypatch: pytest.MonkeyPatch):
    gate = threading.Event()
    asked: list[Probe] = []

    def run(probe: Probe) -> Any:
        asked.append(probe)
        while not (probe.cancelled or gate.wait(0.01)):
            pass
        return GOOD

    monkeypatch.setattr(Probe, "run", run)
    checked = answering(monkeypatch, Check, CHECKED)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "ollama")
        guide.query_one("#model", Input).value = "m"
        await pilot.pause()
        await pilot.press("ctrl+t", "ctrl+n")
        await until(pilot, lambda: guide._step == "storage" and guide.complete)
        cards = guide.query_one("#cards", Cards)
        cards.highlighted = cards.get_option_index("local")
        await pilot.pause()
        guide.query_one("#field-STORAGE_LOCAL_DIR", Input).value = "/mnt/copy"
        await pilot.press("ctrl+t")
        await until(pilot, lambda: said(pilot, "#problem") == "The teacher's test is still running.")
        assert not checked and len(asked) == 1 and not asked[0].cancelled
        await pilot.press("ctrl+n", "ctrl+n")
        await until(pilot, lambda: "! Teacher · its test: still running" in words(pilot))
        await click_at(pilot, "● Teacher")
        await until(pilot, lambda: "Asking the model for a few tokens" in said(pilot, "#found"))
        await pilot.press("ctrl+t", "ctrl+n", "ctrl+n", "ctrl+n")
        await until(pilot, lambda: "its test: still running" in words(pilot))
        gate.set()
        await until(pilot, lambda: "its test" not in words(pilot))
        await click_on(pilot, "● Teacher")
        assert "answered in 0.42 s" in said(pilot, "#found")
        assert len(asked) == 1

        gate.clear()
        await pilot.press("ctrl+t", "ctrl+n")
        await until(pilot, lambda: guide._step == "storage" and guide.complete)
        await pilot.press("ctrl+t")
        await until(pilot, lambda: "Stop it" in shown(pilot))
        await click_at(pilot, "Stop it")
        await until(pilot, lambda: not guide.busy)
        assert asked[1].cancelled
        await press(pilot, "ctrl+t")
        assert len(checked) == 1 and "written, read" in said(pilot, "#found")
        await pilot.press("ctrl+b")
        await until(pilot, lambda: guide._step == "teacher" and guide.complete)
        await pilot.press("ctrl+t", "ctrl+n")
        await until(pilot, lambda: guide._step == "storage" and guide.complete)
        assert len(asked) == 3
        await pilot.press("escape")
        await until(pilot, lambda: not guide.on_stack)
        assert asked[2].cancelled
        gate.set()


@pytest.mark.parametrize("leave", ["tab", "enter", "down"])
async def test_a_key_pasted_right_after_moving_to_its_field_is_not_shown(home: Path, leave: str):
    """Over a slow connection both arrive at once."""
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "openai")
        model, key = guide.query_one("#model", Input), guide.query_one("#key", Input)
        model.focus()
        await settled(pilot)
        pilot.app.post_message(events.Key(leave, None))
        pilot.app.post_message(events.Paste("sk-pasted-in-haste"))
        await settled(pilot)
        assert (model.value, key.value) == ("", "sk-pasted-in-haste")
        assert key.has_focus


async def test_a_vault_that_a_test_unlocked_is_no_longer_told_as_locked(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
):
    vault.create(path := isolated / "vault.json", "correct-horse").set("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("BITNET_VAULT", str(path))

    def run(_: Probe) -> dict[str, Any]:
        keys.inventory(home, None).places.opened(why="OPENAI_API_KEY and AWS_ACCESS_KEY_ID are in x").read()
        return GOOD

    monkeypatch.setattr(Probe, "run", run)
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "openai")
        guide.query_one("#model", Input).value = "m"
        await until(pilot, lambda: "in the vault (locked)" in shown(pilot))
        await press(pilot, "ctrl+t")
        assert "“Key” and “Access key” are in x, which is locked." in words(pilot)
        await press(pilot, *"correct-horse", "enter")
        await until(pilot, lambda: "answered in" in shown(pilot) and "in the vault" in shown(pilot))
        await until(pilot, lambda: "(locked)" not in shown(pilot))
