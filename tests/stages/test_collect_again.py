"""The collect stage started again: what it asks again, what it does not, and what becomes of old traces."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from bitnet_core.collecting.journal import Journal
from bitnet_core.collecting.shards import ShardMaker
from bitnet_core.errors import BitnetError
from bitnet_core.prompts.prompt import PACKAGED_PROMPTS, load_prompts
from bitnet_core.runs.presence import Gone
from bitnet_core.stages import collect
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import schema
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.split import is_heldout
from tests.builders import emitted
from tests.collecting.stage_runs import PROBES, asked_prompts, context, parquet_files
from tests.teachers.fake_teacher import FakeTeacher, is_probe
from tests.teachers.server import Asked, Canned, ChatServer
from tests.traces.sets import change_metadata

pytestmark = [pytest.mark.teacher, pytest.mark.usefixtures("teacher_cache")]


TOO_LONG = Canned({"error": {"message": "the request exceeds the context size"}}, 400)


def test_many_unusable_answers_of_earlier_runs_do_not_stop_a_later_one(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    bad = {prompt.text for prompt in load_prompts(None, PACKAGED_PROMPTS)[:10]}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return TOO_LONG if not is_probe(asked) and asked.body["messages"][-1]["content"] in bad else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        # Ten in a row before the first usable answer: a prompt that is too long says nothing about the model.
        summary = collect.run(context(tmp_path, server, KD_NUM_PROMPTS="14", KD_CONCURRENCY="1"))
        assert (summary["sequences"], summary["given_up"]) == (4, 0)
        first = bad
        before = len(server.asked)
        summary = collect.run(context(tmp_path, server, KD_NUM_PROMPTS="14", KD_CONCURRENCY="1"))
        second = asked_prompts(server, before)
        assert summary["sequences"] == 4
        assert summary["rejected"] == {"context_exceeded": 10}
        assert summary["given_up"] == len(first)
        # Prompts asked in vain before come last.
        assert set(second[-len(first) :]) == first
        before = len(server.asked)
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="20", KD_CONCURRENCY="1"))
        assert not first & set(asked_prompts(server, before))


def test_an_unusable_answer_is_asked_for_in_two_runs_and_no_more(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    refusal = (Path(__file__).parents[1] / "teachers" / "fixtures" / "openai_refusal.json").read_bytes()
    bad = {prompt.text for prompt in load_prompts(None, PACKAGED_PROMPTS)[3:5]}

    def twist(_number: int, asked: Asked, _body: dict[str, Any]) -> Canned | None:
        return Canned(refusal) if not is_probe(asked) and asked.body["messages"][-1]["content"] in bad else None

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:

        def again(**values: str) -> tuple[set[str], int]:
            before = len(server.asked)
            ctx = context(tmp_path, server, KD_CONCURRENCY="1", **values)
            summary = collect.run(ctx)
            assert summary["sequences"] == 10
            (alert,) = (event for event in emitted(ctx, "alert") if event["code"] == "sequences_rejected")
            assert ("not asked again" in alert["advice"]) == (summary["given_up"] > 0)
            return set(asked_prompts(server, before)), summary["given_up"]

        asked, given_up = again()
        assert len(asked) == 12
        assert given_up == 0
        assert again() == (bad, 2)
        before = len(server.asked)
        assert again() == (set(), 2)
        assert len(server.asked) == before  # not even a probe
        assert again(KD_MAX_ATTEMPTS="3") == (bad, 2)


def test_shards_are_written_outside_the_event_loop(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers in flight would time out while the loop waits."""
    written: list[bool] = []
    write = ShardMaker.write

    def watched(self: ShardMaker, *given: Any) -> None:
        written.append(asyncio._get_running_loop() is not None)
        write(self, *given)

    monkeypatch.setattr(ShardMaker, "write", watched)
    values = {"KD_NUM_PROMPTS": "12", "KD_SHARD_SEQUENCES": "2"}
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server, **values))
        for path in (tmp_path / "data").glob("kd_shard_*"):
            path.unlink()
        assert collect.run(context(tmp_path, server, **values | {"KD_NUM_PROMPTS": "14"}))["sequences"] == 14
    assert len(written) > 14
    assert not any(written)


@pytest.mark.parametrize("note", ["{", "[]", "7", '{"mode": "raw", "of_a_later_version": 1}'])
def test_an_unreadable_verdict_is_asked_for_again(tmp_path: Path, tokenizer: StudentTokenizer, note: str) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
            journal._db.execute("update notes set value = ?", (note,))
        before = len(server.asked)
        assert collect.run(context(tmp_path, server))["logprob_mode"] == "raw"
        assert len(server.asked) == before + PROBES


