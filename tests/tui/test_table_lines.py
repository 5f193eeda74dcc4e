"""Lines and tables as the views draw them: wrapped, cut, aligned and explained."""

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core import text as words
from bitnet_core.runs.events import Table
from bitnet_tui.view.result_tables import table_lines
from bitnet_tui.view.spans import line, spread, unstyled


@given(st.text(max_size=200), st.integers(2, 60))
def test_wrapping_loses_nothing_and_fits(text, cells):
    lines = words.wrap(text, cells)
    assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")
    assert all(words.width(line) <= cells for line in lines)


@given(st.text(max_size=50), st.integers(0, 40))
def test_crop_and_pad_fit(text, cells):
    assert words.width(words.crop(text, cells)) <= cells
    assert words.width(words.pad(text, cells)) == cells or cells == 0


_cell = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=40))


@given(
    st.lists(st.text("ab漢 ", max_size=9), max_size=4),
    st.lists(st.text("cd", max_size=9), max_size=2),
    st.integers(0, 40),
)
def test_a_line_with_two_ends_fits_and_tells_where_it_is_cut(left, right, cells):
    one = spread(line(*left), line(*right), cells)
    text, whole = unstyled(one), "".join(left)
    assert words.width(text) <= cells
    if words.width(whole) > cells:
        assert text == words.crop(whole, cells)
    else:
        assert text == whole or (text.startswith(whole + " ") and text.endswith("".join(right)))


@given(
    st.lists(st.text(max_size=12), max_size=5),
    st.lists(st.lists(_cell, max_size=6), max_size=6),
    st.integers(100, 160),
)
def test_any_table_fits_where_there_is_room_for_its_columns(columns, rows, cells):
    table = Table(name="qei", columns=columns, rows=rows)
    assert all(words.width(unstyled(line)) <= cells for line in table_lines(table, cells))


def test_a_table_aligns_numbers_and_wraps_words():
    rows = [["student quality", 0.38214, "agreement with the teacher over held-out traces"], ["QEI", 7.28, "given"]]
    text = unstyled(*table_lines(Table(name="result", columns=["quantity", "value", "how"], rows=rows), 48))
    assert text == (
        "result\n"
        "quantity          value  how\n"
        "───────────────  ──────  ───────────────────────\n"
        "student quality  0.3821  agreement with the\n"
        "                         teacher over held-out\n"
        "                         traces\n"
        "QEI               7.280  given"
    )


def test_headings_wrap_where_numbers_leave_too_little_room():
    rows = [["before flip", 432, 2.236, 0.9167], ["after flip", 432, 2.257, 0.9167]]
    columns = ["when", "seen tokens", "held-out loss", "top-1 agreement"]
    assert unstyled(*table_lines(Table(name="training", columns=columns, rows=rows), 40)) == (
        "training\n"
        "when           seen  held-out      top-1\n"
        "             tokens      loss  agreement\n"
        "───────────  ──────  ────────  ─────────\n"
        "before flip     432     2.236      91.7%\n"
        "after flip      432     2.257      91.7%"
    )


def test_a_table_of_the_cores_sentences_names_settings_by_their_labels_and_no_other_one_is_changed():
    rows = [["JSON validity", "0.5 (GATE_JSON_VALIDITY)"]]
    gates = unstyled(*table_lines(Table(name="gates", columns=["gate", "why"], rows=rows), 90))
    assert "0.5 (“Gate: JSON validity”)" in gates
    texts = unstyled(*table_lines(Table(name="answers", columns=["prompt", "text"], rows=rows), 90))
    assert "0.5 (GATE_JSON_VALIDITY)" in texts


def test_the_table_of_qei_says_what_its_figures_mean():
    rows = [["QEI", 1.5, None], ["imitation", 0.2, 0.4]]
    text = unstyled(*table_lines(Table(name="qei", columns=["quantity", "student", "teacher"], rows=rows), 100))
    assert text.endswith(
        "QEI: above 1: more quality per byte than the teacher.\n"
        "Imitation: how well it predicts text that the teacher wrote and it never saw; not part of QEI."
    )
    assert "Imitation:" not in unstyled(*table_lines(Table(name="qei", columns=[], rows=rows[:1]), 100))


def test_the_verdict_of_a_gate_has_its_colour_and_no_other_word_of_its_line():
    rows = [["QEI", verdict, "why it may pass or fail"] for verdict in ("fail", "not measurable", "pass")]
    lines = table_lines(Table(name="gates", columns=["gate", "result", "why"], rows=rows), 90)
    coloured = [(span.text.strip(), span.style) for line in lines for span in line if span.style in ("good", "bad")]
    assert coloured == [("fail", "bad"), ("pass", "good")]
