"""What the guide says of a setting, and sentences of commands as the guide says them."""

import re

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import capital
from bitnet_tui.labels import by_label
from bitnet_tui.remedies import by_keys

_COMMANDS = (
    (
        re.compile(r"store it with `bitnet keys set (\w+)` \([^)]*\), or set it in the environment"),
        r"type it into \1",
    ),
    (re.compile(r"`bitnet keys set (\w+)` keeps it in the OS keyring"), r"type it into \1"),
    (re.compile(r"\brun `bitnet keys set` for (\w+)"), r"type \1"),
    (re.compile(r", or `aws configure`"), ", or run `aws configure`"),
    (re.compile(r"`bitnet store login`"), "Log in"),
    (re.compile(r"\brun Log in\b"), "log in"),
    (re.compile(r" in \.env\b"), " here"),
    (re.compile(r" \(command line\)"), ""),  # what is typed here reaches a command that way
)
_TEACHERS = (
    (re.compile(r"\ba “Teacher” that has them: [^.]+"), "a teacher that has them"),
    (re.compile(r"\bset another “Teacher”: [^.]+"), "another teacher"),
    (re.compile(r"\ba “Teacher” that\b"), "a teacher that"),
    (re.compile(r"; “Teacher” = embedded needs none\b"), ", or choose SmolLM2-135M, which needs none"),
)
"""Beside the sentence are cards of all teachers, which say what each gives."""


def preset_words(name: str) -> str:
    """A preset in a word that fits a narrow line."""
    return name.removeprefix("smollm2-")


def about(name: str) -> str:
    """What a setting is, and what it may be."""
    setting = REGISTRY[name]
    help_words = setting.help.removeprefix("local: ")
    text = plain(capital(help_words))
    return (
        text if setting.choices or setting.kind not in ("int", "float") else f"{text} {capital(setting.allowed())}."
    )


def plain(sentence: str) -> str:
    """A sentence of a command as the guide says it: fields by their labels, buttons in place of commands."""
    for command, words in _COMMANDS:
        sentence = command.sub(words, sentence)
    sentence = by_label(by_keys(sentence), keys=True)
    for teacher, words in _TEACHERS:
        sentence = teacher.sub(words, sentence)
    return re.sub(r" {2,}", " ", sentence)
