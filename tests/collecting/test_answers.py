"""From an answer to both layers: what any student may use, what this one can't read, and what makes a shard anew."""

import json
import math
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models

from bitnet_core.collecting.answers import AnswerReader
from bitnet_core.collecting.journal import Journal, StoredAnswer
from bitnet_core.collecting.prompt_check import PromptCheck
from bitnet_core.collecting.requests import Collection, Request
from bitnet_core.collecting.shards import ShardMaker
from bitnet_core.prompts.prompt import Prompt
from bitnet_core.settings.values import CollectOptions
from bitnet_core.teachers.identity import Identity
from bitnet_core.teachers.probe import Verdict
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.tokenizer.steps import TeacherStep, TokenTable
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import columns
from bitnet_core.traces.answer import check_answer
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.reproject import reproject
from bitnet_core.traces.vocabulary import Vocabulary
from tests.builders import completion_of_steps
from tests.teachers.fake_teacher import token_json
from tests.tokenizer.test_refused import FAILING, panicking
from tests.traces.samples import TEMPLATE, small_tokenizer, steps_for

TOP_LOGPROBS = 5
VERDICT = Verdict("raw", TOP_LOGPROBS)
SMALL = small_tokenizer()
RAIN = "🌧".encode()


def collection(
    tokenizer: StudentTokenizer = SMALL, total: int = 4, groups: Sequence[str] = ("",) * 4, shard: int = 4
) -> Collection:
    options = CollectOptions(top_logprobs=TOP_LOGPROBS, answers=total, shard_sequences=shard)
    prompts = [
        Prompt(({"role": "user", "content": f"prompt {number}"},), group=group)
        for number, group in zip(range(total), groups, strict=True)
    ]
    identity = Identity(PROVIDERS["vllm"], "m", "http://127.0.0.1:8000/v1")
    return Collection(options, identity, tokenizer, lambda: iter(prompts))


def letters_without_newline() -> StudentTokenizer:
    """A student that has a token for each printable ASCII character, and for no other byte."""
    letters = {chr(code): code - 32 for code in range(32, 127)} | {"</s>": 95}
    return StudentTokenizer(
        Tokenizer(models.BPE(letters, [])), special_tokens={"eos_token": "</s>"}, template=TEMPLATE, name="letters"
    )


def body(steps: Sequence[TeacherStep]) -> bytes:
    text = b"".join(step.data for step in steps).decode()
    choice = {
        "message": {"content": text},
        "finish_reason": "stop",
        "logprobs": {"content": [token_json(step) for step in steps]},
    }
    usage = {"prompt_tokens": 9, "completion_tokens": len(steps)}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def answer(text: str, seed: int = 0, top_k: int = TOP_LOGPROBS) -> StoredAnswer:
    ids = [*SMALL.encode_plain(text), SMALL.eos_id]
    return StoredAnswer("ok", body(steps_for(ids, SMALL, random.Random(seed), top_k=top_k, in_top=1.0)))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def write(made: Collection, journal: Journal, folder: Path) -> list[Request]:
    requests = list(made.requests())
    ShardMaker(made, AnswerReader(made), journal, PromptCheck(made), folder).write(requests, VERDICT)
    return requests


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def test_an_answer_that_this_student_cannot_spell_is_kept_for_another(tmp_path: Path, journal: Journal) -> None:
    """What was paid for is never thrown away."""
    made = collection(letters_without_newline())
    for request, text in zip(made.requests(), ("the rain", "the\n\nrain", "there", "then\n"), strict=True):
        journal.put(request.key, answer(text))
    write(made, journal, tmp_path / "data")
    part = rows(tmp_path / "data" / ".sequences" / "part_000.parquet")
    rejected = {row["prompt_idx"]: row["rejected"] for row in part}
    assert rejected == {0: "", 1: "byte_without_token", 2: "", 3: "byte_without_token"}
    assert {row["prompt_idx"] for row in rows(tmp_path / "data" / "teacher_shard_000.parquet")} == {0, 1, 2, 3}
    assert {row["prompt_idx"] for row in rows(tmp_path / "data" / "kd_stream_000.parquet")} == {0, 2}
    SMALL.save(tmp_path / "small")
    found = reproject(tmp_path / "data", str(tmp_path / "small"))
    assert (found["sequences"], found["rejected"]) == (4, {})


