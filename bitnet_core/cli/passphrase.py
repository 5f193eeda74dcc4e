"""Asks for the vault's passphrase, on a terminal only: stdin may carry the key itself."""

import os
import sys
from pathlib import Path

from bitnet_core.errors import UsageError


def ask_passphrase(path: Path, new: bool) -> str | None:
    """The passphrase of the vault at `path`; a `new` one is asked for twice. None without a terminal or an answer."""
    if not sys.stderr.isatty() or not has_terminal():
        return None
    if not new:
        return type_hidden(f"Passphrase for the vault {path}: ") or None
    from bitnet_core.secrets.vault import SHORTEST_PASSPHRASE

    first = type_hidden(f"New passphrase for the vault {path}, at least {SHORTEST_PASSPHRASE} characters: ")
    if first and type_hidden("Repeat it: ") != first:
        raise UsageError("The two passphrases differ; nothing was kept, so try again.")
    return first or None


def type_hidden(prompt: str) -> str:
    """What is typed at a prompt that does not show it; empty after Ctrl-D."""
    import getpass

    try:
        return getpass.getpass(prompt)
    except EOFError:
        sys.stderr.write("\n")
        return ""


def has_terminal() -> bool:
    # Without one, getpass would read from stdin.
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
