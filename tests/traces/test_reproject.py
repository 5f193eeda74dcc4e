"""Onto another vocabulary: 32,000 SentencePiece tokens of Mistral's, and the real teacher's answers."""

import functools
import hashlib
import json
import math
import random
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from bitnet_core import files
from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.files import cache_folder
from bitnet_core.stages import collect, train
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.steps import TeacherStep
from bitnet_core.tokenizer.student import NoToken, StudentTokenizer
from bitnet_core.traces import writer
from bitnet_core.traces.answer import Rejected
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.reproject import reproject
from tests.builders import stage_context
from tests.traces.samples import projected, random_cut, rows_of, small_tokenizer, steps_for
from tests.traces.sets import edit, rewrite

_CACHE = cache_folder()
_WHEEL = "mistral_common-1.13.1-py3-none-any.whl"
_MEMBER = "mistral_common/data/tokenizer.model.v1"
_SHA256 = "dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055"
PLAIN = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"

PIECES = [
    *'abc the \n\t  {}":,1',
    *("é", "e\u0301", "東", "京", "🌧", "👩\u200d👩\u200d👧", "\u200d", "▁", "\x00", "</s>", "<unk>", "<0x41>"),
]
texts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=25).map("".join)


@pytest.fixture(scope="session")
def sentencepiece_model() -> Path:
    """The model file that mistral-common ships, out of its wheel alone: the package itself is not needed."""
    path = _CACHE / "tests" / "tokenizer.model"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "-d",
            str(path.parent),
            "mistral-common==1.13.1",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"mistral-common's wheel can't be had: {done.stderr.strip().splitlines()[-1:]}")
        with zipfile.ZipFile(path.parent / _WHEEL) as wheel:
            path.write_bytes(wheel.read(_MEMBER))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == _SHA256
    return path


@pytest.fixture(scope="session")
def mistral(sentencepiece_model: Path) -> StudentTokenizer:
    return load_tokenizer(sentencepiece_model, PLAIN)


def unigram(*, fallback: bool) -> StudentTokenizer:
    """A small Unigram model with a dummy prefix, as SentencePiece trains them, with byte fallback or without."""
    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizers.Replace(" ", "▁")
    lines = ["the rain there", "then these them", "naïve café", '{"name": "Alice"}'] * 50
    trained.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=60, show_progress=False, unk_token="<unk>"))
    pieces = json.loads(trained.to_str())["model"]["vocab"]
    kept = [piece for piece in pieces if piece[0] != "<unk>"]
    byte_pieces = [[f"<0x{byte:02X}>", -20.0] for byte in range(256)] if fallback else [["🌧", -9.0], ["東", -9.0]]
    vocabulary = [("<unk>", 0.0), ("</s>", 0.0), *map(tuple, byte_pieces), *map(tuple, kept)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, 0, fallback))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    return StudentTokenizer(tokenizer, special_tokens={"eos_token": "</s>"}, template=PLAIN, name="unigram")


UNIGRAM = unigram(fallback=True)
NO_FALLBACK = unigram(fallback=False)


@given(texts)
def test_every_text_comes_back_byte_for_byte(mistral: StudentTokenizer, text: str) -> None:
    for tokenizer in (mistral, UNIGRAM, small_tokenizer()):
        ids = tokenizer.encode_plain(text)
        assert b"".join(map(tokenizer.text_bytes, ids)) == text.encode(), tokenizer.name


@given(st.binary(max_size=30))
def test_so_do_bytes_that_are_no_text(mistral: StudentTokenizer, data: bytes) -> None:
    for tokenizer in (mistral, UNIGRAM):
        assert b"".join(map(tokenizer.text_bytes, tokenizer.encode_bytes(data))) == data


