"""Asking for many answers: what one prompt, one hiccup or one bad body may cost, and what stops the collection."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.providers.budget import Budget, Limits
from bitnet_core.providers.chat import ChatRequest
from bitnet_core.providers.replies import parse_chat
from bitnet_core.stages import collect
from bitnet_core.stages.asking import Ledger
from bitnet_core.stages.context import StageContext
from bitnet_core.traces.journal import Entry, Journal, Spent
from bitnet_core.traces.steps import TokenTable
from bitnet_core.traces.tokenizer import StudentTokenizer
from tests.providers.server import Asked, Canned, ChatServer, chat_body
from tests.traces.fake_teacher import FakeTeacher

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]

PROBES = 2


@pytest.fixture
def tokenizer(teacher_tokenizer: StudentTokenizer) -> StudentTokenizer:
    return teacher_tokenizer


def context(root: Path, server: ChatServer) -> StageContext:
    values = {
        "KD_NUM_PROMPTS": "12",
        "KD_MAX_TOKENS_PER_PROMPT": "16",
        "TEACHER_TOP_LOGPROBS": "5",
        "KD_CONCURRENCY": "1",
        "TEACHER_PROVIDER": "llamacpp",
        "TEACHER_MODEL": "m",
        "TEACHER_BASE_URL": server.base_url,
    }
    return StageContext.for_tests(root, stage="collect", values=values)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (400, {"message": "Content Exists Risk", "type": "invalid_request_error"}, "refused_prompt"),
        (403, {"message": "m requires moderation and your input was flagged", "code": 403}, "refused_prompt"),
        (413, {"message": "Request too large"}, "refused_prompt"),
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
        assert len(server.asked) == 12 + PROBES
    assert (summary["sequences"], summary["rejected"]) == (11, {reason: 1})
    with Journal(tmp_path / "data" / "journal.sqlite") as journal:
        (key,) = journal._db.execute("select key from answers where status = ?", (reason,)).fetchone()
        kept = journal.get(key)
    assert kept is not None
    assert json.loads(kept.body) == {"error": error}


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
    assert len(server.asked) == PROBES + 1 + 5


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
