"""`events.jsonl`, whatever it holds or is: read in bounded memory, and what can't be read is said once."""

import io
import json
import os
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.cli.output import Console
from bitnet_core.runs.event_files import EventReader, EventWriter, read_events
from bitnet_core.runs.event_words import describe
from bitnet_core.runs.events import KINDS, Log, decode, to_dict
from bitnet_core.runs.lines import LINE_BYTES, LineReader, count_lines
from tests.builders import event
from tests.fuzzing import fuzz
from tests.runs.hostile import objects_like

MIB = 1 << 20


def line(text: str, kind: str = "log") -> bytes:
    return json.dumps({"kind": kind, "level": "info", "message": text}).encode() + b"\n"


def messages(path: Path) -> list[str]:
    """All that a reader with remarks says, in the order of the file."""
    reader, found = EventReader(path, remark=True), []
    while (events := reader.read_new()) or not reader.at_end:
        found += events
    return [one.message if isinstance(one, Log) else one.kind for one in found]


def check(data: bytes, folder: Path) -> None:
    """Any bytes between two events hide neither, and whatever is read can be shown, told as JSON and read again."""
    path = folder / "events.jsonl"
    path.write_bytes(line("before") + data + b"\n" + line("after"))
    found = read_events(path)
    assert [one.message for one in (found[0], found[-1]) if isinstance(one, Log)] == ["before", "after"]
    for one in found:
        json.dumps(to_dict(one), allow_nan=False)
        describe(one)
        Console(io.StringIO()).event("run", one)
        assert decode(json.dumps(to_dict(one)).encode()) is not None
    assert sum(message.startswith("Line ") for message in messages(path)) <= 2


EVENTS = objects_like([to_dict(event(str(kind.__struct_config__.tag))) for kind in KINDS])


@fuzz(200)
@given(EVENTS)
def test_any_bytes_are_events_or_passed_over(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    check(data, tmp_path_factory.mktemp("e"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"kind":"progress"}', "missing required field `done`"),
        (b'{"kind":"metric","step":1,"loss":NaN}', "it is not JSON: invalid character"),
        (b'{"kind":"metric","step":1,"loss":1e999}', "out of range"),
        (b'{"kind":"log","message":"\\ud800"}', "it is cut off, or has half a surrogate pair"),
        (b'{"kind":"log","message":"x', "it is cut off)"),
        (b'{"kind":"run_finished"}', "missing required field `state`"),
        (b'{"kind":"table","name":"t","columns":3,"rows":[]}', "Expected `array`, got `int` - at `$.columns`"),
        (b'{"kind":"unheard of"}', "its kind 'unheard of' is not known"),
        (b'{"kind":7}', "Expected `str`, got `int` - at `$.kind`"),
        (b'{"v":1}', "missing required field `kind`"),
        (b"[1]", "Expected `object`, got `array`"),
        (b"\x00\xff", "it is not JSON"),
        (b"[" * 100_000, "cut off|nested too deeply"),
        (b'{"kind":"run_finished","state":"x","summary":' + b'{"a":' * 99 + b"1" + b"}" * 100, "nested too deeply"),
        (b'{"kind":"table","name":"t","columns":[],"rows":[[' + b"[" * 99 + b"]" * 101 + b"}", "nested too deeply"),
    ],
)
def test_an_odd_line_is_told_once_with_its_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line("before") + (data + b"\n") * 3 + line("after"))
    before, told, after = messages(path)
    assert (before, after) == ("before", "after")
    assert told.startswith("Line 2 of events.jsonl was skipped (")
    assert any(one in told for one in reason.split("|"))
    assert "\n" not in told
    assert len(read_events(path)) == 2


def _text(size: int) -> bytes:
    return line("y" * size)


def _nested(size: int) -> bytes:
    return b"[" * size + b"\n"