def test_cutting_is_sentencepieces_own(mistral: StudentTokenizer, sentencepiece_model: Path) -> None:
    """Behind a boundary a text is cut as the library itself cuts it there."""
    from sentencepiece import SentencePieceProcessor

    own = SentencePieceProcessor(model_file=str(sentencepiece_model))
    for text in ("The rain in Spain.", " the café 東京 🌧\n\n  x", '{"a": [1, 2]}', "a  b   c\td"):
        whole = own.encode("\n" + text)
        assert mistral.encode_plain(text) == whole[len(own.encode("\n")) :]
        assert mistral.encode(text) == own.encode(text)


@given(texts.filter(bool), st.integers(0, 2**32 - 1))
def test_projection_keeps_bytes_mass_and_the_observed_token(mistral: StudentTokenizer, text: str, seed: int) -> None:
    teacher, draw = small_tokenizer(), random.Random(seed)
    ids = random_cut(text.encode(), teacher, draw)
    steps = steps_for([*ids, teacher.eos_id], teacher, draw, in_top=0.8)
    for tokenizer in (mistral, UNIGRAM, NO_FALLBACK):
        try:
            made = projected(steps, "stop", tokenizer)
        except Rejected as refused:
            assert tokenizer is NO_FALLBACK
            assert refused.reason in ("byte_without_token", "unknown_candidates")
            continue
        stream = made.completion_ids_C.tolist()
        assert b"".join(map(tokenizer.text_bytes, stream)) == text.encode()
        assert made.stream_bytes == len(text.encode())
        assert stream[-1] == tokenizer.eos_id
        assert np.isfinite(made.topk_logprobs_RK[made.topk_ids_RK >= 0]).all()
        mass_R = np.exp(made.topk_logprobs_RK).sum(axis=1) + np.exp(made.other_R)
        assert np.abs(mass_R - 1).max(initial=0) < 1e-9
        starts = {sum(len(step.data) for step in steps[:number]) for number in range(len(steps) - 1)}
        same = all(
            not data or data in tokenizer.ids_by_bytes for step in steps for data in (step.data, *step.top_bytes)
        )
        begin = 0
        rows = {row.stream_pos: row for row in rows_of(made)}
        for position, index in enumerate(stream[:-1]):
            assert (position in rows) == (begin in starts)
            if position in rows:
                row = rows[position]
                assert len(set(row.topk_ids)) == len(row.topk_ids)
                wanted = slow_masses(steps, row.step_idx, index, tokenizer, same)
                found = dict(zip(row.topk_ids, np.exp(row.topk_logprobs), strict=True))
                assert found == pytest.approx(wanted, abs=1e-9)
            begin += len(tokenizer.token_bytes(index))


def test_a_character_that_the_student_has_whole_and_the_teacher_in_parts_keeps_its_mass() -> None:
    """The parts have no token of the student's; the whole has the product of their masses."""
    teacher = small_tokenizer()
    rain = "🌧".encode()
    parts = [teacher.ids_by_bytes[rain[at : at + 1]] for at in range(len(rain))]
    a = teacher.ids_by_bytes[b"a"]
    steps = [
        TeacherStep(part, teacher.token_bytes(part), math.log(0.5), (part, a), (teacher.token_bytes(part), b"a"),
                    (math.log(0.5), math.log(0.25)))
        for part in parts
    ]  # fmt: skip
    assert b"".join(step.data for step in steps) == rain
    (row,) = rows_of(projected(steps, "length", NO_FALLBACK))
    found = dict(zip(row.topk_ids, row.topk_logprobs, strict=True))
    assert found == pytest.approx(
        {NO_FALLBACK.ids_by_bytes[b"a"]: math.log(0.25), NO_FALLBACK.ids_by_bytes[rain]: 4 * math.log(0.5)}
    )
    assert row.other_logprob == pytest.approx(math.log(1 - 0.25 - 0.5**4))


