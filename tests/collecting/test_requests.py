"""From an answer to both layers: what is kept whoever the student is, what is cut short, what makes a shard anew."""

import json
import math
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models

from bitnet_core.collecting.journal import Entry, Journal
from bitnet_core.collecting.requests import Collection, Request
from bitnet_core.prompts.prompt import Prompt
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers.identity import identify
from bitnet_core.teachers.probe import Verdict
from bitnet_core.tokenizer.steps import Completion, TeacherStep, TokenTable
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import columns
from bitnet_core.traces.answer import check_answer
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.reproject import reproject
from bitnet_core.traces.vocabulary import Vocabulary
from tests.collecting.fake_teacher import token_json
from tests.traces.samples import TEMPLATE, small_tokenizer, steps_for

ASKED = 5
VERDICT = Verdict("raw", ASKED)
SMALL = small_tokenizer()


def collection(root: Path, tokenizer: StudentTokenizer = SMALL, total: int = 4) -> Collection:
    values = {
        "TEACHER_PROVIDER": "vllm",
        "TEACHER_MODEL": "m",
        "DRIVE_ROOT": str(root),
        "TEACHER_TOP_LOGPROBS": str(ASKED),
        "KD_NUM_PROMPTS": str(total),
        "KD_SHARD_SEQUENCES": str(total),
    }
    settings = from_values(values)
    prompts = [Prompt(({"role": "user", "content": f"prompt {number}"},)) for number in range(total)]
    return Collection(settings, identify(TeacherOptions.of(settings)), tokenizer, lambda: iter(prompts))


def body(steps: Sequence[TeacherStep]) -> bytes:
    text = b"".join(step.data for step in steps).decode()
    choice = {
        "message": {"content": text},
        "finish_reason": "stop",
        "logprobs": {"content": [token_json(step) for step in steps]},
    }
    usage = {"prompt_tokens": 9, "completion_tokens": len(steps)}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def answer(text: str, seed: int = 0, top_k: int = ASKED, in_top: float = 1.0) -> bytes:
    ids = [*SMALL.encode_plain(text), SMALL.eos_id]
    return body(steps_for(ids, SMALL, random.Random(seed), top_k=top_k, in_top=in_top))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def write(made: Collection, journal: Journal, folder: Path) -> list[Request]:
    requests = list(made.requests())
    made.write_shard(journal, folder, requests, VERDICT, lambda: None)
    return requests


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def test_an_answer_that_this_student_can_not_read_is_kept_for_another(tmp_path: Path, journal: Journal) -> None:
    """What was paid for is never thrown away."""
    letters = {chr(code): code - 32 for code in range(32, 127)} | {"</s>": 95}
    no_lines = StudentTokenizer(
        Tokenizer(models.BPE(letters, [])), special_tokens={"eos_token": "</s>"}, template=TEMPLATE, name="no lines"
    )
    made = collection(tmp_path, no_lines)
    for request, text in zip(made.requests(), ("the rain", "the\n\nrain", "there", "then\n"), strict=True):
        journal.put(request.key, Entry("ok", answer(text)))
    write(made, journal, tmp_path / "data")
    told = {row["prompt_idx"]: row["rejected"] for row in rows(tmp_path / "data" / ".sequences" / "part_000.parquet")}
    assert told == {0: "", 1: "byte_without_token", 2: "", 3: "byte_without_token"}
    assert {row["prompt_idx"] for row in rows(tmp_path / "data" / "teacher_shard_000.parquet")} == {0, 1, 2, 3}
    assert {row["prompt_idx"] for row in rows(tmp_path / "data" / "kd_stream_000.parquet")} == {0, 2}
    SMALL.save(tmp_path / "small")
    found = reproject(tmp_path / "data", str(tmp_path / "small"))
    assert (found["sequences"], found["rejected"]) == (4, {})


