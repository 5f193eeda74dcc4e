"""The records of a file of prompts or texts, one at a time: text, JSON (also gzipped), or Parquet.

A record is a string (a prompt) or an object that should hold one; `prompt.py` checks what is in it. Memory does not
grow with the file.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained, raise_if_not_the_file
from bitnet_core.files.repeated import Repeated, refuse_repeats
from bitnet_core.text import crop

if TYPE_CHECKING:
    import pyarrow as pa

_JSON_NAMES = (".jsonl", ".json", ".ndjson")
_PARQUET_NAMES = (".parquet", ".pq")
_COLUMNS = ("prompt", "messages", "text")
SYSTEM = ("system", "system_prompt")
"""What some programs keep beside a prompt. It is not asked there, but as a message."""
GROUP = "split_group"
"""What names the prompts that are held out of training together, or not at all."""
_BESIDE = ("answer", *SYSTEM, GROUP)
_MARK = "\ufeff"
"""Stands at the beginning of what some programs write, so also in the middle of files that were put together."""
_OTHER_FORMATS = (
    *(".csv", ".tsv", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".odt", ".rtf", ".pdf", ".html", ".htm", ".xml"),
    *(".yaml", ".yml", ".toml", ".zip", ".tar", ".tgz", ".7z", ".zst", ".bz2", ".xz", ".lz4", ".arrow", ".feather"),
    *(".avro", ".orc", ".db", ".sqlite", ".npy", ".npz", ".pkl"),
)
"""Their lines are not prompts, but would be asked and paid for."""
_MOST_BLANK = 1 << 20
"""Blank lines one after another: a small packed file may have billions."""
_SHOWN_NAMES = 300
_ROWS = 256
_BUFFER_BYTES = 1 << 20
_CHUNK = 1 << 13
_LONGEST = 1 << 22
"""Characters of one line, object or cell. A longer one is a mistake, and must not fill the memory."""

Record = tuple[str, Any]
"""The place ("line 3", "row 3") and the value there."""


@dataclass(frozen=True)
class Source:
    """A file, and what its errors call it: `kind` holds many a `record`, each written in this `shape`."""

    path: Path
    kind: str = "prompts file"
    record: str = "prompt"
    shape: str = '{"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}'
    has_plain_texts: bool = False
    """Whether a column `text` has what a line of a text file has, and not prompts."""

    def __str__(self) -> str:
        return str(self.path)

    def refusal(self, place: str, reason: str) -> BitnetError:
        """The error for a record that is not one."""
        columns = "as columns " if self.path.name.lower().endswith(_PARQUET_NAMES) else ""
        return BitnetError(f"{self}, {place}: {reason}; write {columns}{self.shape}.")

    def unreadable(self, reason: str) -> BitnetError:
        """The error for the file as a whole."""
        return BitnetError(f"The {self.kind} {self} {reason}.")


def records(source: Source) -> Iterator[Record]:
    """The records of a file, in order, without blank lines. BitnetError names the file and the place of a mistake.

    The name tells the format: `.jsonl`, `.ndjson` and `.json` hold one object per line or one array, `.parquet` has a
    column `prompt`, `messages` or `text`, and any other file holds one prompt per line. With `.gz` it is unpacked.
    """
    name = source.path.name.lower()
    packed = name.endswith(".gz")
    name = name.removesuffix(".gz")
    if name.endswith(_OTHER_FORMATS):
        advice = f"save its {source.record}s as .txt (one a line), .jsonl or .parquet"
        raise source.unreadable(f"is not of a kind that is read; {advice}")
    try:
        files.require_regular(source.path)  # it is read several times
        if name.endswith(_PARQUET_NAMES):
            yield from _parquet(source)
            return
        with (gzip.open if packed else open)(source.path, "rt", encoding="utf-8-sig") as text:
            if name.endswith(_JSON_NAMES):
                yield from _json(source, text)
            else:
                for place, line in _lines(source, text):
                    line = line.strip()
                    if line[0] in "{[" and _is_record(line.rstrip(",")):
                        raise source.unreadable(f"holds JSON ({place}); give it a name that ends in .jsonl or .json")
                    yield place, line
    except FileNotFoundError as error:
        raise source.unreadable("does not exist; correct its path") from error
    except UnicodeDecodeError as error:
        raise source.unreadable("is not UTF-8 text; save it as UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise source.unreadable("is not a complete gzip file; pack it again") from error
    except OSError as error:
        raise source.unreadable(f"can't be read {explained(error, 'check its path')}") from error


def _is_record(line: str) -> bool:
    """Whether a line of a text is an object as JSON lines have them: it would be asked and paid for as it stands."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    values = value if isinstance(value, list) else [value]
    return any(isinstance(one, dict) and not one.keys().isdisjoint(_COLUMNS) for one in values)