def test_one_character_that_a_normaliser_changes_leaves_the_cut_of_the_others_alone() -> None:
    whole = json.loads(small_tokenizer()._tokenizer.to_str()) | {"normalizer": {"type": "NFC"}}
    composing = StudentTokenizer(
        Tokenizer.from_str(json.dumps(whole)), special_tokens={"eos_token": "<|im_end|>"}, template=PLAIN, name="nfc"
    )
    before, after = "the rains explain  there\n\n 1 22 then", " these plains there"
    ids = composing.encode_plain(f"{before} e\u0301{after}")
    assert b"".join(map(composing.text_bytes, ids)) == f"{before} e\u0301{after}".encode()
    cut, tail = composing.encode_plain(before), composing.encode_plain(after)
    assert ids[: len(cut)] == cut
    assert ids[-len(tail) :] == tail
    assert cut == small_tokenizer().encode_plain(before)


@pytest.mark.parametrize("spelling", ["</s>", "<unk>"])
@pytest.mark.parametrize("special", [True, False])
def test_the_spelling_of_an_end_in_a_text_is_text(spelling: str, special: bool) -> None:
    whole = json.loads(UNIGRAM._tokenizer.to_str())
    for token in whole["added_tokens"]:
        token["special"] = special
    tokenizer = StudentTokenizer(
        Tokenizer.from_str(json.dumps(whole)), special_tokens={"eos_token": "</s>"}, template=PLAIN, name="ends"
    )
    text = f"the{spelling} rain{spelling}"
    ids = tokenizer.encode_plain(text)
    assert tokenizer.eos_id not in ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([*ids, tokenizer.eos_id]) == text


def slow_masses(
    steps: Sequence[TeacherStep], place: int, index: int, tokenizer: StudentTokenizer, same: bool
) -> dict[int, float]:
    """Probability by student token, one candidate at a time; written from the rules, not from the code."""
    step = steps[place]
    table: dict[int, float] = {}
    for candidate, data, logprob in zip(step.top_ids, step.top_bytes, step.top_logprobs, strict=True):
        first = first_of(data, tokenizer, same)
        if candidate != step.token_id and first is not None:
            table[first] = table.get(first, 0.0) + math.exp(logprob)
    observed = math.exp(step.logprob)
    said = tokenizer.token_bytes(index)
    listed, kin = step.token_id in step.top_ids, index in table
    as_it_is = said == step.data and first_of(said, tokenizer, same) == index
    if as_it_is and not listed and not kin:
        return table  # a part of Other, as every token that is not listed
    left = said[len(step.data) :]
    for later in steps[place + 1 :]:
        if not left:
            break
        options = {(later.token_id, later.data): math.exp(later.logprob)}
        options |= {
            (other, data): math.exp(logprob)
            for other, data, logprob in zip(later.top_ids, later.top_bytes, later.top_logprobs, strict=True)
        }
        whole = len(left) >= len(later.data)
        fitting = [p for (_, data), p in options.items() if data.startswith(left)]
        observed *= math.exp(later.logprob) if whole else min(1.0, sum(fitting))
        left = left[len(later.data) :]
    table[index] = table.get(index, 0.0) + observed
    return table


def first_of(data: bytes, tokenizer: StudentTokenizer, same: bool) -> int | None:
    """The first token of what the library itself makes of these bytes where it cuts behind another text."""
    if not data:
        return tokenizer.eos_id
    if same:
        return tokenizer.ids_by_bytes[data]
    try:
        tokenizer.encode_bytes(data)
    except NoToken:
        return None
    text = data.decode(errors="replace").partition("\ufffd")[0]
    for before in ("\n", "a", "\x01", ".") if text else ():
        encoded = library_of(tokenizer).encode(before + text, add_special_tokens=False)
        at = [begin for begin, _ in encoded.offsets]
        if any(begin < len(before) < end for begin, end in encoded.offsets) or len(before) not in at:
            continue
        found = int(encoded.ids[at.index(len(before))])
        said = tokenizer.text_bytes(found)
        if said and data.startswith(said):
            return found
        break  # a normaliser's work
    sizes = range(len(data), 0, -1)
    return next(tokenizer.ids_by_bytes[data[:size]] for size in sizes if data[:size] in tokenizer.ids_by_bytes)


