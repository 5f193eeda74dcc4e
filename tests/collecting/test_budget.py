"""Limits are never passed: the worst case is reserved before anything is sent."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitnet_core.collecting.accounting import RequestAccount
from bitnet_core.collecting.budget import Budget, LimitReached
from bitnet_core.collecting.journal import Spent
from bitnet_core.errors import BitnetError
from bitnet_core.settings.values import LimitOptions
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.prices import Price, price_of
from bitnet_core.teachers.profiles import PROVIDERS
from tests.teachers.server import chat_body, entry, read_payload, with_top

PRICE = Price(1.0, 4.0, "", "")
MESSAGES = [{"role": "user", "content": "naïve"}]


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1), st.booleans()), max_size=40), st.integers(1, 2000))
def test_no_limit_is_ever_passed(requests: list[tuple[int, float, bool]], limit: int) -> None:
    budget = Budget(LimitOptions(tokens=limit, usd=limit / 1e6, requests=25), PRICE, Spent())
    used = usd = sent = 0.0
    open_ones = []
    for max_tokens, share, settled in requests:
        worst = budget.worst_case(MESSAGES, max_tokens)
        try:
            budget.reserve(worst)
        except LimitReached:
            continue
        sent += 1
        actual = budget.charge(int(worst.prompt_tokens * share), int(worst.completion_tokens * share))
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


bills = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 300), st.integers(0, 60), st.booleans()), max_size=60)


@given(bills, st.integers(0, 2000), st.integers(600, 20_000))
@example([(39, 285, 0, False), (1, 0, 0, False)], 600, 600)
def test_no_limit_is_passed_by_what_a_server_bills(
    requests: list[tuple[int, int, int, bool]], preface: int, limit: int
) -> None:
    """The test keeps its own count: the server has a preface, writes more than asked, and bills resent requests."""
    usd_limit = limit / 1e6
    budget = Budget(LimitOptions(tokens=limit, usd=usd_limit), PRICE, Spent())
    longest = max((over for _, _, over, _ in requests), default=0)
    billed_tokens, billed_usd = 0, 0.0
    largest = 0
    for max_tokens, prompt, over, silent in requests:
        messages = [{"role": "user", "content": "x" * prompt}]
        worst = budget.worst_case(messages, max_tokens)
        try:
            budget.reserve(worst)
        except LimitReached:
            continue
        first = not billed_tokens  # the budget assumes that the first one sent is the worst
        over = longest if first else over
        counted = (prompt + preface, max_tokens + over)
        billed_tokens += sum(counted)
        billed_usd += counted[0] / 1e6 * PRICE.input + counted[1] / 1e6 * PRICE.output
        largest = sum(counted) if first else largest
        if first or not silent:  # a silent one does not say what it cost: the worst case stays
            budget.settle(worst, budget.charge(*counted))
    if billed_tokens > largest:  # more was sent than the first
        assert billed_tokens <= limit
        assert billed_usd <= usd_limit * (1 + 1e-9)


def test_an_overrun_is_reserved_for_every_later_request() -> None:
    budget = Budget(LimitOptions(), PRICE, Spent())
    worst = budget.worst_case(MESSAGES, 7)
    budget.reserve(worst)
    budget.settle(worst, budget.charge(worst.prompt_tokens + 400, 9))
    again = budget.worst_case(MESSAGES, 7)
    assert (again.prompt_tokens, again.completion_tokens) == (worst.prompt_tokens + 400, 9)
    budget.settle(again, budget.charge(1, 1))
    assert budget.worst_case(MESSAGES, 7) == again
    budget.settle(worst, budget.charge(worst.prompt_tokens + 400, 9))  # sent earlier: nothing new
    assert budget.worst_case(MESSAGES, 7) == again
    assert Budget(LimitOptions(), PRICE, Spent(), budget.overrun).worst_case(MESSAGES, 7) == again


def test_the_preface_of_gpt_oss_fits_into_the_first_worst_case() -> None:
    worst = Budget(LimitOptions(), None, Spent()).worst_case([{"role": "user", "content": "Hi?"}], 1)
    assert worst.prompt_tokens >= 2 * 68


def test_threads_together_do_not_pass_a_limit() -> None:
    budget = Budget(LimitOptions(requests=100), None, Spent(requests=20))
    taken: list[int] = []

    def work() -> None:
        for _ in range(50):
            try:
                budget.reserve(budget.worst_case(MESSAGES, 1))
            except LimitReached:
                return
            taken.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 80


def test_a_worst_case_counts_every_byte() -> None:
    budget = Budget(LimitOptions(), None, Spent())
    assert budget.worst_case(MESSAGES, 7).prompt_tokens >= len("naïve".encode())
    assert budget.worst_case(MESSAGES, 7).completion_tokens == 7


def test_dollars_need_a_price() -> None:
    with pytest.raises(BitnetError, match="KD_MAX_TOKENS_TOTAL instead"):
        Budget(LimitOptions(usd=1.0), None, Spent())


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
    "model",
    [
        "gpt-4o-audio-preview",
        "gpt-4o-realtime-preview",
        "gpt-4o-mini-search-preview",
        "gpt-4o-transcribe",
        "gpt-4.10",
    ],
)
def test_other_products_are_not_priced_like_their_namesakes(model: str) -> None:
    assert price_of(PROVIDERS["openai"], model) is None


def test_a_dated_release_has_its_own_price() -> None:
    assert price_of(PROVIDERS["openai"], "gpt-4o-2024-05-13") != price_of(PROVIDERS["openai"], "gpt-4o")
    assert price_of(PROVIDERS["openai"], "gpt-4.1-2025-04-14") == price_of(PROVIDERS["openai"], "gpt-4.1")


@pytest.mark.parametrize(
    ("address", "free"),
    [
        (None, True),
        ("http://localhost:8000/v1", True),
        ("http://127.0.0.1:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://192.168.1.20:8000/v1", True),
        ("http://10.0.0.7/v1", True),
        ("http://gpu-box:8000/v1", True),
        ("http://gpu.local:8000/v1", True),
        ("https://api.example.com/v1", False),
        ("https://8.8.8.8/v1", False),
        ("https://134744072/v1", False),
        ("https://0x8080808/v1", False),
        ("https://[::ffff:8.8.8.8]/v1", False),
        ("http://[::ffff:127.0.0.1]/v1", True),
        ("http://127.1/v1", True),
        ("not an address", False),
        ("http://[::1/v1", False),
        ("http://a.b\0/v1", False),
        ("http://a.b\ud800/v1", False),
    ],
)
def test_server_software_is_free_only_on_ones_own_machines(address: str | None, free: bool) -> None:
    assert (price_of(PROVIDERS["vllm"], "m", address=address) is not None) == free
    if address is not None:  # of another server nothing is known without one
        assert (price_of(PROVIDERS["custom"], "m", address=address) is not None) == free
    assert price_of(PROVIDERS["custom"], "m") is None


def test_a_date_and_a_source_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    own = tmp_path / "prices.toml"
    own.write_text(f'[openai."m"]\ninput = 1\noutput = 2\nas_of = 0x{"f" * 5000}\nsource = 0x{"f" * 5000}\n')
    assert price_of(PROVIDERS["openai"], "m", own) == Price(1, 2, "", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[openai", "not valid TOML"),
        ('[openai."m"]\ninput = 1\n', "output must be"),
        ('[openai."m"]\ninput = "1"\noutput = 1\n', "input must be"),
        ('[openai."m"]\ninput = -1\noutput = 1\n', "input must be"),
        (f'[openai."m"]\ninput = 1{"0" * 400}\noutput = 1\n', "input must be"),
        ("openai = 3\n", "must hold tables"),
    ],
)
def test_a_wrong_price_file_is_named_with_the_fault(tmp_path: Path, text: str, said: str) -> None:
    own = tmp_path / "prices.toml"
    own.write_text(text)
    with pytest.raises(BitnetError, match=said):
        price_of(PROVIDERS["openai"], "m", own)
    with pytest.raises(BitnetError, match="can't be read"):
        price_of(PROVIDERS["openai"], "m", tmp_path / "nowhere.toml")


@pytest.mark.parametrize("counted", [0, 1, 7, 90, 100, 120])
@pytest.mark.parametrize("steps", [0, 1, 100])
def test_an_answer_is_charged_for_the_tokens_that_it_holds(counted: int, steps: int) -> None:
    """A gateway that counts none must not lift a limit."""
    token = entry("a", -0.5)
    body = chat_body("a" * steps, [with_top(token, token)] * steps) if steps else chat_body("a", None)
    body["usage"]["completion_tokens"] = counted
    accounts = SimpleNamespace(budget=Budget(LimitOptions(), PRICE, Spent()))
    account = RequestAccount(accounts, "key", ChatRequest(MESSAGES, 200, 1.0, 1.0))  # type: ignore[arg-type]
    charge = account._charge(read_payload(body))
    assert charge is None if not counted and not steps else charge and charge.completion_tokens == max(counted, steps)