def test_traces_without_their_journal_are_not_paid_for_again(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        before, asked = parquet_files(tmp_path), len(server.asked)
        aside = (tmp_path / "data.journal").rename(tmp_path / "elsewhere")
        with pytest.raises(BitnetError, match=r"their journal is not at .*data\.journal.*; move the journal there"):
            collect.run(context(tmp_path, server))
        assert (len(server.asked), parquet_files(tmp_path)) == (asked, before)
        shutil.rmtree(tmp_path / "data.journal", ignore_errors=True)
        aside.rename(tmp_path / "data.journal")
        collect.run(context(tmp_path, server))
        assert (len(server.asked), parquet_files(tmp_path)) == (asked, before)
        shutil.rmtree(tmp_path / "data.journal")
        collect.run(context(tmp_path, server, KD_TEACHER_TEMPERATURE="0.5"))  # other answers: a new collection
        assert len(server.asked) > asked


def test_plain_sampling_asks_held_out_prompts_alone_anew(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    values = {"KD_NUM_PROMPTS": "24", "KD_MAX_TOKENS_PER_PROMPT": "4"}
    prompts = load_prompts(None, PACKAGED_PROMPTS)[:24]
    held_out = {prompt.text for prompt in prompts if is_heldout(prompt.side_hash)}
    assert 0 < len(held_out) < 24
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server, **values))
        before = len(server.asked)
        collect.run(context(tmp_path, server, **values, KD_HELDOUT_SAMPLING="plain"))
        again = [asked.body for asked in server.asked[before:] if not is_probe(asked)]
        assert {body["messages"][-1]["content"] for body in again} == held_out
        assert {(body["temperature"], body["top_p"]) for body in again} == {(1, 1)}
        found = load_traces(tmp_path / "data", 5)
        assert len(found.sequences) == 24
        assert {prompts[one.prompt_idx].text for one in found.split()[1]} == held_out
        metadata = json.loads(pq.read_metadata(tmp_path / "data" / "kd_shard_000.parquet").metadata[b"bitnet"])
        assert (metadata["sampling"]["temperature"], metadata["sampling"]["heldout"]) == (0.8, "plain")
        assert metadata["sampling_sent"]["temperature"] == 0.8
        before = len(server.asked)
        collect.run(context(tmp_path, server, **values))  # and back, without a request
        assert len(server.asked) == before


def test_traces_of_a_newer_version_are_neither_made_again_nor_added_to(
    tmp_path: Path, tokenizer: StudentTokenizer
) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server, KD_NUM_PROMPTS="2"))
        change_metadata(shard := tmp_path / "data" / "kd_shard_000.parquet", projection=schema.PROJECTION_VERSION + 1)
        before, asked = parquet_files(tmp_path), len(server.asked)
        with pytest.raises(BitnetError, match=rf"{shard} was written by a newer version of bitnet-tui; update"):
            collect.run(context(tmp_path, server, KD_NUM_PROMPTS="3"))
        assert (parquet_files(tmp_path), len(server.asked)) == (before, asked)


def test_sets_superseded_within_a_second_get_folders_of_their_own(
    tmp_path: Path, tokenizer: StudentTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "20261127T120000Z")
    with ChatServer(FakeTeacher(tokenizer)) as server:
        for temperature in ("0.5", "0.6", "0.5", "0.6"):
            collect.run(context(tmp_path, server, KD_TEACHER_TEMPERATURE=temperature))
    assert len(list((tmp_path / "data.superseded").iterdir())) == 3


