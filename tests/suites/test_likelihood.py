"""Texts become ids and scores as lm-evaluation-harness defines them; a causal model is scored as its logits say."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.suites.causal import CausalScorer
from bitnet_core.suites.likelihood import IdPair, OnDone, Scored, TextScorer, score_task
from bitnet_core.suites.requests_file import Item, Task
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]

CPU = torch.device("cpu")


class Told:
    """A scorer that remembers what it is asked and gives each pair minus its number of ids."""

    def __init__(self, limit: int = 50, refuse: str = "") -> None:
        self.limit = limit
        self.asked: list[IdPair] = []
        self._refuse = refuse

    def score_ids(self, pairs: Sequence[IdPair], on_done: OnDone) -> list[tuple[float, bool] | None]:
        self.asked += pairs
        on_done(len(pairs))
        refused = [bool(self._refuse) and self._refuse in small_tokenizer().decode(pair[1]) for pair in pairs]
        return [None if no else (-float(len(pair[1])), False) for pair, no in zip(pairs, refused, strict=True)]


words = st.text("the rain in Spain, é{}\n", max_size=30)


@given(words, words.filter(lambda text: bool(text.strip())))
def test_a_pair_is_cut_where_the_context_ends(context: str, continuation: str) -> None:
    tokenizer, told = small_tokenizer(), Told(limit=1000)
    TextScorer(tokenizer, told).score([(context, continuation)])
    bare = tokenizer.encode(context.rstrip())
    for before, after in told.asked:
        assert before == (bare or [tokenizer.eos_id])
        assert bare + after == (bare + tokenizer.encode(context + continuation)[len(bare) :])


def test_a_long_context_loses_its_beginning_and_a_long_continuation_is_not_scored() -> None:
    tokenizer, told = small_tokenizer(), Told(limit=6)
    context, after = "rain in the plain, rain in the plain", " JSON"
    whole = tokenizer.encode(context + after)
    scores = TextScorer(tokenizer, told).score([(context, after), ("a", " x" * 20)])
    assert sum(map(len, told.asked[0])) == 7
    assert [*told.asked[0][0], *told.asked[0][1]] == whole[-7:]
    assert scores[1] is None
    assert scores[0] is not None


@given(st.integers(1, 9), st.integers(0, 40))
def test_windows_score_each_id_once_after_its_predecessors(limit: int, count: int) -> None:
    tokenizer, told = small_tokenizer(), Told(limit)
    text = "".join("aé東{"[place % 4] for place in range(count))
    ids = tokenizer.encode(text)
    found = TextScorer(tokenizer, told).score_whole(text)
    assert [one for _, after in told.asked for one in after] == ids
    place = 0
    for before, after in told.asked:
        assert len(before) + len(after) - 1 <= limit
        assert before == (ids[place - len(before) : place] if place else [tokenizer.eos_id])
        place += len(after)
    assert found == Scored(-float(len(ids)), not ids)
    assert TextScorer(tokenizer, told).score([("", text)]) == [found if ids else None]


ITEMS = [
    Item("a", (("Q:", " x"), ("Q:", " a longer one")), 1),
    Item("b", (("Q:", " y"), ("Q:", " JSON")), 0),
]
CHOICE = Task("arc_easy", "choice", ITEMS)


def scorer_of(logprobs: dict[str, float]) -> TextScorer:
    class Known(TextScorer):
        def score(
            self, pairs: Sequence[tuple[str, str]], on_done: OnDone = lambda _done: None
        ) -> list[Scored | None]:
            on_done(len(pairs))
            return [Scored(logprobs[after], False) if after in logprobs else None for _, after in pairs]

    return Known(small_tokenizer(), Told())


def test_choices_are_right_by_sum_and_by_length() -> None:
    done: list[int] = []
    scorer = scorer_of({" x": -3.0, " a longer one": -6.0, " y": -1.0, " JSON": -2.0})
    found = score_task(CHOICE, scorer, 0, done.append)
    assert found.figures["accuracy"].value == 0.5  # " x" has the higher sum
    assert found.figures["accuracy_normalised"].value == 0.5  # -6 / 12 > -3; -2 / 4 > -1
    assert found.values == [1.0, 0.0]
    assert (found.main, found.items, found.unanswered, done[-1]) == ("accuracy_normalised", 2, 0, 2)


def test_an_item_without_all_scores_is_unanswered() -> None:
    found = score_task(CHOICE, scorer_of({" x": -3.0, " y": -1.0, " JSON": -9.0}), 0)
    assert found.values == [None, 1.0]
    assert (found.items, found.unanswered) == (1, 1)
    with pytest.raises(BitnetError, match="none of the 2 items of arc_easy"):
        score_task(CHOICE, scorer_of({}), 0)


def test_bits_per_byte_are_over_all_bytes() -> None:
    texts = [Item("a", (("T:", " é"),), 0), Item("b", (("T:", " plain"),), 0)]
    found = score_task(Task("gsm8k", "text", texts), scorer_of({" é": -3.0, " plain": -2.0}), 0)
    figure = found.figures["bits_per_byte"]
    assert figure.value == pytest.approx(5 / math.log(2) / 9)
    assert figure.low <= figure.value <= figure.high
    assert found.quality.value == pytest.approx(2**-figure.value)
    assert found.quality.low == pytest.approx(2**-figure.high)


def test_a_batch_scores_each_pair_as_its_own_logits_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitnet_core.suites.causal._BATCH_IDS", 40)
    torch.manual_seed(0)
    config = StudentConfig(
        vocab_size=320,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    student = Student(config).eval()
    rng = np.random.default_rng(0)
    pairs: list[IdPair] = [
        (rng.integers(0, 320, rng.integers(1, 12)).tolist(), rng.integers(0, 320, rng.integers(1, 9)).tolist())
        for _ in range(17)
    ]
    with torch.no_grad():  # one pair is what the model would have written
        first = int(student.logits(student(torch.tensor([[5, 6]])))[0, -1].argmax())
        pairs.append(([5, 6], [first]))
        done: list[int] = []
        scorer = CausalScorer(lambda ids, keep: student.logits(student(ids)[:, -keep:]), CPU, 64)
        found = scorer.score_ids(pairs, done.append)
        for (before, after), score in zip(pairs, found, strict=True):
            logits = student.logits(student(torch.tensor([[*before, *after]])))[0].double()
            logprobs = torch.log_softmax(logits, -1)
            expected = sum(float(logprobs[len(before) - 1 + n, one]) for n, one in enumerate(after))
            greedy = all(int(logits[len(before) - 1 + n].argmax()) == one for n, one in enumerate(after))
            assert score is not None
            assert score[0] == pytest.approx(expected, abs=1e-3)
            assert score[1] == greedy
    assert found[-1] is not None and found[-1][1]
    assert done == sorted(done) and done[-1] == len(pairs)


@pytest.mark.parametrize("broken", [math.nan, -math.inf])
def test_a_model_without_finite_probabilities_has_no_score(broken: float) -> None:
    class Broken(Told):
        def score_ids(self, pairs: Sequence[IdPair], on_done: OnDone) -> list[tuple[float, bool] | None]:
            return [*super().score_ids(pairs[1:], on_done), (broken, False)]

    scorer = TextScorer(small_tokenizer(), Broken())
    item = Item("one", (("a", " b"), ("a", " c")), 0)
    with pytest.raises(BitnetError, match="not finite"):
        score_task(Task("t", "choice", [item]), scorer, 0)
    with pytest.raises(BitnetError, match="not finite"):
        scorer.score_whole("the rain")
