"""How long a run took until it reached a place, against a reader that reads all of it."""

import math
import random
from pathlib import Path

import msgspec
import pytest

from bitnet_core.runs import spent
from bitnet_core.runs.event_files import each_event
from bitnet_core.runs.events import Metric
from tests.builders import event


def _line(kind: str, number: int, **fields: object) -> bytes:
    return msgspec.json.encode(event(kind, seq=number, t=float(number), **fields)) + b"\n"


def _slow(path: Path, end: float) -> float | None:
    reports = [one for one in each_event(path) if isinstance(one, Metric)]
    if all(one.step <= end for one in reports):
        return None
    return max((one.t for one in reports if one.step <= end), default=-math.inf)


@pytest.mark.parametrize("seed", range(20))
def test_a_file_of_any_length_is_bisected(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(spent, "_TAIL_BYTES", dice.choice([1, 300, 5000]))
    path, lines, step = tmp_path / "events.jsonl", [], dice.randrange(100)
    for number in range(dice.choice([0, 1, 5, 400])):
        if dice.random() < 0.3:
            lines.append(_line("log", number, message="x" * dice.randrange(400)))
        else:
            step += dice.randrange(3)
            lines.append(_line("metric", number, step=step, seen_tokens=step))
    path.write_bytes(b"".join(lines))
    for end in (-1, 0, step / 3, step // 2, step - 1, step, step + 1):
        assert spent._reached.__wrapped__(path, 0, end) == _slow(path, end)


def test_little_of_a_long_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    whole = spent.place_of
    monkeypatch.setattr(spent, "place_of", lambda one: read.append(one) or whole(one))
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(_line("metric", n, step=n, seen_tokens=n) for n in range(50_000)))
    assert spent._reached.__wrapped__(path, 0, 12_345) == 12_345
    assert len(read) < 10_000
