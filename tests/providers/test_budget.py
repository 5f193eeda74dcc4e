"""Limits are never passed: the worst case is set aside before anything is sent."""

import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.providers.budget import Budget, LimitReached, Limits
from bitnet_core.providers.prices import Price, price_of
from bitnet_core.providers.table import PROVIDERS
from bitnet_core.traces.journal import Spent

PRICE = Price(1.0, 4.0, "", "")
MESSAGES = [{"role": "user", "content": "naïve"}]


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1), st.booleans()), max_size=40), st.integers(1, 2000))
def test_whatever_happens_no_limit_is_passed(requests: list[tuple[int, float, bool]], limit: int) -> None:
    budget = Budget(Limits(tokens=limit, usd=limit / 1e6, requests=25), PRICE, Spent())
    used = usd = sent = 0.0
    open_ones = []
    for max_tokens, share, settled in requests:
        worst = budget.worst(MESSAGES, max_tokens)
        try:
            budget.set_aside(worst)
        except LimitReached:
            continue
        sent += 1
        actual = budget.actual(int(worst.prompt_tokens * share), int(worst.completion_tokens * share))
        if settled:
            budget.settle(worst, actual)
            used, usd = used + actual.tokens, usd + actual.usd
        else:
            open_ones.append(worst)
        at_worst = used + sum(one.tokens for one in open_ones)
        assert at_worst <= limit
        assert usd + sum(one.usd for one in open_ones) <= limit / 1e6 + 1e-12
        assert budget.tokens == at_worst
    assert sent <= 25


def test_threads_together_pass_no_limit() -> None:
    budget = Budget(Limits(requests=100), None, Spent(requests=20))
    taken: list[int] = []

    def work() -> None:
        for _ in range(50):
            try:
                budget.set_aside(budget.worst(MESSAGES, 1))
            except LimitReached:
                return
            taken.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 80


def test_no_prompt_has_more_tokens_than_its_worst_case() -> None:
    budget = Budget(Limits(), None, Spent())
    assert budget.worst(MESSAGES, 7).prompt_tokens >= len("naïve".encode())
    assert budget.worst(MESSAGES, 7).completion_tokens == 7


def test_dollars_need_a_price() -> None:
    with pytest.raises(BitnetError, match="KD_MAX_TOKENS_TOTAL instead"):
        Budget(Limits(usd=1.0), None, Spent())


def test_the_longest_name_that_fits_gives_the_price(tmp_path: Path) -> None:
    openai = PROVIDERS["openai"]
    assert price_of(openai, "gpt-4o-mini-2024-07-18") == price_of(openai, "gpt-4o-mini")
    mini, large = price_of(openai, "gpt-4o-mini"), price_of(openai, "gpt-4o")
    assert mini is not None
    assert large is not None
    assert mini.input < large.input
    assert mini.as_of
    assert mini.source
    assert price_of(openai, "gpt-99") is None
    local = price_of(PROVIDERS["llamacpp"], "anything")
    assert local is not None
    assert local.usd(10**6, 10**6) == 0
    own = tmp_path / "prices.toml"
    own.write_text('[openai."gpt-99"]\ninput = 7\noutput = 8.5\nas_of = 2026-11-01\n')
    found = price_of(openai, "gpt-99", own)
    assert found == Price(7.0, 8.5, "2026-11-01", "")
    assert found.usd(2_000_000, 1_000_000) == 22.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[openai", "not valid TOML"),
        ('[openai."m"]\ninput = 1\n', "output must be"),
        ('[openai."m"]\ninput = "1"\noutput = 1\n', "input must be"),
        ('[openai."m"]\ninput = -1\noutput = 1\n', "input must be"),
        ("openai = 3\n", "must hold tables"),
    ],
)
def test_a_price_file_that_is_wrong_is_told(tmp_path: Path, text: str, said: str) -> None:
    own = tmp_path / "prices.toml"
    own.write_text(text)
    with pytest.raises(BitnetError, match=said):
        price_of(PROVIDERS["openai"], "m", own)
    with pytest.raises(BitnetError, match="can't be read"):
        price_of(PROVIDERS["openai"], "m", tmp_path / "nowhere.toml")