def test_superseded_traces_keep_their_tokenizer(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        made = (tmp_path / "data" / "_tokenizer" / "tokenizer.json").read_bytes()
        collect.run(context(tmp_path, server, KD_TEACHER_TEMPERATURE="0.5"))
    (folder,) = (tmp_path / "data.superseded").iterdir()
    assert (folder / "_tokenizer" / "tokenizer.json").read_bytes() == made
    assert len(load_traces(folder, 5).sequences) == len(load_traces(tmp_path / "data", 5).sequences) == 12


def test_a_parquet_reader_takes_the_whole_folder(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        collect.run(context(tmp_path, server, KD_TEACHER_TEMPERATURE="0.5"))
    data = tmp_path / "data"
    kept = {path.name for path in data.iterdir() if path.suffix != ".parquet"}
    assert kept == {"_tokenizer", ".sequences"}
    rows = pq.read_metadata(data / "kd_shard_000.parquet").num_rows
    table = pyarrow.dataset.dataset(data).to_table()
    assert len(table.filter(pc.field("topk_ids").is_valid())) == rows
    assert len(pq.read_table(data)) == len(table)


def test_an_experiment_of_an_earlier_version_goes_on(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    """Its journal and its tokenizer are in `data/`; nothing is asked again, and no shard is changed."""
    data = tmp_path / "data"
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        before = parquet_files(tmp_path)
        (tmp_path / "data.journal" / "journal.sqlite").rename(data / "journal.sqlite")
        (data / "_tokenizer").rename(data / "tokenizer")
        asked = len(server.asked)
        assert collect.run(context(tmp_path, server))["answers_this_run"] == 0
        assert len(server.asked) == asked
    assert parquet_files(tmp_path) == before
    assert {path.name for path in data.iterdir() if path.suffix != ".parquet"} == {"_tokenizer", ".sequences"}


@pytest.mark.parametrize("lose", [Path.unlink, lambda path: shutil.rmtree(path.parent)], ids=["file", "folder"])
def test_a_journal_removed_while_asking_ends_the_run_and_costs_nothing(
    tmp_path: Path, tokenizer: StudentTokenizer, lose: Callable[[Path], object]
) -> None:
    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> None:
        if number == PROBES + 5:
            lose(tmp_path / "data.journal" / "journal.sqlite")

    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        with pytest.raises(Gone, match="was removed"):
            collect.run(context(tmp_path, server, KD_CONCURRENCY="3"))
        paid = len(asked_prompts(server))
        assert paid < 12
        summary = collect.run(context(tmp_path, server, KD_CONCURRENCY="3"))
        assert summary["sequences"] == len(set(asked_prompts(server))) == len(asked_prompts(server)) == 12
    assert summary["answers_this_run"] == 12 - paid


def test_a_damaged_answer_is_asked_for_again_and_costs_no_other(tmp_path: Path, tokenizer: StudentTokenizer) -> None:
    with ChatServer(FakeTeacher(tokenizer)) as server:
        collect.run(context(tmp_path, server))
        made = parquet_files(tmp_path)
        with Journal(tmp_path / "data.journal" / "journal.sqlite") as journal:
            (key,) = journal._db.execute("select key from answers limit 1 offset 3").fetchone()
            (body,) = journal._db.execute("select body from answers where key = ?", (key,)).fetchone()
            damaged = body[:40] + bytes(20) + body[60:]
            journal._db.execute("update answers set body = ? where key = ?", (damaged, key))
        for path in (tmp_path / "data").glob("kd_shard_*"):
            path.unlink()
        before = len(server.asked)
        ctx = context(tmp_path, server)
        summary = collect.run(ctx)
        assert len(asked_prompts(server, before)) == 1
    assert summary["sequences"] == 12
    assert [event["code"] for event in emitted(ctx, "alert")] == ["answers_damaged"]
    assert parquet_files(tmp_path) == made


@pytest.mark.parametrize("name", ["fewer", "one more", "others"])
def test_prompts_that_change_meanwhile_end_the_run_and_lose_no_answer(
    tmp_path: Path, tokenizer: StudentTokenizer, name: str
) -> None:
    """Shards that were full would be made again from a few of their answers, and the run would succeed."""
    prompts = [f"What is {number} and {number}?" for number in range(6)]
    changed = {"fewer": prompts[:2], "one more": ["New?", *prompts], "others": prompts[:3] + list("abc")}[name]
    path, root = tmp_path / "prompts.txt", tmp_path / "root"
    path.write_text("\n".join(prompts))

    def twist(number: int, _asked: Asked, _body: dict[str, Any]) -> Canned | None:
        if number == PROBES + 1:
            path.with_suffix(".new").write_text("\n".join(changed))
            path.with_suffix(".new").replace(path)
        return None

    values = {"KD_PROMPTS_FILE": str(path), "KD_NUM_PROMPTS": "6", "KD_SHARD_SEQUENCES": "2", "KD_CONCURRENCY": "1"}
    with ChatServer(FakeTeacher(tokenizer, twist)) as server:
        with pytest.raises(BitnetError, match=r"prompts\.txt was changed while it was being collected; start again"):
            collect.run(context(root, server, **values))
        assert len(server.asked) == PROBES + 6
        summary = collect.run(context(root, server, **values))
        assert summary["sequences"] == 6
        assert len(server.asked) == 2 * PROBES + 6 + {"fewer": 4, "one more": 1, "others": 3}[name]
    assert len(load_traces(root / "data", 5).sequences) == 6