def test_of_more_candidates_than_were_asked_for_the_likeliest_are_kept_and_the_set_can_be_read(
    tmp_path: Path, journal: Journal
) -> None:
    made = collection(tmp_path)
    for seed, request in enumerate(made.requests()):
        journal.put(request.key, Entry("ok", answer("the rain there", seed, top_k=ASKED + 7)))
    requests = write(made, journal, tmp_path / "data")
    finished = made.finish(requests[0], journal.get(requests[0].key) or Entry("", b""))
    assert finished.answer is not None
    assert finished.repairs == {"surplus_candidates": 7 * len(finished.answer.steps)}
    traces = load_traces(tmp_path / "data", 20)
    assert traces.top_k == ASKED
    for row in rows(tmp_path / "data" / "teacher_shard_000.parquet"):
        mass = math.fsum(map(math.exp, [*row["top_logprobs"], row["other_logprob"]]))
        assert mass == pytest.approx(1, abs=1e-3)
        assert row["sampled_in_top"] == (row["token_bytes"] in row["top_bytes"])


def test_what_an_answer_becomes_depends_on_that_answer_alone(tmp_path: Path) -> None:
    """A teacher of other ids: the same answer first, and after one that gives its vocabulary away."""
    rain = "🌧".encode()
    last = SMALL.ids_by_bytes[rain[-1:]]
    step = TeacherStep(last, rain, math.log(0.6), (last, 5), (rain, b"x"), (math.log(0.6), math.log(0.2)))
    other = TeacherStep(7, b"then", math.log(0.6), (7, 8), (b"then", b" rain"), (math.log(0.6), math.log(0.2)))
    assert SMALL.token_bytes(7) != b"then"

    def told(made: Collection) -> object:
        request = next(made.requests())
        finished = made.finish(request, Entry("ok", body([step])))
        assert finished.answer is not None
        assert finished.projection is not None
        return (
            finished.answer.bytes_before,
            finished.projection.stream_pos_R.tolist(),
            finished.projection.topk_ids_RK.tolist(),
        )

    fresh, used = collection(tmp_path), collection(tmp_path)
    used.finish(next(used.requests()), Entry("ok", body([other])))
    assert told(fresh) == told(used)


def test_an_answer_that_turned_out_unusable_makes_its_shard_anew(tmp_path: Path, journal: Journal) -> None:
    made = collection(tmp_path)
    requests = list(made.requests())
    for request in requests[:3]:
        journal.put(request.key, Entry("ok", answer("the rain")))
    write(made, journal, tmp_path / "data")
    assert len(rows(tmp_path / "data" / ".sequences" / "part_000.parquet")) == 3
    journal.put(requests[3].key, Entry("no_text", b"{}"))
    write(made, journal, tmp_path / "data")
    part = rows(tmp_path / "data" / ".sequences" / "part_000.parquet")
    assert [row["rejected"] for row in part] == ["", "", "", "no_text"]


def test_a_shard_is_written_while_other_answers_bring_new_tokens() -> None:
    """Fewer candidates than asked for are padded; the table grows meanwhile."""
    table = TokenTable()
    steps = [TeacherStep(-1, b"t%d" % n, -0.5, (-1,), (b"t%d" % n,), (-0.5,)) for n in range(200)]
    made = collection(Path("unused"))
    finished = made.finish(next(made.requests()), Entry("ok", answer("the rain")))
    assert finished.answer is not None
    answered = check_answer(Completion.of(steps, table), Vocabulary(SMALL, table))
    stop = threading.Event()

    def growing() -> None:
        number = 0
        while not stop.is_set():
            table.number(-1, b"new %d" % number)
            number += 1

    thread = threading.Thread(target=growing)
    thread.start()
    try:
        for _ in range(30):
            found = columns.step_table([columns.Answered(finished, answered)], 20)
            assert found["top_bytes"][0].as_py() == [b"t0", *[b""] * 19]
    finally:
        stop.set()
        thread.join()
