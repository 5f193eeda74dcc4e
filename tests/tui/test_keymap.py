"""The user's own keys: what of the file is used, what is wrong in sentences, and the same keys in footer and help."""

import ast
import importlib
import pkgutil
import re
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.binding import Binding

import bitnet_tui
from bitnet_tui import keymap
from bitnet_tui.actions import ACTIONS
from bitnet_tui.app import BitnetApp
from bitnet_tui.keymap import Keymap, checked, remapped
from bitnet_tui.widgets.buttons import KeyButton
from bitnet_tui.widgets.table import Table
from bitnet_tui.widgets.words import Words
from tests.fuzzing import fuzz
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, notices, settled, shown, until, words
from tests.tui.simulated import NOON, SimulatedRun, finished_experiment, leave_traces, save_checkpoint

_IDS = [action.id for action in ACTIONS]
_RUNS = "experiment.run", "experiment.run-all", "experiment.resume"


@pytest.mark.parametrize(
    ("wanted", "keys", "problem"),
    [
        ({"app.theme": "f5"}, {"app.theme": "f5"}, ""),
        ({"app": {"theme": ["T", "ctrl+t"]}}, {}, "guide.test and app.theme would both be on ctrl+t"),
        ({"app": {"theme": ["f4", "f5"]}}, {"app.theme": "f4,f5"}, ""),
        ({"app.help": "!"}, {"app.help": "exclamation_mark"}, ""),
        ({"experiment.run": "f5"}, dict.fromkeys(_RUNS, "f5"), ""),
        ({"experiment.run": "p"}, {}, "experiment.run and experiment.pipeline would both be on p; give one"),
        (
            {"experiment.run": "p", "experiment.pipeline": "r"},
            dict.fromkeys(_RUNS, "p") | {"experiment.pipeline": "r"},
            "",
        ),
        ({"list.new": "q"}, {}, "list.new and app.quit would both be on q"),
        ({"experiment.rnu": "f5"}, {}, "experiment.rnu is not an action; did you mean experiment.run?"),
        ({"zzz\x1b": "f5"}, {}, "zzz· is not an action; the app's Keys dialog lists them all."),
        ({"app.quit": "j"}, {}, "app.quit can't have j, which moves in lists and dialogs; give it another key."),
        *(
            ({"app.quit": value}, {}, "app.quit has no usable key")
            for value in ("", "ctl+x", 3, [], ["f5", None], "xy")
        ),
    ],
)
def test_what_is_used_and_what_is_wrong(wanted: dict[str, object], keys: dict[str, str], problem: str):
    found = checked(wanted)
    assert found.keys == keys
    assert [one.startswith(problem) for one in found.problems] == ([True] if problem else [])


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.sampled_from(_IDS), st.sampled_from([*"rpsqtyKxZ", "f5", "f6", "enter", "nonsense"]), max_size=6
    )
)
def test_no_two_actions_of_a_screen_are_ever_on_one_key_by_a_remapping(wanted: dict[str, str]):
    found = checked(wanted)
    for (one, new), (other, new_other) in combinations(zip(ACTIONS, remapped(found.keys), strict=True), 2):
        together = one.where == other.where and one.keys == other.keys
        if not together and (one.where == other.where or "app" in (one.where, other.where)):
            meant = set(one.keys.split(",")) & set(other.keys.split(","))
            assert set(new.keys.split(",")) & set(new_other.keys.split(",")) <= meant
    assert len(found.problems) >= (len(found.keys) == 0 < len(wanted))


def test_the_keys_as_they_are_clash_nowhere():
    shared = {
        *combinations(_RUNS, 2),
        ("play.copy", "app.copy"),
        ("keys.close", "app.quit"),
        ("dialog.close", "dialog.no"),
        ("dialog.close", "app.quit"),
        ("dialog.yes", "app.copy"),
    }
    for one, other in combinations(ACTIONS, 2):
        if one.where == other.where or "app" in (one.where, other.where):
            both = set(one.keys.split(",")) & set(other.keys.split(","))
            assert not both or (one.id, other.id) in shared, (one.id, other.id)


def test_a_file_that_cant_be_read_is_one_sentence():
    path = keymap.place()
    assert keymap.read() == Keymap()
    path.parent.mkdir(parents=True)
    for data, problem in (
        (b"app.theme = ", "is not TOML"),
        (b"\xff", "is not TOML"),
        (b"#\n" * (1 << 15) + b"#", "can't be read (it is longer than 64 KiB); correct it, or move it away"),
        (b"a = " + b"[\n" * 20_000, "it is nested too deeply"),
        (b"[" + b"a." * 990 + b"a]\n" + b"b." * 990 + b"b = 1\n", "line 1: a name has more than 100 parts"),
        (b".".join([b"a"] * 20_000) + b" = 1", "line 1: a name has more than 100 parts"),
        (b"\n\napp.theme = 0x" + b"f" * 4000, "is not TOML"),
    ):
        path.write_bytes(data)
        (said,) = keymap.read().problems
        assert said.startswith(str(path)) and problem in said and said.endswith(".")
    path.unlink()
    path.mkdir()
    (said,) = keymap.read().problems
    assert "can't be read" in said