def _lines(source: Source, text: IO[str], number: int = 1, line: str = "") -> Iterator[tuple[str, str]]:
    """The lines that are not blank, from line `number` on; `line` is the beginning of it that is already read."""
    blank = 0
    while True:
        if not line.endswith("\n"):
            line += text.readline(_LONGEST + 1)
        if not line:
            return
        line = line.lstrip(_MARK)
        place = f"line {number}"
        if len(line.removesuffix("\n")) > _LONGEST:
            raise _too_long(source, place)
        blank = blank + 1 if line.isspace() or not line else 0
        _refuse_many(source, place, blank)
        if not blank:
            yield place, line
        number += 1
        line = ""


def _refuse_many(source: Source, place: str, blank: int) -> None:
    if blank > _MOST_BLANK:
        raise BitnetError(
            f"{source}, {place}: more than {_MOST_BLANK:,} blank lines follow one another; remove them."
        )


def _too_long(source: Source, place: str) -> BitnetError:
    return BitnetError(
        f"{source}, {place}: this has more than {_LONGEST:,} characters, the most for a {source.record}; "
        f"shorten it or split it into several {source.record}s."
    )


# -- JSON ------------------------------------------------------------------------------------------------


def _json(source: Source, text: IO[str]) -> Iterator[Record]:
    """One object per line, or one array if the file begins with a bracket."""
    blank = 0
    while (line := text.readline(_CHUNK)) and not line.strip():
        blank += line.endswith("\n")
        _refuse_many(source, f"line {blank}", blank)
    if line.lstrip().startswith("["):
        yield from _array(source, text, line.lstrip()[1:])
        return
    for place, whole in _lines(source, text, blank + 1, line):
        try:
            value = json.loads(whole, object_pairs_hook=refuse_repeats)
        except (ValueError, RecursionError) as error:
            raise source.refusal(place, _reason(error)) from error
        if isinstance(value, str):  # a bare string is a prompt in a JSON array, but not on a line
            raise source.refusal(place, "this is not a JSON object")
        yield place, value


def _reason(error: Exception) -> str:
    if isinstance(error, Repeated):
        return str(error)
    return "this is nested too deeply" if isinstance(error, RecursionError) else "this is not JSON"


def _array(source: Source, text: IO[str], buffer: str) -> Iterator[Record]:
    """The values of an array after its opening bracket; `buffer` is the text already read from there."""
    decoder = json.JSONDecoder(object_pairs_hook=refuse_repeats)
    number = 0
    buffer = _ahead(text, buffer)
    while not buffer.startswith("]"):
        number += 1
        place = f"object {number}"
        while True:
            try:
                value, end = decoder.raw_decode(buffer)
                break
            except (RecursionError, Repeated) as error:
                raise source.refusal(place, _reason(error)) from error
            except ValueError as error:
                # Its end may not have been read yet. Doubling the buffer keeps the attempts few.
                more = text.read(max(_CHUNK, len(buffer))) if len(buffer) < _LONGEST else ""
                if not more:
                    long = f", or it has more than {_LONGEST:,} characters" if len(buffer) >= _LONGEST else ""
                    raise source.refusal(place, _reason(error) + long) from error
                buffer += more
        if end > _LONGEST:
            raise _too_long(source, place)
        yield place, value
        buffer = _ahead(text, buffer[end:])
        if buffer.startswith(","):
            buffer = _ahead(text, buffer[1:])
        elif not buffer.startswith("]"):
            raise source.refusal(place, "neither a comma nor the array's end follows it")
    if _ahead(text, buffer[1:]):
        raise source.refusal("after the array", "there is more text")


