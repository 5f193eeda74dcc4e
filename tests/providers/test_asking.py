"""Asking for many answers: what one prompt, one hiccup or one bad body may cost, and what stops the collection."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.providers.budget import Budget, LimitReached, Limits
from bitnet_core.providers.chat import ChatRequest, QuotaSpent
from bitnet_core.providers.http import Failure
from bitnet_core.providers.openai_chat import OpenAIChat
from bitnet_core.providers.replies import parse_chat
from bitnet_core.providers.table import PROVIDERS
from bitnet_core.secrets import Redactor
from bitnet_core.stages import asking, collect
from bitnet_core.stages.asking import Ledger
from bitnet_core.stages.context import StageContext
from bitnet_core.traces.journal import Entry, Journal, Spent
from bitnet_core.traces.prompts import load_prompts
from bitnet_core.traces.steps import TokenTable
from bitnet_core.traces.tokenizer import StudentTokenizer
from tests.providers.server import Asked, Canned, ChatServer, chat_body
from tests.traces.collecting import events
from tests.traces.fake_teacher import FakeTeacher, is_probe

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]

PROBES = 2


@pytest.fixture
def tokenizer(teacher_tokenizer: StudentTokenizer) -> StudentTokenizer:
    return teacher_tokenizer


def context(root: Path, server: ChatServer, **more: str) -> StageContext:
    values = {
        "KD_NUM_PROMPTS": "12",
        "KD_MAX_TOKENS_PER_PROMPT": "16",
        "TEACHER_TOP_LOGPROBS": "5",
        "KD_CONCURRENCY": "1",
        "TEACHER_PROVIDER": "llamacpp",
        "TEACHER_MODEL": "m",
        "TEACHER_BASE_URL": server.base_url,
    }
    return StageContext.for_tests(root, stage="collect", values=values | more)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (400, {"message": "Content Exists Risk", "type": "invalid_request_error"}, "refused_prompt"),
        (403, {"message": "m requires moderation and your input was flagged", "code": 403}, "refused_prompt"),
        (413, {"message": "Request too large"}, "context_exceeded"),
        (
            429,
            {"message": "Request too large for m on TPM: Limit 9", "code": "rate_limit_exceeded"},
            "context_exceeded",
        ),
        (400, {"message": "'what are logprobs?'", "type": "invalid_request_error"}, "refused_prompt"),
        (400, {"message": "blocked: 'Invalid API key for logprobs?'", "code": "content_filter"}, "refused_prompt"),
        (200, {"message": "blocked: 'A rate limiter for my spending limit'", "type": "moderation"}, "refused_prompt"),
        (422, {"message": "`inputs` tokens + `max_new_tokens` must be <= 4097"}, "context_exceeded"),
        (400, {"message": "input length and `max_tokens` exceed context limit: 9 + 8 > 10"}, "context_exceeded"),
    ],
)
def test_a_prompt_that_is_refused_is_counted_and_the_rest_goes_on(
    tmp_path: Path, tokenizer: StudentTokenizer, status: int, error: dict[str, Any], reason: str
) -> None:
    def twist(number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": error}, status) if number == PROBES + 2 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(context(tmp_path, server))
        confirmed = "logprobs?" in error["message"] and "code" not in error
        assert len(server.asked) == 12 + PROBES + confirmed
    assert (summary["sequences"], summary["rejected"]) == (11, {reason: 1})
    with Journal(tmp_path / "data" / "journal.sqlite") as journal:
        (key,) = journal._db.execute("select key from answers where status = ?", (reason,)).fetchone()
        kept = journal.get(key)
    assert kept is not None
    assert kept.body == b"" if confirmed else json.loads(kept.body) == {"error": error}


def test_prompts_that_are_too_long_are_passed_over_however_many_there_are(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        long = Canned({"error": {"message": "prompt is too long: 9 > 8"}}, 400)
        return long if PROBES + 1 <= number < PROBES + 9 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(context(tmp_path, server))
    assert (summary["sequences"], summary["rejected"]) == (4, {"context_exceeded": 8})


def test_what_an_answer_cost_is_not_guessed(tmp_path: Path) -> None:
    """Without a count of its tokens the worst case stays set aside."""
    told = chat_body("a", None)
    told["usage"] = {"prompt_tokens": 5}
    uncounted = parse_chat(told, b"", TokenTable())
    budget = Budget(Limits(tokens=1000), None, Spent(0, 0, 0.0))
    with Journal(tmp_path / "journal.sqlite") as journal:
        sending = Ledger(journal, budget).watch(ChatRequest([{"role": "user", "content": "Hi"}], 100, 1.0, 1.0))
        asyncio.run(sending.sent())
        worst = budget.tokens
        asyncio.run(sending.keep(Entry("no_logprobs", b""), uncounted))
    assert budget.tokens == worst > 100


def test_a_teacher_that_refuses_everything_after_its_probe_is_left(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    def twist(number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": {"message": "no such thing"}}, 400) if number >= PROBES + 1 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match="no such thing"):
        collect.run(context(tmp_path, server))
    assert len(server.asked) == PROBES + 1 + 5 + 1  # a token, to know whose matter it is


@pytest.mark.parametrize(
    "hiccup",
    [
        Canned(b"<html>502</html>", 200, {"Content-Type": "text/html"}),
        Canned(b"", 200),
        Canned({"error": {"code": 429, "message": "slow down"}}, 200),
        Canned({"error": {"code": 502, "message": "Provider returned error"}}, 200),
        Canned({"choices": []}),
    ],
)
def test_one_hiccup_in_a_good_status_costs_nothing(
    tmp_path: Path, tokenizer: StudentTokenizer, hiccup: Canned
) -> None:
    with ChatServer(FakeTeacher(tokenizer, lambda number, *_: hiccup if number == PROBES + 2 else None)) as server:
        summary = collect.run(context(tmp_path, server))
        assert len(server.asked) == 12 + PROBES + 1
    assert (summary["sequences"], summary["rejected"]) == (12, {})


def test_a_text_with_half_a_surrogate_pair_is_rejected_and_kept(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        if number == PROBES + 2:
            body["choices"][0]["message"]["content"] = "abc \ud83d"

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(context(tmp_path, server))
        assert len(server.asked) == 12 + PROBES
    assert (summary["sequences"], summary["rejected"]) == (11, {"malformed_text": 1})


# -- what failed, and what it may have cost --------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "charged"),
    [(429, False), (503, False), (400, False), (500, True), (502, True), (504, True), (408, True)],
)
async def test_only_what_was_refused_before_anything_was_done_costs_nothing(
    tmp_path: Path, status: int, charged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway may give up on an answer that was made, and is billed."""
    monkeypatch.setattr("bitnet_core.providers.http._REFUSALS", 2)
    budget = Budget(Limits(tokens=100_000), None, Spent(0, 0, 0.0))
    provider = PROVIDERS["vllm"]
    with (
        Journal(tmp_path / "journal.sqlite") as journal,
        ChatServer(lambda *_: Canned({"error": {"message": "no"}}, status)) as server,
    ):
        sending = Ledger(journal, budget).watch(ChatRequest([{"role": "user", "content": "Hi"}], 100, 1.0, 1.0))
        async with OpenAIChat(provider, server.base_url, "m", None, first_wait=0.01) as chat:
            with pytest.raises(BitnetError):
                async with asyncio.timeout(20):
                    await chat.chat(ChatRequest([{"role": "user", "content": "Hi"}], 100, 1.0, 1.0), attempts=1,
                                    watch=sending)  # fmt: skip
        await sending.failed(Failure.REFUSED)  # as asking does for what was not tried again
        billed = len(server.asked)
        assert (budget.tokens > 100) == charged
        assert journal.spent().tokens == budget.tokens
    assert billed >= 1


