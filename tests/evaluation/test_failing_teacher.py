"""A teacher whose server breaks on some prompts: these are unanswered and said, and the others are asked."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation import baseline
from bitnet_core.evaluation.baseline import Baseline, Interview
from bitnet_core.evaluation.teacher_answers import TeacherAnswers
from bitnet_core.prompts.prompt import Prompt
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import Sampling, SuiteOptions
from bitnet_core.suites.run import Answer, Unanswered
from bitnet_core.teachers import health
from bitnet_core.teachers.http.retries import ATTEMPTS
from bitnet_core.teachers.neutral import MESSAGES
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.teachers.wire.openai import OpenAIChat
from tests.builders import emitted, stage_context
from tests.teachers.server import Asked, Canned, ChatServer, chat_body

PROMPTS = [f"prompt {place}" for place in range(40)]
BROKEN = Canned({"error": {"message": "CUDA error"}}, 500)
CUT = Canned(chat_body("Fine.", None), hang_up=True)
FINE = Canned(chat_body("Fine.", None) | {"usage": {"prompt_tokens": 7, "completion_tokens": 4}})

FILTERED = Canned(chat_body("Fi", None, finish_reason="content_filter"))

Fails = Callable[[str], bool]
OUTAGE = range(4, 30)
"""The requests that come while the server is down: more than the attempts of one."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PAUSE_SECONDS", 0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_OUTAGE_SECONDS", 0.3)


def server_with_an_outage(failure: Canned) -> ChatServer:
    return ChatServer(lambda number, _asked: failure if number in OUTAGE else FINE)


def said(asked: Asked) -> str:
    text: str = asked.body["messages"][-1]["content"]
    return text


def server_that_fails(fails: Fails, failure: Canned = BROKEN) -> ChatServer:
    return ChatServer(lambda _number, asked: failure if fails(said(asked)) else FINE)


def asked_items(ctx: StageContext, server: ChatServer, parallel: int = 2) -> list[Answer]:
    answers = TeacherAnswers(PROMPTS, SuiteOptions.of(ctx.settings), parallel, ctx)

    async def ask() -> None:
        async with OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.001) as chat:
            await answers.ask(Teacher(chat))

    asyncio.run(ask())
    return [answers.found[place] for place in range(len(PROMPTS))]


def interviewed(ctx: StageContext, server: ChatServer, prompts: Sequence[str]) -> Baseline:
    async def ask() -> Baseline:
        async with OpenAIChat(PROVIDERS["vllm"], server.base_url, "m", None, first_wait=0.001) as chat:
            interview = Interview(Teacher(chat), Sampling(max_tokens=8), 1, ctx)
            return await interview.measure([Prompt(({"role": "user", "content": text},)) for text in prompts])

    return asyncio.run(ask())


def waits(ctx: StageContext) -> bool:
    """Whether the run has said that it waits for the teacher."""
    return "waiting for the teacher" in [one["label"] for one in emitted(ctx, "progress")]


@pytest.mark.parametrize("failure", [BROKEN, CUT], ids=["500", "cut"])
def test_the_items_after_one_that_the_server_breaks_on_are_asked(tmp_path: Path, failure: Canned) -> None:
    ctx = stage_context(tmp_path, "teacher", {})
    with server_that_fails(lambda text: text in PROMPTS[3:6], failure) as server:
        answers = asked_items(ctx, server)
        asked = [said(one) for one in server.asked]
    assert [place for place, one in enumerate(answers) if isinstance(one, Unanswered)] == [3, 4, 5]
    assert set(answers[:3] + answers[6:]) == {"Fine."}
    assert [asked.count(prompt) for prompt in PROMPTS[2:7]] == [1, ATTEMPTS, ATTEMPTS, ATTEMPTS, 1]
    assert not waits(ctx)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_breaks_on_every_request_is_not_asked_on(tmp_path: Path) -> None:
    ctx = stage_context(tmp_path, "teacher", {})
    with server_that_fails(lambda text: text not in PROMPTS[:2]) as server:
        answers = asked_items(ctx, server)
        assert {said(one) for one in server.asked if said(one) != MESSAGES[0]["content"]} <= set(PROMPTS[:4])
    assert all(isinstance(one, Unanswered) and "keeps failing" in one.reason for one in answers[2:])


