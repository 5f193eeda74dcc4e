"""A stream gives the text up to the first stop string, however its bytes are cut, and nothing too early."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import UsageError
from bitnet_core.model.text_stream import TextStream

TEXT = st.text("ab東🌧", max_size=20)


def slow_cut(text: str, stops: list[str]) -> tuple[str, bool]:
    for end in range(len(text) + 1):
        for stop in sorted(stops, key=len, reverse=True):
            if text[:end].endswith(stop):
                return text[: end - len(stop)], True
    return text, False


@given(TEXT, st.lists(st.text("ab東🌧", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 80), max_size=9))
def test_against_the_slow_twin(text: str, stops: list[str], cuts: list[int]) -> None:
    data, stream = text.encode(), TextStream(stops)
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    given = [stream.feed(data[start:end]) for start, end in itertools.pairwise(places)]
    given.append(stream.feed(b"", last=True))
    expected, stopped = slow_cut(text, stops)
    assert "".join(given) == stream.text == expected
    assert stream.stopped == stopped


@given(st.binary(max_size=12), st.integers(0, 12))
def test_broken_utf8_is_shown_as_python_shows_it(data: bytes, cut: int) -> None:
    stream = TextStream()
    stream.feed(data[:cut])
    stream.feed(data[cut:], last=True)
    assert stream.text == data.decode("utf-8", errors="replace")


def test_what_is_certain_comes_at_once() -> None:
    stream = TextStream(["ab!"])
    assert [stream.feed(one) for one in (b"x", b"a", b"b", b"a", b"b", b"!", b"y")] == ["x", "", "", "ab", "", "", ""]
    assert stream.text == "xab"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UsageError, match="stop string is empty"):
        TextStream(["a", ""])
