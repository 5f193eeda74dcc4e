"""The lines of a file that may grow, end in a torn line, be truncated or replaced, read in bounded memory."""

import os
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

from bitnet_core.files.regular import open_regular

LINE_BYTES = 1 << 20
"""A line as long as this, its end included, is passed over."""
_CHUNK_BYTES = 1 << 15
_TAIL_BYTES = 1 << 8
_WHOLE_BYTES = 1 << 22
"""The most that is read again of a file that was changed and has not grown. Of a longer one, only the end is."""


class Line(NamedTuple):
    """`number` counts the lines before it. `data` is None for a line that is too long."""

    number: int
    data: bytes | None


class LineReader:
    """Leaves a torn last line for later; starts again in a truncated or replaced file, or one with other content.

    A file that begins with what was read goes on, as where a copy is brought up to date by another program.
    """

    def __init__(self, path: Path, *, last_bytes: int | None = None) -> None:
        """With `last_bytes`, the first look reads only lines that begin in that many last bytes, and counts lines
        from there.
        """
        self.path = path
        self._last_bytes = last_bytes
        self.at_end = True
        """Whether the last call reached the end of the file."""
        self._inode: int | None = None
        self._size = self._changed = 0
        self.restarts = 0
        """How often it began again after it had read something."""
        self._offset = self._began = 0
        self._start_over()

    def _start_over(self) -> None:
        self.restarts += self._offset > self._began
        self._tail = b""
        """The last bytes that were taken."""
        self._offset = self._number = 0
        self._inside_long = False
        self._began = self._sum = 0
        """Where it began to read, and the checksum of what was taken since."""

    @property
    def size(self) -> int:
        """Of the file, at the last call."""
        return self._size

    @property
    def left(self) -> int:
        """How many bytes the last call left for later."""
        return max(0, self._size - self._offset)

    def read_new(self) -> list[Line]:
        """Some lines that were not read before; there may be none before the end. OSError if it can't be read."""
        self.at_end = True
        try:
            with open_regular(self.path) as source:
                status = os.fstat(source.fileno())
                first, other, self._inode = self._inode is None, status.st_ino != self._inode, status.st_ino
                if first:
                    if self._last_bytes is not None:
                        self._skip_to_last(status.st_size, self._last_bytes)
                elif status.st_size < self._offset or not self._goes_on(source, status, other):
                    self._start_over()
                self._size, self._changed = status.st_size, status.st_mtime_ns
                source.seek(self._offset)
                return self._take(self._chunk(source))
        except FileNotFoundError:
            return []

    def _skip_to_last(self, size: int, last_bytes: int) -> None:
        if size > last_bytes:  # the byte before tells whether a line begins there
            self._offset = self._began = size - last_bytes - 1
            self._inside_long = True

    def _goes_on(self, source: BinaryIO, status: os.stat_result, other: bool) -> bool:
        """Whether what was taken is still there: in an `other` file, or in one that was changed in its place."""
        if self._offset == self._began:
            return not other
        if other or (status.st_size == self._size and self._offset - self._began <= _WHOLE_BYTES):
            return (status.st_mtime_ns == self._changed and not other) or self._begins_alike(source)
        source.seek(self._offset - len(self._tail))
        return source.read(len(self._tail)) == self._tail

    def _begins_alike(self, source: BinaryIO) -> bool:
        """Whether a file begins with what was taken."""
        source.seek(self._began)
        left, found = self._offset - self._began, 0
        while left and (data := source.read(min(_CHUNK_BYTES, left))):
            left, found = left - len(data), zlib.crc32(data, found)
        return not left and found == self._sum

    def _pass(self, data: bytes) -> None:
        """Take these bytes, which come next."""
        self._offset += len(data)
        self._tail = (self._tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        self._sum = zlib.crc32(data, self._sum)

    def _chunk(self, source: BinaryIO) -> bytes:
        data = source.read(_CHUNK_BYTES)
        self.at_end = len(data) < _CHUNK_BYTES
        if not self.at_end and not self._inside_long and b"\n" not in data:
            data += source.read(LINE_BYTES - _CHUNK_BYTES)
            self.at_end = len(data) < LINE_BYTES
        return data

    def _take(self, data: bytes) -> list[Line]:
        if self._inside_long:
            data = self._end_of_long(data)
        whole, newline, _torn = data.rpartition(b"\n")
        if len(data) == LINE_BYTES and not newline:
            self._inside_long = True
            self._pass(data)
            return [Line(self._number, None)]
        self._pass(whole + newline)
        found = [Line(number, line) for number, line in enumerate(whole.split(b"\n"), self._number) if line]
        self._number += whole.count(b"\n") + len(newline)
        return found

    def _end_of_long(self, data: bytes) -> bytes:
        """What comes after the line that is passed over; empty if its end has not come yet."""
        _long, newline, rest = data.partition(b"\n")
        self._pass(data[: len(data) - len(rest)])
        self._number += len(newline)
        self._inside_long = not newline
        return rest


def count_lines(path: Path) -> tuple[int, bool]:
    """How many line ends a file has, and whether it ends in a torn line; (0, False) if there is no file."""
    lines, last = 0, b"\n"
    try:
        with open_regular(path) as source:
            while data := source.read(_CHUNK_BYTES):
                lines, last = lines + data.count(b"\n"), data[-1:]
    except FileNotFoundError:
        pass
    return lines, last != b"\n"
