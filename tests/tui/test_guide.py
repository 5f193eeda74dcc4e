"""The guide for a new experiment, by keyboard and by mouse: journeys of a new user."""

import threading
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.geometry import Region
from textual.widgets import Button, Input

from bitnet_core.errors import BitnetError
from bitnet_core.runs.catalog import PIPELINE
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.screens.guide.student import StudentStep
from bitnet_tui.services import keys, planning
from bitnet_tui.services.storing import Check
from bitnet_tui.widgets.guide import Cards, Pick, ShareBar
from tests.tui.conftest import RecordingLaunch
from tests.tui.guides import answered, answering, app, at, choose, field_of, opened, press
from tests.tui.pilots import click_on, said, settled, shown, until, words

# -- a first run -----------------------------------------------------------------------------------------------------


async def test_after_a_test_that_passed_enter_goes_on_from_any_field(home: Path, monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, Check, {"place": "there", "seconds": {"write": 0.1}})
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        await choose(pilot, "s3")
        for name in ("AWS_SESSION_TOKEN", "S3_BUCKET"):
            field_of(guide, name).focus()
            await settled(pilot)
        assert "paste it here" not in shown(pilot).split("Session token")[1].split("\n")[0]
        await press(pilot, *"mine", "ctrl+t")
        await answered(pilot)
        assert pilot.app.focused is field_of(guide, "S3_BUCKET")
        assert said(pilot, "#hint") == "Enter continues. Name of the bucket, without s3:// and without a folder."
        await press(pilot, "enter")
        assert guide._step == "student"
        assert all(name in shown(pilot) for name in ("◉ nano", "○ 135m", "○ 2b4t"))
        await press(pilot, "down")
        assert isinstance(pilot.app.focused, Input)
        await press(pilot, "up")
        assert pilot.app.focused is field_of(guide, "MINI_PRESET")


async def test_an_enter_that_came_before_the_review_was_shown_makes_nothing(home: Path):
    recorder = RecordingLaunch(warning="")
    async with app(home, recorder).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "student")
        x, y = guide.query_one("#next").region.center
        at_next = (None, int(x), int(y), 0, 0, 1, False, False, False)
        early = [events.Key("enter", None), events.MouseDown(*at_next), events.MouseUp(*at_next)]
        await press(pilot, "ctrl+n")
        for event in early:  # they have waited while the step was made
            pilot.app.post_message(event)
            await settled(pilot)
            assert pilot.app.screen is guide
        assert guide.query_one("#next").has_focus  # the click arrived
        assert said(pilot, "#problem") == "This is what will be made; Enter makes it."
        guide.query_one("#starts").focus()  # the button takes no Enter while it is drawn as pressed
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert recorder.launched == [(home / "smollm2-nano", PIPELINE.name)]


@pytest.mark.parametrize("limit", ["LOOK_SECONDS", "REPEAT_SECONDS"])
async def test_an_enter_that_is_held_passes_no_step_that_it_has_opened(
    home: Path, monkeypatch: pytest.MonkeyPatch, limit: str
):
    recorder = RecordingLaunch(warning="")
    async with app(home, recorder).run_test(size=(80, 24)) as pilot:
        guide = await opened(pilot)
        for step in ("teacher", "storage", "student", "review"):
            monkeypatch.setattr(NewExperimentScreen, limit, 1e6)  # no time between two keys is long enough
            await press(pilot, *["enter"] * 5)
            assert guide._step == step
            assert pilot.app.screen is guide
            monkeypatch.setattr(NewExperimentScreen, limit, 0.0)
            await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert len(recorder.launched) == 1