def test_a_file_with_a_mark_of_its_encoding_is_read_and_one_of_faults_alone_says_so_briefly():
    keymap.place().parent.mkdir(parents=True)
    keymap.place().write_bytes(b"\xef\xbb\xbf" + b'"experiment.run" = "f5"\n')
    assert keymap.read().keys["experiment.run"] == "f5"
    wanted = {f"experiment.rum{number}": "f5" for number in range(3000)} | {"app.theme": "f5"}
    found = checked(wanted)
    assert found.keys == {"app.theme": "f5"}
    assert len(found.problems) == 21
    assert found.problems[-1] == "2,980 more can't be used; correct those above first."


_WORDS = st.sampled_from(
    [
        b"[",
        b"]",
        b"{",
        b"}",
        b"=",
        b".",
        b",",
        b'"',
        b"'",
        b"\n",
        b"#",
        b"f5",
        b"0x",
        b"a.",
        b'"app.help" = ',
        b"\xff",
    ]
)


@fuzz(100)
@given(st.lists(_WORDS | st.binary(max_size=4), max_size=60).map(b"".join), st.sampled_from([1, 1, 1, 30, 3000]))
def test_any_bytes_are_keys_or_sentences(data: bytes, times: int):
    path = keymap.place()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data * times)
    found = keymap.read()
    assert set(found.keys) <= set(_IDS)
    assert len(found.problems) <= 2 * len(_IDS)
    assert all(one.isprintable() and one.endswith(".") and len(one) < 600 for one in found.problems), found.problems


async def test_keys_of_ones_own_work_and_are_shown_and_what_one_is_on_is_copied(home: Path):
    exp = finished_experiment(home, "kd")
    (exp.reports / "teacher_baseline.json").write_text("{}")
    leave_traces(exp)
    save_checkpoint(exp, 200)
    keymap.place().parent.mkdir(parents=True)
    keymap.place().write_text('"app.help" = "f5"\n"experiment.run" = "f6"\n"list.nwe" = "x"\n')
    recorder = RecordingLaunch(warning="")
    async with BitnetApp(home, launch=recorder).run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        assert "list.nwe is not an action; did you mean list.new?" in " ".join(notices(pilot))
        pilot.app.clear_notifications()
        await pilot.press("question_mark")
        assert "esc closes" not in shown(pilot)
        await pilot.press("f5")
        await settled(pilot)
        assert "f5" in shown(pilot)
        await pilot.press("escape", "K")
        await settled(pilot)
        assert str(keymap.place().name) in words(pilot) and "did you mean list.new?" in words(pilot)
        await pilot.press("escape", "y")
        await settled(pilot)
        assert pilot.app.clipboard.startswith("kd ")
        await pilot.press("enter")
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        assert recorder.launched == []
        await pilot.press("f6")
        await settled(pilot)
        assert [stage for _, stage in recorder.launched] == ["eval"]
        await pilot.press("3")
        await settled(pilot)
        await click_on(pilot, "QEI")
        await pilot.press("y")
        await settled(pilot)
        assert "top-1 agreement" in pilot.app.clipboard and "│" not in pilot.app.clipboard
        (copied,) = home.parent.rglob("copied.txt")
        assert copied.read_text() == pilot.app.clipboard and copied.stat().st_mode & 0o077 == 0
        assert str(copied.name) in words(pilot)


async def test_buttons_and_words_name_the_keys_that_the_user_has(home: Path):
    exp = finished_experiment(home, "kd")
    live = SimulatedRun(exp, "train", NOON + 9000, alive=True)
    keymap.place().parent.mkdir(parents=True)
    keymap.place().write_text(
        '"experiment.report" = "f5"\n"log.wrap" = "f6"\n"config.filter" = "f7"\n"list.sort" = "f8"\n'
        '"checkpoints.flip" = "f9"\n"experiment.follow" = "ctrl+g"\n"traces.worst" = "f10"\n'
    )
    try:
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
            await settled(pilot)
            await pilot.press("up")
            await settled(pilot)
            assert "ctrl+g follows what runs" in shown(pilot)
            await pilot.press("2")
            for key, expected in (
                ("3", "f5 "),
                ("7", "f6 "),
                ("6", "f7 filter"),
                ("4", "f9 Flip from here"),
            ):
                await pilot.press(key)
                await settled(pilot)
                assert expected in shown(pilot)
            labels = [str(one.label) for one in pilot.app.screen.query(KeyButton)]
            assert "f10 Teacher's least sure" in map(str.strip, labels) and "N Least sure of all" in labels
            await pilot.press("escape")
            await settled(pilot)
            assert "f8 sort" in words(pilot)
    finally:
        live.end_process()


