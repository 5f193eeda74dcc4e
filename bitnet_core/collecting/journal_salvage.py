"""The rows of a journal whose file is damaged, found without its B-trees.

One changed byte in the head of a page makes SQLite see fewer rows, or an empty table, without an error. The rows
themselves are still there: each page is read by itself, and each answer proves by its checksum that it is whole.
Source: SQLite's "Database File Format". It opens no database and writes nothing.
"""

import math
import mmap
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
_DEFAULT_PAGE = 4096
_HEADER_BYTES = 100
_INTERIOR_INDEX, _LEAF_INDEX, _LEAF_TABLE = 2, 10, 13
_HEAD_BYTES = {_INTERIOR_INDEX: 12, _LEAF_INDEX: 8, _LEAF_TABLE: 8}
"""Of a page that holds rows, by its kind: what stands before the places of its cells."""
_WAL_HEADER, _FRAME_HEADER = 32, 24
_MOST_ROW = 1 << 30
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Bytes of a value by its type in a record, from 0 to 9."""
_FLOAT, _ZERO, _FIRST_TEXT = 7, 8, 12
_SENDING_COLUMNS = 6


@dataclass
class Salvaged:
    """Rows as the tables have them. Of two versions of a row, the better or later one."""

    answers: dict[str, tuple[str, str, bytes, float, int, int | None]] = field(default_factory=dict)
    """(key, status, body, at, attempts, crc) by key."""
    notes: dict[str, str] = field(default_factory=dict)
    sendings: dict[int, tuple[int, str, int, int, float, str]] = field(default_factory=dict)
    """(id, key, prompt_tokens, completion_tokens, usd, state) by id."""

    @property
    def lost_sendings(self) -> int:
        """How many requests are missing between the first and the last one: none was ever removed."""
        return max(self.sendings, default=0) - len(self.sendings)


def salvage(path: Path) -> Salvaged:
    """What can be read of the journal at `path`, and of its WAL. OSError as `open`."""
    found = Salvaged()
    with path.open("rb") as file:
        if not path.stat().st_size:
            return found
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            pages = _Pages(data, _frames(path.with_name(f"{path.name}-wal")))
            for number in pages.numbers():
                for kind, rowid, values in _rows(pages, number):
                    _take(found, kind, rowid, values)
    return found


class _Pages:
    """The pages of a file by number, from 1 on; those in `newer` stand in its WAL."""

    def __init__(self, data: mmap.mmap, newer: Mapping[int, bytes]) -> None:
        told = int.from_bytes(data[16:18], "big")
        self.size = 1 << 16 if told == 1 else told if told in _PAGE_SIZES else _DEFAULT_PAGE
        reserved = data[20] if len(data) > 20 and data[20] < 32 else 0
        self.usable = self.size - reserved
        self._data, self._newer = data, newer

    def numbers(self) -> range:
        return range(1, max(-(-len(self._data) // self.size), *self._newer, 0) + 1)

    def __getitem__(self, number: int) -> bytes:
        return self._newer.get(number) or self._data[(number - 1) * self.size : number * self.size]


def _frames(wal: Path) -> dict[int, bytes]:
    """The newest version of each page in a WAL; an older WAL's frames have other salts."""
    if not wal.is_file():
        return {}
    data = wal.read_bytes()
    size = int.from_bytes(data[8:12], "big")
    found = {}
    if size in _PAGE_SIZES:
        for start in range(_WAL_HEADER, len(data) - size - _FRAME_HEADER + 1, _FRAME_HEADER + size):
            number, _, salts = struct.unpack_from(">II8s", data, start)
            if salts == data[16:24]:
                found[number] = data[start + _FRAME_HEADER : start + _FRAME_HEADER + size]
    return found


def _rows(pages: _Pages, number: int) -> Iterator[tuple[int, int, list[Any]]]:
    """The kind of the page, the row's number where the table has any, and the values, of each cell of a page."""
    page = pages[number]
    head = _HEADER_BYTES if number == 1 else 0
    kind = page[head] if len(page) == pages.size else 0
    if kind not in _HEAD_BYTES:
        return
    # The number of cells may be what is damaged: the places of the cells end where the first of these begins.
    at, first = head + _HEAD_BYTES[kind], pages.size
    while at + 2 <= first:
        cell = int.from_bytes(page[at : at + 2], "big")
        if not at + 2 <= cell < pages.usable:
            return
        at, first = at + 2, min(first, cell)
        try:
            rowid, payload = _cell(pages, page, kind, cell)
            values = _record(payload)
        except (IndexError, ValueError, struct.error):
            continue
        yield kind, rowid, values


