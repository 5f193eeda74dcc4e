"""A trace set projected onto another tokenizer: complete or absent, made again only if its input changed."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, normalizers

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.files import half_written
from bitnet_core.stages import collect, train
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import writer
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.reproject import reproject
from tests.builders import stage_context
from tests.tokenizer.vocabularies import PLAIN, UNIGRAM
from tests.traces.samples import small_tokenizer
from tests.traces.sets import edit, rewrite


@pytest.mark.teacher
@pytest.mark.usefixtures("teacher_cache")
def test_the_real_teachers_answers_onto_32000_pieces(
    tmp_path: Path, sentencepiece_model: Path, mistral: StudentTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"KD_NUM_PROMPTS": "8", "KD_MAX_TOKENS_PER_PROMPT": "48", "TEACHER_TOP_LOGPROBS": "20"}
    ctx = stage_context(tmp_path, "collect", values)
    collect.run(ctx)
    data = tmp_path / "data"
    untouched = {path.name: path.read_bytes() for path in data.glob("*.parquet")}
    found = reproject(data, str(sentencepiece_model))
    assert not found["cached"]
    assert found["sequences"] == 8
    assert found["coverage"] >= 0.85
    assert found["candidates_mean"] >= 18
    folder = Path(found["folder"])
    texts_by_prompt = {
        row["prompt_idx"]: row["completion_text"] for row in pq.read_table(data / "kd_stream_000.parquet").to_pylist()
    }
    for row in pq.read_table(folder / "kd_stream_000.parquet").to_pylist():
        said = b"".join(map(mistral.text_bytes, row["completion_ids"])).decode(errors="replace")
        assert said == row["completion_text"] == texts_by_prompt[row["prompt_idx"]]
    streams = {row["prompt_idx"]: row for row in pq.read_table(folder / "kd_stream_000.parquet").to_pylist()}
    for row in pq.read_table(folder / "kd_shard_000.parquet").to_pylist():
        assert row["teacher_sample_id"] == streams[row["prompt_idx"]]["completion_ids"][row["stream_pos"]]
    assert reproject(data, str(sentencepiece_model))["cached"]
    assert {path.name: path.read_bytes() for path in data.glob("*.parquet")} == untouched
    # The tokenizer of the collection gives the same rows that collecting made.
    own = Path(reproject(data, str(data / "_tokenizer"))["folder"])
    one, other = (pq.read_table(place / "kd_shard_000.parquet").to_pylist() for place in (data, own))
    assert [a["teacher_sample_id"] for a in one] == [b["teacher_sample_id"] for b in other]
    ends = 0
    for a, b in zip(one, other, strict=True):
        assert b["other_logprob"] == pytest.approx(a["other_logprob"], abs=1e-2)
        if a["topk_ids"] != b["topk_ids"]:
            ends += 1  # two end tokens, both stored as empty bytes, become one
            continue
        assert b["topk_logprobs"][0] == pytest.approx(a["topk_logprobs"][0], abs=1e-3)
        assert b["topk_logprobs"] == pytest.approx(a["topk_logprobs"], abs=1e-2)
    assert ends <= 8
    # A student of that vocabulary can be trained on it, and its targets sum to 1.
    traces = load_traces(folder, 20)
    assert traces.vocab_size == 32000
    spelled_out = {mistral.encode_bytes(bytes([byte]))[0]: byte for byte in range(32, 127)}
    for sequence in traces.sequences:
        logprobs_CK, other_C = (side.astype(float) for side in (sequence.topk_logprobs_CK, sequence.other_logprob_C))
        mass_C = np.exp(logprobs_CK).sum(axis=1) + np.exp(other_C)
        assert np.abs(mass_C[sequence.kd_valid_C] - 1).max() < 1e-6
        said = sequence.topk_ids_CK[np.isfinite(logprobs_CK)]
        assert not any(len(mistral.token_bytes(index)) == 1 and mistral.token_bytes(index)[0] in range(32, 127)
                       and index not in spelled_out for index in said.tolist())  # fmt: skip
    small = {
        "KD_DATA_PATH": str(folder),
        "MINI_DIM": "256",
        "MINI_LAYERS": "1",
        "TOTAL_STEPS": "2",
        "MAX_SEQ_LEN": "64",
    }
    assert train.run(stage_context(tmp_path, "train", small))
    assert main(["--root", str(tmp_path), "traces", "project", "--tokenizer", str(sentencepiece_model)]) == 0
    assert "unchanged" in capsys.readouterr().out


def other_tokenizer(folder: Path) -> Path:
    """A tokenizer with another vocabulary, on disk."""
    UNIGRAM.save(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_projection_is_complete_or_absent_and_continues_where_it_was_killed(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = str(other_tokenizer(tmp_path / "unigram"))
    write, written = writer.write_shard, []

    def dying(folder: Path, index: int, *rest: Any, **options: Any) -> Any:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(index)
        return write(folder, index, *rest, **options)

    monkeypatch.setattr(writer, "write_shard", dying)
    with pytest.raises(KeyboardInterrupt):
        reproject(data, source)
    projected = data.with_name(f"{data.name}.projected")
    (unfinished,) = projected.iterdir()
    assert unfinished.name[0] == "."
    (unfinished / f".kd_shard_001.parquet.{half_written._writer(2**22 + 1)}-0.part").write_bytes(
        b"of a killed writer"
    )
    monkeypatch.setattr(writer, "write_shard", write)
    found = reproject(data, source)
    assert (found["shards"], found["shards_made"], found["sequences"]) == (2, 1, 20)
    assert [path.name for path in projected.iterdir()] == [Path(found["folder"]).name]
    assert not list(Path(found["folder"]).glob(".*"))
    assert found["recovered_bytes"] == found["text_bytes"] > 0
    assert reproject(data, source)["cached"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), BitnetError("damaged")])
def test_nothing_is_left_of_a_projection_that_failed(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    source = str(other_tokenizer(tmp_path / "unigram"))
    monkeypatch.setattr(StudentTokenizer, "save", fail)
    with pytest.raises(BitnetError):
        reproject(data, source, out=tmp_path / "out" / "o")
    assert not list((tmp_path / "out").iterdir())


def test_only_shards_whose_input_changed_are_made_again(tmp_path: Path, data: Path) -> None:
    source = str(other_tokenizer(tmp_path / "unigram"))
    folder = Path(reproject(data, source)["folder"])
    before = files_of(folder)
    rewrite(data / "teacher_shard_001.parquet", edit(0, "other_logprob", lambda other: other - 0.004))
    found = reproject(data, source)
    assert (found["shards_made"], found["cached"]) == (1, False)
    changed = {name for name, content in files_of(folder).items() if before[name] != content}
    assert changed == {"kd_shard_001.parquet", "kd_stream_001.parquet"}


def test_other_files_are_never_overwritten(tmp_path: Path, data: Path) -> None:
    source = str(other_tokenizer(tmp_path / "unigram"))
    (tmp_path / "file").write_text("x")
    before = files_of(data)
    with pytest.raises(BitnetError, match="holds something else; give --out a new or an empty folder"):
        reproject(data, source, out=data)
    with pytest.raises(BitnetError, match="is a file"):
        reproject(data, source, out=tmp_path / "file")
    assert files_of(data) == before
    out = tmp_path / "out"
    out.mkdir()
    assert reproject(data, source, out=out)["shards_made"] == 2
    assert reproject(data, source, out=out)["cached"]


def test_a_tokenizer_that_reads_no_answer_is_refused_and_one_that_reads_some_counts_the_rest(
    tmp_path: Path, data: Path
) -> None:
    latin = Tokenizer(models.BPE({chr(code): code - 32 for code in range(32, 127)} | {"▁": 95, "</s>": 96}, []))
    latin.normalizer = normalizers.Replace(" ", "▁")
    latin.add_special_tokens(["</s>"])
    few = StudentTokenizer(latin, special_tokens={"eos_token": "</s>"}, template=PLAIN, name="latin")
    few.save(tmp_path / "few")
    found = reproject(data, str(tmp_path / "few"))
    assert 0 < found["sequences"] < 20
    assert found["rejected"].keys() <= {"byte_without_token", "unknown_candidates"}
    assert found["sequences"] + sum(found["rejected"].values()) == 20
    load_traces(Path(found["folder"]), 20)
    digits = Tokenizer(models.BPE({"1": 0, "2": 1, "</s>": 2}, []))
    digits.add_special_tokens(["</s>"])
    StudentTokenizer(digits, special_tokens={"eos_token": "</s>"}, template=PLAIN, name="digits").save(tmp_path / "d")
    with pytest.raises(BitnetError, match=r"/d can read none .* \(20 byte without token\); give another"):
        reproject(data, str(tmp_path / "d"))
    assert len(list((data.with_name(f"{data.name}.projected")).glob("[!.]*"))) == 1


def test_missing_teacher_space_is_an_error(tmp_path: Path, data: Path) -> None:
    with pytest.raises(BitnetError, match="no teacher space"):
        reproject(tmp_path / "nowhere", "x")
    TOKENIZER_FOLDER = tmp_path / "own"
    small_tokenizer().save(TOKENIZER_FOLDER)
    (data / ".sequences" / "part_000.parquet").unlink()
    with pytest.raises(BitnetError, match=r"part_000\.parquet is missing"):
        reproject(data, str(TOKENIZER_FOLDER))
    assert main(["--root", str(tmp_path), "traces", "project"]) == 2