@pytest.mark.parametrize("tokenizer", [SMALL, letters_without_newline()])
def test_an_arriving_answer_is_judged_as_its_shard_will_judge_it(tokenizer: StudentTokenizer) -> None:
    """Without projecting it: only whether the student has a token for each byte is looked up."""
    made = collection(tokenizer)
    request, reader = next(made.requests()), AnswerReader(made)
    entries = [
        *map(answer, ("the rain", "the\n\nrain", "then\n")),
        StoredAnswer("ok", b"{}"),
        StoredAnswer("ok", b"<html>"),
        StoredAnswer("no_answer", b""),
    ]
    for entry in entries:
        finished = reader.finish(request, entry)
        arrived = reader.check_arrival(entry)
        assert arrived.rejected == finished.rejected
        assert arrived.completion_tokens == finished.completion_tokens
        assert arrived.steps == (len(finished.answer.steps) if finished.answer and finished.projection else 0)


@pytest.mark.parametrize(
    "finish",
    [
        *("content_filter", "content_filter: RECITATION", "SAFETY", "PROHIBITED_CONTENT", "MODEL_ARMOR", "refusal"),
        *("sensitive", "ERROR_TOXIC", "guardrail_intervened", "content_filtered", "blacklist"),
    ],
)
def test_an_answer_that_a_filter_cut_is_no_answer_of_the_teacher(finish: str) -> None:
    whole = answer("the rain there")
    cut = replace(whole, body=whole.body.replace(b'"finish_reason": "stop"', f'"finish_reason": "{finish}"'.encode()))
    assert cut != whole
    made = collection()
    reader = AnswerReader(made)
    assert reader.check_arrival(whole).rejected == ""
    assert reader.check_arrival(cut).rejected == "cut_by_filter"
    finished = reader.finish(next(made.requests()), cut)
    assert (finished.rejected, finished.projection) == ("cut_by_filter", None)


def test_the_mean_mass_of_other_is_known_before_projecting() -> None:
    made = collection()
    reader = AnswerReader(made)
    finished = reader.finish(next(made.requests()), answer("the rain there"))
    assert finished.projection is not None
    mean = np.exp(finished.projection.other_R).mean()  # equal vocabularies: a row has the mass of its step
    assert reader.check_arrival(answer("the rain there")).other_mass_mean() == pytest.approx(mean, rel=1e-12)
    assert reader.check_arrival(StoredAnswer("no_answer", b"")).other_mass_mean() is None


def test_surplus_candidates_are_dropped_and_the_set_can_be_read(tmp_path: Path, journal: Journal) -> None:
    made = collection()
    for seed, request in enumerate(made.requests()):
        journal.put(request.key, answer("the rain there", seed, top_k=TOP_LOGPROBS + 7))
    requests = write(made, journal, tmp_path / "data")
    finished = AnswerReader(made).finish(requests[0], journal.get(requests[0].key) or StoredAnswer("", b""))
    assert finished.answer is not None
    assert finished.repairs == {"surplus_candidates": 7 * len(finished.answer.steps)}
    traces = load_traces(tmp_path / "data", 20)
    assert traces.top_k == TOP_LOGPROBS
    for row in rows(tmp_path / "data" / "teacher_shard_000.parquet"):
        mass = math.fsum(map(math.exp, [*row["top_logprobs"], row["other_logprob"]]))
        assert mass == pytest.approx(1, abs=1e-3)
        assert row["sampled_in_top"] == (row["token_bytes"] in row["top_bytes"])


def test_the_result_depends_on_that_answer_alone() -> None:
    """A teacher with other ids: the same answer first, and after one that gives its vocabulary away."""
    last = SMALL.ids_by_bytes[RAIN[-1:]]
    step = TeacherStep(last, RAIN, math.log(0.6), (last, 5), (RAIN, b"x"), (math.log(0.6), math.log(0.2)))
    other = TeacherStep(7, b"then", math.log(0.6), (7, 8), (b"then", b" rain"), (math.log(0.6), math.log(0.2)))
    assert SMALL.token_bytes(7) != b"then"
    request = next(collection().requests())

    def result(reader: AnswerReader) -> object:
        finished = reader.finish(request, StoredAnswer("ok", body([step])))
        assert finished.answer is not None
        assert finished.projection is not None
        return (
            finished.answer.bytes_before,
            finished.projection.stream_pos_R.tolist(),
            finished.projection.topk_ids_RK.tolist(),
        )

    fresh, used = AnswerReader(collection()), AnswerReader(collection())
    used.finish(request, StoredAnswer("ok", body([other])))
    assert result(fresh) == result(used)


