"""Calls of a teacher's API that are pasted into the guide, made lines of labels: of `curl`, or of a program."""

import re

from bitnet_tui.view.guide.vocabulary import told

_CURL = re.compile(r"\s*(?:\$\s+)?curl\s")
_IN_CURL = {
    "teacher address": re.compile(
        r"(https?://[^\s'\"]+?)(?:/(?:chat/completions|completions|models|embeddings))?/?(?=[\s'\"]|$)"
    ),
    "teacher key": re.compile(r"(?i)\b(?:bearer\s+|(?:x-)?api[-]key:\s*)([^\s'\"]+)"),
    "login password": re.compile(r"\s(?:-u|--user)[\s=]*+[\"']?[^\s:'\"]++:([^\s'\"]+)"),
    "teacher model": re.compile(r"[\"']model[\"']\s*:\s*[\"']([^\"'\n]+)[\"']"),
}
_ARGUMENT = re.compile(r"""\b([A-Za-z]\w*)\s*=\s*(["'])([^"'\n]+)\2""")
_ENOUGH = 2


def in_lines(text: str) -> str:
    """The settings of the server that a call names, one a line; any other text as it is."""
    if _CURL.match(text):
        found = {name: one[1] for name, pattern in _IN_CURL.items() if (one := pattern.search(text))}
        return "\n".join(f"{name}: {value}" for name, value in found.items())
    arguments = [(name, value) for name, _, value in _ARGUMENT.findall(text) if told(name)] if "(" in text else []
    return "\n".join(f"{name}: {value}" for name, value in arguments) if len(arguments) >= _ENOUGH else text