async def test_enter_in_a_field_goes_to_the_next_one_and_from_the_last_one_to_the_next_step(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "teacher")
        await choose(pilot, "custom")
        await press(pilot, "enter")
        assert said(pilot, "#hint").startswith("Enter: next field.")
        for field, text in (
            ("address", "127.0.0.1:1/v1"),
            ("model", ""),
            ("key", ""),
            ("model", "m"),
            ("key", ""),
        ):
            assert pilot.app.focused is guide.query_one(f"#{field}")
            await press(pilot, *text, "enter")
            if (field, text) == ("model", "m"):  # back in a filled field, what is typed replaces what was there
                await press(pilot, "up", *"2x", "backspace", "enter")
            if field == "address":
                assert guide.query_one("#address", Input).value == "http://127.0.0.1:1/v1"
        assert guide._step == "storage"
        await guide._come_to("student")
        await answered(pilot)
        assert said(pilot, "#hint").startswith("Enter continues.")
        await press(pilot, "down")
        assert said(pilot, "#hint").startswith("Enter: next field.")
        assert (guide.draft.model, guide.draft.address) == ("2", "http://127.0.0.1:1/v1")
        await guide._come_to("review", "NAME")
        await press(pilot, *"mine", "enter")
        assert (guide._step, guide.draft.name) == ("review", "mine")
        assert pilot.app.focused is guide.query_one("#starts")
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert (home / "mine" / ".env").is_file()


@pytest.mark.parametrize("size", [(60, 15), (100, 30), (120, 36)])
async def test_every_step_shows_its_fields_and_buttons(home: Path, size: tuple[int, int]):
    async with app(home).run_test(size=size) as pilot:
        guide = await opened(pilot)
        for step in ("machine", "teacher", "storage", "student", "review"):
            assert guide._step == step
            for button in guide.query(Button):
                if button.display and button.parent is guide.query_one("#bar"):
                    assert button.region.right <= size[0]
                    assert button.region.bottom <= size[1]
            assert not guide.query("#guide-body Input") or guide.query("#guide-body Input").first().region.height == 1
            await press(pilot, "ctrl+n")


async def test_a_keyring_and_estimates_that_hang_hold_nothing_up(home: Path, monkeypatch: pytest.MonkeyPatch):
    gate = threading.Event()

    def hang(*_: Any) -> Any:
        gate.wait(600)  # until the test has seen all; a slow machine must not look like a late answer
        raise BitnetError("It came too late.")

    monkeypatch.setattr(keys, "inventory", hang)
    monkeypatch.setattr(planning.Plan, "run", hang)
    async with app(home).run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        await pilot.press("n")
        try:
            for title in ("This machine", "SmolLM2-135M", "Only on this machine", "Estimating", "Create it"):
                while title not in shown(pilot):
                    await pilot.pause(0.02)
                await pilot.press("enter")
            while not isinstance(pilot.app.screen, ExperimentScreen):
                await pilot.pause(0.02)
        finally:
            gate.set()


# -- student and budget ----------------------------------------------------------------------------------------------


async def test_the_flip_is_moved_by_keys_and_by_mouse_and_the_estimates_are_shown(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "student")
        text = words(pilot)
        assert "16M parameters" in text
        assert "at least 26m" in text  # 1,000,000 tokens at 640 a second
        assert "at most 71.8k tokens" in text
        assert "costs nothing" in text
        bar = guide.query_one(ShareBar)
        await pilot.click(ShareBar, offset=(0, 0))
        assert guide.draft.get("FLIP_FRACTION") == "0"
        await pilot.mouse_down(ShareBar, offset=(10, 0))
        await pilot.hover(ShareBar, offset=(bar.size.width - 1, 0))
        assert not guide.selections
        await pilot.mouse_up(ShareBar, offset=(bar.size.width - 1, 0))
        await settled(pilot)
        assert "never flips" in words(pilot)
        bar.focus()
        await press(pilot, "left", "left", "shift+left")
        assert guide.draft.get("FLIP_FRACTION") == "0.88"
        assert "88% of the budget" in words(pilot)
        guide.query_one(StudentStep)._estimate.mark()
        assert "What it will take: estimating again…" in words(pilot)