def test_an_answer_in_which_the_server_put_a_key_is_kept_without_it(tmp_path: Path) -> None:
    key = "sk-canary-0123456789"
    body = json.dumps({"choices": [], "debug": {"authorization": f"Bearer {key}"}}).encode()
    with Journal(tmp_path / "journal.sqlite") as journal:
        ledger = Ledger(journal, Budget(Limits(), None, Spent(0, 0, 0.0)), Redactor([key]).bytes)
        kept, masked = ledger.clean(Entry("ok", body))
        assert masked
        assert key.encode() not in kept.body
        assert json.loads(kept.body)["debug"]["authorization"].startswith("Bearer ")
        assert ledger.clean(Entry("ok", b"{}")) == (Entry("ok", b"{}"), False)
    assert ledger.masked == 1


async def test_a_limit_is_not_reached_while_what_is_set_aside_may_turn_out_to_be_less(tmp_path: Path) -> None:
    """The worst case is ten times what an answer takes; and what was learnt of it is written down with the answer."""
    request = ChatRequest([{"role": "user", "content": "Hi"}], 1000, 1.0, 1.0)
    answer = parse_chat(
        chat_body("a", None) | {"usage": {"prompt_tokens": 5, "completion_tokens": 95}}, b"", TokenTable()
    )
    with Journal(tmp_path / "journal.sqlite") as journal:
        ledger = Ledger(journal, Budget(Limits(tokens=1500), None, Spent(0, 0, 0.0)))
        first, second = ledger.watch(request, "one"), ledger.watch(request, "two")
        await first.sent()
        waiting = asyncio.create_task(second.sent())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await first.keep(Entry("ok", b"{}"), answer)
        first.done()
        await asyncio.wait_for(waiting, 20)
        beyond = parse_chat(
            chat_body("a", None) | {"usage": {"prompt_tokens": 5, "completion_tokens": 1200}}, b"", TokenTable()
        )
        await second.keep(Entry("ok", b"{}"), beyond)
        assert journal.note("beyond") == "0 200"
        second.done()
        with pytest.raises(LimitReached):
            await ledger.watch(request, "three").sent()