def _cell(pages: _Pages, page: bytes, kind: int, at: int) -> tuple[int, bytes]:
    """The row's number and record. ValueError or IndexError if there is none."""
    rowid = 0
    size, at = _varint(page, at + 4 if kind == _INTERIOR_INDEX else at)
    if kind == _LEAF_TABLE:
        rowid, at = _varint(page, at)
    if not 0 < size < _MOST_ROW:
        raise ValueError
    usable = pages.usable
    most = usable - 35 if kind == _LEAF_TABLE else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return rowid, page[at : at + size]
    least = (usable - 12) * 32 // 255 - 23
    local = least + (size - least) % (usable - 4)
    local = local if local <= most else least
    parts, left = [page[at : at + local]], size - local
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    while left > 0:
        overflow = pages[following] if following > 1 else b""
        if len(overflow) < usable:
            raise ValueError
        parts.append(overflow[4 : 4 + min(left, usable - 4)])
        left -= usable - 4
        following = int.from_bytes(overflow[:4], "big")
    return rowid, b"".join(parts)


def _record(data: bytes) -> list[Any]:
    """The values of a record. ValueError or IndexError if it is none."""
    end, at = _varint(data, 0)
    types, values = [], []
    while at < end:
        kind, at = _varint(data, at)
        types.append(kind)
    for kind in types:
        size = _SIZES[kind] if kind < len(_SIZES) else (kind - _FIRST_TEXT) // 2
        part = data[at : at + size]
        if len(part) < size:
            raise ValueError
        values.append(_value(kind, part))
        at += size
    if at != len(data):
        raise ValueError
    return values


def _value(kind: int, data: bytes) -> Any:
    if kind == _FLOAT:
        return struct.unpack(">d", data)[0]
    if kind >= _FIRST_TEXT:
        return data.decode() if kind % 2 else data
    if kind >= len(_SIZES):
        raise ValueError  # no type has this number
    return None if kind == 0 else kind - _ZERO if kind >= _ZERO else int.from_bytes(data, "big", signed=True)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of 1 to 9 bytes, and where it ends."""
    value = 0
    for place in range(at, at + 8):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9


def _take(found: Salvaged, kind: int, rowid: int, values: list[Any]) -> None:
    """Add a row, if it is one of a journal."""
    types = [str if isinstance(one, str) else bytes if isinstance(one, bytes) else None for one in values]
    if kind == _LEAF_TABLE:
        _take_sending(found, rowid, values)
    elif types == [str, str]:
        found.notes.setdefault(*values)
    elif types[:3] == [str, str, bytes]:
        _take_answer(found, *values)


def _take_answer(
    found: Salvaged, key: str, status: str, body: bytes, at: Any = None, attempts: Any = 1, crc: Any = None, *_: Any
) -> None:
    if not isinstance(at, int | float) or not isinstance(attempts, int) or not isinstance(crc, int | None):
        return
    if crc is not None and crc != zlib.crc32(body):
        return
    kept = found.answers.get(key)
    if kept is None or (kept[1] == "ok", kept[3]) < (status == "ok", float(at)):
        found.answers[key] = (key, status, body, float(at), attempts, crc)


def _take_sending(found: Salvaged, rowid: int, values: list[Any]) -> None:
    if len(values) != _SENDING_COLUMNS:
        return
    number, key, prompt, completion, usd, state = values
    if number is not None or not (isinstance(key, str) and isinstance(state, str) and state.isalpha()):
        return
    counts = isinstance(prompt, int) and isinstance(completion, int) and isinstance(usd, int | float)
    if not counts or not (prompt >= 0 and completion >= 0 and 0 <= usd < math.inf):
        return
    kept = found.sendings.get(rowid)
    if kept is None or kept[5] == "open":
        found.sendings[rowid] = (rowid, key, prompt, completion, float(usd), state)