@functools.cache
def library_of(tokenizer: StudentTokenizer) -> Tokenizer:
    library = Tokenizer.from_str(tokenizer._tokenizer.to_str())
    library.encode_special_tokens = True
    return library


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
    # The same tokenizer again gives the same rows that collecting made.
    own = Path(reproject(data, str(data / "tokenizer"))["folder"])
    one, other = (pq.read_table(place / "kd_shard_000.parquet").to_pylist() for place in (data, own))
    assert [a["teacher_sample_id"] for a in one] == [b["teacher_sample_id"] for b in other]
    ends = 0
    for a, b in zip(one, other, strict=True):
        assert b["other_logprob"] == pytest.approx(a["other_logprob"], abs=1e-2)
        if a["topk_ids"] != b["topk_ids"]:
            ends += 1  # of two end tokens, known by their bytes alone, one is made
            continue
        assert b["topk_logprobs"][0] == pytest.approx(a["topk_logprobs"][0], abs=1e-3)
        assert b["topk_logprobs"] == pytest.approx(a["topk_logprobs"], abs=1e-2)
    assert ends <= 8
    # A student of that vocabulary can be trained on it, and what it is trained on makes 1.
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
    """A vocabulary of its own, on disk."""
    UNIGRAM.save(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_projection_is_whole_or_not_there_and_goes_on_where_it_was_killed(
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
    assert [path.name[0] for path in (data / "projected").iterdir()] == ["."]
    (stump,) = (data / "projected").iterdir()
    (stump / f".kd_shard_001.parquet.{files._writer(2**22 + 1)}-0.part").write_bytes(b"of a killed writer")
    monkeypatch.setattr(writer, "write_shard", write)
    found = reproject(data, source)
    assert (found["shards"], found["shards_made"], found["sequences"]) == (2, 1, 20)
    assert [path.name for path in (data / "projected").iterdir()] == [Path(found["folder"]).name]
    assert not list(Path(found["folder"]).glob(".*"))
    assert found["recovered_bytes"] == found["text_bytes"] > 0
    assert reproject(data, source)["cached"]


def test_what_a_projection_is_made_from_decides_what_is_made_again(tmp_path: Path, data: Path) -> None:
    source = str(other_tokenizer(tmp_path / "unigram"))
    folder = Path(reproject(data, source)["folder"])
    before = files_of(folder)
    rewrite(data / "teacher_shard_001.parquet", edit(0, "other_logprob", lambda other: other - 0.004))
    found = reproject(data, source)
    assert (found["shards_made"], found["cached"]) == (1, False)
    changed = {name for name, content in files_of(folder).items() if before[name] != content}
    assert changed == {"kd_shard_001.parquet", "kd_stream_001.parquet"}


def test_nothing_that_is_there_is_overwritten(tmp_path: Path, data: Path) -> None:
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


def test_a_student_that_can_read_nothing_is_refused_and_one_that_reads_some_says_what_is_left_out(
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
    with pytest.raises(BitnetError, match=r"digits can read none .* \(20 byte without token\); give another"):
        reproject(data, str(tmp_path / "d"))
    assert len(list((data / "projected").glob("[!.]*"))) == 1


def test_what_can_not_be_projected_is_told(tmp_path: Path, data: Path) -> None:
    with pytest.raises(BitnetError, match="no teacher space"):
        reproject(tmp_path / "nowhere", "x")
    TOKENIZER_FOLDER = tmp_path / "own"
    small_tokenizer().save(TOKENIZER_FOLDER)
    (data / ".sequences" / "part_000.parquet").unlink()
    with pytest.raises(BitnetError, match=r"part_000\.parquet is missing"):
        reproject(data, str(TOKENIZER_FOLDER))
    assert main(["--root", str(tmp_path), "traces", "project"]) == 2
