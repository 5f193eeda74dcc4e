"""Reading and editing a `.env`. Knows neither settings nor secrets, and expands no references.

python-dotenv parses. What this module adds: the line of each assignment, and editing one assignment so that comments,
order, line ends, BOM and file mode stay as they are.
"""

import contextlib
import io
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bitnet_core import files
from bitnet_core.errors import UsageError
from bitnet_core.files.inputs import read_input, refuse_to_write
from bitnet_core.files.writable import writing
from bitnet_core.settings.references import MAX_LENGTH, as_reference

if TYPE_CHECKING:
    from dotenv.parser import Binding

_BOM = "\ufeff"
_NEEDS_NO_QUOTES = r"(?a:[\w./:@+,%=-]+)"
_MOST_BLANKS = 1000
_MANY_BLANKS = rf"[^\S\r\n]{{{_MOST_BLANKS + 1}}}"
"""In a row. To look for what follows them, python-dotenv and this module take a time that grows with their square."""
_HIDDEN_LINE = r"[\v\f\x1c-\x1e\x85\u2028\u2029][^\S\r\n\v\f\x1c-\x1e\x85\u2028\u2029]*\S"
"""Line ends to editors, but not in a `.env`, with text behind them."""
_HEAD = r"(\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=\#\s]+)[^\S\r\n]*=)"
_LINE_END = r"(?:\r\n|\n|\r)?\Z"
_QUOTED = r"(?s:'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\")"
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


# -- reading ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DotenvFile:
    """`values` has the last assignment of each name (without empty ones), `lines` the line of that assignment."""

    path: Path
    values: dict[str, str]
    lines: dict[str, int]
    duplicates: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The lines of each name that is assigned more than once."""
    emptied: dict[str, int] = field(default_factory=dict)
    """Names whose last assignment is empty although an earlier one is not, with the line of that one."""
    unreadable: tuple[int, ...] = ()


def read_dotenv(path: Path) -> DotenvFile:
    """Parse a file or pipe; UsageError if there is none, it can't be read or is not UTF-8."""
    text = read_input(path)
    if text is None:
        raise UsageError(f"{path} does not exist; give the path of a .env file.")
    return parse(text, path)


def parse(text: str, path: Path) -> DotenvFile:
    """Parse the text of the file at `path`. UsageError for a value that is too long, or for very many blanks."""
    lines: dict[str, list[int]] = {}
    unreadable: list[int] = []
    values: dict[str, str] = {}
    given: dict[str, int] = {}
    _refuse_many_blanks(text, str(path))
    for binding in _bindings(text, newline=None):
        # python-dotenv counts the blank lines before an assignment as part of it.
        blank = len(binding.original.string) - len(binding.original.string.lstrip("\r\n"))
        line = binding.original.line + binding.original.string[:blank].count("\n")
        if binding.value is not None and len(binding.value) > MAX_LENGTH:
            raise UsageError(f"{path} line {line} is longer than {MAX_LENGTH:,} characters; no setting is that long.")
        if binding.key is not None and binding.value is not None:
            lines.setdefault(binding.key, []).append(line)
            values[binding.key] = binding.value
            if binding.value:
                given[binding.key] = line
        elif binding.error or binding.key is not None:
            unreadable.append(line)
        if re.search(_HIDDEN_LINE, _comment_of(binding)) and line not in unreadable:
            unreadable.append(line)
    return DotenvFile(
        path=path,
        values={name: value for name, value in values.items() if value},
        lines={name: places[-1] for name, places in lines.items()},
        duplicates={name: tuple(places) for name, places in lines.items() if len(places) > 1},
        emptied={name: line for name, line in given.items() if not values[name]},
        unreadable=tuple(unreadable),
    )


def _refuse_many_blanks(text: str, where: str) -> None:
    if found := re.search(_MANY_BLANKS, text):
        line = 1 + len(re.findall(r"\r\n|\r|\n", text[: found.start()]))
        raise UsageError(f"{where} line {line} has more than {_MOST_BLANKS:,} blanks in a row; remove them.")


def _bindings(text: str, newline: str | None) -> "Iterable[Binding]":
    """What python-dotenv finds in a text; `newline` as in `io.StringIO`. Often there is no `.env`."""
    from dotenv.parser import parse_stream

    return parse_stream(io.StringIO(text.removeprefix(_BOM), newline=newline))


def _comment_of(binding: "Binding") -> str:
    """The text that is passed over, of a line or behind a value."""
    return binding.original.string if binding.key is None else _around_value(binding)[1]