async def test_what_is_most_likely_meant_is_offered(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "student")
        start = field_of(guide, "STUDENT_INIT")
        assert isinstance(start, Input)
        length = field_of(guide, "MAX_SEQ_LEN")
        assert isinstance(length, Input)
        assert said(pilot, "#problem") == "Six of the teacher's layers are a far better start."
        assert length.value == "640"  # the longest answer fits
        length.value = "256"
        await settled(pilot)
        assert said(pilot, "#problem") == "Sequences of 256 tokens cut off longer answers."
        assert "ctrl+o Sequence length 640" in words(pilot)
        length.focus()
        await press(pilot, "ctrl+o")
        assert length.value == guide.draft.get("MAX_SEQ_LEN") == "640"
        assert pilot.app.focused is guide.query_one("#next")  # Enter passes the other fields
        assert said(pilot, "#problem") == "Six of the teacher's layers are a far better start."
        width = field_of(guide, "MINI_DIM")
        assert isinstance(width, Input)
        width.value = "128"
        await settled(pilot)
        assert not guide.offers  # with that width, training would refuse the layers
        width.value = ""
        await settled(pilot)
        assert said(pilot, "#problem") == "Six of the teacher's layers are a far better start."
        buttons = [guide.query_one(one).region for one in ("#back", "#next")]
        await click_on(pilot, "Start from them")
        names = ("STUDENT_INIT", "STUDENT_INIT_LAYERS", "LR", "SCHEDULER_ETA_MIN")
        assert [guide.draft.get(name) for name in names] == ["teacher", "6", "3e-4", "3e-5"]
        assert start.value == "teacher" and said(pilot, "#problem") == "" and not guide.offers
        tokenizer = field_of(guide, "TOKENIZER_NAME")
        assert isinstance(tokenizer, Input)
        assert (tokenizer.placeholder, width.placeholder) == ("the teacher's", "the teacher's")
        for field in (tokenizer, width):
            field.focus()
            await until(pilot, lambda: "empty = the teacher's." in said(pilot, "#hint"))
        assert "○ nano ○ mini" in words(pilot) and "◉ nano" not in words(pilot)  # the model has its own shape
        assert not field_of(guide, "MINI_PRESET").can_focus
        assert [guide.query_one(one).region for one in ("#back", "#next")] == buttons
        start.value, rate = "", field_of(guide, "LR")
        assert isinstance(rate, Input)
        rate.value = "2e-5"
        await settled(pilot)
        assert (
            said(pilot, "#problem") == "The rate doesn't fall: it ends at 3e-5."
        )  # not that there are better starts
        await click_on(pilot, "End at 2e-6")
        assert said(pilot, "#problem") == "Six of the teacher's layers are a far better start."
        guide.change("SCHEDULER_ETA_MIN", "3e-5")
        rate.value = "2e-4"
        await settled(pilot)
        assert (tokenizer.placeholder, width.placeholder) == ("SmolLM2's", "the preset's")
        await click_on(pilot, "Start from them")
        assert [guide.draft.get(name) for name in names] == ["teacher", "6", "2e-4", "3e-5"]
        start.value = ""
        await settled(pilot)
        field_of(guide, "MINI_PRESET").focus()
        await press(pilot, "right")
        assert guide.draft.get("MINI_PRESET") == "mini" and not guide.offers
        await press(pilot, "right")
        assert guide.draft.get("MINI_PRESET") == "smollm2-135m"
        assert said(pilot, "#problem") == "The teacher has this shape."
        await press(pilot, "right")
        assert said(pilot, "#problem") == "SmolLM2-360M has this shape."
        await click_on(pilot, "Start from its weights")
        assert start.value == guide.draft.get("STUDENT_INIT") == "HuggingFaceTB/SmolLM2-360M-Instruct"
        await until(pilot, lambda: said(pilot, "#problem").startswith("Looks like a name on the hub"))
        assert not guide.offers
        start.value = ""
        await settled(pilot)
        await click_on(pilot, "360m")
        assert guide.offers
        guide.change("TEACHER_PROVIDER", "hf")
        guide.change("HF_MODEL", "a/b")
        start.value = "teacher"
        await settled(pilot)
        for online, offered in (("1", "Ask while training"), ("0", "Use its traces alone")):
            await click_on(pilot, offered)
            assert guide.draft.get("TRAIN_ONLINE") == online
        tokenizer.value = "c/d"
        await settled(pilot)
        assert not guide.offers  # it has another tokenizer
        start.value = ""
        await settled(pilot)
        await click_on(pilot, "1b")
        assert guide.draft.get("MINI_PRESET") == "1b" and not guide.offers