_PASTED = [
    ("half \ud800, \udcff", "half ·, ·"),
    ("a\x1b[31m\x1b]52;c;cHduZWQ=\x07\r\nrm -rf ~\x9b2J", "a·[31m·]52;c;cHduZWQ=·\nrm -rf ~·2J"),
    ("if a:\n\treturn\u202eb\u2066\u200b\x00", "if a:\n\treturn·b···"),
    ("żółć 東京 🙂", "żółć 東京 🙂"),
]


async def test_what_is_copied_does_nothing_where_it_is_pasted(home: Path):
    async with BitnetApp(home).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        assert isinstance(pilot.app, BitnetApp)
        for more in ("", "x" * 80_000, "漢" * 30_000):
            for text, copied in _PASTED:
                pilot.app.copy_to_clipboard("before")
                pilot.app.copy_text(text + more)
                await settled(pilot)
                assert pilot.app.clipboard == ("before" if more else copied)
                (kept,) = home.parent.rglob("copied.txt")
                assert kept.read_text() == copied + more
            told = "is too long for a terminal's clipboard" if more else "doesn't accept copies"
            await until(pilot, lambda told=told: told in " ".join(notices(pilot)))


async def test_what_the_mouse_selects_is_copied_by_ctrl_c_in_the_same_way(home: Path):
    async with BitnetApp(home).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+c")  # nothing is selected
        await until(pilot, lambda: "Press q to quit; runs continue." in " ".join(notices(pilot)))
        words_of = pilot.app.screen.query(Words).first()
        words_of.update("a line, " + "漢" * 30_000)
        await settled(pilot)
        words_of.text_select_all()
        await pilot.press("ctrl+c")
        await settled(pilot)
        (kept,) = home.parent.rglob("copied.txt")
        assert pilot.app.clipboard == "" and kept.read_text().startswith("a line, 漢漢")


def _all_bindings() -> list[tuple[str, Binding]]:
    """Every binding that a class of the app has of its own."""
    found = []
    for module in pkgutil.walk_packages(bitnet_tui.__path__, "bitnet_tui."):
        if module.name.endswith("__main__"):
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and kind.__module__ == module.name and "BINDINGS" in vars(kind):
                found += [(kind.__qualname__, one) for one in Binding.make_bindings(vars(kind)["BINDINGS"])]
    return found


def test_each_binding_has_an_id_of_the_table():
    known = {*_IDS}
    found = _all_bindings()
    assert len(found) > 100
    for owner, binding in found:
        assert binding.id in known, (owner, binding)


def test_the_keys_that_move_can_be_others():
    """Given to all lists, texts and charts at once, and not to what they would then hide."""
    (problem,) = checked({"move.down": ["down", "n"]}).problems
    assert f"would both be on n; {_OTHER}" in problem
    found = checked({"move.down": ["down", "f9"], "move.up": ["up", "ctrl+e"], "field.next": "ctrl+w"})
    assert found.problems == ()
    assert found.keys["move.down"] == "down,f9"
    (problem,) = checked({"move.up": "j"}).problems
    assert f"would both be on j; {_OTHER}" in problem
    (problem,) = checked({"field.next": "n"}).problems
    assert problem == "field.next works while you type; give it a key that is not a character, such as ctrl+n."


_OTHER = "give one of them another key."


async def test_a_list_moves_by_the_users_own_keys(home: Path):
    keymap.place().parent.mkdir(parents=True)
    keymap.place().write_text('"move.down" = ["down", "f9"]\n')
    for name in ("one", "two"):
        finished_experiment(home, name)
    async with BitnetApp(home).run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        table = pilot.app.screen.query_one(Table)
        before = table.key
        await pilot.press("f9")
        await settled(pilot)
        assert table.key != before
        after = table.key
        await pilot.press("j")
        await settled(pilot)
        assert table.key == after


async def test_one_key_marks_in_the_table_and_in_what_to_compare_with(home: Path):
    keymap.place().parent.mkdir(parents=True)
    keymap.place().write_text('"list.mark" = "f9"\n')
    for name in ("one", "two"):
        finished_experiment(home, name)
    async with BitnetApp(home).run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        for key, marked in (("space", "○ two"), ("f9", "● two")):
            await pilot.press("enter")
            await settled(pilot)
            await pilot.press("V")
            await settled(pilot)
            assert "f9 marks several" in shown(pilot)
            other = "two" if "○ two" in shown(pilot) else "one"
            await pilot.press(key)
            await settled(pilot)
            assert marked.replace("two", other) in shown(pilot)
            await pilot.press("escape", "escape")
            await settled(pilot)


def test_no_sentence_spells_a_key_that_can_be_another():
    """Such a key comes from the table: `key_names.key`."""
    spelled = re.compile(
        r"(?:^|\s)(?:esc|ctrl\+\w|f\d|[A-Z?]|[←→↑↓]) (?:closes|leaves|stops|shows|opens|lists|goes?|scrolls?|in)\b"
    )
    found = [
        f"{path.name}: {node.value}"
        for path in Path(bitnet_tui.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value
        if spelled.search(node.value)
    ]
    assert found == []