def _ahead(text: IO[str], buffer: str) -> str:
    """The text from its next visible character; empty at the end of the file."""
    while not (buffer := buffer.lstrip()):
        buffer = text.read(_CHUNK)
        if not buffer:
            break
    return buffer


# -- Parquet ---------------------------------------------------------------------------------------------


def _parquet(source: Source) -> Iterator[Record]:
    import pyarrow as pa

    from bitnet_core.prompts.parquet import NotRead, open_parquet

    source.path.open("rb").close()  # Python's errors tell a folder from a damaged file; Arrow's don't
    try:
        with open_parquet(source.path, (*_COLUMNS, *_BESIDE), buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
            names = table.schema_arrow.names
            column = next((name for name in _COLUMNS if name in names), None)
            if column is None:
                shown = crop(", ".join(names) or "none", _SHOWN_NAMES)
                raise BitnetError(f"{source} has no column prompt, messages or text, but {shown}; rename one.")
            if names.count(column) > 1:
                raise BitnetError(f"{source} has {names.count(column)} columns {column}; leave one of them there.")
            kind = table.schema_arrow.field(names.index(column)).type
            if not _holds_texts(kind):
                raise _no_text(source, column, kind)
            beside = [
                name
                for name in _BESIDE
                if names.count(name) == 1 and _holds_texts(table.schema_arrow.field(name).type)
            ]
            number = 0
            for batch in table.iter_batches(batch_size=_ROWS, columns=[column, *beside]):
                try:
                    values = batch.column(column).to_pylist()
                except (ValueError, OverflowError) as error:  # a field is not text, such as a timestamp
                    raise _no_text(source, column, kind) from error
                others = [batch.column(name).to_pylist() for name in beside]
                for value, *rest in zip(values, *others, strict=True):
                    number += 1
                    cell = _cell(source, number, column, value)
                    if max(map(_length, rest), default=0) > _LONGEST:
                        raise _too_long(source, f"row {number}")
                    known = {name: text for name, text in zip(beside, rest, strict=True) if text is not None}
                    yield f"row {number}", cell if isinstance(cell, str) else known | cell
    except NotRead as error:
        raise BitnetError(f"{source}: {error}; {error.advice}.") from error
    except (pa.ArrowException, OSError) as error:
        raise_if_not_the_file(error, source.path)
        raise BitnetError(f"{source} is not a complete Parquet file; write it again.") from error


def _no_text(source: Source, column: str, kind: "pa.DataType") -> BitnetError:
    shown = crop(str(kind), _SHOWN_NAMES)
    return BitnetError(f"{source}: its column {column} holds {shown}, not text alone; write it as text.")


def _holds_texts(kind: "pa.DataType") -> bool:
    """Whether all values of this Arrow type are texts, or lists and objects of them; others have no form in JSON."""
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _holds_texts(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _holds_texts(kind.value_type)
    if types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return all(_holds_texts(one.type) for one in fields if one.name in ("role", "content"))
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    return any(is_one(kind) for is_one in texts)


def _cell(source: Source, number: int, column: str, value: Any) -> dict[str, Any] | str:
    """A row as the record that JSON lines would hold. A column of either name may hold a list of messages."""
    if _length(value) > _LONGEST:
        raise _too_long(source, f"row {number}")
    if column == "messages" and isinstance(value, str):
        try:
            value = json.loads(value, object_pairs_hook=refuse_repeats)
        except (ValueError, RecursionError) as error:
            reason = "its messages are not JSON" if isinstance(error, json.JSONDecodeError) else _reason(error)
            raise source.refusal(f"row {number}", reason) from error
    if column == "text" and isinstance(value, str) and source.has_plain_texts:
        return value
    return {"messages" if column == "messages" or isinstance(value, list) else "prompt": value}


def _length(value: Any) -> int:
    """The characters of all texts in a cell."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, list) else 0