def test_a_server_that_breaks_on_item_after_item_is_not_asked_for_all(tmp_path: Path) -> None:
    ctx = stage_context(tmp_path, "teacher", {})
    with server_that_fails(lambda text: text in PROMPTS[2:]) as server:
        answers = asked_items(ctx, server)
        assert len({said(one) for one in server.asked}) < 20
    assert answers[:2] == ["Fine.", "Fine."]
    assert all(isinstance(one, Unanswered) for one in answers[2:])


@pytest.mark.parametrize("place", [0, 2], ids=["the first, which also warms up", "a later one"])
def test_a_baseline_prompt_that_the_server_breaks_on_is_left_out_and_said(tmp_path: Path, place: int) -> None:
    ctx = stage_context(tmp_path, "teacher", {})
    with server_that_fails(lambda text: text == PROMPTS[place]) as server:
        found = interviewed(ctx, server, PROMPTS[:4])
    assert len(found.answers) == 3
    assert [one["prompt"] for one in found.failed] == [PROMPTS[place]]
    assert "keeps failing" in found.failed[0]["reason"]
    assert found.determinism["asked_twice"] == 3
    codes = [one["code"] for one in emitted(ctx, "alert")]
    assert codes == ["prompts_failed"]


def test_an_answer_that_a_filter_cut_is_none(tmp_path: Path) -> None:
    ctx = stage_context(tmp_path, "teacher", {})
    with server_that_fails(lambda text: text == PROMPTS[1], FILTERED) as server:
        answers = asked_items(ctx, server)
        assert answers[1] == Unanswered("a content filter cut the answer")
        assert answers.count("Fine.") == len(PROMPTS) - 1
        found = interviewed(ctx, server, PROMPTS[:3])
        assert [said(one) for one in server.asked].count(PROMPTS[1]) == 2  # once for each: it would be cut again
    assert found.failed == [{"prompt": PROMPTS[1], "reason": "a content filter cut the answer"}]


def test_a_server_that_breaks_on_all_prompts_ends_the_baseline_at_the_first(tmp_path: Path) -> None:
    ctx = stage_context(tmp_path, "teacher", {})
    with server_that_fails(lambda _text: True) as server, pytest.raises(BitnetError, match="keeps failing"):
        interviewed(ctx, server, PROMPTS[:4])
    assert {said(one) for one in server.asked} == {PROMPTS[0], MESSAGES[0]["content"]}


@pytest.mark.parametrize("failure", [BROKEN, Canned(b"Bad gateway", 502)], ids=["500", "502"])
def test_an_outage_is_waited_out_and_no_latency_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Canned
) -> None:
    ctx = stage_context(tmp_path, "teacher", {})
    with server_with_an_outage(failure) as server:
        a_second_a_request = SimpleNamespace(monotonic=lambda: float(len(server.asked)))
        monkeypatch.setattr(baseline, "time", a_second_a_request)
        found = interviewed(ctx, server, PROMPTS[:6])
    assert [answer.prompt.text for answer in found.answers] == PROMPTS[:6]
    assert not found.failed
    assert [answer.seconds for answer in found.answers] == [1.0] * 6
    assert waits(ctx)


def test_a_prompt_that_ends_the_server_is_sent_once_after_each_outage(tmp_path: Path) -> None:
    ctx, asked, down = stage_context(tmp_path, "teacher", {}), list[str](), [False]

    def reply(_number: int, request: Asked) -> Canned:
        asked.append(said(request))
        before, down[0] = down[0], asked[-1] == PROMPTS[2]
        return CUT if down[0] else BROKEN if before else FINE

    with ChatServer(reply) as server:
        found = interviewed(ctx, server, PROMPTS[:4])
    assert [one["prompt"] for one in found.failed] == [PROMPTS[2]]
    assert asked.count(PROMPTS[2]) == ATTEMPTS + 3


def test_the_items_of_an_outage_are_asked_again(tmp_path: Path) -> None:
    ctx = stage_context(tmp_path, "teacher", {})
    with server_with_an_outage(BROKEN) as server:
        assert set(asked_items(ctx, server)) == {"Fine."}
    assert waits(ctx)


@pytest.mark.usefixtures("impatient")
def test_an_outage_that_does_not_end_ends_the_baseline(tmp_path: Path) -> None:
    ctx = stage_context(tmp_path, "teacher", {})
    server = ChatServer(lambda number, _asked: FINE if number < 3 else BROKEN)
    with server, pytest.raises(BitnetError, match="keeps failing"):
        interviewed(ctx, server, PROMPTS[:4])
    assert len(server.asked) > 3 + 6 + 2  # the answers, the attempts, and one test of two attempts
