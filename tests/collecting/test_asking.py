"""Asking for many answers: what one prompt, one hiccup or one bad body may cost, and what stops the run."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bitnet_core.collecting.accounting import Accounts
from bitnet_core.collecting.budget import Budget, LimitReached
from bitnet_core.collecting.journal import Journal, Spent, StoredAnswer
from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.settings.values import LimitOptions
from bitnet_core.stages import collect
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http.retries import Failure
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import QuotaSpent
from bitnet_core.teachers.usage import believed
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import schema
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, sequential_context
from tests.teachers.fake_teacher import FakeTeacher, is_probe
from tests.teachers.server import Asked, Canned, ChatServer, chat_body, read_payload

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]


@pytest.fixture
def tokenizer(teacher_tokenizer: StudentTokenizer) -> StudentTokenizer:
    return teacher_tokenizer


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
def test_a_refused_prompt_is_counted_and_the_others_are_asked(
    tmp_path: Path, tokenizer: StudentTokenizer, status: int, error: dict[str, Any], reason: str
) -> None:
    def twist(number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": error}, status) if number == PROBES + 2 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(sequential_context(tmp_path, server))
        confirmed = "logprobs?" in error["message"] and "code" not in error
        assert len(server.asked) == 12 + PROBES + confirmed
    assert (summary["sequences"], summary["rejected"]) == (11, {reason: 1})
    with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
        (key,) = journal._db.execute("select key from answers where status = ?", (reason,)).fetchone()
        kept = journal.get(key)
    assert kept is not None
    assert json.loads(kept.body) == {"error": error}


def test_any_number_of_too_long_prompts_is_passed_over(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        long = Canned({"error": {"message": "prompt is too long: 9 > 8"}}, 400)
        return long if PROBES + 1 <= number < PROBES + 9 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(sequential_context(tmp_path, server))
    assert (summary["sequences"], summary["rejected"]) == (4, {"context_exceeded": 8})


def test_the_cost_of_an_answer_is_not_guessed(tmp_path: Path) -> None:
    """Without a count of its tokens the worst case stays reserved."""
    answer = chat_body("a", None)
    answer["usage"] = {"prompt_tokens": 5}
    uncounted = read_payload(answer)
    budget = Budget(LimitOptions(tokens=1000), None, Spent(0, 0, 0.0))
    with Journal(tmp_path / "journal.sqlite") as journal:
        account = Accounts(journal, budget).open(ChatRequest([{"role": "user", "content": "Hi"}], 100, 1.0, 1.0))
        asyncio.run(account.sent())
        worst = budget.tokens
        asyncio.run(account.store(StoredAnswer("no_logprobs", b""), uncounted))
    assert budget.tokens == worst > 100


@pytest.mark.parametrize("counted", ["prompt_tokens", "completion_tokens"])
def test_an_absurd_count_of_tokens_is_said_once_and_not_believed(
    tmp_path: Path, tokenizer: StudentTokenizer, counted: str
) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        if number in (PROBES + 2, PROBES + 4):
            body["usage"][counted] = 2_000_000_000

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = sequential_context(tmp_path, server, KD_MAX_TOKENS_TOTAL="20000")
        summary = collect.run(ctx)
    assert (summary["sequences"], summary["rejected"]) == (12, {})
    assert [event["code"] for event in emitted(ctx, "alert")] == ["absurd_counts"]
    sequences = pq.read_table(tmp_path / "data" / schema.SEQUENCES_FILE)
    assert max(sequences.column(counted).to_pylist()) < 1000
    with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
        assert journal.spent().tokens < 20_000
        assert not journal._db.execute("select * from notes where key like 'beyond%'").fetchall()


@pytest.mark.parametrize("counted", ["prompt_tokens", "completion_tokens"])
def test_an_absurd_charge_of_an_earlier_run_blocks_no_later_one(
    tmp_path: Path, tokenizer: StudentTokenizer, counted: str
) -> None:
    """An earlier version believed every count: of the probe, of an answer, and of what exceeds a worst case."""
    path = tmp_path / "data.journal" / "journal.sqlite"
    limits = {"KD_MAX_TOKENS_TOTAL": "20000", "KD_MAX_REQUESTS": str(PROBES + 5)}
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(sequential_context(tmp_path, server, **limits))
        with Journal(path) as journal:
            notes = [key for (key,) in journal._db.execute("select key from notes where key like 'probe:%'")]
            beyond = f"beyond:{notes[0].split(':')[1]}"
            journal.write_note(beyond, "2000000000 2000000000")
            for which in ("key = 'probe'", "key <> 'probe'"):
                one = f"(select max(id) from sendings where {which})"  # noqa: S608
                journal._write(f"update sendings set {counted} = 2000000000 where id = {one}")  # noqa: S608
            assert journal.spent().tokens > 4_000_000_000
        ctx = sequential_context(tmp_path, server, KD_MAX_TOKENS_TOTAL="20000")
        summary = collect.run(ctx)
        assert (summary["sequences"], summary["rejected"]) == (12, {})
    (said,) = [event for event in emitted(ctx, "alert") if event["code"] == "absurd_counts"]
    assert said["message"].startswith("2 requests of earlier runs were charged with more tokens than they can have")
    with Journal(path) as journal:
        assert 0 < journal.spent().tokens < 20_000


@pytest.mark.parametrize("note", ["", "7", "[" * 10_000, '{"mode": 1}', "a b", "-9 -9", f"{'9' * 5000} 1"])
def test_a_note_that_no_run_has_written_counts_as_none(
    tmp_path: Path, tokenizer: StudentTokenizer, note: str
) -> None:
    path = tmp_path / "data.journal" / "journal.sqlite"
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(sequential_context(tmp_path, server, KD_MAX_REQUESTS=str(PROBES + 5)))
        with Journal(path) as journal:
            (of,) = [key for (key,) in journal._db.execute("select key from notes where key like 'probe:%'")]
            teacher = of.split(":")[1]
            for name in (f"beyond:{teacher}", f"served:{teacher}", f"fingerprints:{teacher}"):
                journal.write_note(name, "")
            journal._write("update notes set value = ? where key like '%:%'", (note,))
        summary = collect.run(sequential_context(tmp_path, server))
    assert (summary["sequences"], summary["rejected"]) == (12, {})


def test_a_large_charge_that_can_be_still_blocks(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    """Hidden thinking, and a request that these settings don't know."""
    path = tmp_path / "data.journal" / "journal.sqlite"
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(sequential_context(tmp_path, server, KD_MAX_REQUESTS=str(PROBES + 5)))
        for change in ("completion_tokens = 100000", "completion_tokens = 2000000000, key = 'of other settings'"):
            with Journal(path) as journal:
                journal._write(f"update sendings set {change} where id = (select max(id) from sendings)")  # noqa: S608
                before = journal.spent()
            summary = collect.run(sequential_context(tmp_path, server, KD_MAX_TOKENS_TOTAL="20000"))
            assert summary["sequences"] < 12
            with Journal(path) as journal:
                assert journal.spent() == before


