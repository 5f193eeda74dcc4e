"""Events: complete lines of strict JSON, readable while the file grows, is torn, truncated or replaced."""

import json
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitnet_core.runs.event_files import EventReader, EventWriter, read_events
from bitnet_core.runs.events import KINDS, Event, decode
from bitnet_core.runs.events_docs import events_page
from bitnet_core.secrets.redaction import Redactor
from tests.builders import event, events_of


def test_numbers_that_json_cannot_hold_become_null(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    writer.emit(event("metric", loss=float("nan"), zero_weights_by_layer=[float("inf"), 1.5]))
    writer.emit(event("run_finished", summary={"a": float("-inf")}))
    metric, end = (json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines())
    assert (metric["loss"], metric["zero_weights_by_layer"], end["summary"]) == (None, [None, 1.5], {"a": None})


def test_an_unset_field_is_absent_from_the_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventWriter(path).emit(event("metric", step=3, loss=None))
    assert set(json.loads(path.read_text())) == {"v", "t", "seq", "kind", "step", "loss"}


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind": "table", "name": "t", "columns": 3, "rows": []}',
        b'{"kind": "unheard of"}',
        b'{"v": 1}',
        b"[1]",
        b'{"kind": "log", "level": "info", "message": "\\ud800"}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_not_an_event_is_skipped(line: bytes) -> None:
    assert decode(line) is None


def test_fields_of_a_later_version_are_ignored() -> None:
    assert decode(b'{"v": 2, "kind": "log", "level": "info", "message": "hello", "more": [1]}') == event(
        "log", v=2, seq=0, level="info", message="hello"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_as_it_was_written(tmp_path: Path, kind: type[Event]) -> None:
    path = tmp_path / "events.jsonl"
    made = event(kind.__struct_config__.tag)
    EventWriter(path).emit(made)
    (read,) = read_events(path)
    assert msgspec.structs.replace(read, t=0.0, seq=1) == made


@given(st.lists(st.text(), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_a_growing_file_gives_each_event_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], cuts: list[int]
) -> None:
    """However the growing file is cut while being read, every event comes exactly once and in order."""
    folder = tmp_path_factory.mktemp("events")
    writer = EventWriter(folder / "whole.jsonl")
    for text in texts:
        writer.emit(event("log", level="info", message=text))
    data = (folder / "whole.jsonl").read_bytes()
    growing = folder / "growing.jsonl"
    reader, found = EventReader(growing), []
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        with growing.open("ab") as sink:
            sink.write(data[growing.stat().st_size : cut])
        found += reader.read_new()
    assert [one.message for one in found] == texts
    assert [one.seq for one in found] == list(range(len(texts)))


def test_a_truncated_or_replaced_file_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.read_new() == []
    EventWriter(path).emit(event("log", level="info", message="a long first message"))
    assert len(reader.read_new()) == 1
    path.write_text("")
    EventWriter(path).emit(event("log", level="info", message="b"))
    assert [one.message for one in reader.read_new()] == ["b"]
    path.rename(tmp_path / "old")
    EventWriter(path).emit(event("log", level="info", message="c, longer than what was read before it"))
    assert [one.message[0] for one in reader.read_new()] == ["c"]


def test_garbage_and_a_torn_line_hide_no_other_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventWriter(path).emit(event("log", level="info", message="before"))
    with path.open("ab") as sink:
        sink.write(b'\x00\xff not json\n[1]\n{"kind": "unheard of"}\n{"kind": "log", "mess')
    EventWriter(path).emit(event("log", level="info", message="after"))
    assert [one["message"] for one in events_of(path)] == ["before", "after"]


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)

    def work(name: int) -> None:
        for i in range(200):
            writer.emit(event("log", level="info", message=f"{name}-{i}" + "x" * 500))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = events_of(path)
    assert [one["seq"] for one in events] == list(range(800))


@given(st.text(min_size=6, max_size=40))
@example("MESSAG")
def test_a_secret_never_reaches_the_file(tmp_path_factory: pytest.TempPathFactory, secret: str) -> None:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    EventWriter(path, Redactor([secret])).emit(event("log", level="info", message=f"key<{secret}>"))
    assert secret not in events_of(path)[0]["message"]


def test_the_page_of_events_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs/events.md"
    assert page.read_text() == events_page(), "run `make docs`"


def test_an_odd_optional_field_does_not_hide_the_others() -> None:
    found = decode(b'{"kind": "metric", "step": 3, "loss": "2", "kl": 1.5, "activation_bits": 8.5}')
    assert found == event("metric", seq=0, step=3, kl=1.5)
    assert (
        decode(b'{"kind": "alert", "severity": "warning", "code": "c", "message": "m", "advice": null}') is not None
    )
