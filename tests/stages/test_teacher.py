"""The teacher stage: what it measures, on the embedded teacher and on a scripted one."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.runs.context import StageContext
from bitnet_core.stages import teacher
from bitnet_core.suites.items import load_suites
from tests.builders import emitted, stage_context
from tests.teachers.server import Asked, Canned, ChatServer, chat_body


def context(root: Path, server: ChatServer | None = None, **values: str) -> StageContext:
    wanted = {"TEACHER_BASELINE_MAX_PROMPTS": "3", "TEACHER_BASELINE_MAX_TOKENS": "8"}
    if server is not None:
        wanted |= {"TEACHER_PROVIDER": "groq", "GROQ_MODEL": "m", "GROQ_BASE_URL": server.base_url}
    return stage_context(root, stage="teacher", values=wanted | values, secrets={"GROQ_API_KEY": "gsk-secret"})


def report(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "reports" / "teacher_baseline.json").read_text())
    return found


def reply(text: str = "Fine.", tokens: int = 4) -> Canned:
    body = chat_body(text, None)
    return Canned(body | {"usage": {"prompt_tokens": 7, "completion_tokens": tokens}})


@pytest.mark.teacher
@pytest.mark.usefixtures("teacher_cache")
def test_the_embedded_teachers_baseline_is_measured_and_greedy(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    summary = teacher.run(ctx)
    found = report(tmp_path)
    assert found["provider"] == "embedded"
    assert found["sampling"]["temperature"] == 0
    assert found["answered"] == 3
    assert found["tokens_per_s"]["decode"] >= found["tokens_per_s"]["end_to_end"] > 0
    assert found["latency_s"]["p99"] >= found["latency_s"]["p95"] >= found["latency_s"]["p50"] > 0
    assert 100e6 < found["memory"]["bytes"] < 4e9
    assert found["memory"]["origin"] == "measured"
    assert summary["usage"]["completion_tokens"] == sum(one["completion_tokens"] for one in found["generations"])
    assert len(emitted(ctx, "sample")) == 3
    assert 0 < found["time_to_first_token_s"]["p50"] <= found["latency_s"]["p50"]
    assert (found["determinism"]["asked_twice"], found["determinism"]["deterministic"]) == (3, True)
    assert found["cost"]["usd"] == 0
    assert all(len(one["text_hash"]) == 64 for one in found["generations"])
    assert [event["name"] for event in emitted(ctx, "table")] == ["baseline"]
    first = [one["text"] for one in found["generations"]]
    teacher.run(context(tmp_path))
    assert [one["text"] for one in report(tmp_path)["generations"]] == first
    assert report(tmp_path)["config_hash"] == found["config_hash"]


def test_a_hosted_teacher_needs_no_logprobs_and_has_no_measured_memory(tmp_path: Path) -> None:
    with ChatServer(lambda _number, _asked: reply()) as server:
        teacher.run(context(tmp_path, server))
        assert "logprobs" not in server.asked[-1].body
        assert server.asked[-1].body["temperature"] == 0
    found = report(tmp_path)
    assert found["memory"] == {"bytes": None, "origin": "unknown"}
    assert found["tokens_per_s"]["decode"] is None
    assert found["usage"] == {"prompt_tokens": 21, "completion_tokens": 12}
    assert "gsk-secret" not in (tmp_path / "reports" / "teacher_baseline.json").read_text()


def test_a_given_memory_is_shown_as_given(tmp_path: Path) -> None:
    with ChatServer(lambda _number, _asked: reply()) as server:
        teacher.run(context(tmp_path, server, TEACHER_MEMORY_GB="1.5"))
    assert report(tmp_path)["memory"] == {"bytes": 1_500_000_000, "origin": "given"}


def test_latency_is_that_of_each_answer(tmp_path: Path) -> None:
    received: list[float] = []
    answered = [time.monotonic()]

    def slow(number: int, _asked: Asked) -> Canned:
        received.append(time.monotonic())
        time.sleep(0.3 if number == 2 else 0.0)
        answered.append(time.monotonic())
        return reply()

    with ChatServer(slow) as server:
        teacher.run(context(tmp_path, server))
    seconds = [one["seconds"] for one in report(tmp_path)["generations"]]
    assert seconds[1] >= 0.3
    # A request is sent after the answer before it, and is over before the next request is there.
    for place, one in enumerate(seconds, 1):  # the first request only warms the teacher up
        assert answered[place + 1] - received[place] <= one + 1e-3
        assert one <= received[place + 1] - answered[place] + 1e-3


def test_unusable_answers_are_left_out_and_reported(tmp_path: Path) -> None:
    silent = Canned({"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]})
    with ChatServer(lambda number, _asked: silent if number == 2 else reply()) as server:
        ctx = context(tmp_path, server)
        teacher.run(ctx)
    assert report(tmp_path)["answered"] == 2
    assert len(report(tmp_path)["failed"]) == 1
    assert [event["code"] for event in emitted(ctx, "alert")] == ["prompts_failed"]


def test_a_warm_up_without_text_is_not_a_failure(tmp_path: Path) -> None:
    with ChatServer(lambda number, _asked: Canned({"choices": []}) if number == 0 else reply()) as server:
        teacher.run(context(tmp_path, server))
    assert report(tmp_path)["answered"] == 3


def test_a_prompt_that_is_refused_is_left_out_and_a_garbled_answer_is_asked_for_again(tmp_path: Path) -> None:
    refused = Canned({"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}, 400)
    said = {2: refused, 3: Canned({"choices": []})}
    with ChatServer(lambda number, _asked: said.get(number) or reply()) as server:
        ctx = context(tmp_path, server)
        teacher.run(ctx)
    found = report(tmp_path)
    assert found["answered"] == 2
    (failed,) = found["failed"]
    assert "Content Exists Risk" in failed["reason"]
    assert [event["code"] for event in emitted(ctx, "alert")] == ["prompts_failed"]


def test_what_was_not_counted_is_not_measured(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('[groq."m"]\ninput = 1.0\noutput = 2.0\n')

    def uncounted(number: int, _asked: Asked) -> Canned:
        if number != 2:
            return reply()
        events = [
            {"choices": [{"delta": {"content": "Fine."}, "finish_reason": None}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        ]
        body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        return Canned(body.encode(), headers={"Content-Type": "text/event-stream"})

    with ChatServer(uncounted) as server:
        ctx = context(tmp_path / "e", server, KD_PRICES_FILE=str(prices))
        teacher.run(ctx)
    found = report(tmp_path / "e")
    assert found["usage"] == {"prompt_tokens": None, "completion_tokens": None}
    assert found["tokens_per_s"] == {"end_to_end": None, "decode": None, "origin": "unknown"}
    assert found["cost"] == {"usd": None, "origin": "unknown"}
    assert found["answers_without_count"] == 1
    assert [one["completion_tokens"] for one in found["generations"]] == [4, None, 4]
    assert "tokens_not_counted" in [event["code"] for event in emitted(ctx, "alert")]


@pytest.mark.parametrize(
    ("provider", "model", "sent"),
    [
        ("openai", "gpt-5-mini", {"temperature": None, "top_p": None, "seed": 1337}),
        ("openai", "gpt-4.1", {"temperature": 1.3, "top_p": 0.9, "seed": 1337}),
        ("mistral", "m", {"temperature": 1.3, "top_p": 0.9}),
    ],
)
def test_the_report_says_which_sampling_was_really_sent(
    tmp_path: Path, provider: str, model: str, sent: dict[str, float]
) -> None:
    with ChatServer(lambda *_: reply()) as server:
        values = {
            "TEACHER_PROVIDER": provider,
            "TEACHER_MODEL": model,
            "TEACHER_BASE_URL": server.base_url,
            "TEACHER_BASELINE_MAX_PROMPTS": "1",
            "TEACHER_BASELINE_TEMPERATURE": "1.3",
            "TEACHER_BASELINE_TOP_P": "0.9",
            "SEED": "1337",
        }
        teacher.run(stage_context(tmp_path, "teacher", values, {"TEACHER_API_KEY": "key-of-a-test"}))
        body = server.asked[1].body  # after the one that warms the server up
    found = report(tmp_path)
    assert found["sampling_sent"] == sent
    assert found["sampling"]["temperature"] == 1.3
    kept = {name: value for name, value in sent.items() if value is not None}
    assert {name: body[name] for name in ("temperature", "top_p", "seed") if name in body} == kept


def test_a_refused_key_ends_it_without_a_report(tmp_path: Path) -> None:
    refused = Canned({"error": {"message": "bad key gsk-secret"}}, 401)
    with ChatServer(lambda *_: refused) as server, pytest.raises(BitnetError, match="GROQ_API_KEY") as caught:
        teacher.run(context(tmp_path, server))
    assert "gsk-secret" not in str(caught.value)
    assert not (tmp_path / "reports" / "teacher_baseline.json").exists()


def test_a_stop_ends_the_wait_for_an_answer(tmp_path: Path) -> None:
    stopping: list[StageContext] = []
    ended = threading.Event()
    in_vain: list[bool] = []

    def slow(number: int, _asked: Asked) -> Canned:
        if number == 1:
            stopping[0].request_stop()
            in_vain.append(not ended.wait(60))
        return reply()

    with ChatServer(slow) as server:
        ctx = context(tmp_path, server)
        stopping.append(ctx)
        with pytest.raises(Stopped):
            teacher.run(ctx)
        assert not in_vain, "the answer that never came was waited for"
        ended.set()


def test_prompts_can_come_from_a_file(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text('{"prompt": "Mine?"}\n')
    with ChatServer(lambda _number, _asked: reply()) as server:
        teacher.run(context(tmp_path / "own", server, TEACHER_BASELINE_PROMPTS_FILE=str(own)))
        assert server.asked[-1].body["messages"] == [{"role": "user", "content": "Mine?"}]
    assert report(tmp_path / "own")["prompts"] == 1


def test_answers_that_differ_when_asked_twice_are_reported(tmp_path: Path) -> None:
    def moody(number: int, _asked: Asked) -> Canned:
        return Canned(chat_body(f"Answer {number}", None))

    with ChatServer(moody) as server:
        teacher.run(context(tmp_path, server))
    found = report(tmp_path)["determinism"]
    assert (found["equal"], found["deterministic"], found["first_difference_at_character"]) == (0, False, 7)


@pytest.mark.parametrize(
    ("provider", "fixture", "tokens"),
    [("anthropic", "anthropic_stream.sse", (25, 15)), ("gemini", "gemini_stream.sse", (4, 2))],
)
def test_every_format_has_a_baseline(tmp_path: Path, provider: str, fixture: str, tokens: tuple[int, int]) -> None:
    body = (Path(__file__).parents[1] / "teachers" / "fixtures" / fixture).read_bytes()
    with ChatServer(lambda *_: Canned(body, headers={"Content-Type": "text/event-stream"})) as server:
        values = {
            "TEACHER_PROVIDER": provider,
            "TEACHER_MODEL": "claude-sonnet-4-5",
            "TEACHER_BASE_URL": server.base_url,
            "TEACHER_BASELINE_MAX_PROMPTS": "2",
        }
        teacher.run(stage_context(tmp_path, "teacher", values, {"TEACHER_API_KEY": "key-of-a-test"}))
    found = report(tmp_path)
    assert found["sampling_sent"]["temperature"] == 0
    assert found["usage"] == {"prompt_tokens": 2 * tokens[0], "completion_tokens": 2 * tokens[1]}
    assert found["time_to_first_token_s"]["p50"] > 0
    assert found["cost"]["usd"] == (pytest.approx(2 * (25 * 3 + 15 * 15) / 1e6) if provider == "anthropic" else None)


@pytest.mark.parametrize(
    ("temperature", "top_p", "sent"),
    [
        ("1.5", "0.5", {"top_p": 0.5, "temperature": None}),
        ("1.5", "1", {"temperature": None}),
        ("1", "0.5", {"top_p": 0.5}),
        ("0.5", "0.9", {"temperature": 0.5, "top_p": None}),
        ("0.5", "1", {"temperature": 0.5}),
        ("0", "0.9", {"temperature": 0.0}),
        ("1", "1", {}),
    ],
)
def test_a_sampling_that_anthropic_does_not_take_is_told(
    tmp_path: Path, temperature: str, top_p: str, sent: dict[str, float | None]
) -> None:
    body = (Path(__file__).parents[1] / "teachers" / "fixtures" / "anthropic_stream.sse").read_bytes()
    with ChatServer(lambda *_: Canned(body, headers={"Content-Type": "text/event-stream"})) as server:
        values = {
            "TEACHER_PROVIDER": "anthropic",
            "TEACHER_MODEL": "claude-x",
            "TEACHER_BASE_URL": server.base_url,
            "TEACHER_BASELINE_MAX_PROMPTS": "1",
            "TEACHER_BASELINE_TEMPERATURE": temperature,
            "TEACHER_BASELINE_TOP_P": top_p,
        }
        ctx = stage_context(tmp_path, "teacher", values, {"TEACHER_API_KEY": "key-of-a-test"})
        teacher.run(ctx)
    found = report(tmp_path)
    assert found["sampling_sent"] == sent
    assert found["determinism"]["asked_twice"] == 1  # greedy, which it does take
    alerts = [event for event in emitted(ctx, "alert") if event["code"] == "sampling_fixed"]
    assert len(alerts) == (None in sent.values())


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_prompt_that_quotes_a_key_error_is_one_failed_prompt(tmp_path: Path, status: int) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text('One?\nHow do I fix "Incorrect API key provided"?\nWhy "insufficient balance"?\nTwo?\n')

    def guard(_number: int, asked: Asked) -> Canned:
        said = asked.body["messages"][-1]["content"]
        return (
            Canned({"error": {"message": f"guard: {said}"}}, status) if '"' in said and "{" not in said else reply()
        )

    with ChatServer(guard) as server:
        values = {"TEACHER_BASELINE_PROMPTS_FILE": str(prompts), "TEACHER_BASELINE_MAX_PROMPTS": "4"}
        teacher.run(context(tmp_path / "e", server, **values))
    found = report(tmp_path / "e")
    assert (found["answered"], len(found["failed"])) == (2, 2)
    assert all("so change this prompt" in one["reason"] for one in found["failed"])


# -- suites ----------------------------------------------------------------------------------------------
ASKED = {"EVAL_SUITE": "arithmetic", "EVAL_LIMIT": "8", "EVAL_SUITE_MAX_TOKENS": "33"}
ITEMS = {item.prompt: item for item in load_suites(["arithmetic"], None, 8)["arithmetic"]}


def solve(asked: Asked) -> Canned:
    """The reference for an item, something else for any other prompt."""
    item = ITEMS.get(asked.body["messages"][-1]["content"])
    return reply(item.reference if item else "Fine.")


def test_items_are_asked_several_at_once_after_the_baseline_and_graded(tmp_path: Path) -> None:
    two = threading.Barrier(2, timeout=60)

    def answer(_number: int, asked: Asked) -> Canned:
        if asked.body["max_tokens"] == 33:
            two.wait()
        return solve(asked)

    with ChatServer(answer) as server:
        ctx = context(tmp_path, server, **ASKED)
        teacher.run(ctx)
        assert server.most_at_once > 1
        of_items = [one.body for one in server.asked if one.body["max_tokens"] == 33]
        assert [body["temperature"] for body in of_items] == [0] * 8
    found = report(tmp_path)["checks"]
    assert found["total"]["score"] == {"value": 1.0, "low": pytest.approx(0.025 ** (1 / 8)), "high": 1.0}
    assert (found["suites"]["arithmetic"]["items"], found["unanswered"]) == (8, {})
    assert {one["hash"] for one in found["answers"]} == {item.hash for item in ITEMS.values()}
    assert found["usage"] == {"prompt_tokens": 56, "completion_tokens": 32}
    assert report(tmp_path)["usage"]["prompt_tokens"] == 21, "the baseline's own prompts"
    assert [event["name"] for event in emitted(ctx, "table")] == ["baseline", "checks"]
    assert emitted(ctx, "table")[1]["rows"] == [["arithmetic", 8, 8, 1.0, 0.631, 1.0]]
    assert {(one["unit"], one["part"], one["parts"]) for one in emitted(ctx, "progress")} == {
        ("prompts", 1, 2),
        ("items", 2, 2),
    }


def test_items_that_a_teacher_fails_on_are_unanswered_and_said(tmp_path: Path) -> None:
    first = next(iter(ITEMS))
    refused = Canned({"error": {"message": "Content Exists Risk", "type": "invalid_request_error"}}, 400)

    def answer(_number: int, asked: Asked) -> Canned:
        return refused if asked.body["messages"][-1]["content"] == first else solve(asked)

    with ChatServer(answer) as server:
        ctx = context(tmp_path, server, **ASKED)
        teacher.run(ctx)
    found = report(tmp_path)["checks"]
    assert (found["total"]["answered"], found["total"]["passed"], found["total"]["score"]["value"]) == (7, 7, 1.0)
    ((why, count),) = found["unanswered"].items()
    assert ("Content Exists Risk" in why, count) == (True, 1)
    (alert,) = emitted(ctx, "alert")
    assert alert["code"] == "items_unanswered"
    assert alert["message"].startswith("The teacher answered 7 of 8 items (")


def test_a_teacher_that_breaks_keeps_its_baseline_and_is_not_asked_on(tmp_path: Path) -> None:
    no_key = Canned({"error": {"message": "Invalid API key", "code": "invalid_api_key"}}, 401)

    with ChatServer(lambda number, asked: no_key if number >= 10 else solve(asked)) as server:
        ctx = context(tmp_path, server, **ASKED, KD_CONCURRENCY="1")
        teacher.run(ctx)
        assert len(server.asked) < 16
    found = report(tmp_path)
    assert found["answered"] == 3
    assert 0 < found["checks"]["total"]["answered"] < 8
    assert "items_unanswered" in [event["code"] for event in emitted(ctx, "alert")]


def test_a_stop_ends_the_asking(tmp_path: Path) -> None:
    ctx: StageContext

    def answer(_number: int, asked: Asked) -> Canned:
        if asked.body["max_tokens"] == 33:
            ctx.request_stop()
        return solve(asked)

    with ChatServer(answer) as server:
        ctx = context(tmp_path, server, **ASKED, KD_CONCURRENCY="1")
        with pytest.raises(Stopped):
            teacher.run(ctx)
    assert not (tmp_path / "reports" / "teacher_baseline.json").exists()


def test_a_wrong_suite_or_item_file_stops_before_anything_is_asked(tmp_path: Path) -> None:
    mine, root = tmp_path / "mine.jsonl", tmp_path / "experiment"
    mine.write_text("{}\n")
    with ChatServer(lambda _number, asked: solve(asked)) as server:
        with pytest.raises(BitnetError, match="EVAL_SUITE names 'poetry'"):
            teacher.run(context(root, server, EVAL_SUITE="poetry"))
        with pytest.raises(BitnetError, match=r"mine\.jsonl, line 1: "):
            teacher.run(context(root, server, EVAL_ITEMS_FILE=str(mine)))
        assert server.asked == []