# -- the end ---------------------------------------------------------------------------------------------


def test_when_the_quota_is_spent_nothing_more_is_sent(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    """Those that wait for their turn do not get it any more."""
    spent = Canned({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, 429)
    refused: list[int] = []

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if number < 20:
            return None
        refused.append(number)
        time.sleep(0.05)
        return spent

    with ChatServer(FakeTeacher(tokenizer, twist, seconds=0.01)) as server, pytest.raises(QuotaSpent):
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="400", KD_CONCURRENCY="32"))
    assert 1 <= len(refused) < 32  # every worker would send one more


def test_a_stop_sends_nothing_more_and_waits_for_what_is_under_way(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    stopped: list[float] = []
    began: list[float] = []

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> None:
        if number >= PROBES:
            began.append(time.monotonic())
            time.sleep(0.4)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path, server, KD_CONCURRENCY="3")

        def stop() -> None:
            if len(began) >= 6 and not stopped:
                stopped.append(time.monotonic())
                raise Stopped("stopped by the test")

        ctx.check_stop = stop  # type: ignore[method-assign]
        with pytest.raises(Stopped):
            collect.run(ctx)
    assert max(began) <= stopped[0]
    with Journal(tmp_path / "data" / "journal.sqlite") as journal:
        assert journal.lost() == 0
        assert journal._db.execute("select count(*) from answers where status = 'ok'").fetchone()[0] == len(began)


@pytest.mark.parametrize("at_once", ["1", "4"])
def test_many_prompts_that_are_not_taken_end_no_run(
    tmp_path: Path, tokenizer: StudentTokenizer, at_once: str
) -> None:
    """Also where they are all that is left to ask, and where refusals are quicker than answers."""
    refused = {prompt.text for prompt in load_prompts(None, collect.PACKAGED_PROMPTS)[3:15]}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if asked.body["messages"][-1]["content"] in refused:
            return Canned({"error": {"message": "filtered", "code": "content_filter"}}, 400)
        time.sleep(0 if is_probe(asked) else 0.15)  # while the others are refused one after the other
        return None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        values = {"KD_NUM_PROMPTS": "20", "KD_CONCURRENCY": at_once, "KD_MAX_ATTEMPTS": "3"}
        for given_up in (0, 0, 12, 12):
            summary = collect.run(context(tmp_path, server, **values))
            assert (summary["sequences"], summary["rejected"]) == (8, {"refused_prompt": 12})
            assert summary["given_up"] == given_up


