"""Looking through a trace set: pages, search, one trace in full, the worst tokens, what was rejected."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.cli import main as cli
from bitnet_core.errors import BitnetError
from bitnet_core.text import finite
from bitnet_core.traces import schema
from bitnet_core.traces.browse import Browser
from bitnet_core.traces.scores import FILE, About, ScoreFile, write
from tests.fuzzing import fuzz
from tests.traces.scored import made_scores, scored
from tests.traces.sets import TOKENIZER, TOP_K, edit, rewrite, sequence, set_in


@pytest.fixture(autouse=True)
def _tokenizer(data: Path) -> None:
    TOKENIZER.save(data / schema.TOKENIZER_FOLDER)


def rows_of(data: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(data.glob("kd_shard_*")) for row in pq.read_table(path).to_pylist()]


def _other(row: dict[str, Any]) -> float:
    """The mass outside the first candidates: a row may have one more than training reads."""
    return math.exp(row["other_logprob"]) + sum(map(math.exp, row["topk_logprobs"][TOP_K:]))


def test_pages_together_are_the_whole_set(data: Path) -> None:
    browser = Browser(data)
    pages = [browser.page(offset=offset, limit=7) for offset in (0, 7, 14, 21)]
    assert [len(page["sequences"]) for page in pages] == [7, 7, 6, 0]
    found = [one for page in pages for one in page["sequences"]]
    assert [one["prompt_idx"] for one in found] == list(range(20))
    assert {(page["total"], page["matched"]) for page in pages} == {(20, 20)}
    for one in found:
        made = sequence(one["prompt_idx"])
        other = [_other(row) for row in rows_of(data) if row["prompt_idx"] == one["prompt_idx"]]
        assert one["prompt"] == f"prompt {one['prompt_idx']}"
        assert one["other"] == pytest.approx(sum(other) / len(other), abs=1e-4)
        assert (one["finish_reason"], one["kl"]) == (made.finish_reason, None)


@pytest.mark.parametrize("by", ["prompt", "ended", "tokens", "other"])
def test_a_page_is_in_the_order_of_a_column_either_way(data: Path, by: str) -> None:
    browser = Browser(data)
    field = {"ended": "finish_reason"}.get(by, by)
    found, turned = ([one[field] for one in browser.page(by=by, turned=way)["sequences"]] for way in (False, True))
    falls = by in ("tokens", "other")
    assert found == sorted(found, reverse=falls) and turned == sorted(found, reverse=not falls)
    assert len(set(found)) > 1
    with pytest.raises(BitnetError, match="can't be sorted by length"):
        browser.page(by="length")


def test_a_page_is_found_by_one_of_its_traces(data: Path) -> None:
    browser = Browser(data)
    found = browser.page(limit=6, around=13)
    assert (found["offset"], found["at"]) == (12, 13)
    assert found["sequences"][found["at"] - found["offset"]]["prompt_idx"] == 13
    missing = browser.page("prompt 1", limit=6, around=3)
    assert (missing["offset"], missing["at"]) == (0, None)


@pytest.mark.parametrize("text", ["Prompt 1", "CAFÉ", "東京", "a(b", "", "half \ud800"])
def test_a_search_finds_what_prompt_or_answer_has(data: Path, text: str) -> None:
    found = Browser(data).page(text, limit=50)["sequences"]
    streams = [row for path in sorted(data.glob("kd_stream_*")) for row in pq.read_table(path).to_pylist()]
    names = ("prompt_text", "completion_text")
    expected = [row["prompt_idx"] for row in streams if any(text.lower() in row[name].lower() for name in names)]
    assert [one["prompt_idx"] for one in found] == expected


def test_a_trace_has_each_token_with_its_text_and_the_teachers_own_token(data: Path) -> None:
    browser, rows = Browser(data), rows_of(data)
    for index in (0, 7, 13):
        found = browser.trace(index)
        assert "".join(one["text"] for one in found["positions"]) == found["completion_text"]
        begins = {row["stream_pos"]: row["teacher_sample_text"] for row in rows if row["prompt_idx"] == index}
        for one in found["positions"]:
            first = max(begin for begin in begins if begin <= one["position"])
            assert one["teacher"]["token"] == begins[first]
            assert one["teacher"]["first"] == first
            assert (one["candidates"] is None) == (one["position"] not in begins)
        pieces = [
            one["teacher"]["pieces"] for one in found["positions"] if one["teacher"]["first"] == one["position"]
        ]
        assert sum(pieces) == found["completion_tokens"]


def test_scores_stand_beside_the_teachers_candidates(data: Path, tmp_path: Path) -> None:
    made = scored(data, tmp_path / "scores.parquet")
    browser = Browser(data, scores=ScoreFile(tmp_path / "scores.parquet"))
    for index, one in made.items():
        found = browser.trace(index)
        mean = float(np.nanmean(one.kl_C))
        assert found["kl"] == pytest.approx(mean, rel=1e-5)
        for position, shown in enumerate(found["positions"][: len(one.kl_C)]):
            assert shown["student"] == pytest.approx(math.exp(one.observed_C[position]), rel=2e-2)
            assert shown["student_other"] == pytest.approx(math.exp(one.other_C[position]), rel=2e-2)
            for rank, candidate in enumerate(shown["candidates"] or ()):
                expected = math.exp(one.candidates_CK[position, rank])
                assert candidate["student"] == pytest.approx(expected, rel=2e-2)
        assert found["positions"][0]["kl"] is None
    assert browser.trace(9)["positions"][-1]["student"] is None, "the end of an answer that was cut off"
    assert browser.trace(1)["positions"][1]["student_top"] is None
    assert [one["prompt_idx"] for one in browser.page(by="kl", limit=7)["sequences"]] == sorted(
        made, key=lambda index: -float(np.nanmean(made[index].kl_C))
    )


def test_the_worst_tokens_of_all_and_of_one(data: Path, tmp_path: Path) -> None:
    plain = Browser(data)
    by_other = sorted(map(_other, rows_of(data)), reverse=True)[:6]
    assert [one["other"] for one in plain.worst(6)] == pytest.approx(by_other, abs=1e-4)
    made = scored(data, tmp_path / "scores.parquet")
    browser = Browser(data, scores=ScoreFile(tmp_path / "scores.parquet"))
    every = [(float(kl), index, at) for index, one in made.items() for at, kl in enumerate(one.kl_C) if kl == kl]
    for index, limit in ((None, 9), (6, 4)):
        expected = sorted((one for one in every if index in (None, one[1])), reverse=True)[:limit]
        found = browser.worst(limit, index)
        assert [(one["kl"], one["prompt_idx"], one["position"]) for one in found] == expected
        for one in found:
            assert one["token"] == browser.trace(one["prompt_idx"])["positions"][one["position"]]["token"]
    assert browser.worst(5, 1) == [], "a trace that was not scored"


def test_scores_of_other_traces_are_not_used_and_damage_is_one_sentence(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    scored(data, path, content_hash="another")
    assert Browser(data, scores=ScoreFile(path)).scores is None
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BitnetError, match="run `bitnet traces score` again"):
        ScoreFile(path)


Change = Callable[[dict[str, list[Any]]], object]


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: columns["prompt_idx"].__setitem__(0, None),
        lambda columns: columns["prompt_idx"].__setitem__(0, -1),
        lambda columns: columns["prompt_idx"].__setitem__(0, 3),
        lambda columns: columns["kl"].__setitem__(0, [0.5] * 5000),
        lambda columns: columns["kl"].__setitem__(0, []),
        lambda columns: columns["kl"].__setitem__(0, None),
        lambda columns: columns["observed"].__setitem__(0, []),
        lambda columns: columns["other"].__setitem__(0, None),
        lambda columns: columns["candidates"].__setitem__(0, columns["candidates"][0][::2]),
        lambda columns: columns["top_ids"][0].__setitem__(0, 10**9),
        lambda columns: columns["top_ids"][0].__setitem__(0, -1),
        lambda columns: columns["top_ids"].__setitem__(0, columns["top_ids"][0][1:]),
        lambda columns: columns["top"].__setitem__(0, columns["top"][0] * 2),
    ],
)
def test_scores_that_are_not_of_these_tokens_are_damaged(data: Path, tmp_path: Path, change: Change) -> None:
    path = tmp_path / "scores.parquet"
    scored(data, path)
    table = pq.read_table(path)
    columns = table.to_pydict()
    change(columns)
    arrays = [pa.array(columns[one.name], one.type) for one in table.schema]
    pq.write_table(pa.table(arrays, schema=table.schema), path)
    with pytest.raises(BitnetError, match="run `bitnet traces score` again"):
        Browser(data, scores=ScoreFile(path)).trace(0)


def test_scores_that_claim_more_than_the_file_holds_are_damaged(data: Path, tmp_path: Path) -> None:
    """One value, many times: a few bytes for any number."""
    path = tmp_path / "scores.parquet"
    scored(data, path)
    table = pq.read_table(path).slice(0, 1)
    many = table.set_column(1, table.schema.field("kl"), pa.array([np.zeros(1 << 23, np.float32)]))
    with pq.ParquetWriter(path, table.schema, compression="zstd") as out:
        for _ in range(3):
            out.write_table(many)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BitnetError, match="run `bitnet traces score` again"):
        ScoreFile(path)


@pytest.fixture(scope="module")
def sound_scores(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "scores.parquet"
    about = About("c.pt", "sha", 7, 8, "hash", TOP_K, "held-out")
    write(path, about, ((index, made_scores(9, index, TOP_K)) for index in range(3)))
    return path.read_bytes()


def _mixed(data: bytes, at: int, other: bytes) -> bytes:
    return data[:at] + other + data[at + len(other) :]


@fuzz(60)
@given(at=st.integers(0, 1 << 14), other=st.binary(max_size=12))
def test_any_byte_of_a_file_of_scores_may_be_wrong(
    at: int, other: bytes, tmp_path_factory: pytest.TempPathFactory, sound_scores: bytes
) -> None:
    path = tmp_path_factory.mktemp("s") / "scores.parquet"
    path.write_bytes(_mixed(sound_scores, at % len(sound_scores), other))
    try:
        found = ScoreFile(path)
        for index in found.prompt_idx_S.tolist():
            one = found.of(index, 1000)
            assert one is not None and one.top_ids_CT.shape == one.top_CT.shape
        assert finite(found.mean_kl()) == found.mean_kl()
    except BitnetError as error:
        assert str(error).endswith("run `bitnet traces score` again.")


def test_rejected_answers_by_reason_with_examples(data: Path) -> None:
    path = data / schema.SEQUENCES_FILE
    for row, reason in ((3, "no_logprobs"), (4, "mass"), (5, "no_logprobs"), (6, "no_logprobs")):
        rewrite(path, set_in(row, "rejected", reason))
    rewrite(path, edit(5, "messages_json", lambda _: "torn"))
    first, second = Browser(data).rejected(2)
    assert (first["reason"], first["answers"], second["answers"]) == ("no_logprobs", 3, 1)
    assert [one["prompt"] for one in first["examples"]] == ["prompt 3", ""]


# -- the command -----------------------------------------------------------------------------------------


def test_the_commands_answer_in_text_and_json(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--set", f"KD_DATA_PATH={data}", "--set", f"REPORTS_DIR={tmp_path / 'reports'}"]
    (tmp_path / "reports").mkdir()
    assert cli.main(["traces", "list", "--search", "prompt 1", "--rows", "3", *at]) == 0
    assert "1 to 3 of 11" in (out := capsys.readouterr().out)
    assert "`bitnet traces score`" in out
    scored(data, tmp_path / "reports" / FILE)
    assert cli.main(["traces", "worst", "--json", "--rows", "2", *at]) == 0
    worst = json.loads(capsys.readouterr().out)
    assert len(worst["tokens"]) == 2
    assert worst["scored"].pop("mean_kl") == pytest.approx(ScoreFile(tmp_path / "reports" / FILE).mean_kl())
    assert worst["scored"] == {
        "step": 7, "checkpoint": "c.pt", "activation_bits": 8, "scope": "held-out", "sequences": 7, "outdated": "",
    }  # fmt: skip
    assert cli.main(["traces", "show", "3", *at]) == 0
    assert "its first" in capsys.readouterr().out
    assert cli.main(["traces", "rejects", *at]) == 0
    assert "No answer was rejected." in capsys.readouterr().out


def _zeroed(path: Path) -> bytes:
    """The file with nothing in one list of its first trace, which only shows when that trace is read."""
    sound, column = path.read_bytes(), pq.read_metadata(path).row_group(0).column(2)
    begin = column.dictionary_page_offset or column.data_page_offset
    return _mixed(sound, begin, bytes(column.total_compressed_size))


def _deep(path: Path) -> bytes:
    """The file with metadata that are nested too deeply."""
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"bitnet": b'{"x":' + b"[" * 200_000}), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    "damaged",
    [lambda _: b"", lambda _: b"x" * 5000, lambda path: path.read_bytes()[:-40], _zeroed, _deep, os.mkfifo],
    ids=["empty", "other", "cut", "zeroed", "deep", "pipe"],
)
def test_damaged_scores_are_said_and_everything_else_is_shown(
    data: Path, tmp_path: Path, damaged: Callable[[Path], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reports" / FILE
    scored(data, path)
    if damaged is os.mkfifo:
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_bytes(damaged(path))
    words = f"{path} is not a file of scores that can be read; run `bitnet traces score` again."
    at = ["--set", f"KD_DATA_PATH={data}", "--set", f"REPORTS_DIR={path.parent}"]
    requests = b'{"ask": "show", "prompt_idx": 0}\n{"ask": "list"}\n{"ask": "worst"}\n{"ask": "rejects"}\n'
    read_end, write_end = os.pipe()
    os.write(write_end, requests)
    os.close(write_end)
    assert cli.main(["traces", "browse", "--requests", str(read_end), *at]) == 0
    shown, listed, worst, rejects = map(json.loads, capsys.readouterr().out.splitlines())
    assert {one["scores_problem"] for one in (shown, listed, worst, rejects)} == {words}
    assert listed["matched"] == 20 and len(worst["tokens"]) == 50 and "other" in worst["tokens"][0]
    assert shown["positions"] and {one["kl"] for one in shown["positions"]} == {None}
    assert cli.main(["traces", "show", "0", *at]) == 0
    said = capsys.readouterr()
    assert said.err == f"bitnet: warning: {words}\n" and "sequence 0" in said.out


@pytest.mark.parametrize(
    ("healths", "outdated"),
    [
        ({}, ""),
        ({7: "own", 5: "other"}, ""),
        ({7: "own", 9: "other"}, "the newest is step 9"),
        ({7: "own", 9: None}, ""),  # what can't be read counts as incomplete, as for the training
        ({7: None}, ""),
        ({7: None, 5: "other"}, "its health file is damaged; the newest complete one is step 5"),
        ({5: "other"}, "it is no longer there; the newest complete one is step 5"),
        ({7: "other"}, "that step was trained again"),
    ],
)
@pytest.mark.parametrize("damage", ["{torn", "[]", '{"sha256": 7}'])
def test_outdated_scores_say_why_without_contradiction(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    healths: dict[int, str | None],
    outdated: str,
    damage: str,
) -> None:
    scored(data, tmp_path / "reports" / FILE)  # step 7
    own = ScoreFile(tmp_path / "reports" / FILE).about.sha256
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step, told in healths.items():
        (folder / f"mini_bitnet_step_{step:08d}.pt").touch()
        health = json.dumps({"sha256": own if told == "own" else told}) if told else damage
        (folder / f"mini_bitnet_step_{step:08d}_health.json").write_text(health)
    settings = {"KD_DATA_PATH": data, "REPORTS_DIR": tmp_path / "reports", "CHECKPOINTS_DIR": folder}
    at = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    assert cli.main(["traces", "list", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["scored"]["outdated"] == outdated


def test_requests_are_answered_one_by_one_and_changes_are_seen(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    reports = tmp_path / "reports"
    scored(data, reports / FILE)
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "mini_bitnet_step_00000009.pt").touch()
    (checkpoints / "mini_bitnet_step_00000009_health.json").write_text('{"sha256": "other"}')
    requests = [{"ask": "list", "limit": 1}, {"ask": "show", "prompt_idx": 99}, {"ask": "show"}, {"ask": "no"}]
    read_end, write_end = os.pipe()
    os.write(write_end, "".join(json.dumps(one) + "\n" for one in requests).encode())
    deep = b'{"ask": "list", "more": ' + b"[" * 20_000
    os.write(write_end, b"{torn\n" + b"\xff\xfe\n" + deep + b"\n" + b'{"ask": "rejects"}\n')
    os.close(write_end)
    settings = {"KD_DATA_PATH": data, "REPORTS_DIR": reports, "CHECKPOINTS_DIR": checkpoints}
    at = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    assert cli.main(["traces", "browse", "--requests", str(read_end), *at]) == 0
    listed, missing, shown, unknown, *odd, rejects = map(json.loads, capfd.readouterr().out.splitlines())
    assert listed["scored"]["outdated"] == "the newest is step 9"
    assert "has no sequence 99" in missing["problem"]
    assert shown["prompt_idx"] == 0
    assert "something other than list" in unknown["problem"]
    assert len(odd) == 3
    assert all("can't be read" in one["problem"] or "not UTF-8" in one["problem"] for one in odd)
    assert rejects["rejected"] == []
