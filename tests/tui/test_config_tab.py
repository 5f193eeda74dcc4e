"""The Config tab: what is shown of each setting, and that it is changed by keyboard and by mouse."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import Input, OptionList

from bitnet_core.runs.resuming import recipe
from bitnet_core.settings.kinds import as_written
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import resolve
from bitnet_core.settings.values import TrainOptions
from bitnet_core.text import width
from bitnet_tui.app import BitnetApp
from bitnet_tui.labels import title
from bitnet_tui.remedies import in_app
from bitnet_tui.services.config import preview, save
from bitnet_tui.view import config
from bitnet_tui.view.config import ConfigView, Row, read_config, sections
from bitnet_tui.view.spans import unstyled
from bitnet_tui.widgets.config_pane import ConfigPane
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, said, settled, shown, until, words
from tests.tui.simulated import ENV, NOON, SimulatedRun, experiment, finished_experiment, save_checkpoint

# -- what is shown ---------------------------------------------------------------------------------------------------


def test_every_setting_is_shown_with_its_value_and_origin(home: Path):
    exp = experiment(home, "one")
    view = config.read_config(home, exp.root)
    values = resolve({"BITNET_HOME": str(home)}, root=exp.root).settings.values
    assert sorted(row.name for row in view.rows) == sorted(REGISTRY)
    assert all(row.text == as_written(values[row.name]) for row in view.rows if not row.setting.secret)
    assert {row.name for row in view.rows if row.differs} - {"BITNET_KEYRING"} == {"BUDGET_TOKENS", "TOTAL_STEPS"}
    assert view.row("TOTAL_STEPS").origin == ".env line 3"  # type: ignore[union-attr]
    assert view.row("LR").origin == "default"  # type: ignore[union-attr]


def test_a_key_is_never_shown(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-7f3a-secret")
    rows = config.read_config(home, experiment(home, "one").root).rows
    assert "canary" not in repr(rows)
    (row,) = (row for row in rows if row.name == "OPENAI_API_KEY")
    assert (row.text, row.origin) == ("•••", "environment")
    assert row.fixed


def test_two_experiments_differ_only_in_what_was_set(home: Path):
    one, other = experiment(home, "one"), experiment(home, "other")
    (other.root / ".env").write_text(ENV.replace("200", "300"))
    view = config.read_config(home, one.root, other.root)
    assert [(row.name, row.text, row.other) for row in view.rows if row.differs] == [("TOTAL_STEPS", "200", "300")]
    assert view.against == "other"


def test_a_folder_that_is_gone_is_said(home: Path):
    assert "is not an experiment any more" in config.read_config(home, home / "gone").problem


def test_every_setting_has_a_label_of_its_own_and_tells_its_name(home: Path):
    assert len({title(name) for name in REGISTRY}) == len(REGISTRY)
    for row in config.read_config(home, experiment(home, "one").root).rows:
        assert unstyled(config.about_lines(row, 78, 4)[0]).startswith(f"{title(row.name)}  {row.name}  ")
        assert row.name not in unstyled(config.row_line(row, 100, against=False))
        assert unstyled(config.row_line(row, 130, against=False)).endswith(f" {row.name}")


@given(
    st.sampled_from(list(REGISTRY)), st.text(max_size=60), st.text(max_size=60), st.integers(40, 160), st.booleans(),
    st.booleans(),
)  # fmt: skip
def test_a_row_fits_its_line_whatever_is_in_it(name: str, text: str, origin: str, cells: int, differs, against):
    row = Row(name, text, origin, differs, text if against else None)
    assert width(unstyled(config.row_line(row, cells, against=against))) <= cells
    assert width(unstyled(config.heading(text, origin, cells))) <= cells


def test_the_value_of_the_other_experiment_is_told_whole():
    long = "a-model-" * 12
    row = Row("OPENAI_MODEL", "", "default", differs=True, other=long)
    view = ConfigView(against="other")
    assert (
        unstyled(*config.now_lines(row, view, 200, 4))
        == f"Not set, by default. In other it is {long}. Enter changes it."
    )
    assert "In other it is not set." in unstyled(*config.now_lines(Row("LR", "1", ".env", True, ""), view, 200, 4))
    assert "other" not in unstyled(*config.now_lines(Row("LR", "1", ".env", False, "1"), view, 200, 4))


def test_a_value_that_is_not_the_checkpoints_tells_from_where_training_continues_with_it(home: Path):
    exp = experiment(home, "one")
    stopped = SimulatedRun(exp, "train", NOON)
    stopped.finish("cancelled")
    save_checkpoint(exp, 126, recipe=recipe(TrainOptions.of(exp.settings)), seen_tokens=9)
    (exp.root / ".env").write_text(ENV + "LR=5e-4\n")

    def told(name: str) -> str:
        view = config.read_config(home, exp.root)
        return unstyled(*config.now_lines(view.row(name), view, 200, 4))

    continues = "○ The next training continues from step 126 with “Learning rate” 6e-4 → 5e-4."
    assert told("LR") == f"5e-4, from .env line 4. Enter changes it.\n{continues}"
    assert "training" not in told("SEED")
    running = SimulatedRun(exp, "train", NOON + 60, alive=True)
    try:
        assert "training" not in told("LR"), "it may run with this value already"
    finally:
        running.end_process()


def test_a_key_that_one_experiment_has_and_the_other_has_not_differs(home: Path, isolated: Path):
    one = experiment(home, "one").root
    other = experiment(home, "other").root
    (other / ".env").write_text("OPENAI_API_KEY=sk-plain-text-key\n")
    row = config.read_config(home, one, other).row("OPENAI_API_KEY")
    assert row is not None
    assert (row.differs, row.text) == (True, "")
    assert "plain" not in str(row.other)


@pytest.mark.parametrize(
    ("typed", "name"),
    [("learn", "LR"), ("lr", "LR"), ("token_budget", ""), ("budget_tok", "BUDGET_TOKENS"), ("peak", "LR"), ("", "")],
)
def test_the_best_match_has_the_words_in_its_label_or_else_in_its_name(typed: str, name: str):
    rows = config.chosen(config.ConfigView(tuple(Row(one, "", "default") for one in REGISTRY)), typed, only=False)
    assert config.best_match(rows, typed) == name


@given(st.lists(st.sampled_from(list(REGISTRY)), unique=True), st.booleans(), st.sampled_from(["", "lr", "max tok"]))
def test_the_filter_keeps_the_order_and_every_word_counts(names: list[str], only: bool, typed: str):
    rows = tuple(Row(name, "", "default", differs=len(name) % 2 == 0) for name in names)
    found = config.chosen(config.ConfigView(rows), typed, only=only)
    slow = []
    for row in rows:
        text = f"{title(row.name)} {row.name} {row.setting.help} {row.setting.section}".lower()
        if (row.differs or not only) and all(word in text for word in typed.split()):
            slow.append(row)
    assert list(found) == slow


def test_many_words_are_looked_for_in_a_text_that_is_made_once(monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []
    searched = config._searched
    monkeypatch.setattr(config, "_searched", lambda row: made.append(row.name) or searched(row))
    view = ConfigView(tuple(Row(one, "", "default") for one in REGISTRY))
    assert config.chosen(view, "a e " * 5000, only=False)
    assert made == list(REGISTRY)


# -- by keyboard and by mouse ----------------------------------------------------------------------------------------


async def test_a_learning_rate_is_changed_by_keyboard(home: Path):
    exp = finished_experiment(home)
    live, training = SimulatedRun(exp, "dryrun", NOON + 900, alive=True), None
    try:
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
            await settled(pilot)
            await pilot.press("6", "slash", *"learn", "enter")  # it is in the help of a setting above it, too
            await settled(pilot)
            assert "Steps to fit the layers" in shown(pilot)
            assert " Learning rate " in shown(pilot)
            assert "Token budget" not in shown(pilot)
            assert said(pilot, "#config-about").startswith("Learning rate  LR  Peak learning rate.")
            field = pilot.app.screen.query_one("#config-value", Input)
            before = field.region
            await pilot.press("enter", *"x")
            await settled(pilot)
            assert "is not allowed: it must be a number from 1e-9 to 1." in words(pilot)
            await pilot.press("enter")
            await settled(pilot)
            assert (exp.root / ".env").read_text() == ENV
            await pilot.press("backspace", *"0.01")  # it is not left and come to again: nothing is selected
            await settled(pilot)
            assert "“Train the student” will use it in its next run, which begins at step 0." in words(pilot)
            assert field.region == before
            await pilot.press("enter")
            await settled(pilot)
            assert (exp.root / ".env").read_text() == ENV + "LR=0.01\n"
            assert "✓ “Learning rate” is saved." in words(pilot)
            training = SimulatedRun(exp, "train", NOON + 1000, alive=True)  # it uses the value: no next run has to
            await until(pilot, lambda: said(pilot, "#config-said") == "0.01, from .env line 4. Enter changes it.")
            await pilot.press("enter", *"0.02")
            await until(pilot, lambda: "enter Save" in shown(pilot).splitlines()[-1])
            started_with = "“Train the student” is running: it continues with the value that it started with"
            await until(pilot, lambda: started_with in words(pilot))
            training.finish()
            await until(
                pilot,
                lambda: "“Train the student” will use it in its next run, which begins at step 0." in words(pilot),
            )
            await pilot.press("escape", "escape")
            await settled(pilot)
            assert len(pilot.app.screen_stack) == 1
            await pilot.press("enter", "6")
            await settled(pilot)
            assert pilot.app.screen.query_one("#config-filter", Input).value == "learn"
            about = "Learning rate  LR  Peak learning rate."
            assert said(pilot, "#config-about").startswith(about), "it opens where it was left"
    finally:
        live.end_process()
        if training is not None:
            training.end_process()


async def test_the_tab_opens_at_the_student_and_down_leads_from_the_filter_to_the_list(home: Path):
    exp = experiment(home, "one")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("6")
        await settled(pilot)
        assert "Student" in shown(pilot) and "Start from" in shown(pilot)
        await pilot.press("slash", *"lr", "down", "j")
        await settled(pilot)
        assert pilot.app.screen.query_one("#config-filter", Input).value == "lr"
        edited = pilot.app.screen.query_one("#config-value")
        row = edited.region.y
        pilot.app.screen.query_one("#config-filter", Input).value = "nothing has these words"
        await until(pilot, lambda: "No setting is shown" in words(pilot))
        assert edited.region.y == row
        assert pilot.app.focused is pilot.app.screen.query_one("#config-list")


def test_the_sections_that_people_change_most_come_first_and_each_once(home: Path):
    rows = read_config(home, experiment(home, "one").root).rows
    assert {row.name for row in rows} == set(REGISTRY)
    titles = [one for one in sections(rows) if isinstance(one, str)]
    assert titles[:4] == ["Student", "Optimiser", "Flip", "Loss"]
    assert len(titles) == len(set(titles))


async def test_another_experiment_is_compared_and_a_value_unset_by_mouse(home: Path):
    exp, other = experiment(home, "one"), experiment(home, "other")
    (other.root / ".env").write_text(ENV.replace("200", "300"))
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await click_on(pilot, "6 Config")
        await click_on(pilot, "from the defaults")
        await pilot.press("end")
        await click_on(pilot, "Choose")  # a click on an entry chooses it as well
        await click_on(pilot, "from other")
        await click_on(pilot, "other   ")
        await settled(pilot)
        rows = [row for row in shown(pilot).split("\n") if "●" in row]
        assert len(rows) == 1
        assert " Steps " in rows[0]
        assert "200" in rows[0]
        assert "300" in rows[0]
        await click_on(pilot, "Unset")
        await settled(pilot)
        assert "TOTAL_STEPS" not in (exp.root / ".env").read_text()
        assert "✓ “Steps” is unset." in words(pilot)


async def test_the_setting_that_enter_changes_is_in_sight_when_the_filter_changes(home: Path):
    exp = experiment(home, "one")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("6", "slash", *"kd_tau", "enter")
        await settled(pilot)
        entries = pilot.app.screen.query_one("#config-list", OptionList)
        assert entries.option_count == 2  # the section and the only hit
        await pilot.press("slash", "ctrl+u")
        await settled(pilot)
        assert entries.option_count > len(REGISTRY)
        assert _highlighted_in_sight(entries) == "KD_TAU"
        assert "KD_TAU" in said(pilot, "#config-about")
        await pilot.press(*"seed")
        await settled(pilot)
        other = _highlighted_in_sight(entries)
        assert other != "KD_TAU"
        assert said(pilot, "#config-about").startswith(f"{title(other)}  {other}")


def _highlighted_in_sight(entries: OptionList) -> str:
    """The name of the highlighted setting, whose line is one of those that are drawn."""
    assert entries.highlighted is not None
    line = entries._index_to_line[entries.highlighted]
    assert entries.scroll_offset.y <= line < entries.scroll_offset.y + entries.scrollable_content_region.height
    return entries.get_option_at_index(entries.highlighted).id or ""


async def test_a_value_is_unset_at_once_by_its_key_and_the_list_keeps_the_focus(home: Path):
    exp = experiment(home, "one")
    (exp.root / ".env").write_text(f"{ENV}KD_TAU=2\n")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("6", "slash", *"kd_tau", "enter", "delete", "j")
        await settled(pilot)
        assert (exp.root / ".env").read_text() == ENV
        assert "✓ “Distillation temperature” is unset." in words(pilot)
        assert pilot.app.focused is pilot.app.screen.query_one("#config-list")
        await pilot.press("delete")
        await settled(pilot)
        assert "○ “Distillation temperature” is not set in the experiment's .env." in words(pilot)
        assert (exp.root / ".env").read_text() == ENV


async def test_a_click_on_the_closed_field_opens_it_with_the_value_selected(home: Path):
    exp = experiment(home, "one")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("6", "slash", *"total_steps", "enter")
        await settled(pilot)
        await click_on(pilot, "enter changes the highlighted one")
        field = pilot.app.screen.query_one("#config-value", Input)
        assert (pilot.app.focused, field.selected_text) == (field, "200")
        await pilot.press(*"300")
        await settled(pilot)
        await click_on(pilot, "Save")
        await settled(pilot)
        assert "TOTAL_STEPS=300" in (exp.root / ".env").read_text()


async def test_what_cannot_be_unset_is_refused_with_its_reason(home: Path):
    exp = experiment(home, "one")
    before = f"{ENV}KD_TAU=2\nLR=0.${{KD_TAU}}\n"
    (exp.root / ".env").write_text(before)
    (error,) = preview(home, exp.root, "KD_TAU", "").errors
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await pilot.press("6", "slash", *"kd_tau", "enter", "delete")
        await settled(pilot)
        assert (exp.root / ".env").read_text() == before
        assert in_app(error) in " ".join(said(pilot, "#config-said").split())


@pytest.mark.parametrize("line", ["LR=0.0006\n", "LR=0.1\n"])
def test_unsetting_removes_a_line_whatever_its_value_and_tells_what_counts_then(
    home: Path, monkeypatch: pytest.MonkeyPatch, line: str
):
    exp = experiment(home, "one")
    (exp.root / ".env").write_text(ENV + line)
    found = preview(home, exp.root, "LR", "")
    assert not found.same
    assert unstyled(*config.preview_lines(found, 200, 9, saved=True)).startswith("✓ “Learning rate” is unset.")
    monkeypatch.setenv("LR", "0.3")
    text = unstyled(*config.preview_lines(preview(home, exp.root, "LR", ""), 200, 9, saved=True))
    assert (
        text
        == "✓ “Learning rate” is unset.\n▲ “Learning rate” is still set by the environment, which takes precedence."
    )
    save(home, exp.root, "LR", "")
    assert (exp.root / ".env").read_text() == ENV
    text = unstyled(*config.preview_lines(preview(home, exp.root, "LR", ""), 200, 9))
    assert text == "○ “Learning rate” is not set in the experiment's .env, but by the environment."


async def test_each_setting_has_one_line_after_a_resize_while_one_is_changed(home: Path):
    exp = experiment(home, "one")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(200, 55)) as pilot:
        await settled(pilot)
        await pilot.press("6", "slash", *"peak", "enter", "enter", "9")
        await settled(pilot)
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        settings = pilot.app.screen.query_one("#config-list", OptionList)
        assert settings.virtual_size.height == settings.option_count
        assert pilot.app.screen.query_one("#config-value", Input).value == "9"


async def test_settings_that_contradict_each_other_are_told_when_saving_and_mended_by_one_key(home: Path):
    exp = experiment(home, "one")
    (exp.root / ".env").write_text(ENV + "STUDENT_INIT=teacher\nSTUDENT_INIT_LAYERS=3\n")
    told = "▲ “Layers kept” keeps layers of a model, and “Start from” names none;"
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("6")
        pilot.app.screen.query_one(ConfigPane).go_to("STUDENT_INIT")
        await settled(pilot)
        assert told not in words(pilot)
        for typing in (True, False):
            (exp.root / ".env").write_text(ENV + "STUDENT_INIT=teacher\nSTUDENT_INIT_LAYERS=3\n")
            await pilot.press("enter", *["backspace"] * 7, *"random")
            await until(pilot, lambda: told in words(pilot) and "ctrl+o unsets “Layers kept”." in words(pilot))
            if not typing:
                await pilot.press("enter")
                await until(pilot, lambda: "✓ “Start from” is saved." in words(pilot))
                assert told in words(pilot)
                await pilot.press("down")
                await until(pilot, lambda: "Layers kept STUDENT_INIT_LAYERS" in words(pilot))
                assert told in words(pilot), "it stays told at both"
            await pilot.press("ctrl+o")
            await until(pilot, lambda: "✓ “Layers kept” is unset." in words(pilot))
            assert (exp.root / ".env").read_text() == ENV + "STUDENT_INIT=random\n"
            assert told not in words(pilot)
            pilot.app.screen.query_one(ConfigPane).go_to("STUDENT_INIT")
            await settled(pilot)
