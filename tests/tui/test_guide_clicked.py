"""Lines of the guide that are clicked: the rail, choices and the share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_tui.view import pick, share
from bitnet_tui.view.guide import rail
from bitnet_tui.view.guide.draft import STEPS
from bitnet_tui.view.spans import unstyled


@given(cells=st.integers(20, 200), now=st.sampled_from(list(STEPS)), focused=st.booleans())
def test_a_click_on_the_rail_goes_to_the_step_whose_words_are_there(cells, now, focused):
    drawn = unstyled(rail.rail(now, {now}, {"teacher"}, cells, focused=focused))
    for cell in range(len(drawn) + 5):
        step = rail.at(cell, cells)
        if cell < len(drawn) and drawn[cell].strip():
            assert step is not None
        if step is not None:
            words = drawn[: cell + 1].rpartition("   ")[2]
            assert f"{words}{drawn[cell + 1 :].partition('   ')[0]}"[2:] in (STEPS[step], "Student")


_OPTIONS = st.lists(st.sampled_from(["nano", "mini", "at the end", "x", "135m", "2b4t"]), min_size=1, unique=True)


@given(names=_OPTIONS, cells=st.integers(14, 60), steps=st.integers(-5, 5), data=st.data())
def test_a_click_on_a_choice_takes_the_word_that_is_there(names, cells, steps, data):
    options = tuple((name, name.upper()) for name in names)
    chosen = data.draw(st.sampled_from([value for _, value in options]))
    drawn = unstyled(pick.pick(options, chosen, cells, focused=False))
    assert len(drawn) <= max(cells, len("‹ ◉ at the end ›"))
    found, words = {}, range(2 * drawn.startswith("‹"), len(drawn) - 2 * drawn.endswith("›"))
    for cell, sign in enumerate(drawn):
        value = pick.picked(options, chosen, cells, cell)
        assert value is not None or sign == " "
        if value is not None and cell in words:
            at = drawn.index(f"{'◉' if value == chosen else '○'} {value.lower()}")
            assert at <= cell < at + 2 + len(value)
            found[value] = cell
    everything = [value for _, value in options]
    shown = [value for value in everything if value in found]
    assert chosen in shown
    first, last = everything.index(shown[0]), everything.index(shown[-1])
    assert shown == everything[first : last + 1]
    assert (drawn[0] == "‹", drawn[-1] == "›") == (first > 0, last + 1 < len(everything))
    if first:
        assert {pick.picked(options, chosen, cells, cell) for cell in (0, 1)} == {pick.beside(options, chosen, -1)}
    if last + 1 < len(everything):
        ends = (len(drawn) - 2, len(drawn) - 1)
        assert {pick.picked(options, chosen, cells, cell) for cell in ends} == {pick.beside(options, chosen, 1)}
    if len(unstyled(pick.pick(options, chosen, 1000, focused=False))) <= cells:
        assert shown == everything
    values = [value for _, value in options]
    beside = pick.beside(options, chosen, steps)
    assert values.index(beside) == min(len(values) - 1, max(0, values.index(chosen) + steps))


@given(cells=st.integers(2, 300), cell=st.integers(-5, 320), value=st.floats(0, 1), steps=st.integers(-120, 120))
def test_the_share_is_where_one_clicks_and_moves_by_hundredths(cells, cell, value, steps):
    there = share.at_cell(cell, cells)
    assert 0 <= there <= 1
    assert (share.at_cell(0, cells), share.at_cell(cells - 1, cells)) == (0, 1)
    assert abs(share.cell_of(there, cells) - min(cells - 1, max(0, cell))) <= cells / 200 + 1
    drawn = unstyled(share.bar(value, cells, focused=False))
    assert len(drawn) == cells
    assert drawn.index("┃") == share.cell_of(value, cells)
    hundredths = round(value * 100) / 100
    assert share.moved(hundredths, steps) == pytest.approx(min(1, max(0, hundredths + steps / 100)))
    if steps:
        assert (share.moved(value, steps) - value) * steps >= 0
    assert share.parsed(share.written(value), 0.5) == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize("wrong", ["", "x", "nan", "inf", "-1", "2"])
def test_what_is_no_share_is_drawn_as_the_default(wrong):
    assert share.parsed(wrong, 0.9) == 0.9
