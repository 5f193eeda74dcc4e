"""Whose matter it is that there are no answers: the prompts', the teacher's, or the line's, and what it costs."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.collecting import asking
from bitnet_core.collecting.journal import Journal, Spent
from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.prompts.prompt import load_prompts
from bitnet_core.stages import collect
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.collecting.collecting import PROBES, events
from tests.collecting.collecting import one_by_one as context
from tests.collecting.fake_teacher import FakeTeacher, is_probe
from tests.teachers.server import Asked, Canned, ChatServer

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]


@pytest.fixture
def tokenizer(teacher_tokenizer: StudentTokenizer) -> StudentTokenizer:
    return teacher_tokenizer


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

        monkeypatch.setattr(ctx, "check_stop", stop)
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

        monkeypatch.setattr(ctx, "check_stop", stop)
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