def read_text(path: Path) -> str:
    """The file's text with its own line ends and BOM; empty if there is no file."""
    return read_input(path) or ""


# -- editing text ----------------------------------------------------------------------------------------


def without_values(text: str, names: Iterable[str], mask: Callable[[str], str] = str) -> str:
    """Empty every assignment of these names: `NAME=`, which is unset. `mask` is applied to comments."""
    emptied = set(names)
    bom, bindings = _parsed(text)
    out = []
    for binding in bindings:
        part = "".join(_around_value(binding)) if binding.key in emptied else binding.original.string
        out.append(mask(part) if binding.key is None or binding.key in emptied else part)
    return bom + "".join(out)


def without(text: str, names: Iterable[str]) -> str:
    """Remove every assignment of these names; one with a comment behind its value is emptied, so that it stays."""
    gone = set(names)
    bom, bindings = _parsed(text)
    out = []
    for binding in bindings:
        part = binding.original.string
        if binding.key in gone:
            head, tail = _around_value(binding)
            blank = re.match(r"(?:\s*[\r\n])?+(?=\s*\S)", head)
            part = head + tail if tail.strip() else blank[0] if blank else ""
        out.append(part)
    return bom + "".join(out)


def with_value(text: str, name: str, value: str) -> str:
    """Set `NAME=value` where the name is assigned last, or at the end. UsageError for a value that is a reference."""
    if as_reference(value):
        raise UsageError(f"{name} would be read as a reference from a .env; keep it in the keyring or the vault.")
    bom, bindings = _parsed(text)
    out = [binding.original.string for binding in bindings]
    places = [place for place, binding in enumerate(bindings) if binding.key == name]
    if places:
        head, tail = _around_value(bindings[places[-1]])
        out[places[-1]] = head + quoted(value) + tail
    else:
        if out and not out[-1].endswith(("\n", "\r")):
            out.append("\n")
        out.append(f"{name}={quoted(value)}\n")
    return bom + "".join(out)


def new_text(name: str, values: Mapping[str, str]) -> str:
    """The `.env` of a new experiment."""
    lines = [f"# Settings of {name}; `bitnet config` lists the names."]
    return "\n".join([*lines, *(f"{one}={quoted(value)}" for one, value in values.items())]) + "\n"


def quoted(value: str) -> str:
    """The value as it is written in a `.env`; python-dotenv reads it back unchanged."""
    if re.fullmatch(_NEEDS_NO_QUOTES, value):
        return value
    return '"' + "".join(_ESCAPES.get(char, char) for char in value) + '"'


def _parsed(text: str) -> tuple[str, list["Binding"]]:
    """The BOM, if there is one, and the parts of the text; joined, they are the text again. UsageError as `parse`."""
    _refuse_many_blanks(text, "The .env file's")
    bom = _BOM if text.startswith(_BOM) else ""
    return bom, list(_bindings(text, newline=""))


def _around_value(binding: "Binding") -> tuple[str, str]:
    """The text before the value and after it: `export NAME=`, and a comment with the line end."""
    text = binding.original.string
    head = re.match(_HEAD, text)
    if head is None:  # a name without `=`
        return text, ""
    rest = text[head.end() :]
    line_end = re.search(_LINE_END, rest)
    value = rest.lstrip(" \t")
    comment = ""
    if value[:1] in ("'", '"'):
        closed = re.match(_QUOTED, value)
        after = value[closed.end() :] if closed else ""
        comment = after if "#" in after else ""
    elif found := re.search(r"(?<!\s)\s++#[^\r\n]*", rest):
        comment = found[0]
    return head[1], (f" {comment.strip()}" if comment else "") + (line_end[0] if line_end else "")


# -- editing files ---------------------------------------------------------------------------------------


def change(path: Path, edit: Callable[[str], str], *, private: bool = False) -> None:
    """Rewrite the file with `edit`, one writer at a time; with `private`, only its owner may read it from now on.

    UsageError for a pipe, which another program fills. FolderGone if its folder is not there any more.
    """
    refuse_to_write(path)
    with files.folder_held(path.resolve().parent):  # leaves no lock file behind
        write(path, edit(read_text(path)), private=private)


def write(path: Path, text: str, *, private: bool = False) -> None:
    """Replace the whole file atomically. It keeps its mode; only its owner may read a new file."""
    target = path.resolve()  # a link stays a link
    with writing(path, "check its permissions"):
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        mode &= 0o700 if private else 0o777
        files.write_bytes(target, text.encode("utf-8"), mode)
        with contextlib.suppress(OSError):  # a file system without modes
            target.chmod(mode)
