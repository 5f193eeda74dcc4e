"""Tables as text: aligned, folded where they are wide, and safe to show."""

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.tables import render_table, table_parts
from bitnet_core.text import width

_CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9), st.text("abc ", max_size=9)
)


@given(st.lists(st.lists(_CELLS, min_size=3, max_size=3), max_size=6))
def test_tables_are_aligned(rows):
    heading, rule, body = table_parts(["a", "bb", "ccc"], rows)
    assert len(heading) == 1
    for line in body:
        assert len(line) <= len(rule)
        gaps = [place for place in range(len(line)) if rule[place] == " "]
        assert all(line[place] == " " for place in gaps)


def test_a_column_of_prose_folds_to_the_terminal():
    prose = "resident bytes added by loading and running the student, in a process of its own, and more"
    lines = render_table("memory", ["memory", "count", "how"], [["student", 123456789, prose]], 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(" ".join(lines[3:]).split()) == f"student 123,456,789 {prose}"


def test_a_very_long_cell_widens_no_other_row_of_a_table_without_a_limit():
    rows = [["a", "x" * 20_000, "here"], *(["b", "y", "there"] for _ in range(200))]
    heading, rule, body = table_parts(["name", "value", "origin"], rows)
    assert body[0].endswith(f"{'x' * 20_000}  here") and len(body) == 201
    assert body[1].endswith("there") and max(map(len, [*heading, rule, *body[1:]])) < 300


def test_an_id_is_whole_while_a_sentence_beside_it_can_fold():
    ids = ["20261127T205812-collect-0a1b2c", "20261127T205812-train-ffffff"]
    rows = [[one, "interrupted", "3m 21s", "The process ended unexpectedly. " * 4] for one in ids]
    table = render_table("runs", ["run", "state", "time", "error"], rows, 80)
    assert all(one in table for one in ids)
    assert all(width(line) <= 80 for line in table.splitlines())


def test_bytes_are_written_as_sizes_wherever_they_stand():
    rows = [["embedding", 50_331_648]]
    assert table_parts(["memory", "bytes"], rows)[2] == ["embedding  50.3 MB"]
    _, _, body = table_parts(["quantity", "student"], [["memory, bytes", 53_100_000], ["QEI", 0.5]])
    assert [" ".join(line.split()) for line in body] == ["memory 53.1 MB", "QEI 0.5000"]


def test_agreement_is_written_in_percent_wherever_it_stands():
    assert table_parts(["when", "top-1 agreement"], [["end", 0.184], ["start", None]])[2][0].endswith("18.4%")
    rows = [["top-1 agreement", "student A4", 0.184, "share"], ["coarse KL", "student A4", 4.5, "nats/token"]]
    body = [" ".join(line.split()) for line in table_parts(["figure", "of", "value", "unit"], rows)[2]]
    assert body == ["top-1 agreement student A4 18.4% share", "coarse KL student A4 4.500 nats/token"]


def test_names_of_tables_are_made_safe():
    assert render_table("\x1b[2J\n", ["a"], [[1]]).splitlines()[0] == "── ·[2J ──"
