"""The collect stage against a quick teacher over real HTTP, and once against the embedded one."""

import asyncio
import contextlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.events import read_events
from bitnet_core.stages import collect
from bitnet_core.stages.collection import Collection
from bitnet_core.stages.context import StageContext
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.journal import Journal
from bitnet_core.traces.prompts import load_prompts
from bitnet_core.traces.tokenizer import StudentTokenizer, load_tokenizer
from tests.providers.server import Asked, Canned, ChatServer
from tests.traces.fake_teacher import FakeTeacher, is_probe, spoil

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]

PROBES = 2


@pytest.fixture
def tokenizer(teacher_tokenizer: StudentTokenizer) -> StudentTokenizer:
    return teacher_tokenizer


def context(root: Path, server: ChatServer | None = None, **values: str) -> StageContext:
    wanted = {"KD_NUM_PROMPTS": "12", "KD_MAX_TOKENS_PER_PROMPT": "16", "TEACHER_TOP_LOGPROBS": "5"}
    if server is not None:
        wanted |= {"TEACHER_PROVIDER": "llamacpp", "TEACHER_MODEL": "m", "TEACHER_BASE_URL": server.base_url}
    return StageContext.for_tests(root, stage="collect", values=wanted | values)


def events(ctx: StageContext, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(ctx.run_dir / "events.jsonl") if event["kind"] == kind]


def parquet(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "data").glob("*.parquet"))}


def test_both_layers_are_written_and_a_second_run_asks_nothing(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer, seconds=0.1)) as server:
        ctx = context(tmp_path, server, KD_CONCURRENCY="3")
        summary = collect.run(ctx)
        assert len(server.asked) == 12 + PROBES
        assert 1 < server.most_at_once <= 3
        made = parquet(tmp_path)
        again = collect.run(context(tmp_path, server))
        assert len(server.asked) == 12 + PROBES
    assert parquet(tmp_path) == made
    assert summary["sequences"] == again["sequences"] == 12
    assert summary["coverage"] == 1.0
    assert summary["rejected"] == {}
    assert summary["logprob_mode"] == "raw"
    traces = load_traces(tmp_path / "data", 5)
    assert len(traces.sequences) == 12
    assert traces.tokenizer_hash == load_tokenizer(tmp_path / "data" / "tokenizer").hash
    for one in traces.sequences:
        assert tokenizer.decode(one.completion_ids_C) == one.completion_text
        assert (one.completion_ids_C[-1] == tokenizer.eos_id) == (one.finish_reason == "stop")
    told = events(ctx, "trace")
    assert sorted(event["prompt_idx"] for event in told) == list(range(12))
    assert all(event["kept"] == event["tokens"] and event["dropped"] == {} for event in told)
    assert summary["tokens"] == sum(event["tokens"] for event in told)
    assert events(ctx, "progress")
    assert events(ctx, "metric")[-1]["tokens_per_s"] > 0


def test_more_prompts_keep_what_is_there(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="5"))
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="9"))
        assert len(server.asked) == 9 + 2 * PROBES
    assert len(load_traces(tmp_path / "data", 5).sequences) == 9
    assert not (tmp_path / "data" / "superseded").exists()


def test_more_answers_than_prompts_ask_again_with_other_seeds(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    prompts = tmp_path / "two.txt"
    prompts.write_text("One?\nTwo?\n")
    root = tmp_path / "sampled"
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(root, server, KD_PROMPTS_FILE=str(prompts), KD_NUM_PROMPTS="6"))
        seeds = [asked.body["seed"] for asked in server.asked if not is_probe(asked)]
        greedy = collect.run(
            context(
                tmp_path / "greedy",
                server,
                KD_PROMPTS_FILE=str(prompts),
                KD_NUM_PROMPTS="6",
                KD_TEACHER_TEMPERATURE="0",
            )
        )
    assert len(set(seeds)) == 6
    assert greedy["sequences"] == 2