def _empty(size: int) -> bytes:
    return b'{"kind":"table","rows":[' + b"[]," * (size // 3) + b"[]]}\n"


@pytest.mark.parametrize("make", [_text, _nested, _empty, lambda size: b"\x00" * size + b"\n"])
@pytest.mark.parametrize("size", [MIB, MIB + 1, 2 * MIB - 1, 3 * MIB + 77, 17_000_000])
def test_a_long_line_is_passed_over_in_bounded_memory(
    tmp_path: Path, make: Callable[[int], bytes], size: int
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line("before") + make(size) + make(size) + line("after"))
    messages(path)  # what is made once is not counted
    tracemalloc.start()
    found = messages(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == ["before", "Line 2 of events.jsonl was skipped (it is longer than 1 MiB); "
                     "so are others like it.", "after"]  # fmt: skip
    assert peak < 6 * MIB


@pytest.mark.parametrize("filler", [b"\n", b"{}\n", b"x\n", line("m")])
def test_many_short_lines_are_read_in_bounded_memory(tmp_path: Path, filler: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(filler * (MIB // 8 // len(filler)))
    reader = EventReader(path)
    tracemalloc.start()
    while reader.read_new() or not reader.at_end:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MIB


def test_a_line_without_end_is_said_while_it_grows_and_what_follows_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path, remark=True)
    said: list[Any] = []
    for piece in (line("a"), b"z" * (MIB - 1), b"z", b"z" * MIB, b"z\n" + line("b")):
        with path.open("ab") as sink:
            sink.write(piece)
        said.append([one.message[:6] for one in reader.read_new() if isinstance(one, Log)])
    assert said == [["a"], [], ["Line 2"], [], ["b"]]


@fuzz(200)
@given(
    st.lists(st.sampled_from([b"", b"a", b"bc", b"d" * 50, b"e" * (LINE_BYTES - 1), b"f" * LINE_BYTES]), max_size=5),
    st.lists(st.integers(0, 3 * LINE_BYTES), max_size=5),
)
def test_however_a_file_grows_its_lines_are_those_of_its_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("lines")
    data = b"".join(one + b"\n" for one in lines)
    expected = [(at, one if len(one) < LINE_BYTES else None) for at, one in enumerate(lines) if one]
    reader, found = LineReader(folder / "growing"), []
    for end in [*sorted(min(one, len(data)) for one in cuts), len(data)]:
        (folder / "growing").write_bytes(data[:end])
        found += reader.read_new()
        while not reader.at_end:
            found += reader.read_new()
    assert [tuple(one) for one in found] == expected
    assert count_lines(folder / "growing") == (len(lines), False)


@pytest.mark.parametrize("last_bytes", [None, 12])
def test_a_file_that_another_program_copies_anew_goes_on(tmp_path: Path, last_bytes: int | None) -> None:
    """As Syncthing, rsync and a pull do: each time it is another file, which begins as the one before it."""
    path, data = tmp_path / "events.jsonl", b"earlier\n" * 3
    found: list[Any] = []
    reader = LineReader(path, last_bytes=last_bytes)
    for number in range(5):
        data += b"x" * number + b"the line %d\n" % number
        path.with_suffix(".new").write_bytes(data + b"torn"[:number])
        path.with_suffix(".new").replace(path)
        found += reader.read_new()
    lines = data.split(b"\n")[:-1]
    assert [one.data for one in found] == (lines if last_bytes is None else lines[3:])
    assert [one.number for one in found] == list(range(found[0].number, found[0].number + len(found)))
    reader = LineReader(path)
    reader.read_new()
    for other in (b"X" + data[1:], data[:-1] + b"X\n", data[:20], b""):
        path.with_suffix(".new").write_bytes(other + b"\n")
        path.with_suffix(".new").replace(path)
        anew = LineReader(path)
        assert reader.read_new() == anew.read_new()


def _lines(numbers: Iterable[int], word: str = "one") -> bytes:
    return b"".join(
        b'{"v":1,"t":1.0,"seq":%d,"kind":"log","level":"info","message":"%b"}\n' % (n, word.encode()) for n in numbers
    )


@pytest.mark.parametrize("remark", [True, False])
@pytest.mark.parametrize(
    ("now", "told"),
    [
        (_lines(range(50, 60)), [0, *range(51, 60)]),  # its beginning was cut off
        (_lines(range(70, 80), "two") + _lines(range(80, 100)), [0, *range(71, 100)]),  # of the same length
        (_lines(range(150), "two"), list(range(150))),  # longer
        (b"x" * 40 + b"\n" + _lines(range(3, 9)), [0, *range(4, 9)]),  # its first line can't be read
    ],
)
def test_a_file_that_is_changed_in_its_place_begins_again_whatever_its_first_number(
    tmp_path: Path, now: bytes, told: list[int], remark: bool
) -> None:
    """A fold begins again at the number 0; without it, it would count again the events that it has seen."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(_lines(range(70, 100)))
    reader = EventReader(path, remark=remark)
    assert len(reader.read_new()) == 30
    os.utime(path, ns=(1, 1))  # touched, and not changed
    assert reader.read_new() == []
    with path.open("r+b") as file:
        file.write(now)
        file.truncate()
    found = reader.read_new()
    said = [one.message for one in found if isinstance(one, Log) and one.level == "warning"]
    again = "events.jsonl was changed by another program; this is what it says now."
    assert (again in said) == remark
    assert found[0].seq == 0
    numbers = [one.seq for one in found if not isinstance(one, Log) or one.level == "info"]
    assert numbers[1:] == told[1:]
    with path.open("ab") as file:
        file.write(_lines([200]))
    assert [one.seq for one in reader.read_new()] == [200]


def test_a_file_of_which_nothing_was_read_is_not_said_to_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.touch()
    reader = EventReader(path, remark=True)
    assert reader.read_new() == []
    (tmp_path / "other").write_bytes(_lines(range(5)))
    (tmp_path / "other").replace(path)
    assert [(one.seq, getattr(one, "level", "")) for one in reader.read_new()] == [(n, "info") for n in range(5)]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to(path.name), "symbolic links"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_once(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    path = tmp_path / "events.jsonl"
    make(path)
    reader = EventReader(path, remark=True)
    (told,) = reader.read_new()
    assert isinstance(told, Log)
    assert reason in told.message
    assert reader.read_new() == []
    assert reader.at_end
    assert read_events(path) == []


def test_events_of_other_programs_get_their_place_in_the_file(tmp_path: Path) -> None:
    """Number 0 means that the file begins anew, so a line without a number must not have it."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(line("a") + line("b") + b"\n" + line("c"))
    assert [one.seq for one in read_events(path)] == [0, 1, 3]


# -- what our own writer leaves ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("sample", {"prompt": "p", "text": "y" * 18_000_000}),
        ("sample", {"prompt": "é" * MIB, "text": "€" * MIB}),
        ("sample", {"prompt": "\x00" * MIB, "text": "\x01" * MIB}),
        ("log", {"message": "x" * LINE_BYTES}),
        ("alert", {"message": "m", "advice": "a" * 2 * MIB}),
        ("table", {"name": "t", "columns": ["a"], "rows": [["x" * 3000] for _ in range(1000)]}),
        ("table", {"name": "t" * 2 * MIB, "columns": [], "rows": []}),
        ("run_finished", {"state": "failed", "error": "e" * 2 * MIB, "summary": {"k" * 2 * MIB: 1}}),
        ("run_finished", {"state": "failed", "summary": {"numbers": [1.5] * 300_000}}),
        ("run_started", {"run": "r", "versions": {f"package-{n}": "1" * 99 for n in range(20_000)}}),
        ("metric", {"step": 1, "zero_weights_by_layer": [0.123456789] * 100_000}),
        ("trace", {"dropped": {"r" * 2 * MIB: 1}}),
    ],
)
def test_no_line_is_written_that_readers_pass_over(tmp_path: Path, kind: str, fields: dict[str, Any]) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.emit(event(kind, **fields))
    writer.emit(event("log", message="after"))
    assert max(map(len, path.read_bytes().splitlines(keepends=True))) < LINE_BYTES
    found = read_events(path)
    assert [one.kind for one in found] == [kind, "log"]
    assert [one.seq for one in found] == [0, 1]


def test_a_text_is_cut_only_when_its_line_is_too_long_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for size in (MIB - 500, MIB):
        EventWriter(path).emit(event("sample", prompt="p", text="y" * size, source="teacher"))
    whole, cut = (json.loads(one) for one in path.read_text().splitlines())
    assert whole["text"] == "y" * (MIB - 500)
    assert cut["text"] == "y" * 65536 + "… [cut; 1048576 characters]"
    assert (cut["prompt"], cut["source"]) == ("p", "teacher")


def test_what_cannot_be_shortened_is_replaced_by_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventWriter(path).emit(event("table", name="t", columns=["a"], rows=[[10**12]] * 80_000))
    (told,) = read_events(path)
    assert isinstance(told, Log)
    assert (told.level, told.message.endswith("(table) was too long to be written, and was left out.")) == (
        "warning",
        True,
    )


@pytest.mark.parametrize("torn", [b"", b'{"kind": "lo'])
def test_a_writer_counts_a_large_file_in_bounded_memory(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line("m" * 1000) * 8000 + torn)
    tracemalloc.start()
    writer = EventWriter(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB
    writer.emit(event("log", message="after"))
    assert read_events(path)[-1].seq == 8000
