"""Prompts without answers: is the prompt, the teacher or the line to blame, and what does finding out cost?"""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.collecting import asking, teacher_health
from bitnet_core.collecting.journal import Journal, Spent
from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.prompts.prompt import PACKAGED_PROMPTS, load_prompts
from bitnet_core.stages import collect
from bitnet_core.teachers import health
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, sequential_context
from tests.teachers.fake_teacher import FakeTeacher, is_probe
from tests.teachers.server import Asked, Canned, ChatServer

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]


@pytest.fixture
def tokenizer(teacher_tokenizer: StudentTokenizer) -> StudentTokenizer:
    return teacher_tokenizer


@pytest.mark.parametrize("at_once", ["1", "4"])
def test_many_refused_prompts_do_not_end_a_run(tmp_path: Path, tokenizer: StudentTokenizer, at_once: str) -> None:
    """Even if only they are left to ask, and if refusals come faster than answers."""
    refused = {prompt.text for prompt in load_prompts(None, PACKAGED_PROMPTS)[3:15]}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if asked.body["messages"][-1]["content"] in refused:
            return Canned({"error": {"message": "filtered", "code": "content_filter"}}, 400)
        time.sleep(0 if is_probe(asked) else 0.15)  # others are refused in this time
        return None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        values = {"KD_NUM_PROMPTS": "20", "KD_CONCURRENCY": at_once, "KD_MAX_ATTEMPTS": "3"}
        for given_up in (0, 0, 12, 12):
            summary = collect.run(sequential_context(tmp_path, server, **values))
            assert (summary["sequences"], summary["rejected"]) == (8, {"refused_prompt": 12})
            assert summary["given_up"] == given_up


