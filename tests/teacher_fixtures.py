"""The embedded teacher for tests: its real files from the user's cache (fetched once), and a server of its own.

The cache folder is found when this module is loaded, before a test changes HOME.
"""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bitnet_core.files.user_folders import cache_folder
from bitnet_core.stages import collect
from bitnet_core.teachers.embedded.files import EmbeddedFiles, ensure_files
from bitnet_core.teachers.embedded.server import EmbeddedServer
from bitnet_core.tokenizer.load import load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer

_CACHE = cache_folder()


@pytest.fixture(scope="session")
def teacher_files() -> EmbeddedFiles:
    """GGUF and tokenizer folder of the embedded teacher."""
    return ensure_files(cache=_CACHE)


@pytest.fixture(scope="session")
def teacher_tokenizer(teacher_files: EmbeddedFiles) -> StudentTokenizer:
    return load_tokenizer(teacher_files.tokenizer_dir)


@pytest.fixture
def teacher_cache(
    teacher_files: EmbeddedFiles,
    teacher_tokenizer: StudentTokenizer,
    isolated: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Let stages and processes that a test starts use the same cache.

    Collecting in the test's process gets the files that were checked and the tokenizer that was read before, because
    that takes half a second.
    """
    monkeypatch.setenv("BITNET_CACHE", str(_CACHE))

    def known(source: Path | str, template: str = "", *, merge_system: bool = False) -> StudentTokenizer:
        own = source == teacher_files.tokenizer_dir and not template and not merge_system
        return teacher_tokenizer if own else load_tokenizer(source, template, merge_system=merge_system)

    monkeypatch.setattr(collect, "load_tokenizer", known)
    monkeypatch.setattr(collect, "ensure_files", lambda *_: teacher_files)
    return _CACHE


@pytest.fixture(scope="session")
def teacher_server(teacher_files: EmbeddedFiles) -> Iterator[EmbeddedServer]:
    """A running server with two slots, shared by all tests of the session."""
    with EmbeddedServer(teacher_files.gguf, parallel=2, context=1024) as server:
        yield server


@contextlib.contextmanager
def read_soon() -> Iterator[None]:
    """Inside the block the package gguf, and transformers with it, read the teacher's file in a third of the time.

    Its vocabulary is 100,000 slices of the file, each of which costs four times as much of a memmap as of an array.
    And transformers asks for the same map of names once for each of 200 modules.
    """
    import gguf

    memmap = np.memmap
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(np, "memmap", lambda *given, **options: memmap(*given, **options).view(np.ndarray))
        patched.setattr(gguf, "get_tensor_name_map", functools.cache(gguf.get_tensor_name_map))
        yield
