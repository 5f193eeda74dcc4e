"""The trace inspector: figures against plain counting, every fault listed, one sequence as the student sees it."""

import json
import math
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bitnet_core.cli import main as cli
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.traces import inspect, schema
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.split import is_heldout
from bitnet_core.traces.stats import rejected_tokens, stats_text, trace_stats
from tests.traces.samples import rows_of
from tests.traces.sets import TOKENIZER, TOP_K, edit, rewrite, sequence, set_in, write_without_rows


@pytest.fixture(autouse=True)
def _tokenizer(data: Path) -> None:
    TOKENIZER.save(data / schema.TOKENIZER_FOLDER)


def test_the_figures_equal_counting_row_by_row(data: Path) -> None:
    rows = [row for path in sorted(data.glob("kd_shard_*")) for row in pq.read_table(path).to_pylist()]
    streams = [row for path in sorted(data.glob("kd_stream_*")) for row in pq.read_table(path).to_pylist()]
    found = trace_stats(data)
    assert (found["shards"], found["sequences"], found["rows"]) == (2, 20, len(rows))
    assert found["heldout_sequences"] == sum(is_heldout(row["sequence_hash"]) for row in streams)
    assert found["prompt_tokens"] == sum(len(row["prompt_ids"]) for row in streams)
    assert found["completion_tokens"] == sum(len(row["completion_ids"]) for row in streams)
    assert found["structure_tokens"] == sum(sum(row["is_struct"]) for row in streams)
    assert found["positions_without_row"] == found["completion_tokens"] - len(rows)
    assert sum(found["finish_reasons"].values()) == 20
    coverage = [1 - math.exp(row["other_logprob"]) for row in rows]
    assert found["mean_coverage"] == pytest.approx(sum(coverage) / len(rows))
    hits = sum(row["teacher_sample_id"] in row["topk_ids"] for row in rows)
    assert found["sampled_in_top_share"] == pytest.approx(hits / len(rows))
    for bin_ in found["other_mass_histogram"]:
        last = bin_["to"] == 1
        inside = [1 for share in coverage if bin_["from"] <= 1 - share < bin_["to"] or (last and share == 0)]
        assert bin_["rows"] == len(inside)
    assert found["faulty_rows"] == 0
    assert found["answers"] == 20
    assert found["rejected_sequences"] == {}


def test_faulty_rows_are_counted_and_left_out_of_the_means(data: Path) -> None:
    before = trace_stats(data)
    rewrite(data / schema.kd_shard(0), edit(7, "topk_logprobs", lambda row: [float("nan"), *row[1:]]))
    rewrite(data / schema.kd_shard(1), set_in(3, "other_logprob", None))
    after = trace_stats(data)
    assert (after["rows"], after["faulty_rows"]) == (before["rows"], 2)
    assert math.isfinite(after["mean_coverage"])
    assert "names the rows" in stats_text(after)
    assert "names the rows" not in stats_text(before)


def test_rejected_answers_are_counted_by_reason(data: Path) -> None:
    rewrite(data / schema.SEQUENCES_FILE, set_in(3, "rejected", "no logprobs"))
    found = trace_stats(data)
    assert found["rejected_sequences"] == {"no logprobs": 1}
    assert "answers rejected: no logprobs" in stats_text(found)
    (data / schema.SEQUENCES_FILE).write_bytes(b"torn")
    with pytest.raises(BitnetError, match=r"sequences\.parquet is damaged"):
        trace_stats(data)
    (data / schema.SEQUENCES_FILE).unlink()
    assert trace_stats(data)["answers"] == 0


def test_what_a_content_filter_cut_is_told_as_left_out(data: Path) -> None:
    rewrite(data / "kd_stream_000.parquet", set_in(0, "finish_reason", "SAFETY"))
    rewrite(data / schema.SEQUENCES_FILE, set_in(0, "finish_reason", "SAFETY"))
    found = trace_stats(data)
    assert (found["cut_by_filter"], found["sequences"]) == (1, 20)
    assert "left out: a content filter cut the answer  1 (5.0%)" in stats_text(found)
    TOKENIZER.save(data / schema.TOKENIZER_FOLDER)
    [reason] = inspect.Browser(data).rejected()
    assert (reason["reason"], reason["answers"], reason["examples"][0]["prompt_idx"]) == ("cut_by_filter", 1, 0)


