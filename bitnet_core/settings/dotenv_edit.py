"""Changing a `.env` line by line: comments, order, line ends, BOM and mode stay as they are. Knows no settings.

python-dotenv finds where an assignment begins and ends, so that what is rewritten here is what is read there.
"""

import contextlib
import io
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError

_BOM = "\ufeff"
_PLAIN = re.compile(r"[\w./:@+,%=-]+", re.ASCII)
_HEAD = re.compile(r"(\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=\#\s]+)[^\S\r\n]*=)", re.UNICODE)
_TAIL = re.compile(r"([^\S\r\n]*)(#[^\r\n]*)?([^\S\r\n]*(?:\r\n|\n|\r)?)\Z")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def without(text: str, names: Iterable[str], mask: Callable[[str], str] = str) -> str:
    """Leave every assignment of these names as `NAME=`, which is unset, and apply `mask` to comments."""
    emptied = set(names)
    bom, body = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    out = []
    for binding in parse_stream(io.StringIO(body, newline="")):
        part = _emptied(binding) if binding.key in emptied else binding.original.string
        if binding.key is None or binding.key in emptied:
            part = mask(part)
        out.append(part)
    return bom + "".join(out)


def with_value(text: str, name: str, value: str) -> str:
    """`NAME=value`, in the place where the name stands last, or at the end."""
    if value.startswith("${") and value.endswith("}"):
        raise UsageError(f"{name} would be read as a reference from a .env; keep it in the keyring or the vault.")
    bom, body = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    parts = list(parse_stream(io.StringIO(body, newline="")))
    places = [number for number, binding in enumerate(parts) if binding.key == name]
    out = [binding.original.string for binding in parts]
    if places:
        head, tail = _ends(parts[places[-1]])
        out[places[-1]] = head + quoted(value) + tail
    else:
        if body and not body.endswith(("\n", "\r")):
            out.append("\n")
        out.append(f"{name}={quoted(value)}\n")
    return bom + "".join(out)


def quoted(value: str) -> str:
    """The value as a `.env` spells it, read back by python-dotenv as it was."""
    return value if _PLAIN.fullmatch(value) else '"' + "".join(_ESCAPES.get(char, char) for char in value) + '"'


def _emptied(binding: Binding) -> str:
    head, tail = _ends(binding)
    return head + tail


def _ends(binding: Binding) -> tuple[str, str]:
    """What stands before the value and after it: `export NAME=`, and a comment with the end of the line."""
    text = binding.original.string
    head = _HEAD.match(text)
    if head is None:  # a name alone, without `=`
        return text, ""
    rest = text[head.end() :]
    ended = _TAIL.search(rest)
    line_end = ended[3].lstrip(" \t") if ended else ""
    value = rest.lstrip(" \t")
    comment = ""
    if value[:1] in ("'", '"'):
        closed = re.match(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", value, re.DOTALL)
        after = value[closed.end() :] if closed else ""
        comment = after.rstrip("\r\n") if "#" in after else ""
    elif found := re.search(r"\s+#[^\r\n]*", rest):
        comment = found[0]
    return head[1], (f" {comment.strip()}" if comment else "") + line_end


def read(path: Path) -> str:
    """The file's text with its own line ends; empty when there is none."""
    try:
        return path.read_bytes().decode("utf-8") if path.exists() else ""
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise UsageError(f"{path} can't be read ({error.strerror}); check the path and its permissions.") from error


def change(path: Path, edit: Callable[[str], str], *, private: bool = False) -> None:
    """Rewrite the file as `edit` makes it, one writer at a time; with `private` others may not read it any more."""
    with contextlib.ExitStack() as stack:
        # Locking the folder leaves no lock file behind. A file system without locks must not prevent the change.
        with contextlib.suppress(OSError):
            stack.enter_context(files.locked(path.resolve().parent))
        write(path, edit(read(path)), private=private)


def write(path: Path, text: str, *, private: bool = False) -> None:
    """Replace the file, whole or not at all; it keeps its mode, a new one is for its owner alone."""
    target = path.resolve()  # a link stays a link
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        mode &= 0o700 if private else 0o777
        # A writer that was killed may have left a file with every key of this one.
        files.remove_leftovers(target.parent)
        files.write_bytes(target, text.encode("utf-8"), mode)
        target.chmod(mode)
    except OSError as error:
        raise BitnetError(f"{path} can't be written ({error.strerror}); check its permissions.") from error
