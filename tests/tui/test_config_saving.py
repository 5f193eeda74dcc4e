"""What saving another value in the Config tab would do, in words, and that it is saved."""

from pathlib import Path

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.runs.effects import Effects
from bitnet_core.runs.outlook import Outlook
from bitnet_core.settings.registry import REGISTRY
from bitnet_tui.services.config import Preview, preview, save
from bitnet_tui.view import config
from bitnet_tui.view.spans import unstyled
from tests.tui.simulated import ENV, experiment


def test_a_value_is_refused_with_the_registrys_own_sentence(home: Path):
    exp = experiment(home, "one")
    (error,) = preview(home, exp.root, "LR", "x").errors
    assert error == "LR=x (.env line 4) is not allowed: it must be a number from 1e-9 to 1."
    with pytest.raises(UsageError, match="must be a number"):
        save(home, exp.root, "LR", "x")
    assert (exp.root / ".env").read_text() == ENV


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("OPENAI_API_KEY", "k", "a key"),
        ("DRIVE_ROOT", "/x", "another one"),
        ("DATA_DIR", "${HOME}/x", "in your editor"),
    ],
)
def test_what_is_not_changed_here_says_where(home: Path, name: str, text: str, why: str):
    (error,) = preview(home, experiment(home, "one").root, name, text).errors
    assert why in error


def test_saving_keeps_every_other_line(home: Path):
    exp = experiment(home, "one")
    (exp.root / ".env").write_text("# mine\nLR=0.1 # high\n\nSEED=1\n")
    assert save(home, exp.root, "LR", "0.01").effects.outdated == ()
    save(home, exp.root, "SEED", "")
    save(home, exp.root, "KD_TAU", "2")
    assert (exp.root / ".env").read_text() == "# mine\nLR=0.01 # high\n\nKD_TAU=2\n"


def test_a_value_that_the_environment_hides_is_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    exp = experiment(home, "one")
    monkeypatch.setenv("LR", "0.3")
    text = unstyled(*config.preview_lines(preview(home, exp.root, "LR", "0.2"), 200, 9))
    assert (
        text == "▲ “Learning rate” is also set by the environment, which takes precedence over the experiment's .env."
    )


@pytest.mark.parametrize("name", ["TOKENIZER_NAME", "STUDENT_INIT", "HF_MODEL"])
@pytest.mark.parametrize("text", ["3e-4", "0.5", "two words", "https://hub/of/models"])
def test_what_can_name_no_model_is_refused_at_once(home: Path, name: str, text: str):
    found = preview(home, experiment(home, "one").root, name, text)
    assert [one.split(": ", 1)[1] for one in found.errors] == ["it must be a folder, a file or a name on the hub."]


@pytest.mark.parametrize(
    "text", ["org/name", "Modèle", "models\\x", "~", "./x", "a.Q4_K_M.gguf", "my model (1).GGUF"]
)
def test_what_may_name_a_model_that_is_not_here_is_taken(text: str):
    assert REGISTRY["STUDENT_INIT"].parse(text, Path()) == text


def test_a_file_that_is_not_here_is_told_before_a_stage_misses_it(home: Path):
    root = experiment(home, "one").root
    for name, text in (
        ("KD_PROMPTS_FILE", "mine.jsonl"),
        ("TOKENIZER_NAME", f"{root}/mine"),
        ("STUDENT_INIT", "~/m"),
        ("STUDENT_INIT", "mine.Q4_K_M.gguf"),
    ):
        found = preview(home, root, name, text)
        assert not found.errors and f"{name}: " in found.warnings[0] and "is not here yet" in found.warnings[0]
    (root / "mine.jsonl").touch()
    assert not preview(home, root, "KD_PROMPTS_FILE", "mine.jsonl").warnings
    for name, text in (("TOKENIZER_NAME", "gpt2"), ("STUDENT_INIT", "teacher"), ("LOGS_DIR", "elsewhere")):
        assert not preview(home, root, name, text).warnings


def test_a_warning_of_the_settings_is_told_and_does_not_stop(home: Path):
    found = preview(home, experiment(home, "one").root, "S3_BUCKET", "b")
    assert not found.errors
    assert "has no effect while “Storage target” is local" in unstyled(*config.preview_lines(found, 200, 9))


@pytest.mark.parametrize(
    ("effects", "saved", "told"),
    [
        (Effects(), False, "○ No stage's result depends on it."),
        (Effects(("train",), ("train", "eval")), False, "▲ “Train the student” and “Evaluate” become outdated."),
        (
            Effects(("train",), ("train",), training=Outlook(aside=(3,), why_not="it is finished")),
            False,
            "▲ “Train the student” becomes outdated.\n"
            "○ The next training puts its checkpoints aside and begins at step 0: it is finished.",
        ),
        (
            Effects(("train",), ("train",), training=Outlook(120, {"LR": (6e-4, 3e-4)})),
            False,
            "▲ “Train the student” becomes outdated.\n"
            "○ The next training continues from step 120 with “Learning rate” 6e-4 → 3e-4.",
        ),
        (
            Effects(("train",), ("train",), training=Outlook(270, {"TOTAL_STEPS": (270, 60)}, finished=True)),
            False,
            "▲ “Train the student” becomes outdated.\n○ The next training adds no step: it is finished at step 270.",
        ),
        (
            Effects(("train",), ("train",), training=Outlook(refused="It can't.")),
            False,
            "▲ “Train the student” becomes outdated.\n○ The next training will refuse to start: It can't.",
        ),
        (
            Effects(("eval",), ("eval",), training=Outlook(aside=(3,))),
            False,
            "▲ “Evaluate” becomes outdated.",
        ),
        (Effects(("eval",), ("eval",)), True, "✓ “Learning rate” is saved.\n▲ “Evaluate” is outdated."),
        (Effects(("train",), (), ("train",)), False, "✓ “Train the student” counts again."),
        (
            Effects(("collect", "train")),
            False,
            "○ “Train the student” will use it in its next run, which begins at step 0.\n"
            "○ “Collect traces” will use it in its next run.",
        ),
        (
            Effects(("train",), (), (), ("train",)),
            False,
            "▲ “Train the student” is running: it continues with the value that it started with, "
            "and is outdated when it ends.",
        ),
        (
            Effects(("train",), (), (), ("train",), Outlook(80, {"LR": (1e-3, 5e-4)})),
            False,
            "▲ “Train the student” is running: it continues with the value that it started with, "
            "and is outdated when it ends.\n"
            "○ Stop it and resume: it continues from where it stops, with “Learning rate” 1e-3 → 5e-4.",
        ),
    ],
)
def test_what_a_change_does_is_said_in_words(effects: Effects, saved: bool, told: str):
    assert unstyled(*config.preview_lines(Preview("LR", "1", effects=effects), 200, 9, saved=saved)) == told