def test_tokens_of_rejected_answers_are_counted(data: Path) -> None:
    path = data / schema.SEQUENCES_FILE
    counts = pq.read_table(path).column("completion_tokens").to_pylist()
    rewrite(path, set_in(3, "rejected", "no logprobs"))
    assert rejected_tokens(data) == (counts[3], sum(counts))
    rewrite(path, set_in(0, "completion_tokens", None))
    assert rejected_tokens(data) == (None, None)
    path.unlink()
    assert rejected_tokens(data) == (None, None)


def test_a_sound_set_has_nothing_wrong(data: Path) -> None:
    assert inspect.validate(data) == []
    assert "nothing is wrong" in inspect.validate_text(data, [])


def test_every_fault_is_listed_not_only_the_first(data: Path) -> None:
    rewrite(data / schema.kd_shard(0), edit(7, "topk_ids", lambda ids: [9999, *ids[1:]]))
    rewrite(data / schema.kd_shard(0), edit(9, "topk_ids", lambda ids: [9999, *ids[1:]]))
    rewrite(data / schema.kd_shard(0), set_in(11, "other_logprob", 0.5))
    rewrite(data / schema.kd_stream(1), set_in(2, "completion_text", "another"))
    problems = {(Path(one["file"]).name, one["reason"]): one for one in inspect.validate(data)}
    outside = problems[schema.kd_shard(0), "a candidate is outside the vocabulary"]
    assert (outside["rows"], outside["first_row"]) == (2, 7)
    assert problems[schema.kd_shard(0), "other_logprob is not a finite number of at most 0"]["first_row"] == 11
    assert problems[schema.kd_stream(1), inspect.OTHER_TEXT]["first_row"] == 2
    assert len(problems) == 3


def test_an_unreadable_file_does_not_hide_the_others(data: Path) -> None:
    (data / schema.kd_shard(0)).write_bytes(b"PAR1 torn")
    rewrite(data / schema.kd_shard(1), set_in(0, "other_logprob", 0.5))
    torn, other = inspect.validate(data)
    assert "damaged" in torn["reason"]
    assert torn["rows"] is None
    assert Path(other["file"]).name == schema.kd_shard(1)
    assert schema.kd_shard(0) in inspect.validate_text(data, [torn, other])


@pytest.mark.parametrize("number", ["000 (1)", "001-LAPTOP", "000 copy", "002", "1000"])
def test_a_copy_of_a_shard_is_refused_and_not_trained_on_twice(data: Path, number: str) -> None:
    """As a cloud folder leaves one where two machines wrote, and a backup that is unpacked beside what is there."""
    source = int(number[:3]) % 2
    copy, stream = data / f"kd_shard_{number}.parquet", data / f"kd_stream_{number}.parquet"
    shutil.copy(data / schema.kd_shard(source), copy)
    if not number.isdigit():
        with pytest.raises(
            BitnetError, match=r"may be a copy of another shard: it has no kd_stream_.*; move it away"
        ):
            load_traces(data, TOP_K)
    shutil.copy(data / schema.kd_stream(source), stream)
    with pytest.raises(BitnetError, match=f"has answers that {schema.kd_shard(source)} has, too") as refused:
        load_traces(data, TOP_K)
    assert str(copy) in str(refused.value)
    assert [(one["file"], one["reason"]) for one in inspect.validate(data)] == [(str(copy), str(refused.value))]
    copy.unlink()
    assert len(load_traces(data, TOP_K).sequences) == 20


@pytest.mark.parametrize("index", [0, 1])
def test_a_set_that_was_copied_in_part_is_not_trained_on(data: Path, index: int) -> None:
    (data / schema.kd_shard(index)).unlink()
    there = 8 if index == 0 else 12
    with pytest.raises(BitnetError, match=f"has {there} of the 20 sequences that were collected") as refused:
        load_traces(data, TOP_K)
    assert [one["reason"] for one in inspect.validate(data)] == [str(refused.value)]


@pytest.mark.parametrize("name", [schema.SEQUENCES_FILE, schema.teacher_shard(0), schema.teacher_shard(1)])
@pytest.mark.parametrize("how", ["torn", "zeros in its middle", "a folder"])
def test_a_file_beside_the_projected_ones_is_looked_at_to_its_end(data: Path, name: str, how: str) -> None:
    """What was paid for is in it, and a projection onto another tokenizer reads nothing else."""
    path = data / name
    if not path.exists():
        shutil.copyfile(data / schema.SEQUENCES_FILE, path)
    whole = bytearray(path.read_bytes())
    path.unlink()
    if how == "a folder":
        path.mkdir()
    else:
        middle = len(whole) // 4
        whole[middle : middle + 64] = bytes(64)
        path.write_bytes(whole if how != "torn" else whole[:-9])
    (problem,) = inspect.validate(data)
    assert Path(problem["file"]).name == name
    assert "is damaged or not Parquet" in problem["reason"]


