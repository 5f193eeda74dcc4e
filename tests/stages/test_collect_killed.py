"""The collect stage killed at any moment: nothing is lost or doubled, and requests in flight are counted."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from bitnet_core.collecting.journal import Journal
from bitnet_core.stages import collect
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, context
from tests.teachers.fake_teacher import FakeTeacher, is_probe
from tests.teachers.server import Asked, ChatServer

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]


_RESTART_WHEN_KILLED = """
import json, os, sys
from pathlib import Path
import httpx
from bitnet_core.stages import collect
from tests.builders import stage_context
found = collect.ensure_files()
collect.ensure_files = lambda *_: found
loaded = collect.load_tokenizer(found.tokenizer_dir)
loaded.hash
collect.load_tokenizer = lambda *_, **__: loaded
while True:
    child = os.fork()  # all modules and the tokenizer are loaded: the kill falls into the work
    if not child:
        if os.read(0, 1):  # the test knows this process now
            collect.run(stage_context(Path(sys.argv[1]), stage="collect", values=json.loads(sys.argv[2])))
        os._exit(0)
    print(child, flush=True)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


@contextlib.contextmanager
def children(root: Path, values: dict[str, str]) -> Iterator[Callable[[], int]]:
    """Yields a function that starts the collection in another process and returns its id; each must be killed."""
    command = [sys.executable, "-c", _RESTART_WHEN_KILLED, str(root), json.dumps(values)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
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
        process.stdin.close()  # the child that waits reads the end, and the loop ends with it
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
    """Each kill follows a number of requests, so that the speed of the machine does not matter."""
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
    # Whatever was sent twice was in flight at one of the kills, at most three at each.
    assert sum(sent.values()) - 300 <= 3 * 20, seed
    rows = pq.read_table(tmp_path / "data" / "sequences.parquet").to_pylist()
    assert [row["prompt_idx"] for row in rows] == list(range(300)), seed
    assert len({row["request_key"] for row in rows}) == 300, seed
    with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
        assert journal._db.execute("pragma integrity_check").fetchone() == ("ok",)
        assert journal.spent().requests >= len(server.asked), seed
        lost = journal._db.execute("select count(*) from sendings where state = 'lost'").fetchone()[0]
    # Each request was closed, or was lost at a kill and counted.
    assert sum(sent.values()) - 300 <= lost <= 3 * 20, seed


def test_requests_in_flight_at_a_kill_are_counted_exactly(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    """The teacher holds its last answers back until all three places wait: exactly those are in flight."""
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
        in_flight: list[int] = []
        with children(tmp_path, values) as start:
            for quick in (0, 9, 5):
                with lock:
                    answers = quick + PROBES
                child = start()
                for _ in range(3):
                    assert held.acquire(timeout=60)
                os.kill(child, signal.SIGKILL)
                in_flight.append(3)
        before = Counter(json.dumps(asked.body) for asked in server.asked if not is_probe(asked))
        free.set()
        with lock:
            answers = 10**9
        ctx = context(tmp_path, server, **values)
        summary = collect.run(ctx)
        sent = Counter(json.dumps(asked.body) for asked in server.asked if not is_probe(asked))
    assert summary["sequences"] == 40
    assert summary["requests_resent"] == in_flight[-1] == 3
    (alert,) = (event for event in emitted(ctx, "alert") if event["code"] == "requests_lost")
    assert alert["message"].startswith("3 requests were in flight")
    assert sum(sent.values()) == 40 + sum(in_flight)
    assert sum(before.values()) == 9 + 5 + sum(in_flight)
    with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
        states = dict(journal._db.execute("select state, count(*) from sendings group by state").fetchall())
    assert states["lost"] == sum(in_flight)