async def test_a_wrong_number_is_told_in_words_and_the_hint_vanishes_when_it_is_mended(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "student")
        field = field_of(guide, "KD_NUM_PROMPTS")
        assert isinstance(field, Input)
        field.focus()
        await until(pilot, lambda: "held out to measure on; 320 answers leave enough." in words(pilot))

        def regions() -> list[Region]:
            """Of all but the estimates, which have the room below them to themselves and come late."""
            return [one.region for one in guide.query("#guide-body *") if one.id != "plan"]

        before = regions()
        field.value = "0"
        await settled(pilot)
        assert said(pilot, "#problem") == "Answers: a whole number of at least 1"
        assert field.has_class("-wrong")
        assert regions() == before
        await click_on(pilot, "Set it to 320")
        assert field_of(guide, "KD_NUM_PROMPTS").value == "320"
        assert "Answers" not in said(pilot, "#problem")
        assert not guide.query(".-wrong")
        again = field_of(guide, "KD_NUM_PROMPTS")
        assert isinstance(again, Input)
        again.value = "2k"
        await settled(pilot)
        assert guide.draft.get("KD_NUM_PROMPTS") == "2000" and "Answers" not in said(pilot, "#problem")


async def test_a_click_on_its_label_enters_a_field(home: Path):
    async with app(home).run_test(size=(80, 24)) as pilot:
        guide = await at(pilot, "storage")
        await choose(pilot, "s3")
        await click_on(pilot, "Endpoint")
        assert pilot.app.focused is field_of(guide, "S3_ENDPOINT_URL")


@pytest.mark.parametrize(("width", "least"), [(60, 20), (80, 24), (120, 40)])
@pytest.mark.parametrize(("step", "choice"), [("teacher", "custom"), ("storage", "s3"), ("storage", "dynamodb")])
async def test_an_address_can_be_read_while_it_is_typed(home: Path, width: int, least: int, step: str, choice: str):
    async with app(home).run_test(size=(width, 24)) as pilot:
        guide = await at(pilot, step)
        await choose(pilot, choice)
        fields = [one for one in guide.query(Input) if one.region]
        assert fields
        assert all(one.content_size.width >= least for one in fields)


async def test_what_enter_does_is_said_at_each_field_and_choice_however_small_the_window(home: Path):
    async with app(home).run_test(size=(60, 15)) as pilot:
        guide = await opened(pilot)
        told: dict[str, set[str]] = {}
        for step, chosen in (("teacher", "custom"), ("storage", "s3"), ("student", ""), ("review", "")):
            await guide._come_to(step)
            await answered(pilot)
            if chosen:
                await choose(pilot, chosen)
            for widget in guide.focus_chain:
                guide.set_focus(widget)
                await answered(pilot)
                place = guide.query_one("#hint").region
                drawn = " ".join(line[place.x :].strip() for line in shown(pilot).split("\n")[place.y : place.bottom])
                if isinstance(widget, Input | Cards | Pick | ShareBar):
                    assert "enter" in drawn.lower(), f"{step} {widget.id}: {drawn}"
                    told.setdefault(step, set()).add(drawn.partition(".")[0])
                elif isinstance(widget, Button):
                    assert drawn.strip() in ("", "Enter continues.", "Enter makes it."), (
                        f"{step} {widget.id}: {drawn}"
                    )
        assert all({"Enter: next field"} < words for words in told.values())
