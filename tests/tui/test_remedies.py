"""Sentences of the core in the app's words: no command and no flag is left, and keys are those of the user."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

import bitnet_core
import bitnet_tui
from bitnet_core.settings.registry import REGISTRY
from bitnet_core.settings.resolve import resolve
from bitnet_tui import key_names
from bitnet_tui.remedies import in_app, offering
from bitnet_tui.view import experiment_list

_CORE = Path(bitnet_core.__file__).parent
_APP = Path(bitnet_tui.__file__).parent
_OF_THE_SETTINGS = {"start.py", "view/app_settings.py"}
"""They are about the settings themselves."""
_COMMAND = re.compile(r"`(?:bitnet|train) [^`]*`|(?<![\w-])--[a-z][a-z-]+")
_OF_THE_COMMAND_LINE = {
    *("cli", "results/saving.py", "results/receipt.py", "settings/docs.py", "runs/events_docs.py"),
    *("secrets/command_line.py", "storage/selecting.py", "export/model_card.py"),
    *("traces/inspect.py", "traces/projected_folder.py", "traces/reproject.py", "traces/stats.py"),
}
"""Only a command says what is there, or it is a file that is written."""
_OTHERS = (
    r"--return-tokens-as-token-ids|--max-logprobs|--force-reinstall|--rc-|--disable-pip|`bitnet plan` also|"
    r"\(--env\)|^bitnet generate|with --embedding x$|^(bitnet)? --root x$|"
    r"^bitnet --root x( serve| export hf && )?$|llama-gguf-split --merge"
)
"""Flags of other programs, and what the app has no action for."""


@cache
def _sentences(room: Path = _CORE) -> Sequence[tuple[str, str]]:
    return tuple(_read(room))


def _read(room: Path) -> Iterator[tuple[str, str]]:
    """Every text with a blank in the code of a room, without docstrings; what is filled in is `x`."""
    for path in sorted(room.rglob("*.py")):
        name = path.relative_to(room).as_posix()
        if name in _OF_THE_COMMAND_LINE or name.split("/")[0] in _OF_THE_COMMAND_LINE:
            continue
        tree = ast.parse(path.read_text())
        bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in bare | parts:
                continue
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(one.value) if isinstance(one, ast.Constant) else "x" for one in node.values)
            if isinstance(text, str) and " " in text and "\n" not in text:
                yield f"{name}:{node.lineno}", text


def test_every_command_that_the_core_names_has_an_action_of_the_app():
    left = {where: in_app(text) for where, text in _sentences() if _COMMAND.search(text)}
    assert len(left) > 60
    wrong = {where: text for where, text in left.items() if re.search(r"`bitnet|(?<![\w-])--[a-z]", text)}
    wrong = {where: text for where, text in wrong.items() if not re.search(_OTHERS, text)}
    assert wrong == {}
    assert not [text for text in left.values() if "{" in text or "run run" in text or "run the" in text]


_WRITTEN = [name for name in REGISTRY if "_" in name and not name.startswith("BITNET_")]
_NAMES = [name for name in _WRITTEN if not REGISTRY[name].secret]
_SETTINGS = re.compile(rf"(?<![\w/.])(?:{'|'.join(_WRITTEN)})\b")


def test_no_sentence_of_the_core_names_a_setting_as_a_file_does():
    found = {where: text for where, text in _sentences() if _SETTINGS.search(text)}
    assert len(found) > 100
    assert {where: text for where, text in found.items() if _SETTINGS.search(in_app(text))} == {}


def test_every_warning_about_settings_has_their_labels_and_leads_to_config(isolated: Path):
    """Apart from one about a line of a file whose name is none."""
    lines = [f"{name}={REGISTRY[name].choices[-1] if REGISTRY[name].choices else 7}" for name in _NAMES]
    (isolated / ".env").write_text("\n".join([*lines, *lines, "KD_TUA=1"]))
    problems = [one.message for one in resolve({}, root=isolated, environ={}).problems]
    about_lines = [one for one in problems if "is not a setting" in one]
    assert len(problems) > 100 and about_lines == [in_app(one) for one in about_lines] != []
    for one in problems:
        assert one in about_lines or not _SETTINGS.search(offering(one))
        assert one in about_lines or "Config (6)" in offering(one) or offering(one).endswith(" (6 Config).")


def test_no_sentence_of_the_app_names_a_setting_as_a_file_does():
    """But for a command to be typed on another machine."""
    names = re.compile(rf"(?<!bitnet keys set )\b(?:{'|'.join(name for name in REGISTRY if '_' in name)})\b")
    found = {where: text for where, text in _sentences(_APP) if names.search(text)}
    left = {where: text for where, text in found.items() if where.split(":")[0] not in _OF_THE_SETTINGS}
    assert len(found) > len(left) == 0


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("There are no traces; run `bitnet collect` first.", "There are no traces; run “Collect traces” (r) first."),
        (
            "train is already running; stop it with `bitnet --root '/a b' stop train-1`.",
            "train is already running; stop it with Stop (s).",
        ),
        ("s3 was changed; `bitnet store pull` first.", "s3 was changed; Pull the copy (U) first."),
        (
            "/e/a was removed; if it was renamed or moved, give its new place with --root.",
            "/e/a was removed; if it was renamed or moved, open it from the list of experiments.",
        ),
        ("X is not set; `bitnet keys set X` keeps it.", "X is not set; API keys (a) keeps it."),
        ("A note in `backticks` -- with {experiment.run} --", "A note in `backticks` -- with {experiment.run} --"),
    ],
)
def test_a_remedy_names_the_action_and_its_key(said: str, shown: str):
    assert in_app(said) == shown


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "Collect more (KD_NUM_PROMPTS), or lower BUDGET_TOKENS.",
            "Collect more (“Answers”), or lower “Token budget”.",
        ),
        ("Lower LR, or set TORCH_COMPILE=0.", "Lower “Learning rate”, or set “Compile the student” = 0."),
        (
            "set STORAGE_BACKEND=none (`bitnet config`), or SEED=1; then",
            "set “Storage target” = none (Config (6)), or “Seed” = 1; then",
        ),
        (
            "the evaluation of A still runs; run teacher, then collect, then eval in B.",
            "the evaluation of A still runs; run “Teacher baseline”, then “Collect traces”, then “Evaluate” in B.",
        ),
        ("custom at http://x gives 5 candidates.", "“Other server” at http://x gives 5 candidates."),
        ("There is no key for custom: type it.", "There is no key for “Other server”: type it."),
        ("m (hf), not TEACHER_PROVIDER=custom.", "m (“transformers”), not “Teacher” = custom."),
        ("org/custom is custom code for hf.", "org/custom is custom code for “transformers”."),
        ("LR/data can't be read.", "LR/data can't be read."),
        ("It says custom: none of a custom, private kind.", "It says custom: none of a custom, private kind."),
    ],
)
def test_settings_have_their_labels(said: str, shown: str):
    assert in_app(said) == shown


def test_sentences_name_the_keys_that_the_user_has():
    key_names.use({"experiment.run": "f5", "list.new": "f6", "list.demo": "backslash"})
    try:
        assert in_app("run `bitnet train` first.") == "run “Train the student” (f5) first."
        assert "Press f6 to create one" in experiment_list.nothing_shown((), "")
        assert in_app("`bitnet demo`") == "the demo (backslash)"
    finally:
        key_names.use({})
