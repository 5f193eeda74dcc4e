"""Which answers a run's events show while they are collected: few, short, and none with a key in it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bitnet_core.collecting import newest
from bitnet_core.collecting.newest import Newest
from bitnet_core.runs.event_files import _encoded as encoded
from bitnet_core.runs.events import Trace, to_dict
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.tokenizer.steps import TokenTable

_REQUEST: Any = SimpleNamespace(prompt=SimpleNamespace(messages=({"role": "user", "content": "why\n" * 900},)))
_EVENT = Trace(prompt_idx=3, tokens=9, kept=9)


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    found = _Clock()
    monkeypatch.setattr(newest.time, "monotonic", found)
    return found


def _read(tokens: list[bytes], other: float = 0.25) -> Any:
    table = TokenTable()
    sampled_N = np.array([table.number(-1, data) for data in tokens], np.int32)
    mass = SimpleNamespace(other_N=np.full(len(tokens), np.log(other)))
    return SimpleNamespace(
        answer=SimpleNamespace(steps=SimpleNamespace(table=table, sampled_N=sampled_N), bytes_before={}, mass=mass)
    )


def test_an_answer_comes_along_with_its_tokens_and_their_other_mass(clock: _Clock) -> None:
    shown = Newest(str).added_to(_EVENT, _REQUEST, _read([b"The", b" ", b"\xe6\x9d", b"\xb1", b"!"]))
    assert shown.pieces == ["The", " ", "", "東", "!"]
    assert shown.piece_other == [0.25] * 5
    assert str(shown.prompt).startswith("why why")
    assert (shown.prompt_idx, shown.kept) == (3, 9)


def test_a_long_answer_is_cut(clock: _Clock) -> None:
    shown = Newest(str).added_to(_EVENT, _REQUEST, _read([b"x" * 900] * 5000))
    assert len(encoded(to_dict(shown))) < 8_000


def test_a_run_shows_few_answers_however_many_come_and_however_long_it_takes(clock: _Clock) -> None:
    chooses, read, counts = Newest(str), _read([b"a"]), []
    for hours in (1, 2, 10, 24):
        end, shown = 100.0 + 3600 * hours, 0
        while clock.now < end:
            clock.now += 1.0
            shown += chooses.added_to(_EVENT, _REQUEST, read) is not _EVENT
        counts.append(shown)
    assert 300 < counts[0] < 1000
    assert sum(counts) < 2500


def test_a_rejected_answer_and_one_with_a_key_are_not_shown(clock: _Clock) -> None:
    chooses = Newest(Redactor(["sk-canary-7f3a-secret"]))
    rejected: Any = SimpleNamespace(answer=None)
    for read in (rejected, _read([b"it is sk-can", b"ary-7f3a-", b"secret"])):
        assert chooses.added_to(_EVENT, _REQUEST, read) is _EVENT
    assert chooses.added_to(_EVENT, _REQUEST, _read([b"fine"])).pieces == ["fine"]