def test_a_new_unusable_answer_makes_its_shard_anew(tmp_path: Path, journal: Journal) -> None:
    made = collection()
    requests = list(made.requests())
    for request in requests[:3]:
        journal.put(request.key, answer("the rain"))
    write(made, journal, tmp_path / "data")
    assert len(rows(tmp_path / "data" / ".sequences" / "part_000.parquet")) == 3
    journal.put(requests[3].key, StoredAnswer("no_text", b"{}"))
    write(made, journal, tmp_path / "data")
    part = rows(tmp_path / "data" / ".sequences" / "part_000.parquet")
    assert [row["rejected"] for row in part] == ["", "", "", "no_text"]


def test_a_shard_is_written_while_other_answers_bring_new_tokens() -> None:
    """Fewer candidates than asked for are padded; the table grows meanwhile."""
    table = TokenTable()
    steps = [TeacherStep(-1, b"t%d" % n, -0.5, (-1,), (b"t%d" % n,), (-0.5,)) for n in range(200)]
    made = collection()
    finished = AnswerReader(made).finish(next(made.requests()), answer("the rain"))
    checked = check_answer(completion_of_steps(steps, table), Vocabulary(SMALL, table))
    stop = threading.Event()

    def grow() -> None:
        number = 0
        while not stop.is_set():
            table.number(-1, b"new %d" % number)
            number += 1

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        for _ in range(30):
            found = columns.step_table([replace(finished, answer=checked)], 20)
            assert found["top_bytes"][0].as_py() == [b"t0", *[b""] * 19]
    finally:
        stop.set()
        thread.join()


def test_an_answer_on_which_the_tokenizer_panics_is_rejected_and_kept(tmp_path: Path, journal: Journal) -> None:
    made = collection(panicking())
    for request, text in zip(made.requests(), ("the rain", FAILING, "there", "then"), strict=True):
        journal.put(request.key, answer(text))
    write(made, journal, tmp_path / "data")
    part = rows(tmp_path / "data" / ".sequences" / "part_000.parquet")
    assert {row["prompt_idx"]: row["rejected"] for row in part} == {0: "", 1: "refused_by_tokenizer", 2: "", 3: ""}
    SMALL.save(tmp_path / "small")
    assert reproject(tmp_path / "data", str(tmp_path / "small"))["sequences"] == 4
    panicking().save(tmp_path / "failing")
    found = reproject(tmp_path / "data", str(tmp_path / "failing"))
    assert (found["sequences"], found["rejected"]) == (3, {"refused_by_tokenizer": 1})


def test_near_identical_prompts_share_a_side_and_a_set_that_was_begun_keeps_its_own(
    tmp_path: Path, journal: Journal
) -> None:
    made = collection()
    requests = list(made.requests())
    for request in requests:
        journal.put(request.key, answer("the rain"))
    write(made, journal, tmp_path / "data")
    stream = tmp_path / "data" / "kd_stream_000.parquet"
    assert {row["sequence_hash"] for row in rows(stream)} == {requests[0].prompt.folded_hash}

    table = pq.read_table(stream)
    exact = [request.prompt.hash for request in requests]
    place = table.column_names.index("sequence_hash")
    pq.write_table(table.set_column(place, "sequence_hash", [exact]), stream)  # as older versions wrote it
    write(made, journal, tmp_path / "data")
    assert [row["sequence_hash"] for row in rows(stream)] == exact


@pytest.mark.parametrize("groups", [("a", "a", "b", "b"), ("", "", "b", "b"), ("", "a", "", "")])
def test_a_set_that_was_begun_before_groups_keeps_its_sides_and_a_new_one_is_divided_by_them(
    tmp_path: Path, journal: Journal, groups: tuple[str, ...]
) -> None:
    def hashes_after(begun_with: Sequence[str], shards: int) -> list[str]:
        """Those of a set whose first shards were made with these groups, and then all of them with `groups`."""
        folder = tmp_path / f"{begun_with} {shards}"
        for named, count in ((begun_with, shards), (groups, 2)):
            made = collection(groups=named, shard=2)
            maker = ShardMaker(made, AnswerReader(made), journal, PromptCheck(made), folder)
            for _, requests in zip(range(count), made.requests_by_shard(), strict=False):
                maker.write(requests[1], VERDICT)
            for path in folder.glob("kd_shard_*.parquet"):  # so that it is written again
                path.unlink()
        return [row["sequence_hash"] for path in sorted(folder.glob("kd_stream_*")) for row in rows(path)]

    requests = list(collection(groups=groups).requests())
    for request in requests:
        journal.put(request.key, answer("the rain"))
    old, new = ([getattr(one.prompt, name) for one in requests] for name in ("folded_hash", "side_hash"))
    assert hashes_after(("",) * 4, 2) == old
    assert hashes_after(("",) * 4, 1) == (old if any(groups[:2]) else new)
    assert hashes_after(groups, 1) == hashes_after(groups, 2) == new
