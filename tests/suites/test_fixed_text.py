"""The fixed text: several kinds, short passages, and nothing of it among the prompts for training."""

from collections import Counter

import pytest

from bitnet_core.files import asset
from bitnet_core.suites.fixed_text import passages, task
from bitnet_core.suites.items import ALL_PACKAGED, load_suites
from bitnet_core.tokenizer.student import StudentTokenizer


def test_there_are_several_kinds_in_a_few_kilobytes() -> None:
    assert Counter(one.kind for one in passages()) == dict.fromkeys(
        ["narration", "explanation", "instruction", "dialogue"], 3
    )
    assert 3000 < sum(len(one.text.encode()) for one in passages()) < 6000
    assert len({one.id for one in passages()}) == len(passages())


def test_no_run_of_five_words_of_it_is_in_a_prompt() -> None:
    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        return {tuple(words[place : place + 5]) for place in range(len(words) - 4)}

    asked = [path.read_text() for path in asset("prompts", ".").iterdir()]
    asked += [item.prompt for items in load_suites([ALL_PACKAGED], None, 0).values() for item in items]
    seen = set().union(*map(runs, asked))
    assert [one.id for one in passages() if runs(one.text) & seen] == []


def test_a_limit_takes_passages_of_several_kinds() -> None:
    kinds = {item.name.split("-")[0] for item in task(4).items}
    assert len(task(4).items) == 4 and len(kinds) >= 3
    assert set(task(4).items) <= set(task(6).items) <= set(task().items)
    assert task().longest == max(len(one.text.encode()) for one in passages())


@pytest.mark.teacher
def test_a_small_student_can_read_every_passage(teacher_tokenizer: StudentTokenizer) -> None:
    assert max(len(teacher_tokenizer.encode(one.text)) for one in passages()) <= 128