def test_other_settings_move_the_old_traces_and_going_back_is_free(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        first = parquet(tmp_path)
        ctx = context(tmp_path, server, KD_TEACHER_TEMPERATURE="0.5")
        collect.run(ctx)
        (folder,) = (tmp_path / "data" / "superseded").iterdir()
        assert {path.name: path.read_bytes() for path in folder.glob("*.parquet")} == first
        assert [event["code"] for event in events(ctx, "alert")] == ["traces_superseded"]
        asked = len(server.asked)
        collect.run(context(tmp_path, server))
        assert len(server.asked) == asked
    assert parquet(tmp_path) == first


def test_a_teacher_that_will_not_do_leaves_the_old_traces_in_place(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
    first = parquet(tmp_path)
    with ChatServer(lambda *_: Canned({"error": "who are you"}, 401)) as server, pytest.raises(BitnetError):
        collect.run(context(tmp_path, server, KD_TEACHER_TEMPERATURE="0.5"))
    assert parquet(tmp_path) == first


def test_a_stop_keeps_what_was_answered_and_asks_only_for_the_rest(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    stopping: list[StageContext] = []

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> None:
        if number == 7 + PROBES:
            stopping[0].request_stop()
        time.sleep(0.05)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path, server, KD_CONCURRENCY="2", KD_NUM_PROMPTS="30")
        stopping.append(ctx)
        with pytest.raises(Stopped):
            collect.run(ctx)
        before = len(server.asked)
        assert before < 30
        summary = collect.run(context(tmp_path, server, KD_CONCURRENCY="2", KD_NUM_PROMPTS="30"))
        # Two were in flight, and a new run probes again.
        assert len(server.asked) <= 30 + 2 * PROBES + 2
    assert summary["sequences"] == 30
    assert summary["requests_resent"] <= 2


def asked_prompts(server: ChatServer, since: int = 0) -> list[str]:
    return [asked.body["messages"][-1]["content"] for asked in server.asked[since:] if not is_probe(asked)]


TOO_LONG = Canned({"error": {"message": "the request exceeds the context size"}}, 400)


def test_many_unusable_answers_of_earlier_runs_stop_no_later_one(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    bad = {prompt.text for prompt in load_prompts(None, collect.PACKAGED_PROMPTS)[:10]}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return TOO_LONG if not is_probe(asked) and asked.body["messages"][-1]["content"] in bad else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        # Ten in a row, and nothing usable yet: going on would only cost, as far as is known.
        with pytest.raises(BitnetError, match="None of the first 8"):
            collect.run(context(tmp_path, server, KD_NUM_PROMPTS="14", KD_CONCURRENCY="1"))
        first = set(asked_prompts(server))
        before = len(server.asked)
        summary = collect.run(context(tmp_path, server, KD_NUM_PROMPTS="14", KD_CONCURRENCY="1"))
        second = asked_prompts(server, before)
        assert summary["sequences"] == 4
        assert summary["rejected"] == {"context_exceeded": 10}
        assert summary["given_up"] == len(first)
        # What was not to be had before comes last.
        assert set(second[-len(first) :]) == first
        before = len(server.asked)
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="20", KD_CONCURRENCY="1"))
        assert not first & set(asked_prompts(server, before))


def test_an_answer_without_use_is_paid_for_in_two_runs_and_no_more(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    refusal = (Path(__file__).parents[1] / "providers" / "fixtures" / "openai_refusal.json").read_bytes()
    bad = {prompt.text for prompt in load_prompts(None, collect.PACKAGED_PROMPTS)[3:5]}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned(refusal) if not is_probe(asked) and asked.body["messages"][-1]["content"] in bad else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:

        def again(**values: str) -> tuple[set[str], int]:
            before = len(server.asked)
            ctx = context(tmp_path, server, KD_CONCURRENCY="1", **values)
            summary = collect.run(ctx)
            assert summary["sequences"] == 10
            (alert,) = (event for event in events(ctx, "alert") if event["code"] == "sequences_rejected")
            assert ("given up" in alert["advice"]) == (summary["given_up"] > 0)
            return set(asked_prompts(server, before)), summary["given_up"]

        asked, given_up = again()
        assert len(asked) == 12
        assert given_up == 0
        assert again() == (bad, 2)
        before = len(server.asked)
        assert again() == (set(), 2)
        assert len(server.asked) == before  # not even a probe
        assert again(KD_MAX_ATTEMPTS="3") == (bad, 2)


def test_no_shard_is_written_while_the_loop_waits(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers under way would time out meanwhile."""
    written: list[bool] = []
    plain = Collection.write_shard

    def watched(self: Collection, *given: Any) -> None:
        written.append(asyncio._get_running_loop() is not None)
        plain(self, *given)

    monkeypatch.setattr(Collection, "write_shard", watched)
    values = {"KD_NUM_PROMPTS": "12", "KD_SHARD_SEQUENCES": "2"}
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server, **values))
        for path in (tmp_path / "data").glob("kd_shard_*"):
            path.unlink()
        assert collect.run(context(tmp_path, server, **values | {"KD_NUM_PROMPTS": "14"}))["sequences"] == 14
    assert len(written) > 14
    assert not any(written)


@pytest.mark.parametrize("note", ["{", "[]", "7", '{"mode": "raw", "of_a_later_version": 1}'])
def test_a_verdict_that_can_not_be_read_is_asked_for_again(
    tmp_path: Path, tokenizer: StudentTokenizer, note: str
) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        with Journal(tmp_path / "data" / "journal.sqlite") as journal:
            journal._db.execute("update notes set value = ?", (note,))
        before = len(server.asked)
        assert collect.run(context(tmp_path, server))["logprob_mode"] == "raw"
        assert len(server.asked) == before + PROBES


def test_superseded_traces_keep_their_tokenizer(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        made = (tmp_path / "data" / "tokenizer" / "tokenizer.json").read_bytes()
        collect.run(context(tmp_path, server, KD_TEACHER_TEMPERATURE="0.5"))
    (folder,) = (tmp_path / "data" / "superseded").iterdir()
    assert (folder / "tokenizer" / "tokenizer.json").read_bytes() == made
    assert len(load_traces(folder, 5).sequences) == len(load_traces(tmp_path / "data", 5).sequences) == 12


def test_a_spoilt_answer_is_asked_for_again_and_costs_no_other(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        made = parquet(tmp_path)
        with Journal(tmp_path / "data" / "journal.sqlite") as journal:
            (key,) = journal._db.execute("select key from answers limit 1 offset 3").fetchone()
            (body,) = journal._db.execute("select body from answers where key = ?", (key,)).fetchone()
            spoilt = body[:40] + bytes(20) + body[60:]
            journal._db.execute("update answers set body = ? where key = ?", (spoilt, key))
        for path in (tmp_path / "data").glob("kd_shard_*"):
            path.unlink()
        before = len(server.asked)
        ctx = context(tmp_path, server)
        summary = collect.run(ctx)
        assert len(asked_prompts(server, before)) == 1
    assert summary["sequences"] == 12
    assert [event["code"] for event in events(ctx, "alert")] == ["answers_damaged"]
    assert parquet(tmp_path) == made


_KILLED_AGAIN_AND_AGAIN = """
import json, os, sys
from pathlib import Path
from bitnet_core.stages import collect
from bitnet_core.stages.collection import Collection
from bitnet_core.stages.context import StageContext
loaded = collect.load_tokenizer(collect.ensure_files().tokenizer_dir)
collect.load_tokenizer = lambda *_: loaded
while True:
    child = os.fork()  # all modules and the tokenizer are loaded: the kill falls into the work
    if not child:
        if os.read(0, 1):  # the test knows this process now
            collect.run(StageContext.for_tests(Path(sys.argv[1]), stage="collect", values=json.loads(sys.argv[2])))
        os._exit(0)
    print(child, flush=True)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


@contextlib.contextmanager
def children(root: Path, values: dict[str, str]) -> Iterator[Callable[[], int]]:
    """Gives a function that starts the collection in another process and returns its id; each must be killed."""
    command = [sys.executable, "-c", _KILLED_AGAIN_AND_AGAIN, str(root), json.dumps(values)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def start() -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            child = int(process.stdout.readline())
            process.stdin.write("x")
            process.stdin.flush()
            return child

        yield start
        process.stdin.close()  # the one that waits next reads the end, and with it the loop ends
        assert process.wait() == 0


def killed_values(server: ChatServer, **values: str) -> dict[str, str]:
    return {
        "KD_MAX_TOKENS_PER_PROMPT": "16",
        "KD_SHARD_SEQUENCES": "32",
        "TEACHER_TOP_LOGPROBS": "5",
        "KD_CONCURRENCY": "3",
        "TEACHER_PROVIDER": "llamacpp",
        "TEACHER_MODEL": "m",
        "TEACHER_BASE_URL": server.base_url,
    } | values


def test_kill_9_at_20_random_points_loses_only_what_was_in_flight(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    """Each kill comes right after the teacher was asked so many times: how fast anything is decides nothing."""
    seed = random.SystemRandom().randrange(10**9)
    draw = random.Random(seed)
    lock = threading.Lock()
    killed = threading.Event()
    child, left = 0, 0

    def kill(process: int) -> None:
        os.kill(process, signal.SIGKILL)
        killed.set()

    def twist(_number: int, _asked: Asked, _body: dict[str, Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            if left == 0:
                threading.Timer(draw.uniform(0, 0.04), kill, [child]).start()

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        values = killed_values(server, KD_NUM_PROMPTS="300")
        with children(tmp_path, values) as start:
            for _ in range(20):
                killed.clear()
                with lock:
                    left = draw.randint(1, 8)
                    child = start()
                assert killed.wait(60), seed
        before = Counter(json.dumps(asked.body) for asked in server.asked if not is_probe(asked))
        ctx = context(tmp_path, server, **values)
        summary = collect.run(ctx)
        sent = Counter(json.dumps(asked.body) for asked in server.asked if not is_probe(asked))
    assert summary["sequences"] == 300, seed
    assert len(sent) == 300, seed
    assert before, seed
    # What was sent twice was in flight at one of the kills, three at most at each.
    assert sum(sent.values()) - 300 <= 3 * 20, seed
    rows = pq.read_table(tmp_path / "data" / "sequences.parquet").to_pylist()
    assert [row["prompt_idx"] for row in rows] == list(range(300)), seed
    assert len({row["request_key"] for row in rows}) == 300, seed
    with Journal(tmp_path / "data" / "journal.sqlite") as journal:
        assert journal._db.execute("pragma integrity_check").fetchone() == ("ok",)
        assert journal.spent().requests >= len(server.asked), seed
        lost = journal._db.execute("select count(*) from sendings where state = 'lost'").fetchone()[0]
    # Each sending is settled, or was lost at a kill and told.
    assert sum(sent.values()) - 300 <= lost <= 3 * 20, seed


def test_what_was_in_flight_at_a_kill_is_counted_exactly(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    """The teacher keeps its last answers back until as many wait as may: those are in flight, and no others."""
    held = threading.Semaphore(0)
    answers = 0
    free = threading.Event()

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> None:
        nonlocal answers
        with lock:
            answers -= 1
            kept_back = answers < 0 and not is_probe(asked)
        if kept_back and not free.is_set():
            held.release()
            free.wait(60)

    lock = threading.Lock()
    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        values = killed_values(server, KD_NUM_PROMPTS="40")
        told: list[int] = []
        with children(tmp_path, values) as start:
            for quick in (0, 9, 5):
                with lock:
                    answers = quick + PROBES
                child = start()
                for _ in range(3):
                    assert held.acquire(timeout=60)
                os.kill(child, signal.SIGKILL)
                told.append(3)
        before = Counter(json.dumps(asked.body) for asked in server.asked if not is_probe(asked))
        free.set()
        with lock:
            answers = 10**9
        ctx = context(tmp_path, server, **values)
        summary = collect.run(ctx)
        sent = Counter(json.dumps(asked.body) for asked in server.asked if not is_probe(asked))
    assert summary["sequences"] == 40
    assert summary["requests_resent"] == told[-1] == 3
    (alert,) = (event for event in events(ctx, "alert") if event["code"] == "requests_lost")
    assert alert["message"].startswith("3 requests were under way")
    assert sum(sent.values()) == 40 + sum(told)
    assert sum(before.values()) == 9 + 5 + sum(told)
    with Journal(tmp_path / "data" / "journal.sqlite") as journal:
        states = dict(journal._db.execute("select state, count(*) from sendings group by state").fetchall())
    assert states["lost"] == sum(told)


@pytest.mark.parametrize("preface", [0, 700])
@pytest.mark.parametrize(
    ("limit", "value", "name"),
    [("KD_MAX_REQUESTS", "9", "requests"), ("KD_MAX_TOKENS_TOTAL", "4000", "tokens"), ("KD_MAX_USD", "0.005", "usd")],
)
def test_a_limit_ends_the_asking_and_what_is_there_is_used(
    tmp_path: Path, tokenizer: StudentTokenizer, limit: str, value: str, name: str, preface: int
) -> None:
    """By what the server bills: with a preface of its own, answers that can't be used, and some that fail first."""
    prices = tmp_path / "prices.toml"
    prices.write_text('[llamacpp."m"]\ninput = 1.0\noutput = 2.0\n')
    values = {limit: value, "KD_NUM_PROMPTS": "200", "KD_PRICES_FILE": str(prices), "KD_CONCURRENCY": "4"}
    billed = {"tokens": 0.0, "usd": 0.0}
    lock = threading.Lock()

    def twist(number: int, asked: Asked, body: dict[str, Any]) -> Canned | None:
        if number % 5 == 4:
            return Canned({"error": "busy"}, 503, {"Retry-After": "0"})
        usage = body["usage"]
        usage["prompt_tokens"] += preface
        with lock:
            billed["tokens"] += usage["prompt_tokens"] + usage["completion_tokens"]
            billed["usd"] += (usage["prompt_tokens"] * 1.0 + usage["completion_tokens"] * 2.0) / 1e6
        if number % 7 == 6 and not is_probe(asked):
            body["choices"][0]["logprobs"] = None
        return None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path / "e", server, **values)
        summary = collect.run(ctx)
        again = collect.run(context(tmp_path / "e", server, **values))
    assert summary["limit_reached"] == limit
    assert 0 < summary["sequences"] < 200
    assert again["sequences"] >= summary["sequences"]
    assert "limit_reached" in [event["code"] for event in events(ctx, "alert")]
    assert again["spent"][name] <= float(value)
    if name == "requests":
        assert len(server.asked) <= 9
    else:
        assert billed[name] <= float(value)
        assert billed[name] <= again["spent"][name] * (1 + 1e-9)
    assert len(load_traces(tmp_path / "e" / "data", 5).sequences) == again["sequences"]


def test_a_spent_quota_stops_at_once_and_resumes(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    spent = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned(spent, 429) if number >= PROBES + 6 else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match=r"quota .* is spent"):
        collect.run(context(tmp_path, server, KD_CONCURRENCY="2"))
    assert len(server.asked) <= PROBES + 6 + 2
    with ChatServer(FakeTeacher(tokenizer)) as server:
        # The same teacher at another address would be another one: the journal knows the first.
        summary = collect.run(context(tmp_path, server))
    assert summary["sequences"] == 12


@pytest.mark.parametrize(
    ("fixture", "reason"),
    [
        ("openai_sentinel_sampled.json", "sentinel_logprob"),
        ("openai_sentinel_candidate.json", "sentinel_logprob"),
        ("openai_null_logprob.json", "nan_logprob"),
        ("openrouter_silent_null.json", "no_logprobs"),
        ("text_of_other_tokens.json", "text_differs"),
        ("vllm_lost_bytes.json", "bytes_missing"),
        ("openai_refusal.json", "refused"),
    ],
)
def test_a_reply_that_can_not_be_trusted_is_never_stored_as_good(
    tmp_path: Path, tokenizer: StudentTokenizer, fixture: str, reason: str
) -> None:
    body = (Path(__file__).parents[1] / "providers" / "fixtures" / fixture).read_bytes()
    bad: list[str] = []

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        prompt = asked.body["messages"][-1]["content"]
        if not is_probe(asked) and (not bad or prompt in bad):
            bad.append(prompt)
            return Canned(body)
        return None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(context(tmp_path, server, KD_CONCURRENCY="1"))
    assert summary["sequences"] == 11
    assert set(summary["rejected"]) <= {reason, "text_differs"}
    assert sum(summary["rejected"].values()) == 1


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"logprob": math.nan}, "nan_logprob"),
        ({"logprob": None}, "nan_logprob"),
        ({"logprob": -9999.0}, "sentinel_logprob"),
        ({"top_logprobs": []}, "no_candidates"),
    ],
)
def test_a_bad_step_rejects_its_sequence_and_no_other(
    tmp_path: Path, tokenizer: StudentTokenizer, fields: dict[str, Any], reason: str
) -> None:
    bad: list[str] = []

    def twist(_number: int, asked: Asked, body: dict[str, Any]) -> None:
        prompt = asked.body["messages"][-1]["content"]
        if not is_probe(asked) and (not bad or prompt in bad):
            bad.append(prompt)
            spoil(body, **fields)

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path, server)
        summary = collect.run(ctx)
    assert summary["sequences"] == 11
    assert summary["rejected"] == {reason: 1}
    assert len(load_traces(tmp_path / "data", 5).sequences) == 11
    rejected = [row for row in pq.read_table(tmp_path / "data" / "sequences.parquet").to_pylist() if row["rejected"]]
    assert [row["rejected"] for row in rejected] == [reason]
    assert sum(reason in event["dropped"] for event in events(ctx, "trace")) == 1
    assert "sequences_rejected" in [event["code"] for event in events(ctx, "alert")]


def test_steps_that_are_missing_reject_the_sequence(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(number: int, _asked: Asked, body: dict[str, Any]) -> None:
        if number == PROBES + 3:
            body["usage"]["completion_tokens"] += 9

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        assert collect.run(context(tmp_path, server))["rejected"] == {"logprobs_missing": 1}


def test_a_hiccup_is_asked_again_and_a_long_prompt_is_counted(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if number == PROBES + 2:
            return Canned({"choices": []})
        if "JSON" in asked.body["messages"][-1]["content"] and not is_probe(asked):
            return Canned({"error": {"message": "the request exceeds the context size"}}, 400)
        return None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        summary = collect.run(context(tmp_path, server, KD_NUM_PROMPTS="30"))
    assert set(summary["rejected"]) == {"context_exceeded"}
    assert summary["sequences"] + summary["rejected"]["context_exceeded"] == 30


def no_logprobs(_number: int, _asked: Asked, body: dict[str, Any]) -> None:
    body["choices"][0]["logprobs"] = None


def scaled(_number: int, asked: Asked, body: dict[str, Any]) -> None:
    for token in body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        token["logprob"] = token["logprob"] / asked.body["temperature"] - 3


def later_none(number: int, asked: Asked, body: dict[str, Any]) -> None:
    if not is_probe(asked):
        no_logprobs(number, asked, body)


@pytest.mark.parametrize(
    ("twist", "said", "requests"),
    [
        (no_logprobs, "gives no logprobs for m.*TEACHER_PROVIDER that has them: embedded", PROBES),
        (scaled, "KD_TEACHER_TEMPERATURE=1", PROBES),
        (later_none, "None of the first 8 answers", PROBES + 2 * (8 + 4)),
    ],
)
def test_nothing_more_is_spent_on_a_teacher_that_will_not_do(
    tmp_path: Path, tokenizer: StudentTokenizer, twist: Any, said: str, requests: int
) -> None:
    with ChatServer(FakeTeacher(tokenizer, twist)) as server, pytest.raises(BitnetError, match=said):
        collect.run(context(tmp_path, server, KD_CONCURRENCY="4"))
    assert len(server.asked) <= requests
    assert parquet(tmp_path) == {}


def test_fewer_candidates_than_asked_for_are_told(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    def twist(_number: int, _asked: Asked, body: dict[str, Any]) -> None:
        for token in body["choices"][0]["logprobs"]["content"]:
            del token["top_logprobs"][3:]

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        ctx = context(tmp_path, server)
        collect.run(ctx)
    assert [event["code"] for event in events(ctx, "alert")] == ["fewer_candidates"]
    assert load_traces(tmp_path / "data", 5).sequences


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"TEACHER_PROVIDER": "openai", "TEACHER_MODEL": "m"}, "no key for openai: set OPENAI_API_KEY"),
        ({"TEACHER_PROVIDER": "openai"}, "No model is set for openai"),
        ({"TEACHER_PROVIDER": "custom", "TEACHER_MODEL": "m"}, "set CUSTOM_BASE_URL"),
        ({"TEACHER_PROVIDER": "custom", "TEACHER_MODEL": "m"}, "set CUSTOM_BASE_URL"),
        ({"TOKENIZER_NAME": "/nowhere/tokenizer.json"}, "leave it empty"),
        ({"KD_PROMPTS_FILE": "/nowhere/prompts.txt"}, "/nowhere/prompts.txt does not exist"),
        ({"TEMPLATE": "{% if %}"}, "not valid Jinja"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path: Path, values: dict[str, str], said: str) -> None:
    with pytest.raises(BitnetError, match=said):
        collect.run(context(tmp_path, **values))
    assert parquet(tmp_path) == {}


def test_the_embedded_teacher_end_to_end(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    ctx = context(tmp_path, KD_NUM_PROMPTS="4", TEACHER_TOP_LOGPROBS="20", KD_CONCURRENCY="2")
    summary = collect.run(ctx)
    assert summary["sequences"] == 4
    assert summary["logprob_mode"] == "raw"
    assert 0 < summary["other_mass_mean"] < 0.5
    assert summary["tokens_per_s"] > 0
    traces = load_traces(tmp_path / "data", 20)
    assert traces.vocab_size == 49152
    for one in traces.sequences:
        assert tokenizer.decode(one.completion_ids_C) == one.completion_text
        assert one.kd_valid_C.mean() > 0.9
        assert one.prompt_ids_P.tolist() == tokenizer.encode(one.prompt_text)
    steps = pq.read_table(tmp_path / "data" / "teacher_shard_000.parquet").to_pylist()
    rows = pq.read_table(tmp_path / "data" / "kd_shard_000.parquet").to_pylist()
    by_step = {(row["prompt_idx"], row["step_idx"]): row for row in rows}
    for step in steps:
        row = by_step[step["prompt_idx"], step["step_idx"]]
        if row["teacher_sample_id"] == step["token_id"] and not step["mass_clamped"]:
            assert [tokenizer.text_bytes(index) for index in row["topk_ids"]] == step["top_bytes"]
            assert row["topk_logprobs"] == step["top_logprobs"]
