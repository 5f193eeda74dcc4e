"""The playground's view models: answers folded from events, places of tokens, rows, candidates, words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.text import width
from bitnet_tui.view.play import words
from bitnet_tui.view.play.answers import Answer, Asked, Exchange, Token, folded, places, token_at, tokens_of
from bitnet_tui.view.play.behind import behind, behind_lines, hardest, name_of
from bitnet_tui.view.play.form import asked_of
from bitnet_tui.view.play.session import Price, Session, Side
from bitnet_tui.view.play.wrapped import drawn, rows_of
from bitnet_tui.view.spans import unstyled

_WORDS = st.text(st.sampled_from("ab \n日é\t\x1b"), max_size=60)


def text_of(lines: Any) -> str:
    return "\n".join(unstyled(line).rstrip() for line in lines)


def token(text: str, *top: tuple[str, float]) -> Token:
    return Token(text.encode(), dict(top).get(text), tuple((one.encode(), p) for one, p in top))


# -- where tokens and characters are -------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=3), max_size=8))
def test_a_place_is_that_of_the_characters_that_its_bytes_are_part_of(pieces: list[bytes]):
    """Against a twin that finds the character of each byte on its own."""
    data = b"".join(pieces)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    owner = [number for number, char in enumerate(text) for _ in char.encode()]
    found = places([Token(piece, None, ()) for piece in pieces], text)
    assert len(found) == len(pieces)
    at = 0
    for piece, (begin, end) in zip(pieces, found, strict=True):
        covered = owner[at : at + len(piece)]
        at += len(piece)
        if covered:
            assert (begin, end) == (covered[0], covered[-1] + 1)
        else:
            assert end - begin in (0, 1)


def test_tokens_have_places_only_as_far_as_the_text_agrees():
    tokens = [token("Hel"), token("lo"), token(" you"), token("")]
    assert places(tokens, "Hello you") == ((0, 3), (3, 5), (5, 9), (9, 9))
    assert places(tokens, "Hello me") == ((0, 3), (3, 5))
    assert token_at(((0, 3), (3, 5), (5, 5)), 4) == 1
    assert token_at(((0, 3), (3, 5), (5, 5)), 5) == 2
    assert token_at(((0, 3),), 7) is None


@given(_WORDS, st.integers(2, 12))
def test_rows_have_every_character_once_and_fit(text: str, cells: int):
    rows = rows_of(text, cells)
    assert [offset for row in rows for offset in row.offsets] == list(range(len(text)))
    for row in rows:
        kept = row.signs[:-1] if row.signs[-1:] == ("↵",) else row.signs
        assert sum(map(width, kept[:-1] if kept and kept[-1].isspace() else kept)) <= cells
        assert all(sign.isprintable() for sign in row.signs)
        for cell in range(sum(map(width, row.signs))):
            assert row.cell_of(row.at(cell)) <= cell
    assert sum("↵" in row.signs for row in rows) == text.count("\n")


def test_words_stay_whole_and_a_chosen_line_end_shows():
    rows = rows_of("the rain in Spain\n\nfalls", 9)
    assert ["".join(row.signs) for row in rows] == ["the rain ", "in Spain↵", "↵", "falls"]
    assert text_of(drawn(rows, None, focused=True)) == "the rain\nin Spain\n\nfalls"
    chosen = drawn(rows, (17, 18), focused=True)
    assert chosen[1][-1].text == "↵"
    assert chosen[1][-1].style == "chosen"


# -- answers and the session ---------------------------------------------------------------------------------------


def event(kind: str, number: int | None = 0, **fields: Any) -> dict[str, Any]:
    """As it comes out of the pipe."""
    return json.loads(json.dumps({"event": kind, "id": number, **fields}))


def told(*texts: str) -> dict[str, Any]:
    return {"tokens": [{"text": text, "p": 0.5, "top": [[text, 0.5], ["x", 0.25]]} for text in texts]}


def test_events_become_an_answer_and_odd_ones_harm_nothing():
    events = [
        event("text", text="Hi"),
        event("tokens", **told("Hi")),
        event("tokens", tokens=["odd", {"text": 3, "p": "x", "top": [[1], ["a", None], ["b", 0.1]]}]),
        event("tokens", tokens="odd"),
        event("text", text=None),
        event("end", finish_reason="stop", tokens=1, tokens_per_s=12.5, usd="odd"),
        event("text", text="too late"),
    ]
    answer = folded(Answer(), events)
    assert (answer.state, answer.text, answer.finish, answer.count, answer.usd) == ("ended", "Hi", "stop", 1, None)
    assert answer.tokens[1] == Token(b"", None, ((b"b", 0.1),))
    assert folded(Answer(), [event("error", problem="No.")]).problem == "No."
    half = tokens_of({"tokens": [{"text": "\udcf0\udc9f"}]})
    assert half[0].data == b"\xf0\x9f"


def session_with(asked: Asked | None = None) -> Session:
    session = Session()
    session.sides["teacher"] = Side("open", "T", "http://t", "yes")
    session.sides["student"] = Side("open", "S", "PyTorch, cpu", "yes", 8)
    session.begin(asked or Asked("hi"), ("teacher", "student"))
    return session


@pytest.mark.parametrize("cells", [20, 38, 60])
def test_a_side_says_the_bits_of_its_layers(cells: int):
    session, mixed = session_with(), "4 in 3 of 6 layers, 8 in the others"
    session.take("student", [{"event": "side", "id": None, "name": "S", "where": "PyTorch, cpu", "bits": mixed}])
    shown = unstyled(words.title("student", session.sides["student"], Asked("hi"), cells))
    assert width(shown) <= cells
    assert f"Student  S   A{mixed}"[: cells - 1] in shown
    assert " A8 " in unstyled(words.title("student", session.sides["student"], Asked("hi", bits=8), 38))


def test_the_student_follows_an_answer_of_the_teacher_that_is_complete():
    session = session_with(Asked("hi", bits=4))
    assert session.will_be_read
    assert session.take("teacher", [event("text", text="Yes."), event("tokens", **told("Yes", "."))]) == []
    (request,) = session.take("teacher", [event("end", finish_reason="stop", tokens=2)])
    assert (request["follow"], request["bits"], request["id"]) == ("Yes.", 4, 1)
    assert session.busy
    session.take("student", [event("text", text="No"), event("tokens", **told("No")), event("end")])
    assert session.busy
    assert session.will_be_read
    session.take("student", [event("followed", 1, **told("Yes", "."))])
    assert not session.busy
    assert not session.will_be_read
    assert [one.data for one in session.exchange.followed] == [b"Yes", b"."]


@pytest.mark.parametrize("number", [None, 0])
def test_a_request_that_a_side_refuses_is_over(number: int | None):
    session = session_with()
    session.take("teacher", [event("error", number, problem="Too long.")])
    assert session.exchange.answers["teacher"] == Answer("failed", problem="Too long.")
    assert session.sides["teacher"].state == "open"
    session.take("student", [event("error", number, problem="Too long.")])
    assert not session.busy


@pytest.mark.parametrize("number", [None, 1])
def test_a_way_along_an_answer_that_is_refused_is_over(number: int | None):
    session = session_with()
    session.take("student", [event("end", finish_reason="stop")])
    session.take("teacher", [event("text", text="Yes"), event("tokens", **told("Yes")), event("end")])
    assert session.busy
    session.take("student", [event("error", number, problem="Too long.")])
    assert not session.busy


def test_the_loss_of_one_side_leaves_the_other():
    session = session_with()
    session.take("student", [event("text", text="No")])
    session.take("student", [event("gone", None, problem="It died.")])
    assert session.exchange.answers["student"].state == "failed"
    assert session.exchange.answers["student"].text == "No"
    assert session.exchange.answers["teacher"].active
    assert session.sides["student"].state == "closed"
    events = [event("text", text="Yes"), event("tokens", **told("Yes")), event("end", finish_reason="stop")]
    assert session.take("teacher", events) == []
    assert not session.busy


@pytest.mark.parametrize("reason", ["x" * 100_000, "\u6f22" * 9999])
def test_a_reason_of_any_length_leaves_the_other_figures_in_sight(reason: str):
    shown = text_of([words.status("teacher", Side("open"), Answer("ended", finish=reason, count=7), None)])
    assert width(shown) < 60
    assert shown.endswith("7 tokens")


def test_prompts_of_the_session_are_kept_to_a_bound():
    session = session_with()
    for number in range(300):
        session.begin(Asked(f"p{number}"), ("student",))
    assert len(session.exchanges) == 200
    session.take("student", [event("text", session.stop()["stop"], text="last")])
    assert session.exchange.answers["student"].text == "last"
    session.take("student", [event("text", 0, text="of a dropped one")])
    session.move(-5)
    assert session.exchange.asked.prompt == "p294"
    session.move(-999)
    assert session.shown == 0


# -- candidates ----------------------------------------------------------------------------------------------------


def exchange(teacher: list[Token], student: list[Token], followed: list[Token] | None = None) -> Exchange:
    def answer(tokens: list[Token]) -> Answer:
        return Answer("ended", b"".join(one.data for one in tokens).decode(), tuple(tokens), "stop")

    answers = {"teacher": answer(teacher), "student": answer(student)}
    return Exchange(Asked("hi"), answers, tuple(followed or ()))


RISE = token(" rise", (" rise", 0.71), (" fall", 0.2))
SHORT = token(" is", (" is", 0.5), (" rise", 0.12))


def test_both_sides_stand_beside_each_other_where_both_have_the_place():
    both = exchange([token("The tide"), RISE], [token("The"), token(" tide"), SHORT])
    at = behind(both, "teacher", 1)
    assert at.sides == ("teacher", "student")
    assert [(one.data, dict(one.p)) for one in at.candidates] == [
        (b" rise", {"teacher": 0.71, "student": 0.12}),
        (b" is", {"student": 0.5}),
        (b" fall", {"teacher": 0.2}),
    ]
    lines = text_of(behind_lines(at, 80, 9)).split("\n")
    assert lines[0] == "token 2 of 2  ␣rise"
    assert lines[1].split() == ["teacher", "student"]
    assert lines[2].split()[:2] == ["␣rise", "›"]
    assert "0.710" in lines[2]
    assert "0.120" in lines[2]
    assert [line.count("›") for line in lines] == [0, 0, 1, 1, 0]
    assert all(width(line) <= 80 for line in lines)
    assert lines[2].index("0.710") == lines[4].index("0.200")  # as in a trace, numbers have a column
    assert (
        behind(both, "student", 1).missing == "The teacher has no token at this place: its answer differs before it."
    )


def test_behind_another_text_the_student_is_asked_along_the_teachers():
    apart = exchange([token("A"), RISE], [token("B"), SHORT])
    assert behind(apart, "teacher", 1).sides == ("teacher",)
    apart.followed = (token("A"), token(" rise", (" rise", 0.12)))
    at = behind(apart, "teacher", 1)
    assert at.forced
    assert at.sides == ("teacher", "student")
    assert "expects after the teacher's text" in text_of(behind_lines(at, 100, 9))
    assert not behind(apart, "teacher", 0).forced


def test_the_hardest_tokens_come_first_where_both_cut_alike():
    told = exchange([token(one) for one in ("A", " b", "c", "d")], [])
    told.followed = tuple(Token(data, p, ()) for data, p in ((b"A", 0.5), (b" bc", 0.01), (b"d", 0.2)))
    assert hardest(told) == (3, 0)
    assert hardest(Exchange(Asked("hi"))) == ()


def test_without_candidates_a_sentence():
    none = exchange([token("A")], [])
    assert "gives no candidates" in text_of(behind_lines(behind(none, "teacher", 0), 80, 9))
    assert behind(none, "teacher", 0).missing == "The student gave no candidates."


@pytest.mark.parametrize(
    ("data", "name"),
    [(b" a\n", "␣a↵"), (b"", "(end)"), (b"\xf0\x9f", "F0 9F"), (b"\x1b[2J", "·[2J"), (b"  ", "␣␣"), (b"\r", "·")],
)
def test_a_token_is_named_so_that_nothing_of_it_is_hidden(data: bytes, name: str):
    assert name_of(data) == name


# -- words ---------------------------------------------------------------------------------------------------------


def test_how_an_answer_stands():
    side = Side("open", "T")

    def status(answer: Answer | None, quiet: float = 0.0, own: Side = side) -> str:
        return unstyled(words.status("teacher", own, answer, quiet))

    assert status(None) == "Ready."
    assert status(Answer()) == "Waiting for the first token…"
    assert status(Answer(), 20.0).startswith("▲ Nothing for 20s; s stops waiting")
    noted = Side("open", "T", note="openai: rate limited; trying again in 3 s.")
    assert "rate limited" in status(Answer(), 20.0, noted)
    assert status(Answer("writing", "a", count=3, tokens_per_s=4.0)) == "Writing  3 tokens  4.0 tokens/s"
    ended = Answer("ended", "a", finish="length", count=3, tokens_per_s=41.26, usd=0.00012)
    assert status(ended) == "Cut at the length  3 tokens  41.3 tokens/s  $0.00012"
    assert status(ended.failed("x")) == status(ended)
    assert status(Answer().failed("It \x1b died.")) == "✗ It · died."
    assert status(None, own=Side(problem="There is no key.")) == "✗ There is no key."


def test_why_no_token_is_the_worst():
    session = Session()
    assert words.no_worst(session) == "There is no answer yet; ask something first."
    session.begin(Asked("hi"), ("teacher",))
    assert not session.will_be_read
    assert words.no_worst(session) == "The worst token needs both answers; w changes whom to ask."
    session = session_with()
    session.take("teacher", [event("text", text="Yes"), event("end")])
    assert not session.will_be_read
    assert words.no_worst(session) == "The teacher gave no tokens, so there is no worst one."
    session = session_with()
    session.closed("student", "It died.")
    assert not session.will_be_read
    session.take("teacher", [event("tokens", **told("Yes")), event("end")])
    assert words.no_worst(session) == "The student has not read the teacher's answer; r asks both again."
    session.exchange.followed = (token("Y"),)
    assert "split this answer into different tokens" in words.no_worst(session)


def test_what_asking_costs_is_said_before():
    def cost(side: Side, whom: tuple[Any, ...] = ("teacher", "student")) -> str:
        return unstyled(words.cost(side, Asked("x" * 840, length=1000), whom))

    hosted = Side("open", "gpt", "https://api", "yes", None, Price(0.5, 2.0))
    assert cost(hosted).startswith("Asking gpt costs at most $0.0025; nothing is asked until you ask")
    assert "nothing is paid" in cost(hosted, ("student",))
    assert "is not known" in cost(Side("open", "gpt"))
    assert "costs nothing" in cost(Side("open", "T", price=Price(0, 0)))


def test_fields_that_are_wrong_are_named():
    right = {"prompt": "hi", "system": " s ", "temperature": "0.5", "length": "9", "seed": "1"}
    assert asked_of(right, 4) == Asked("hi", "s", 0.5, 9, 1, 4)
    for name, value in (("temperature", "nan"), ("length", "0"), ("seed", "-1"), ("prompt", " ")):
        found = asked_of(right | {name: value}, None)
        assert isinstance(found, str)
        assert found.endswith(".")
        assert name in found.lower()


def test_an_answer_of_line_ends_alone_shows_them_as_signs():
    assert text_of(drawn(rows_of("\n\n  \n∎", 20), None, focused=False)) == "↵\n↵\n  ↵\n∎"