# -- outages ---------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(asking, "ATTEMPTS", 1)


@pytest.mark.usefixtures("quick")
def test_an_outage_is_outlasted(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    down = range(PROBES + 4, PROBES + 16)

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": {"message": "down"}}, 502) if number in down else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(context(tmp_path, server, KD_CONCURRENCY="2"))
        assert len(server.asked) == PROBES + 12 + len(down) + 1  # a token, when it was back
    assert (summary["sequences"], summary["rejected"]) == (12, {})


@pytest.mark.usefixtures("quick")
def test_one_that_has_no_end_ends_the_stage_and_what_is_there_stays(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_OUTAGE_SECONDS", 0.1)

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": {"message": "down"}}, 502) if number >= PROBES + 5 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match="keeps failing"):
        collect.run(context(tmp_path, server))
    with Journal(tmp_path / "data" / "journal.sqlite") as journal:
        assert journal._db.execute("select count(*) from answers where status = 'ok'").fetchone()[0] == 5


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("place", "at_once"), [(0, "1"), (3, "1"), (3, "2"), (11, "1"), (11, "4")])
def test_a_prompt_that_always_fails_while_others_do_not_is_passed_over(
    tmp_path: Path, tokenizer: StudentTokenizer, place: int, at_once: str
) -> None:
    """Wherever it stands: also where nobody else is asked meanwhile."""
    cursed = load_prompts(None, collect.PACKAGED_PROMPTS)[place].text
    tries = 0

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        nonlocal tries
        if asked.body["messages"][-1]["content"] != cursed:
            return None
        tries += 1
        return Canned({"error": {"message": "this one breaks me"}}, 500)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        for given_up in (0, 1, 1):
            summary = collect.run(context(tmp_path, server, KD_CONCURRENCY=at_once))
            assert (summary["sequences"], summary["rejected"]) == (11, {"no_answer": 1})
            assert summary["given_up"] == given_up
    assert tries == 2 * asking._FAILURES


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize(
    ("trouble", "said", "bound"),
    [
        (Canned({"error": {"message": "CUDA out of memory"}}, 500), "CUDA out of memory", asking._FAILED_AT_MOST),
        (Canned({"error": {"message": "above your plan"}}, 400), "above your plan", asking._REFUSED_AT_MOST),
    ],
)
def test_a_teacher_that_answers_a_token_and_nothing_else_is_left(
    tmp_path: Path, tokenizer: StudentTokenizer, trouble: Canned, said: str, bound: int, at_once: int
) -> None:
    real = 0

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        nonlocal real
        real += not is_probe(asked)
        return trouble if real > 3 and not is_probe(asked) else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match=said):
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="90", KD_CONCURRENCY=str(at_once)))
    with Journal(tmp_path / "data" / "journal.sqlite") as journal:
        spoilt = journal._db.execute("select count(*) from answers where status <> 'ok'").fetchone()[0]
    assert bound <= spoilt <= bound + 2 * at_once