def test_answers_in_a_form_that_cannot_be_read_are_not_asked_for_again_and_again(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was generated, and is billed."""
    monkeypatch.setattr(health, "_PAUSE_SECONDS", 0.02)
    forms: list[Callable[[bytes], bytes]] = [
        lambda body: body * 2,
        lambda body: body[:-1],
        lambda body: body.decode().encode("utf-16"),
    ]
    bad = dict(zip([prompt.text for prompt in load_prompts(None, PACKAGED_PROMPTS)[3:6]], forms, strict=True))

    def twist(_number: int, asked: Asked, body: dict[str, Any]) -> Canned | None:
        form = bad.get(asked.body["messages"][-1]["content"])
        return Canned(form(json.dumps(body).encode())) if form else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(sequential_context(tmp_path, server, KD_NUM_PROMPTS="6", KD_CONCURRENCY="3"))
        asked = [one.body["messages"][-1]["content"] for one in server.asked]
    assert (summary["sequences"], summary["rejected"]) == (3, {"not_json": 3})
    assert [asked.count(text) for text in bad] == [3, 3, 3]


# -- outages ---------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(asking, "ATTEMPTS", 1)


@pytest.mark.usefixtures("quick")
def test_an_outage_is_waited_for_and_known(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    down, answering, pause = range(PROBES + 4, PROBES + 16), list[bool](), health.TeacherHealth.pause

    async def noted(self: health.TeacherHealth) -> None:
        answering.append(self._teacher.answering)
        await pause(self)

    monkeypatch.setattr(health.TeacherHealth, "pause", noted)

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": {"message": "down"}}, 502) if number in down else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(sequential_context(tmp_path, server, KD_CONCURRENCY="2"))
        assert len(server.asked) == PROBES + 12 + len(down) + 1  # the last one is the test that found it back
    assert (summary["sequences"], summary["rejected"]) == (12, {})
    assert False in answering
    assert answering[-1]


@pytest.mark.usefixtures("quick")
def test_an_outage_without_end_ends_the_run_and_answers_stay(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_OUTAGE_SECONDS", 0.1)

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned({"error": {"message": "down"}}, 502) if number >= PROBES + 5 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match="keeps failing"):
        collect.run(sequential_context(tmp_path, server))
    with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
        assert journal._db.execute("select count(*) from answers where status = 'ok'").fetchone()[0] == 5


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("place", "at_once"), [(0, "1"), (3, "1"), (3, "2"), (11, "1"), (11, "4")])
def test_one_prompt_that_always_fails_is_passed_over(
    tmp_path: Path, tokenizer: StudentTokenizer, place: int, at_once: str
) -> None:
    """Wherever it stands, even if no other prompt is asked meanwhile."""
    cursed = load_prompts(None, PACKAGED_PROMPTS)[place].text
    tries = 0

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        nonlocal tries
        if asked.body["messages"][-1]["content"] != cursed:
            return None
        tries += 1
        return Canned({"error": {"message": "this one breaks me"}}, 500)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        for given_up in (0, 1, 1):
            summary = collect.run(sequential_context(tmp_path, server, KD_CONCURRENCY=at_once))
            assert (summary["sequences"], summary["rejected"]) == (11, {"no_answer": 1})
            assert summary["given_up"] == given_up
    assert tries == 2 * asking._MAX_FAILURES


@pytest.mark.usefixtures("quick")
def test_a_teacher_that_refuses_the_test_is_there(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    """Some take no request of one token: the prompt that fails is passed over, as there is nothing to wait for."""
    cursed = load_prompts(None, PACKAGED_PROMPTS)[5].text

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if asked.body["max_tokens"] == 1 and server.asked[PROBES:]:
            return Canned({"error": {"message": "max_tokens is below the minimum of 16"}}, 400)
        broken = asked.body["messages"][-1]["content"] == cursed
        return Canned({"error": {"message": "this one breaks me"}}, 500) if broken else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = sequential_context(tmp_path, server)
        summary = collect.run(ctx)
    assert (summary["sequences"], summary["rejected"]) == (11, {"no_answer": 1})
    assert not [event for event in emitted(ctx, "metric") if "not answer" in event.get("waits_for", "")]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize(
    ("status", "message", "bound"),
    [
        (500, "CUDA out of memory", teacher_health.MAX_FAILED_PROMPTS),
        (400, "above your plan", teacher_health.MAX_NEW_REFUSALS),
    ],
)
def test_a_teacher_that_answers_only_test_requests_ends_the_run(
    tmp_path: Path, tokenizer: StudentTokenizer, status: int, message: str, bound: int, at_once: int
) -> None:
    real = 0

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        nonlocal real
        real += not is_probe(asked)
        fails = real > 3 and not is_probe(asked)
        return Canned({"error": {"message": message}}, status) if fails else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match=message):
        collect.run(sequential_context(tmp_path, server, KD_NUM_PROMPTS="90", KD_CONCURRENCY=str(at_once)))
    with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
        without = journal._db.execute("select count(*) from answers where status <> 'ok'").fetchone()[0]
    assert bound <= without <= bound + 2 * at_once


@pytest.mark.usefixtures("quick")
def test_many_prompts_that_keep_failing_are_left_for_later_runs(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    cursed = {prompt.text for number, prompt in enumerate(load_prompts(None, PACKAGED_PROMPTS)) if number % 2}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        failure = Canned({"error": {"message": "this one breaks me"}}, 500)
        return failure if asked.body["messages"][-1]["content"] in cursed else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        for given_up in (0, 8, 10, 10):
            ctx = sequential_context(tmp_path, server, KD_NUM_PROMPTS="20", KD_CONCURRENCY="1")
            summary = collect.run(ctx)
            assert (summary["sequences"], summary["rejected"]) == (10, {"no_answer": 10})
            assert summary["given_up"] == given_up
            alerts = [event for event in emitted(ctx, "alert") if event["code"] == "prompts_without_answer"]
            assert ["this one breaks me" in event["message"] for event in alerts] == [True] * len(alerts)
            assert any("left for the next run" in event["advice"] for event in alerts) == (given_up == 8)


def test_one_hiccup_of_the_test_request_does_not_end_the_run(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    refused = {prompt.text for prompt in load_prompts(None, PACKAGED_PROMPTS)[3:11]}
    probes = 0

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        nonlocal probes
        probes += is_probe(asked)
        if is_probe(asked) and probes > PROBES:
            return Canned({"error": {"message": "bad gateway"}}, 502)
        bad = asked.body["messages"][-1]["content"] in refused
        return Canned({"error": {"message": "filtered"}}, 400) if bad else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        assert collect.run(sequential_context(tmp_path, server))["sequences"] == 4
    assert probes > PROBES


@pytest.mark.parametrize("at_once", [1, 8])
def test_a_teacher_that_accepts_only_its_probe_ends_the_run_with_its_message(
    tmp_path: Path, tokenizer: StudentTokenizer, at_once: int
) -> None:
    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return None if is_probe(asked) else Canned({"error": {"message": "logit_bias is not permitted"}}, 400)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match="not permitted"):
        collect.run(sequential_context(tmp_path, server, KD_NUM_PROMPTS="60", KD_CONCURRENCY=str(at_once)))
    most = teacher_health.MAX_NEW_REFUSALS + 2 * at_once
    assert len(server.asked) <= PROBES + most + most // teacher_health.REFUSALS_TO_TEST


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "garbage",
    [Canned(b"<html>log in</html>", 200), Canned({"choices": [{"error": {"message": "upstream", "code": 502}}]})],
)
def test_a_gateway_that_answers_instead_of_the_teacher_ends_the_run(
    tmp_path: Path, tokenizer: StudentTokenizer, garbage: Canned
) -> None:
    with ChatServer(FakeTeacher(tokenizer, lambda number, *_: garbage if number > PROBES + 3 else None)) as server:
        with pytest.raises(BitnetError, match="sends replies that are not answers"):
            collect.run(sequential_context(tmp_path, server, KD_NUM_PROMPTS="60"))
        assert len(server.asked) <= PROBES + 3 + 3 * (teacher_health.MAX_FAILED_PROMPTS + 1)


def test_postponed_prompts_cost_no_attempt_if_even_a_token_is_refused(
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
        assert collect.run(sequential_context(tmp_path, server, **values))["rejected"] == {"no_logprobs": 37}
        started = len(server.asked)
        with pytest.raises(BitnetError, match="your account is suspended"):
            collect.run(sequential_context(tmp_path, server, **values))
        assert len(server.asked) <= started + PROBES + teacher_health.REFUSALS_TO_TEST + 1


@pytest.mark.usefixtures("quick")
def test_one_new_failing_prompt_among_old_ones_does_not_end_the_run(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    prompts = [prompt.text for prompt in load_prompts(None, PACKAGED_PROMPTS)]
    cursed = {*prompts[1:24:2], prompts[24]}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        prompt = asked.body["messages"][-1]["content"]
        if prompt == prompts[24]:
            time.sleep(0.3)
        return Canned({"error": {"message": "this one breaks me"}}, 500) if prompt in cursed else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        collect.run(sequential_context(tmp_path, server, KD_NUM_PROMPTS="24", KD_CONCURRENCY="4"))
        summary = collect.run(sequential_context(tmp_path, server, KD_NUM_PROMPTS="25", KD_CONCURRENCY="4"))
    assert summary["sequences"] == 12


def test_waiting_for_answers_in_flight_does_not_poll(
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
        ctx = sequential_context(tmp_path, server, KD_CONCURRENCY="4")

        def stop() -> None:
            if len(server.asked) >= PROBES + 6:
                raise Stopped("stopped by the test")

        monkeypatch.setattr(ctx, "check_stop", stop)
        with pytest.raises(Stopped):
            collect.run(ctx)
    assert waits < 60


def test_a_stop_during_an_outage_takes_effect_soon(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(asking, "ATTEMPTS", 1)
    began: list[float] = []

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if number < PROBES + 3:
            return None
        began.append(time.monotonic())
        return Canned({"error": {"message": "down"}}, 502)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = sequential_context(tmp_path, server, KD_CONCURRENCY="3")

        def stop() -> None:
            if len(began) > 4:
                raise Stopped("stopped by the test")

        monkeypatch.setattr(ctx, "check_stop", stop)
        with pytest.raises(Stopped):
            collect.run(ctx)
        sent = len(server.asked)
        time.sleep(0.5)
        assert len(server.asked) == sent
    assert sent <= PROBES + 3 + 4 + 3


@pytest.mark.usefixtures("quick")
def test_unsent_requests_cost_nothing_and_one_request_at_a_time_tests_the_teacher(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_OUTAGE_SECONDS", 1.0)
    tests: list[int] = []
    answers_a_token = health.TeacherHealth.answers_a_token

    async def counted(self: health.TeacherHealth) -> bool | None:
        tests.append(1)
        return await answers_a_token(self)

    monkeypatch.setattr(health.TeacherHealth, "answers_a_token", counted)

    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> Canned:
        if number == PROBES + 5:
            server.refuse_connections()
        return Canned(body, headers={"Connection": "close"})

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match="can't be reached"):
        values = {"KD_CONCURRENCY": "8", "KD_NUM_PROMPTS": "40", "KD_MAX_REQUESTS": "60"}
        collect.run(sequential_context(tmp_path, server, **values))
    with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
        states = dict(journal._db.execute("select state, count(*) from sendings group by state"))
        assert states["unsent"] > 8
        assert journal.spent().requests == sum(states.values()) - states["unsent"]
        assert journal.spent().requests <= len(server.asked) + 8
    assert 3 < len(tests) < 60


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refused_probe_costs_nothing(tmp_path: Path, status: int) -> None:
    refusal = Canned({"error": {"message": "no"}}, status)
    with ChatServer(lambda *_: refusal) as server, pytest.raises(BitnetError):
        collect.run(sequential_context(tmp_path, server))
    with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
        assert journal.spent() == Spent(len(server.asked), 0, 0.0)
