"""Onto another vocabulary: 32,000 SentencePiece tokens of Mistral's, and the real teacher's answers."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from bitnet_core.cli import main
from bitnet_core.errors import BitnetError
from bitnet_core.resources import cache_folder
from bitnet_core.stages import collect, train
from bitnet_core.stages.context import StageContext
from bitnet_core.traces.dataset import load_traces
from bitnet_core.traces.reproject import reproject
from bitnet_core.traces.tokenizer import StudentTokenizer, load_tokenizer
from tests.traces.samples import TEMPLATE, projected, random_cut, rows_of, small_tokenizer, steps_for

_CACHE = cache_folder()
_WHEEL = "mistral_common-1.13.1-py3-none-any.whl"
_MEMBER = "mistral_common/data/tokenizer.model.v1"
_SHA256 = "dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055"
PLAIN = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"

PIECES = [*'abc the \n\t  {}":,1', "é", "e\u0301", "東", "京", "🌧", "👩\u200d👩\u200d👧", "\u200d", "▁", "\x00"]
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


def unigram() -> StudentTokenizer:
    """A small Unigram model with byte fallback and a dummy prefix, as SentencePiece trains them."""
    trained = Tokenizer(models.Unigram())
    trained.normalizer = normalizers.Replace(" ", "▁")
    lines = ["the rain there", "then these them", "naïve café", '{"name": "Alice"}'] * 50
    trained.train_from_iterator(lines, trainers.UnigramTrainer(vocab_size=60, show_progress=False, unk_token="<unk>"))
    pieces = json.loads(trained.to_str())["model"]["vocab"]
    kept = [piece for piece in pieces if piece[0] != "<unk>"]
    byte_pieces = [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
    vocabulary = [("<unk>", 0.0), ("</s>", 0.0), *map(tuple, byte_pieces), *map(tuple, kept)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, 0, True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    return StudentTokenizer(tokenizer, special_tokens={"eos_token": "</s>"}, template=PLAIN, name="unigram")


UNIGRAM = unigram()


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
    import random

    teacher, draw = small_tokenizer(), random.Random(seed)
    ids = random_cut(text.encode(), teacher, draw)
    steps = steps_for([*ids, teacher.eos_id], teacher, draw, in_top=0.8)
    for tokenizer in (mistral, UNIGRAM):
        made = projected(steps, "stop", tokenizer)
        stream = made.completion_ids_C.tolist()
        assert b"".join(map(tokenizer.text_bytes, stream)) == text.encode()
        assert stream[-1] == tokenizer.eos_id
        mass_R = np.exp(made.topk_logprobs_RK).sum(axis=1) + np.exp(made.other_R)
        assert np.abs(mass_R - 1).max(initial=0) < 1e-9
        starts, begin = set(), 0
        for step in steps[:-1]:
            starts.add(begin)
            begin += len(step.data)
        begin = 0
        rows = {row.stream_pos: row for row in rows_of(made)}
        for position, index in enumerate(stream[:-1]):
            assert (position in rows) == (begin in starts)
            if position in rows:
                row, step = rows[position], steps[rows[position].step_idx]
                assert len(set(row.topk_ids)) == len(row.topk_ids)
                wanted = slow_masses(step, begin, index, steps, tokenizer)
                found = dict(zip(row.topk_ids, np.exp(row.topk_logprobs), strict=True))
                assert found == pytest.approx(wanted, abs=1e-9)
            begin += len(tokenizer.token_bytes(index))


def slow_masses(
    step: object, begin: int, index: int, steps: tuple[object, ...], tokenizer: StudentTokenizer
) -> dict[int, float]:
    """Probability by student token, one candidate at a time; written from the rules, not from the code."""
    from bitnet_core.traces.steps import TeacherStep

    assert isinstance(step, TeacherStep)
    place = next(number for number, one in enumerate(steps) if one is step)
    table: dict[int, float] = {}
    observed = np.exp(step.logprob)
    for candidate, data, logprob in zip(step.top_ids, step.top_bytes, step.top_logprobs, strict=True):
        if candidate == step.token_id and first_of(step.data, tokenizer) != index:
            continue
        first = first_of(data, tokenizer)
        table[first] = table.get(first, 0.0) + np.exp(logprob)
    if first_of(step.data, tokenizer) == index:
        return table
    left = tokenizer.token_bytes(index)[len(step.data) :]
    for later in steps[place + 1 :]:
        assert isinstance(later, TeacherStep)
        if not left:
            break
        options = {(later.token_id, later.data): np.exp(later.logprob)}
        options |= {
            (other, data): np.exp(logprob)
            for other, data, logprob in zip(later.top_ids, later.top_bytes, later.top_logprobs, strict=True)
        }
        whole = len(left) >= len(later.data)
        fitting = [p for (_, data), p in options.items() if data.startswith(left)]
        observed *= np.exp(later.logprob) if whole else min(1.0, sum(fitting))
        left = left[len(later.data) :]
    table[index] = table.get(index, 0.0) + observed
    return table


def first_of(data: bytes, tokenizer: StudentTokenizer) -> int:
    if not data:
        return tokenizer.eos_id
    return tokenizer.ids_by_bytes[data] if data in tokenizer.ids_by_bytes else tokenizer.encode_bytes(data)[0]


@pytest.mark.teacher
@pytest.mark.usefixtures("teacher_cache")
def test_the_real_teachers_answers_onto_32000_pieces(
    tmp_path: Path, sentencepiece_model: Path, mistral: StudentTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"KD_NUM_PROMPTS": "8", "KD_MAX_TOKENS_PER_PROMPT": "48", "TEACHER_TOP_LOGPROBS": "20"}
    ctx = StageContext.for_tests(tmp_path, "collect", values)
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
    same = [a["topk_ids"] == b["topk_ids"] for a, b in zip(one, other, strict=True)]
    assert sum(same) >= len(same) - 8  # of two end tokens, known by their bytes alone, one is made: at ends
    assert [a["teacher_sample_id"] for a in one] == [b["teacher_sample_id"] for b in other]
    # A student of that vocabulary can be trained on it.
    assert load_traces(folder, 20).vocab_size == 32000
    small = {
        "KD_DATA_PATH": str(folder),
        "MINI_DIM": "256",
        "MINI_LAYERS": "1",
        "TOTAL_STEPS": "2",
        "MAX_SEQ_LEN": "64",
    }
    assert train.run(StageContext.for_tests(tmp_path, "train", small))
    assert main(["--root", str(tmp_path), "traces", "project", "--tokenizer", str(sentencepiece_model)]) == 0
    assert "was there already" in capsys.readouterr().out


def test_what_can_not_be_projected_is_told(tmp_path: Path, data: Path) -> None:
    with pytest.raises(BitnetError, match="no teacher space"):
        reproject(tmp_path / "nowhere", "x")
    TOKENIZER_FOLDER = tmp_path / "own"
    small_tokenizer().with_template(TEMPLATE).save(TOKENIZER_FOLDER)
    (data / ".sequences" / "part_000.parquet").unlink()
    with pytest.raises(BitnetError, match=r"part_000\.parquet is missing"):
        reproject(data, str(TOKENIZER_FOLDER))
    assert main(["--root", str(tmp_path), "traces", "project"]) == 2