@pytest.mark.usefixtures("quick")
def test_many_prompts_that_always_fail_are_left_for_later_runs_which_succeed(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    cursed = {prompt.text for number, prompt in enumerate(load_prompts(None, collect.PACKAGED_PROMPTS)) if number % 2}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        failure = Canned({"error": {"message": "this one breaks me"}}, 500)
        return failure if asked.body["messages"][-1]["content"] in cursed else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        for given_up in (0, 8, 10, 10):
            ctx = context(tmp_path, server, KD_NUM_PROMPTS="20", KD_CONCURRENCY="1")
            summary = collect.run(ctx)
            assert (summary["sequences"], summary["rejected"]) == (10, {"no_answer": 10})
            assert summary["given_up"] == given_up
            told = [event for event in events(ctx, "alert") if event["code"] == "prompts_without_answer"]
            assert ["this one breaks me" in event["message"] for event in told] == [True] * len(told)
            assert any("left for the next run" in event["advice"] for event in told) == (given_up == 8)


def test_one_hiccup_while_it_is_asked_whose_matter_refusals_are_ends_nothing(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    refused = {prompt.text for prompt in load_prompts(None, collect.PACKAGED_PROMPTS)[3:11]}
    probes = 0

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        nonlocal probes
        probes += is_probe(asked)
        if is_probe(asked) and probes > PROBES:
            return Canned({"error": {"message": "bad gateway"}}, 502)
        bad = asked.body["messages"][-1]["content"] in refused
        return Canned({"error": {"message": "filtered"}}, 400) if bad else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        assert collect.run(context(tmp_path, server))["sequences"] == 4
    assert probes > PROBES


@pytest.mark.parametrize("at_once", [1, 8])
def test_a_teacher_that_takes_nothing_but_its_probe_is_left_with_its_words(
    tmp_path: Path, tokenizer: StudentTokenizer, at_once: int
) -> None:
    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return None if is_probe(asked) else Canned({"error": {"message": "logit_bias is not permitted"}}, 400)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match="not permitted"):
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="60", KD_CONCURRENCY=str(at_once)))
    most = asking._REFUSED_AT_MOST + 2 * at_once
    assert len(server.asked) <= PROBES + most + most // asking._REFUSED_IN_A_ROW


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "garbage",
    [Canned(b"<html>log in</html>", 200), Canned({"choices": [{"error": {"message": "upstream", "code": 502}}]})],
)
def test_a_gateway_that_answers_for_the_teacher_is_left(
    tmp_path: Path, tokenizer: StudentTokenizer, garbage: Canned
) -> None:
    with ChatServer(FakeTeacher(tokenizer, lambda number, *_: garbage if number > PROBES + 3 else None)) as server:
        with pytest.raises(BitnetError, match="sends what is no answer"):
            collect.run(context(tmp_path, server, KD_NUM_PROMPTS="60"))
        assert len(server.asked) <= PROBES + 3 + 3 * (asking._FAILED_AT_MOST + 1)


