"""Extraction and rules: a short, plain answer passes; a copy of the text, a hedge or a look-alike does not."""

import pytest

from bitnet_core.suites.items import Item
from tests.suites.items import item, reason

CAPTAIN = item("extract", accepted=["Moira Flett", "Flett"], rejected=["Hjalta", "Aberdeen", "Ole Berg"])
TIME = item("extract", accepted=["14", "14 June"], rejected=["12", "June 12"])
QUOTE = item("extract", accepted=["O'Brien's", "O'Brien"], rejected=["Dunne"])

NAMED = [
    (CAPTAIN, "Moira Flett"),
    (CAPTAIN, "moira flett."),
    (CAPTAIN, "**Moira Flett**"),
    (CAPTAIN, '"Moira Flett"'),
    (CAPTAIN, "Captain Flett"),
    (CAPTAIN, "The captain of the Aurora is Moira Flett."),
    (CAPTAIN, "Answer: Moira\u00a0Flett"),
    (CAPTAIN, "Moira\nFlett"),
    (CAPTAIN, "<think>Ole Berg? No.</think>Moira Flett"),
    (TIME, "14"),
    (TIME, "It was on 14 June."),
    (QUOTE, "O\u2019Brien"),
    (QUOTE, "It is O'Brien's"),
]
NOT_NAMED = [
    (CAPTAIN, ""),
    (CAPTAIN, "Moira"),
    (CAPTAIN, "Ole Berg"),
    (CAPTAIN, "Moira Flett and Ole Berg"),
    (CAPTAIN, "Moira Flett of the Hjalta"),
    (CAPTAIN, "Moira Flett or Ole Berg"),
    (CAPTAIN, "Moira Flett or someone else"),
    (CAPTAIN, "someone or Moira Flett"),
    (CAPTAIN, "Moira Flett?"),
    (CAPTAIN, "not Moira Flett"),
    (CAPTAIN, "It isn't Moira Flett."),
    (CAPTAIN, "It isn\u2019t captain Moira Flett."),
    (CAPTAIN, "Anyone except Moira Flett"),
    (CAPTAIN, "maybe Moira Flett"),
    (CAPTAIN, "It might be Moira Flett"),
    (CAPTAIN, "I think Moira Flett"),
    (CAPTAIN, "Either Moira Flett, I guess"),
    (CAPTAIN, "I'm sorry, I can't name people such as Moira Flett."),
    (CAPTAIN, "I can\u2019t say whether it is Moira Flett."),
    (CAPTAIN, "The text does not say it, Moira Flett is not mentioned"),
    (CAPTAIN, "I don't know. Moira Flett"),
    (CAPTAIN, "As an AI, I believe it is Moira Flett"),
    (CAPTAIN, "Unfortunately, I only know Moira Flett"),
    (CAPTAIN, "We are unable to determine it. Moira Flett"),
    (CAPTAIN, "M\u043eira Flett\u0430"),
    (CAPTAIN, "Moira Fl\u0435tt"),
    (CAPTAIN, "Moira\u200b Fle\u200btt"),
    (CAPTAIN, "Moira Flettner"),
    (CAPTAIN, "Moira Flett-Smith"),
    (CAPTAIN, "McMoira Flett_2"),
    (CAPTAIN, "Moira Flett's brother"),
    (CAPTAIN, "ttelF arioM"),
    (CAPTAIN, "Moira Flett " + "has a long story which has many words " * 5),
    (CAPTAIN, "The ferry left for Aberdeen at six and its captain is Moira Flett."),
    (CAPTAIN, "Moira Flett " * 5_000),
    (CAPTAIN, "<think>Moira Flett"),
    (TIME, "14:30"),
    (TIME, "8:14"),
    (TIME, "14.5"),
    (TIME, "114"),
    (TIME, "140"),
    (TIME, "2,014"),
    (TIME, "12 or 14"),
    (TIME, "14 June, not June 12"),
    (TIME, "\uff11\uff14"),
    (QUOTE, "OBrien"),
]


@pytest.mark.parametrize(("one", "answer"), NAMED, ids=range(len(NAMED)))
def test_a_short_plain_answer_passes(one: Item, answer: str) -> None:
    assert reason(one, answer) == ""


@pytest.mark.parametrize(("one", "answer"), NOT_NAMED, ids=range(len(NOT_NAMED)))
def test_anything_else_does_not_name_it(one: Item, answer: str) -> None:
    assert reason(one, answer)


