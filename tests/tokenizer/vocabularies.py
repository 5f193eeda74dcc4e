"""Vocabularies that differ from the teacher's: Mistral's SentencePiece model, and small Unigram models."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from bitnet_core.files.user_folders import cache_folder
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer

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
    """The model file in mistral-common's wheel; the package itself is not installed."""
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
            pytest.skip(f"mistral-common's wheel can't be downloaded: {done.stderr.strip().splitlines()[-1:]}")
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
