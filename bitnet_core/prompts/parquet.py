"""Open a Parquet file of unknown origin: the sizes that it claims are checked before anything is allocated for them.

A few bytes may claim terabytes: rows and values in the footer, and the unpacked size in the header of each page.
Arrow allocates what they say. Knows nothing of what the columns mean.
"""

import contextlib
import errno
import os
from collections.abc import Container, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bitnet_core.errors import NameNotUTF8
from bitnet_core.files.regular import open_regular

MOST_BYTES = 1 << 28
"""Of one column in one row group, unpacked. Row groups of this program have a few megabytes."""
_MOST_VALUES = 1 << 26
_MOST_COLUMNS = 1000
_HEADER_BYTES = 1 << 16
_MOST_NESTING = 16
_MOST_FOOTER = 1 << 24
_MOST_ITEMS = 1 << 21
"""Of all metadata: the footer and the header of each page. More would take many seconds to read."""
_CRYPTO = 8
"""The field of a column in a row group that says how it is encrypted."""
_TEXTS, _FIXED = "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"
"""Kinds of columns whose values are bytes; those of the second have all the length that the schema says."""
_DICTIONARY_PAGE, _PREFIXES = 2, 7
"""A kind of page, and an encoding of one. In both, a few bytes stand for a long value again and again."""
_TRIES = 10
"""How often a file is opened that is replaced meanwhile. Collecting replaces one now and then."""

Fields = dict[int, Any]
"""A struct of the file's metadata: values by the numbers that `parquet.thrift` gives them."""


class NotRead(pa.ArrowInvalid):  # type: ignore[misc] # pyarrow has no types
    """The file may be sound, and is of a kind that is not read. `advice` says how to write it."""

    advice = "write it without encryption"


class TooLarge(NotRead):
    """A part of the file has more than is read at once: some programs write large row groups."""

    advice = "write it with fewer rows in a row group"


class _TooMany(TooLarge):
    advice = "write it with fewer row groups"


def open_parquet(path: Path, read: Container[str] | None = None, **options: Any) -> pq.ParquetFile:
    """The file, to be closed. `read`: the names of the columns that may be read from it; by default all.

    OSError, NameNotUTF8, NotRead, or another ArrowException for what is not Parquet.
    """
    for _ in range(_TRIES):
        if (file := _opened(path, read, options)) is not None:
            return file
    raise OSError(errno.EBUSY, "it is replaced all the time", str(path))


def _opened(path: Path, read: Container[str] | None, options: dict[str, Any]) -> pq.ParquetFile | None:
    """None if another file was put in its place while it was checked."""
    with open_regular(path) as source, contextlib.ExitStack() as opened:
        size, room = os.fstat(source.fileno()).st_size, _Room()
        groups = _row_groups(source, size, room)
        try:
            file = opened.enter_context(pq.ParquetFile(path, page_checksum_verification=True, **options))
        except UnicodeDecodeError as error:
            raise pa.ArrowInvalid("a column's name is not text") from error
        except UnicodeEncodeError as error:
            raise NameNotUTF8(path) from error
        if not os.path.samestat(os.fstat(source.fileno()), path.stat()):  # Arrow has opened it by its name
            return None
        # Arrow reads a column by its place in the schema: what a part of it claims of itself may be another's.
        columns = [file.schema.column(place) for place in range(len(file.schema))]
        for group, chunks in enumerate(groups):
            many = len(columns)
            _require(len(chunks) == many, f"a row group has {len(chunks)} columns and the schema {many}")
            for column, chunk in zip(columns, chunks, strict=True):
                if read is None or column.path.partition(".")[0] in read:
                    if chunk is None:
                        raise NotRead(f"column {column.path} is encrypted")
                    longest = _check_chunk(chunk, column.path, source, size, room)
                    _check_repeated(source, group, column, _integer(chunk, 5), longest)
        opened.pop_all()
        return file


