"""Text that is piped into a command or given after it: bounded, and whole characters only.

`terminal.py` reads bytes that are not UTF-8 as lone surrogates, which no teacher, tokenizer or file can take.
"""

import sys
from collections.abc import Iterator
from typing import TextIO

from bitnet_core.errors import UsageError
from bitnet_core.text import is_utf8

MOST_CHARS = 1 << 23


def piped_text() -> str:
    """Everything from stdin. UsageError for more than anybody asks or has as a key, and for broken text."""
    try:
        found = sys.stdin.read(MOST_CHARS + 1)
    except UnicodeError:  # of an encoding whose characters take several bytes; `terminal.py` lets others through
        encoding = getattr(sys.stdin, "encoding", "text")
        raise UsageError(
            f"stdin is not {encoding} text; save it as that, or name its encoding in PYTHONIOENCODING."
        ) from None
    if len(found) > MOST_CHARS:
        raise UsageError(f"stdin has more than {MOST_CHARS:,} characters; pipe in the text alone.")
    return found


def question(given: str | None, command: str) -> str:
    """A question for a model, after the command or from stdin. UsageError for one that is empty or not UTF-8."""
    text = piped_text() if given is None else given
    if not text.strip():
        raise UsageError(f"bitnet {command} needs a question; give it after the command or on stdin.")
    if not is_utf8(text):
        raise UsageError(f"The question for bitnet {command} is not UTF-8 text; save it as UTF-8.")
    return text


def piped_lines(source: TextIO) -> Iterator[str | UsageError]:
    """Each line that is not blank, or why it is of no use: it is too long, or not UTF-8. In bounded memory."""
    while line := source.readline(MOST_CHARS):
        if len(line) == MOST_CHARS and not line.endswith("\n"):
            while line and not line.endswith("\n"):
                line = source.readline(MOST_CHARS)
            yield UsageError(f"A line has more than {MOST_CHARS:,} characters; send shorter requests.")
        elif not is_utf8(line):
            yield UsageError("A line is not UTF-8 text; send each request as UTF-8.")
        elif line.strip():
            yield line