LIST = item("text", contains=["red", "blue"], bullets=2, words=(2, 4))
STEPS = item("text", contains=["eat"], numbered=2, words=(2, 4))
LOUD = item("text", contains=["dog"], case="upper", sentences=1, words=(3, 9), excludes=["cat"])
QUIET = item("text", contains=["pond"], case="lower", without=",e", words=(2, 9))
THREE = item("text", contains=["tree"], repeats={"tree": 3}, lines=1)
TALE = item("text", contains=["dragon"], starts="Once", ends="end.", sentences=2, paragraphs=2)

KEPT = [
    (LIST, "- red\n- blue"),
    (LIST, "* Red\n\n* Blue"),
    (LIST, "  \u2022 dark red\n  \u2022 blue\n"),
    (STEPS, "1. Cook\n2. Eat"),
    (STEPS, "1) Cook\n2) Eat it"),
    (LOUD, "THE DOG RUNS."),
    (LOUD, "**THE DOG RUNS**"),
    (LOUD, "THE DOG RUNS AT 3.30 P M!"),
    (QUIET, "a big pond is still."),
    (THREE, "tree tree tree"),
    (THREE, "Tree, tree, TREE."),
    (TALE, "Once a dragon slept.\n\nIt was the end."),
    (TALE, "once a dragon \u2013 big \u2013 slept.\n \nIt was the end."),
]
BROKEN = [
    (LIST, ""),
    (LIST, "- red\n- green"),
    (LIST, "- red"),
    (LIST, "- red\n- blue\n- green"),
    (LIST, "red\nblue"),
    (LIST, "Here they are:\n- red\n- blue"),
    (LIST, "- red - blue"),
    (LIST, "-red\n-blue"),
    (LIST, "- red and more of it\n- blue"),
    (LIST, "- r\u0435d\n- blue"),
    (LIST, "- reddish\n- blue"),
    (LIST, "I can't make lists.\n- red\n- blue"),
    (STEPS, "2. Cook\n3. Eat"),
    (STEPS, "1. Cook\n1. Eat"),
    (STEPS, "1. Eat"),
    (STEPS, "1. Cook\n2. Eat\n3. Sleep"),
    (STEPS, "1. Cook\nThen\n2. Eat"),
    (STEPS, "1.\n2. Eat well"),
    (LOUD, "The DOG RUNS."),
    (LOUD, "THE DOG RUNS. IT BARKS."),
    (LOUD, "THE DOG"),
    (LOUD, "THE DOG RUNS UP THE HILL AND DOWN AGAIN TWICE."),
    (LOUD, "THE DOGS RUN."),
    (LOUD, "THE DOG CHASES A CAT."),
    (LOUD, "THE \u0414OG RUNS."),
    (LOUD, "\u0422HE DOG RUNS."),
    (LOUD, "I'M SORRY, NO DOG RUNS."),
    (LOUD, "THE DOG IS CALLED \u00dfen."),
    (QUIET, "a Pond is still."),
    (QUIET, "a pond, it is big"),
    (QUIET, "the pond is big"),
    (QUIET, "th\u00e9 pond is big"),
    (QUIET, "th\u0435 pond is big"),
    (QUIET, "a big po\u00adnd is a pond"),
    (QUIET, "pond"),
    (THREE, "tree tree"),
    (THREE, "tree tree tree tree"),
    (THREE, "tree\ntree\ntree"),
    (THREE, "treetreetree"),
    (THREE, "tree tree tr\u200bee"),
    (TALE, "A dragon slept.\n\nIt was the end."),
    (TALE, "Once a dragon slept. It was the end."),
    (TALE, "Once a dragon slept.\n\nIt was late. It was the end."),
    (TALE, "Once a dragon slept.\n\nIt was the end. Bye."),
    (TALE, "Once a worm slept.\n\nIt was the end."),
    (TALE, "Here is the tale: Once a dragon slept.\n\nIt was the end."),
]


@pytest.mark.parametrize(("one", "answer"), KEPT, ids=range(len(KEPT)))
def test_a_text_that_keeps_the_rules_passes(one: Item, answer: str) -> None:
    assert reason(one, answer) == ""


@pytest.mark.parametrize(("one", "answer"), BROKEN, ids=range(len(BROKEN)))
def test_a_text_that_breaks_a_rule_fails(one: Item, answer: str) -> None:
    assert reason(one, answer)