def _row_groups(source: IO[bytes], size: int, room: "_Room") -> list[list[Fields | None]]:
    """The metadata of each row group's columns; None for an encrypted one."""
    # Read here and not with Arrow, which ends the process over some damaged footers.
    footer = _footer(source, size, room)
    found, rows = [], 0
    for group in _structs(footer, 4):
        columns, count = _structs(group, 1), _integer(group, 3)
        _require(len(columns) <= _MOST_COLUMNS, f"it has {len(columns)} columns")
        _require(count >= 0, f"a row group claims {count} rows")
        _require_room(count, _MOST_VALUES, "a row group", "rows")
        rows += count
        found.append([None if _CRYPTO in column else _struct(column, 3) for column in columns])
    claimed = _integer(footer, 3)
    _require(rows == claimed, f"it claims {claimed} rows and its row groups {rows}")
    return found


def _footer(source: IO[bytes], size: int, room: "_Room") -> Fields:
    """The file's metadata. At its end are their length and a mark."""
    _require(size >= 12, f"a file of {size} bytes is too short")
    source.seek(size - 8)
    end = source.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] == b"PARE":
        raise NotRead("it is encrypted")
    _require(end[4:] == b"PAR1" and length <= min(size - 8, _MOST_FOOTER), "its end is not that of a Parquet file")
    source.seek(size - 8 - length)
    return _Thrift(source.read(length), room).struct()


def _check_chunk(chunk: Fields, name: str, source: IO[bytes], size: int, room: "_Room") -> int:
    """Check the sizes that it claims. Returns how many bytes a text of it can have that stands for many values."""
    values, unpacked, packed = (_integer(chunk, number) for number in (5, 6, 7))
    offsets = (chunk.get(number) for number in (9, 11))  # of its first data page, of its dictionary page
    begin = min((offset for offset in offsets if isinstance(offset, int) and offset > 0), default=0)
    _require(0 <= packed <= size and 0 <= begin <= size - packed, f"column {name} ends after the file")
    _require(unpacked >= 0 and values >= 0, f"column {name} claims {unpacked} bytes and {values} values")
    _require_room(unpacked, MOST_BYTES, f"column {name}", "bytes in a row group")
    _require_room(values, _MOST_VALUES, f"column {name}", "values in a row group")
    held = longest = 0
    for header in _pages(source, begin, begin + packed, room):
        claimed = _integer(header, 2)
        _require(0 <= claimed <= unpacked, f"a page of column {name} claims {claimed} bytes")
        for kind in (5, 8):  # data pages of both versions
            if kind in header:
                count = _integer(_struct(header, kind), 1)
                held += count
                _require(count >= 0 and held <= values, f"the pages of column {name} claim {held} values")
        if header.get(1) == _DICTIONARY_PAGE or _encoding(header) == _PREFIXES:
            longest = max(longest, claimed)
    return longest


def _encoding(header: Fields) -> object:
    """Of the values in a data page of either version."""
    return next((_struct(header, kind).get(number) for kind, number in ((5, 2), (8, 4)) if kind in header), None)


