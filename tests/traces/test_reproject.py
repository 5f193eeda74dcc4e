"""A trace set projected onto another tokenizer: complete or absent, made again only if its input changed."""

import errno
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.files import half_written
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces import schema, writer
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.reproject import reproject
from tests.tokenizer.vocabularies import PLAIN, UNIGRAM
from tests.traces.samples import small_tokenizer
from tests.traces.sets import change_metadata, edit, rewrite


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


def test_what_a_newer_version_has_projected_is_left_as_it_is(tmp_path: Path, data: Path) -> None:
    source = str(other_tokenizer(tmp_path / "unigram"))
    folder = Path(reproject(data, source)["folder"])
    for place, name in ((folder, "kd_shard_001.parquet"), (data, "teacher_shard_001.parquet")):
        change_metadata(place / name, projection=schema.PROJECTION_VERSION + 1)
        before = files_of(folder)
        with pytest.raises(
            BitnetError, match=rf"{place / name} was written by a newer version of bitnet-tui; update"
        ):
            reproject(data, source)
        assert files_of(folder) == before
        change_metadata(place / name, projection=schema.PROJECTION_VERSION)


def test_missing_teacher_space_is_an_error(tmp_path: Path, data: Path) -> None:
    with pytest.raises(BitnetError, match="no teacher space"):
        reproject(tmp_path / "nowhere", "x")
    TOKENIZER_FOLDER = tmp_path / "own"
    small_tokenizer().save(TOKENIZER_FOLDER)
    (data / ".sequences" / "part_000.parquet").unlink()
    with pytest.raises(BitnetError, match=r"part_000\.parquet is missing"):
        reproject(data, str(TOKENIZER_FOLDER))
    assert main(["--root", str(tmp_path), "traces", "project"]) == 2
