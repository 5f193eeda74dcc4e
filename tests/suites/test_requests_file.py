"""Items are read as they were written, and every damage ends in one sentence that names the file and the line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.suites import requests_file
from bitnet_core.suites.requests_file import Item, load, sample
from tests.suites import small_wheel
from tests.suites.test_fetch import stored


def read(tmp_path: Path, replaced: dict[str, bytes], kind: str = "choice", limit: int | None = None) -> list[Any]:
    data = small_wheel.packed(small_wheel.members() | replaced)
    stored(data, tmp_path)
    benchmark = small_wheel.benchmark(small_wheel.package(data), kind=kind)
    return list(load(benchmark, limit, tmp_path))


def test_choices_without_the_unconditional_copies(tmp_path: Path) -> None:
    items = read(tmp_path, {})
    assert len(items) == 6
    assert items[4] == Item("small/4", (("Q4:", " a04"), ("Q4:", " a14"), ("Q4:", " a24")), 1)


def test_a_text_has_one_choice_and_its_label_does_not_matter(tmp_path: Path) -> None:
    assert read(tmp_path, {}, "text")[2] == Item("small/2", (("T2:", " line 2 é"),), 0)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 50))
def test_a_sample_is_the_same_each_time_and_grows(count: int, small: int, large: int) -> None:
    items = list(range(count))
    few, many = sample(items, min(small, large)), sample(items, max(small, large))
    assert few == sample(items, min(small, large)) == sorted(set(few))
    assert len(few) == min(count, small, large)
    assert set(few) <= set(many)
    assert sample(items, None) == items


GOOD = small_wheel.request(0, 0, "Q:", " a", 0)


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([GOOD, {"doc_id": 0, "idx": 1}], "line 2 is not as expected .*request"),
        ([GOOD, GOOD | {"request": {"context": 3, "continuation": " a"}}], "line 2 is not as expected"),
        ([GOOD, [1]], "line 2 is not as expected"),
        ([GOOD | {"idx": 1}], "choices of item 0 are incomplete"),
        ([GOOD | {"label": 1}], "item 0 does not say what is right"),
        ([GOOD | {"label": True}], "item 0 does not say what is right"),
        ([GOOD | {"label": "0"}], "item 0 does not say what is right"),
        ([small_wheel.request(0, 0, "Q:", "  ", 0)], "item 0 has an empty continuation"),
    ],
)
def test_missing_and_odd_fields_are_named(tmp_path: Path, records: list[Any], says: str) -> None:
    with pytest.raises(BitnetError, match=rf"{small_wheel.CHOICES}: .*{says}.*bitnet bench get"):
        read(tmp_path, {small_wheel.CHOICES: gzip.compress(small_wheel.lines(records))})


def test_a_cut_file_and_a_bomb_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small_wheel.members()[small_wheel.CHOICES]
    with pytest.raises(BitnetError, match="is damaged after line"):
        read(tmp_path, {small_wheel.CHOICES: whole[:-20]})
    with pytest.raises(BitnetError, match="is damaged after line 0"):
        read(tmp_path, {small_wheel.CHOICES: b"not gzip"})
    with pytest.raises(BitnetError, match="line 1 is not as expected"):
        read(tmp_path, {small_wheel.CHOICES: gzip.compress(json.dumps(GOOD).encode().replace(b"Q:", b"\xff"))})
    bomb = gzip.compress(json.dumps(GOOD).encode() + b" " * (1 << 21))
    with pytest.raises(BitnetError, match="line 1 is longer"):
        read(tmp_path, {small_wheel.CHOICES: bomb})
    monkeypatch.setattr(requests_file, "_FILE_BYTES", 500)
    with pytest.raises(BitnetError, match="is longer than any"):
        read(tmp_path, {})