@pytest.mark.parametrize(
    ("prompt_tokens", "completion_tokens"),
    [(60_000, 16), (20, 100_000)],  # what a server searches for, and hidden thinking
)
def test_a_large_count_that_can_be_is_believed(prompt_tokens: int, completion_tokens: int) -> None:
    answer = chat_body("a", None)
    answer["usage"] = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    read = read_payload(answer)
    assert believed(read, [{"role": "user", "content": "Hi"}], 16) is read


def test_a_teacher_that_refuses_everything_after_its_probe_ends_the_run(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    def twist(number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": {"message": "no such thing"}}, 400) if number >= PROBES + 1 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match="no such thing"):
        collect.run(sequential_context(tmp_path, server))
    assert len(server.asked) == PROBES + 1 + 5 + 1  # the last one tests whether it refuses a single token, too


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
def test_one_hiccup_with_status_200_costs_no_answer(
    tmp_path: Path, tokenizer: StudentTokenizer, hiccup: Canned
) -> None:
    with ChatServer(FakeTeacher(tokenizer, lambda number, *_: hiccup if number == PROBES + 2 else None)) as server:
        summary = collect.run(sequential_context(tmp_path, server))
        assert len(server.asked) == 12 + PROBES + 1
    assert (summary["sequences"], summary["rejected"]) == (12, {})


def test_a_text_with_half_a_surrogate_pair_is_stored_and_rejected(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        if number == PROBES + 2:
            body["choices"][0]["message"]["content"] = "abc \ud83d"

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(sequential_context(tmp_path, server))
        assert len(server.asked) == 12 + PROBES
    assert (summary["sequences"], summary["rejected"]) == (11, {"malformed_text": 1})


# -- what a failed request may have cost -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "charged"),
    [(429, False), (503, False), (400, False), (500, True), (502, True), (504, True), (408, True)],
)
async def test_only_a_refusal_costs_nothing(
    tmp_path: Path, status: int, charged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway may give up on an answer that the server makes and bills."""
    monkeypatch.setattr("bitnet_core.teachers.http.retries.MAX_RATE_LIMITED", 2)
    budget = Budget(LimitOptions(tokens=100_000), None, Spent(0, 0, 0.0))
    provider = PROVIDERS["vllm"]
    with (
        Journal(tmp_path / "journal.sqlite") as journal,
        ChatServer(lambda *_: Canned({"error": {"message": "no"}}, status)) as server,
    ):
        account = Accounts(journal, budget).open(ChatRequest([{"role": "user", "content": "Hi"}], 100, 1.0, 1.0))
        async with OpenAIChat(provider, server.base_url, "m", None, first_wait=0.01) as chat:
            with pytest.raises(BitnetError):
                async with asyncio.timeout(60):
                    await chat.chat(ChatRequest([{"role": "user", "content": "Hi"}], 100, 1.0, 1.0), attempts=1,
                                    watch=account)  # fmt: skip
        await account.failed(Failure.REFUSED)  # as `Asker` does when it gives up
        billed = len(server.asked)
        assert (budget.tokens > 100) == charged
        assert journal.spent().tokens == budget.tokens
    assert billed >= 1


def test_a_key_that_the_server_puts_into_an_answer_is_not_stored(tmp_path: Path) -> None:
    key = "sk-canary-0123456789"
    body = json.dumps({"choices": [], "debug": {"authorization": f"Bearer {key}"}}).encode()
    with Journal(tmp_path / "journal.sqlite") as journal:
        accounts = Accounts(journal, Budget(LimitOptions(), None, Spent(0, 0, 0.0)), Redactor([key]).mask_body)
        stored, masked = accounts.mask_keys(StoredAnswer("ok", body))
        assert masked
        assert key.encode() not in stored.body
        assert json.loads(stored.body)["debug"]["authorization"].startswith("Bearer ")
        assert accounts.mask_keys(StoredAnswer("ok", b"{}")) == (StoredAnswer("ok", b"{}"), False)
    assert accounts.masked == 1


async def test_a_limit_is_not_reached_while_reserved_amounts_may_turn_out_smaller(tmp_path: Path) -> None:
    """The worst case is ten times an answer's cost. An overrun is written down with its answer."""
    request = ChatRequest([{"role": "user", "content": "Hi"}], 1000, 1.0, 1.0)
    answer = read_payload(chat_body("a", None) | {"usage": {"prompt_tokens": 5, "completion_tokens": 95}})
    with Journal(tmp_path / "journal.sqlite") as journal:
        accounts = Accounts(journal, Budget(LimitOptions(tokens=1500), None, Spent(0, 0, 0.0)))
        first, second = accounts.open(request, "one"), accounts.open(request, "two")
        await first.sent()
        waiting = asyncio.create_task(second.sent())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await first.store(StoredAnswer("ok", b"{}"), answer)
        first.end()
        await asyncio.wait_for(waiting, 20)
        overrun = read_payload(chat_body("a", None) | {"usage": {"prompt_tokens": 5, "completion_tokens": 1200}})
        await second.store(StoredAnswer("ok", b"{}"), overrun)
        assert journal.read_note("beyond") == "0 200"
        second.end()
        with pytest.raises(LimitReached):
            await accounts.open(request, "three").sent()


# -- the end ---------------------------------------------------------------------------------------------


def test_nothing_more_is_sent_once_the_quota_is_spent(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    """Requests that wait for their turn are never sent."""
    spent = Canned({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, 429)
    refused: list[int] = []

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if number < 20:
            return None
        refused.append(number)
        time.sleep(0.05)
        return spent

    with ChatServer(FakeTeacher(tokenizer, twist, seconds=0.01)) as server, pytest.raises(QuotaSpent):
        collect.run(sequential_context(tmp_path, server, KD_NUM_PROMPTS="400", KD_CONCURRENCY="32"))
    assert 1 <= len(refused) < 32  # every worker would send one more


def test_a_stop_sends_nothing_more_and_waits_for_answers_in_flight(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[float] = []
    began: list[float] = []

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> None:
        if number >= PROBES:
            began.append(time.monotonic())
            time.sleep(0.4)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = sequential_context(tmp_path, server, KD_CONCURRENCY="3")

        def stop() -> None:
            if len(began) >= 6 and not stopped:
                stopped.append(time.monotonic())
                raise Stopped("stopped by the test")

        monkeypatch.setattr(ctx, "check_stop", stop)
        with pytest.raises(Stopped):
            collect.run(ctx)
    assert max(began) <= stopped[0]
    with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
        assert journal.close_lost() == 0
        assert journal._db.execute("select count(*) from answers where status = 'ok'").fetchone()[0] == len(began)


# -- usable answers --------------------------------------------------------------------------------------


def test_unusable_answers_of_earlier_runs_count_too(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(_number: int, asked: Asked, body: dict[str, Any]) -> None:
        if not is_probe(asked):
            body["choices"][0]["message"]["content"] = "quite another text"

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        for asked in (5, 8, 8):
            with pytest.raises(BitnetError, match=r"text differs|KD_MAX_REQUESTS"):
                most = "7" if asked == 5 else "100"
                collect.run(sequential_context(tmp_path, server, KD_NUM_PROMPTS="40", KD_MAX_REQUESTS=most))
            assert len([one for one in server.asked if not is_probe(one)]) == asked


def test_the_alert_about_a_limit_counts_usable_answers(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        if number > PROBES:
            body["choices"][0]["message"]["content"] = "quite another text"

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = sequential_context(tmp_path, server, KD_NUM_PROMPTS="40", KD_MAX_REQUESTS="8")
        assert collect.run(ctx)["sequences"] == 1
    (alert,) = (event for event in emitted(ctx, "alert") if event["code"] == "limit_reached")
    assert "1 of 40 answers can be used." in alert["message"]