def _check_repeated(source: IO[bytes], group: int, column: Any, values: int, longest: int) -> None:
    """Add up the lengths of a chunk's values without making the values: a text of a dictionary may stand for many.

    `column` is that of the schema. `longest` is the length of a text at most.
    """
    name, kind = column.path, column.physical_type
    taken = most = values * {_TEXTS: longest, _FIXED: column.length}.get(kind, 0)
    what = f"column {name}"
    if taken > MOST_BYTES and kind == _TEXTS:
        try:
            batches = pq.ParquetFile(source, read_dictionary=[name]).iter_batches(
                1 << 20, row_groups=[group], columns=[name]
            )
            taken = sum(map(_text_bytes, batches))
        except OSError as error:  # Arrow can't make a dictionary of texts that are written by their prefixes
            if error.errno:
                raise
            if "." not in name:  # in a list, a single row may have any number of them
                rows = max(1, MOST_BYTES // (most // values))
                batches = pq.ParquetFile(source).iter_batches(rows, row_groups=[group], columns=[name])
                taken = 0
                for batch in batches:
                    _require_room(taken := taken + batch.nbytes, MOST_BYTES, what, "bytes in a row group")
    _require_room(taken, MOST_BYTES, what, "bytes in a row group")


def _text_bytes(batch: pa.RecordBatch) -> int:
    array = batch.column(0)
    while not pa.types.is_dictionary(array.type):
        array = array.field(0) if pa.types.is_struct(array.type) else array.flatten()
    lengths = pc.binary_length(array.dictionary)
    return int(pc.sum(lengths.take(array.indices).cast(pa.int64())).as_py() or 0)


def _require_room(claimed: int, most: int, what: str, of: str) -> None:
    if claimed > most:
        raise TooLarge(f"{what} has {claimed:,} {of}, and {most:,} are the most that is read at once")


def _require(fine: bool, otherwise: str) -> None:
    if not fine:
        raise pa.ArrowInvalid(otherwise)


# -- footer and page headers: Thrift's compact protocol --------------------------------------------------------------


class _Room:
    """How many more items the metadata of a file may have."""

    left = _MOST_ITEMS

    def take(self, items: int) -> None:
        self.left -= items
        if self.left < 0:
            raise _TooMany(f"its metadata have more than {_MOST_ITEMS:,} items")


def _pages(source: IO[bytes], begin: int, end: int, room: _Room) -> Iterator[Fields]:
    """The header of each page between two offsets, its fields by number."""
    while begin < end:
        source.seek(begin)
        thrift = _Thrift(source.read(_HEADER_BYTES), room)
        header = thrift.struct()
        packed = _integer(header, 3)
        _require(packed >= 0, "a page has a negative size")
        yield header
        begin += thrift.at + packed


def _integer(fields: Fields, number: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int):
        raise pa.ArrowInvalid("a size is missing")
    return value


def _struct(fields: Fields, number: int) -> Fields:
    value = fields.get(number)
    if not isinstance(value, dict):
        raise pa.ArrowInvalid("a part of its metadata is missing")
    return value


def _structs(fields: Fields, number: int) -> list[Fields]:
    value = fields.get(number, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise pa.ArrowInvalid("a part of its metadata is missing")
    return value


class _Thrift:
    """Reads structs."""

    def __init__(self, data: bytes, room: _Room) -> None:
        self._data, self._room = data, room
        self.at = 0

    def struct(self, depth: int = 0) -> Fields:
        """A struct's fields, by number."""
        _require(depth < _MOST_NESTING, "its metadata is nested too deeply")
        fields: Fields = {}
        number = 0
        while kind := self._byte():
            step = kind >> 4
            number = number + step if step else self._zigzag()
            fields[number] = self._value(kind & 15, depth)
        self._room.take(1 + len(fields))
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        match kind:  # the most frequent first
            case 4 | 5 | 6:
                return self._zigzag()
            case 1 | 2:
                return kind == 1
            case 3:
                return self._byte()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                return self._list(depth + 1)
            case 12:
                return self.struct(depth + 1)
        raise pa.ArrowInvalid("its metadata is damaged")

    def _list(self, depth: int) -> list[Any]:
        _require(depth < _MOST_NESTING, "its metadata is nested too deeply")
        head = self._byte()
        length = head >> 4 if head >> 4 < 15 else self._varint()
        kind = head & 15
        self._room.take(length)
        return [self._byte() if kind in (1, 2) else self._value(kind, depth) for _ in range(length)]

    def _byte(self) -> int:
        try:
            byte = self._data[self.at]
        except IndexError:
            raise pa.ArrowInvalid("its metadata is cut short") from None
        self.at += 1
        return byte

    def _varint(self) -> int:
        value = self._byte()
        if value < 128:  # as most are
            return value
        value &= 127
        for shift in range(7, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise pa.ArrowInvalid("its metadata is damaged")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _bytes(self, count: int) -> bytes:
        _require(self.at + count <= len(self._data), "its metadata is cut short")
        self.at += count
        return self._data[self.at - count : self.at]