def test_what_was_left_for_last_costs_no_attempt_where_even_a_token_is_refused(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    silent = Canned({"choices": [{"message": {"content": "x"}, "finish_reason": "stop", "logprobs": None}]})
    suspended = Canned({"error": {"message": "your account is suspended"}}, 400)
    started = 0

    def twist(number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if number >= started + PROBES and started:
            return suspended
        return None if is_probe(asked) or number < PROBES + 3 else silent

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        values = {"KD_NUM_PROMPTS": "40", "KD_MAX_ATTEMPTS": "2"}
        assert collect.run(context(tmp_path, server, **values))["rejected"] == {"no_logprobs": 37}
        started = len(server.asked)
        with pytest.raises(BitnetError, match="your account is suspended"):
            collect.run(context(tmp_path, server, **values))
        assert len(server.asked) <= started + PROBES + asking._REFUSED_IN_A_ROW + 1


@pytest.mark.usefixtures("quick")
def test_a_new_prompt_that_fails_among_those_that_did_before_ends_nothing(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    prompts = [prompt.text for prompt in load_prompts(None, collect.PACKAGED_PROMPTS)]
    cursed = {*prompts[1:24:2], prompts[24]}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        prompt = asked.body["messages"][-1]["content"]
        if prompt == prompts[24]:
            time.sleep(0.3)
        return Canned({"error": {"message": "this one breaks me"}}, 500) if prompt in cursed else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="24", KD_CONCURRENCY="4"))
        summary = collect.run(context(tmp_path, server, KD_NUM_PROMPTS="25", KD_CONCURRENCY="4"))
    assert summary["sequences"] == 12


def test_the_wait_for_what_is_under_way_is_none_of_the_processor(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = 0
    wait = asyncio.wait

    async def counted(*given: Any, **named: Any) -> Any:
        nonlocal waits
        waits += 1
        return await wait(*given, **named)

    monkeypatch.setattr(asyncio, "wait", counted)

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> None:
        if number == PROBES + 2:
            time.sleep(1.5)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path, server, KD_CONCURRENCY="4")

        def stop() -> None:
            if len(server.asked) >= PROBES + 6:
                raise Stopped("stopped by the test")

        ctx.check_stop = stop  # type: ignore[method-assign]
        with pytest.raises(Stopped):
            collect.run(ctx)
    assert waits < 60


def test_a_stop_in_an_outage_is_heard_soon(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(asking, "ATTEMPTS", 1)
    began: list[float] = []

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if number < PROBES + 3:
            return None
        began.append(time.monotonic())
        return Canned({"error": {"message": "down"}}, 502)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path, server, KD_CONCURRENCY="3")

        def stop() -> None:
            if len(began) > 4:
                raise Stopped("stopped by the test")

        ctx.check_stop = stop  # type: ignore[method-assign]
        with pytest.raises(Stopped):
            collect.run(ctx)
        sent = len(server.asked)
        time.sleep(0.5)
        assert len(server.asked) == sent
    assert sent <= PROBES + 3 + 4 + 3


@pytest.mark.usefixtures("quick")
def test_what_never_left_costs_nothing_and_one_knocks_for_all(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_OUTAGE_SECONDS", 1.0)
    knocks: list[int] = []
    token = asking.Asking._answers_a_token

    async def noted(self: asking.Asking) -> bool:
        knocks.append(1)
        return await token(self)

    monkeypatch.setattr(asking.Asking, "_answers_a_token", noted)

    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> Canned:
        if number == PROBES + 5:
            server.refuse_connections()
        return Canned(body, headers={"Connection": "close"})

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match="can't be reached"):
        collect.run(context(tmp_path, server, KD_CONCURRENCY="8", KD_NUM_PROMPTS="40", KD_MAX_REQUESTS="60"))
    with Journal(tmp_path / "data" / "journal.sqlite") as journal:
        states = dict(journal._db.execute("select state, count(*) from sendings group by state"))
        assert states["unsent"] > 8
        assert journal.spent().requests == sum(states.values()) - states["unsent"]
        assert journal.spent().requests <= len(server.asked) + 8
    assert 3 < len(knocks) < 60


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_probe_that_is_refused_costs_nothing(tmp_path: Path, status: int) -> None:
    refusal = Canned({"error": {"message": "no"}}, status)
    with ChatServer(lambda *_: refusal) as server, pytest.raises(BitnetError):
        collect.run(context(tmp_path, server))
    with Journal(tmp_path / "data" / "journal.sqlite") as journal:
        assert journal.spent() == Spent(len(server.asked), 0, 0.0)


# -- what can be used ------------------------------------------------------------------------------------


def test_the_guard_counts_what_earlier_runs_have_paid_for(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(_number: int, asked: Asked, body: dict[str, Any]) -> None:
        if not is_probe(asked):
            body["choices"][0]["message"]["content"] = "quite another text"

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        for asked in (5, 8, 8):
            with pytest.raises(BitnetError, match=r"text differs|KD_MAX_REQUESTS"):
                collect.run(
                    context(tmp_path, server, KD_NUM_PROMPTS="40", KD_MAX_REQUESTS="7" if asked == 5 else "100")
                )
            assert len([one for one in server.asked if not is_probe(one)]) == asked


def test_what_a_limit_leaves_is_counted_by_what_can_be_used(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        if number > PROBES:
            body["choices"][0]["message"]["content"] = "quite another text"

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path, server, KD_NUM_PROMPTS="40", KD_MAX_REQUESTS="8")
        assert collect.run(ctx)["sequences"] == 1
    (alert,) = (event for event in events(ctx, "alert") if event["code"] == "limit_reached")
    assert "There are 1 of 40 answers to use." in alert["message"]