def test_a_sequence_is_shown_with_its_text_rebuilt(data: Path) -> None:
    made = sequence(13)
    assert made.answer is not None
    assert made.projection is not None
    found = inspect.show(data, 13, 1000)
    assert found["rebuilt_text"] == found["completion_text"] == made.answer.text.decode()
    assert found["rebuilt_is_same"]
    assert len(found["positions"]) == found["completion_tokens"] == len(made.projection.completion_ids_C)
    for row in rows_of(made.projection):
        shown = found["positions"][row.stream_pos]
        assert len(shown["candidates"]) == len(row.topk_ids) <= TOP_K + 1
        assert shown["other"] == pytest.approx(math.exp(row.other_logprob), abs=1e-3)
        assert shown["candidates"][0]["probability"] == pytest.approx(math.exp(row.topk_logprobs[0]), abs=1e-3)
    text = inspect.show_text(found)
    assert made.rendered_prompt in text
    assert "as stored" in text
    assert inspect.show(data, None, 3)["prompt_idx"] == 0
    assert "more positions" in inspect.show_text(inspect.show(data, None, 3))


def test_a_set_without_rows_or_without_sequences_can_be_inspected(data: Path) -> None:
    for shard in (0, 1):
        write_without_rows(data / schema.kd_shard(shard))
    assert "rows (tokens with a teacher)  0 (0.0%)" in stats_text(trace_stats(data))
    assert inspect.validate(data) == []
    for shard in (0, 1):
        write_without_rows(data / schema.kd_stream(shard))
    assert stats_text(trace_stats(data))
    with pytest.raises(BitnetError, match="hold no sequence"):
        inspect.show(data, None, 5)


def test_broken_rules_are_counted_by_reason(data: Path) -> None:
    rewrite(data / schema.kd_shard(0), set_in(0, "teacher_sample_id", 3))
    found = trace_stats(data)
    (reason,) = found["broken_rules"]
    assert "teacher_sample_id" in reason
    assert reason in stats_text(found)


def test_text_that_differs_is_shown(data: Path) -> None:
    rewrite(data / schema.kd_stream(0), set_in(0, "completion_text", "another"))
    assert "NOT as stored, which is 'another'" in inspect.show_text(inspect.show(data, 0, 5))


def test_missing_sequences_and_sets_are_errors(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no sequence 99"):
        inspect.show(data, 99, 5)
    for inspecting in (trace_stats, inspect.validate):
        with pytest.raises(BitnetError, match="no traces in"):
            inspecting(tmp_path / "nowhere")


# -- the command -------------------------------------------------------------------------------------


def test_the_command_answers_in_text_and_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--set", f"KD_DATA_PATH={data}"]
    assert cli.main(["traces", "stats", *at]) == 0
    assert "mass outside the top-k" in capsys.readouterr().out
    assert cli.main(["traces", "stats", "--json", *at]) == 0
    assert json.loads(capsys.readouterr().out)["sequences"] == 20
    assert cli.main(["traces", "show", "4", "--rows", "2", *at]) == 0
    assert "sequence 4" in capsys.readouterr().out
    assert cli.main(["traces", "validate", *at]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    rewrite(data / schema.kd_shard(0), set_in(7, "other_logprob", 0.5))
    assert cli.main(["traces", "validate", "--json", *at]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["rows"], problem["first_row"]) == (1, 7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats", "3"], "takes no sequence"),
        (["show", "--rows", "-1"], "--rows is below 0"),
        (["show", "99"], "has no sequence 99"),
    ],
)
def test_wrong_use_is_one_sentence(
    data: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["traces", *arguments, "--set", f"KD_DATA_PATH={data}"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_no_traces_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("stats", "show", "validate"):
        assert cli.main(["traces", action, "--root", str(tmp_path)]) == 1
        error = capsys.readouterr().err
        assert "run `bitnet collect` first" in error
        assert len(error.splitlines()) == 1
