"""Events: written whole, strict JSON, read while the file grows, is torn, truncated or replaced."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.events import EventReader, EventWriter, read_events
from bitnet_core.secrets import Redactor


def test_numbers_that_json_can_not_hold_become_null(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventWriter(path).emit("metric", loss=float("nan"), parts=[float("inf"), 1.5], more={"a": float("-inf")})
    event = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert (event["loss"], event["parts"], event["more"]) == (None, [None, 1.5], {"a": None})


def test_an_unknown_kind_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no event kind"):
        EventWriter(tmp_path / "events.jsonl").emit("mystery")


@given(st.lists(st.text(), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_any_cut_of_the_file_gives_each_event_once(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], cuts: list[int]
) -> None:
    """However the growing file is cut while being read, every event comes exactly once and in order."""
    folder = tmp_path_factory.mktemp("events")
    writer = EventWriter(folder / "whole.jsonl")
    for text in texts:
        writer.emit("log", level="info", message=text)
    data = (folder / "whole.jsonl").read_bytes()
    growing = folder / "growing.jsonl"
    reader, found = EventReader(growing), []
    for cut in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        with growing.open("ab") as sink:
            sink.write(data[growing.stat().st_size : cut])
        found += reader.read_new()
    assert [event["message"] for event in found] == texts
    assert [event["seq"] for event in found] == list(range(len(texts)))


def test_a_truncated_or_replaced_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.read_new() == []
    EventWriter(path).emit("log", level="info", message="a long first message")
    assert len(reader.read_new()) == 1
    path.write_text("")
    EventWriter(path).emit("log", level="info", message="b")
    assert [event["message"] for event in reader.read_new()] == ["b"]
    path.rename(tmp_path / "old")
    EventWriter(path).emit("log", level="info", message="c, longer than what was read before it")
    assert [event["message"][0] for event in reader.read_new()] == ["c"]


def test_garbage_and_a_torn_end_cost_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventWriter(path).emit("log", level="info", message="before")
    with path.open("ab") as sink:
        sink.write(b'\x00\xff not json\n[1]\n{"kind": "unheard of"}\n{"kind": "log", "mess')
    EventWriter(path).emit("log", level="info", message="after")
    assert [event["message"] for event in read_events(path)] == ["before", "after"]


def test_threads_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)

    def work(name: int) -> None:
        for i in range(200):
            writer.emit("log", level="info", message=f"{name}-{i}" + "x" * 500)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = read_events(path)
    assert [event["seq"] for event in events] == list(range(800))


@given(st.text(min_size=6, max_size=40))
def test_a_secret_never_reaches_the_file(tmp_path_factory: pytest.TempPathFactory, secret: str) -> None:
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    EventWriter(path, Redactor([secret])).emit("log", level="info", message=f"key<{secret}>")
    assert secret not in read_events(path)[0]["message"]
