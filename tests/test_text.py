"""Numbers and events in words, and text from outside made safe."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitnet_core import text as words
from bitnet_core.results.axes import LABELS, ticks


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8431, "0.843"), (12.34, "12.3"), (123.9, "124"), (0.0000841, "8.41e-5"), (0, "0"), (-2.5, "-2.50"),
     (None, "–"), (math.nan, "–"), (math.inf, "–")],
)  # fmt: skip
def test_significant(value, text):
    assert words.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (950, "950"), (999.96, "1k"), (87412, "87.4k"), (150000, "150k"), (1.5e6, "1.5M"), (12.25, "12.2")],
)
def test_count(value, text):
    assert words.count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.9, "1m 00s"), (201, "3m 21s"), (3900, "1h 05m"), (184000, "2d 3h"), (None, "–")],
)
def test_duration(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.0492, "4.9%"), (1, "100.0%"), (0, "0.0%"), (1 / 49152, "0.002%"), (None, "–")]
)
def test_share(ratio, text):
    assert words.share(ratio) == text


def test_an_axis_of_shares_is_in_percent():
    assert [label for _, label in ticks(0.0, 0.2, 4, words.share_tick)] == ["0%", "5%", "10%", "15%", "20%"]
    assert ticks(0.044, 0.05, 4, words.share_tick)[0][1] == "4.4%"


@pytest.mark.parametrize(
    ("high", "labels"),
    [
        (6e-4, ["0", "2e-4", "4e-4", "6e-4"]),
        (3e-3, ["0", "1e-3", "2e-3", "3e-3"]),
        (1.1e-3, ["0", "5e-4", "1e-3"]),
        (0.02, ["0", "5e-3", "1e-2", "1.5e-2", "2e-2"]),
    ],
)
def test_the_axis_of_a_learning_rate_writes_it_as_settings_do(high: float, labels: list[str]) -> None:
    assert [label for _, label in ticks(0.0, high, 4, LABELS["lr"])] == labels


@pytest.mark.parametrize(
    ("rate", "unit", "text"),
    [
        (1.5, "prompts", "1.50 prompts/s"),
        (1, "prompts", "1.00 prompts/s"),
        (0.98, "prompts", "0.980 prompts/s"),
        (0.0982, "prompts", "0.0982 prompts/s"),
        (0.0163, "prompts", "0.98 prompts/min"),
        (0.483, "sequences", "0.483 sequences/s"),
        (0.005, "prompts", "0.30 prompts/min"),
        (0.0005, "prompts", "1.8 prompts/h"),
        (0, "prompts", "0 prompts/s"),
        (4.1e6, "bytes", "4.1 MB/s"),
        (math.nan, "prompts", "–"),
        (math.inf, "bytes", "–"),
    ],
)
def test_rates(rate, unit, text):
    assert words.rate_words(rate, unit) == text


@given(st.floats(0, 1e9))
def test_a_rough_time_is_near_the_exact_one(seconds):
    """Within five seconds below a minute, a minute below two hours, and a tenth above."""
    units = {"s": 1, "min": 60, "h": 3600, "days": 86400}
    parts = words.roughly(seconds).split(" ")
    told = 0
    for value, unit in zip(parts[::2], parts[1::2], strict=True):
        told += int(value) * units[unit]
    room = 5 if seconds < 60 else 60 if seconds < 7200 else 600 if seconds < 48 * 3600 else 43200
    assert math.isclose(told, seconds, abs_tol=room)


def test_percent_is_never_full_before_the_end():
    assert words.percent(999_999, 1_000_000) == "99%"
    assert words.percent(1_000_000, 1_000_000) == "100%"
    assert words.percent(3, 0) == "–"


def test_ago():
    assert words.ago(100.0, 130.0) == "just now"
    assert words.ago(0.0, 240.0) == "4 min ago"
    assert words.ago(0.0, 3 * 3600.0) == "3 h ago"
    assert words.ago(None, 1.0) == "–"


@given(st.one_of(st.none(), st.booleans(), st.text(), st.integers(), st.floats(), st.lists(st.integers())))
def test_finite_gives_a_finite_float_or_nothing(value):
    number = words.finite(value)
    assert number is None or (isinstance(number, float) and math.isfinite(number))
    if isinstance(value, bool):
        assert number is None


def test_a_text_is_a_finite_number_or_none():
    assert [words.finite_in(text) for text in ("0.5", " 7 ", "1e-3")] == [0.5, 7.0, 0.001]
    assert [words.finite_in(text) for text in ("", "[N/A]", "nan", "-inf", "1e999")] == [None] * 5


def test_a_natural_number_is_whole_not_negative_and_of_63_bits():
    assert [words.natural(value) for value in (0, 8, (1 << 63) - 1)] == [0, 8, (1 << 63) - 1]
    assert [words.natural(value) for value in (-1, 1 << 63, True, 1.0, "1", None)] == [None] * 6


@given(st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.integers(), st.just(10**400)))
def test_every_format_takes_every_number(value):
    for write in (
        words.number,
        words.significant,
        words.count,
        words.scientific,
        words.size,
        words.duration,
        words.dollars,
    ):
        assert 0 < len(write(value)) <= 420
    assert words.percent(value, 10)
    assert words.percent(10, value)


@given(st.floats(min_value=1e-3, max_value=9e4))
def test_significant_is_close(value):
    assert float(words.significant(value)) == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (12345, "12,345"), (3.0, "3"), (0.84312, "0.8431"), (8.41e-5, "8.410e-5"), (math.nan, "–")],
)
def test_number(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize("value", [0, 999, 1500, 98_400_000, 4e9, 5e12])
def test_size_has_a_unit(value):
    assert (
        words.size(value)
        == {0: "0 B", 999: "999 B", 1500: "1.5 kB", 98_400_000: "98.4 MB", 4e9: "4 GB", 5e12: "5 TB"}[value]
    )


_BIDI = "".join(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]))
_CONTROLS = "".join(map(chr, [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0)]))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a\x1b[2Jb", "a·[2Jb"),
        ("\x1b]0;title\x07", "·]0;title·"),
        ("\x9b31m", "·31m"),
        (_CONTROLS, "·" * len(_CONTROLS)),
        (_BIDI, "·" * len(_BIDI)),
        ("\ud800 \udcff", "· ·"),
        ("zero\u200bwidth\ufeff\u2028", "zero·width··"),
        ("one\r\ntwo\rthree\n", "one\ntwo·three\n"),
        ("\ta\tb", "    a   b"),
        ("1\u00a0000\u3000€", "1 000 €"),
        ("naïve 中文 👍 e\u0301", "naïve 中文 👍 e\u0301"),
    ],
    ids=[
        "escape",
        "title",
        "C1",
        "controls",
        "bidi",
        "surrogates",
        "invisible",
        "line ends",
        "tabs",
        "spaces",
        "plain",
    ],
)
def test_text_from_outside_is_made_safe(given, shown):
    assert words.printable(given) == shown
    assert words.printable(words.printable(given)) == words.printable(given)


@given(st.text(st.characters(exclude_categories=[])))
def test_no_text_moves_the_cursor_or_hides_anything(text):
    shown = words.printable(text)
    assert all(char == "\n" or char.isprintable() for char in shown)
    assert words.is_utf8(shown)
    assert "\n" not in words.flat(text)


def test_text_on_one_line():
    assert words.flat(" two\n lines\x85and \u2028 more\x1b ") == "two lines and more·"
    assert not words.is_utf8("\ud800")
    assert words.escaped("a\udcff") == "a\\udcff"


def test_long_words_are_cut_in_one_pass():
    assert words.wrap("中" * 200_000, 10) == ["中" * 5] * 40_000
    assert words.wrap("ab " + "c" * 7, 4) == ["ab", "cccc", "ccc"]
    assert words.width("e\u0301\ufe0f\u20dd") == 1


@pytest.mark.parametrize("unit", ["s", "ms", "min", "h", "days", "B", "GB", "%"])
def test_a_number_stays_with_its_unit(unit: str):
    assert words.wrap(f"done in 12 {unit}.", 12) == ["done in", f"12 {unit}."]
    assert words.wrap(f"a1 {unit}x b {unit}", 4 + len(unit)) == [f"a1 {unit}x", f"b {unit}"]


@given(st.text(max_size=40), st.integers(0, 30))
def test_a_name_that_is_cut_in_the_middle_keeps_both_ends(name: str, cells: int):
    cut = words.crop_middle(name, cells)
    assert words.width(cut) <= cells
    if words.width(name) <= cells:
        assert cut == name
    elif cells >= 3 and name.isascii() and name.isprintable():
        begin, end = cut.split("…")[0], cut.rsplit("…", 1)[1]
        assert name.startswith(begin) and name.endswith(end) and abs(len(begin) - len(end)) <= 1


@given(st.floats(1e-6, 1e13), st.floats(1e-4, 2), st.integers(2, 9))
@example(1.2e9, 0.1, 3)
@example(100_000, 0.03, 4)
def test_the_labels_of_an_axis_differ(low: float, share: float, most: int):
    labels = [label for _, label in ticks(low, low * (1 + share), most)]
    assert len(set(labels)) == len(labels)


def test_a_step_that_a_float_cannot_hold_has_a_label():
    assert words.tick(0.0, 0.0) == "0"
    assert [words.tick(value, 1e40) for value in (1e40, 1.2e41)] == ["1.0e40", "1.2e41"]
    assert words.tick(9e14, 1e14) == "900T"
