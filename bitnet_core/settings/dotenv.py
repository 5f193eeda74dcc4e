"""Reading a `.env` with line numbers: what stands where, what stands twice, what can't be read.

python-dotenv parses; this module adds the line of each name, which its `dotenv_values` leaves out.
Values come back raw: `${…}` is expanded by `config.py`, which knows the other layers.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values
from dotenv.parser import parse_stream

from bitnet_core.errors import UsageError


@dataclass(frozen=True)
class DotenvFile:
    """`values` holds the last assignment of each name (empty ones left out), `lines` where it stands."""

    path: Path
    values: dict[str, str]
    lines: dict[str, int]
    duplicates: dict[str, tuple[int, ...]] = field(default_factory=dict)
    unreadable: tuple[int, ...] = ()


def read_dotenv(path: Path) -> DotenvFile:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise UsageError(f"{path} can't be read ({error.strerror}); check the path and its permissions.") from error
    seen: dict[str, list[int]] = {}
    unreadable: list[int] = []
    readable: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        # A binding starts with the blank lines before it; its own line comes after them.
        blank = len(binding.original.string) - len(binding.original.string.lstrip("\r\n"))
        line = binding.original.line + binding.original.string[:blank].count("\n")
        if binding.error or (binding.key is not None and binding.value is None):
            unreadable.append(line)
        elif binding.key is not None:
            seen.setdefault(binding.key, []).append(line)
            readable.append(binding.original.string)
    parsed = dotenv_values(stream=io.StringIO("".join(readable)), interpolate=False)
    return DotenvFile(
        path=path,
        values={name: value for name, value in parsed.items() if value},
        lines={name: lines[-1] for name, lines in seen.items()},
        duplicates={name: tuple(lines) for name, lines in seen.items() if len(lines) > 1},
        unreadable=tuple(unreadable),
    )
