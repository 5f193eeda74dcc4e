"""What is about the machine and not about a file: a short of memory never makes a sound file look damaged."""

import errno
import mmap
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bitnet_core.cli import main as command
from bitnet_core.collecting import bodies
from bitnet_core.errors import (
    BitnetError,
    NameNotUTF8,
    UsageError,
    explained,
    is_about_the_machine,
    lacks_memory,
    lacks_package,
    raise_if_not_the_file,
)
from bitnet_core.evaluation import answers
from bitnet_core.export import gguf_read
from bitnet_core.files import utf8_name
from bitnet_core.model import packing, tensor_file
from bitnet_core.prompts import files as prompts
from bitnet_core.prompts import parquet
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.worker import _explain
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.tokenizer import load as tokenizers
from bitnet_core.traces import reproject, schema, shards, stats
from bitnet_core.training import checkpoints
from bitnet_tui import crash

SHORT: list[Exception] = [
    MemoryError(),
    pa.ArrowMemoryError("realloc of size 262144 failed"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried 193 MB"),
    RuntimeError("unable to mmap 193000000 bytes from file <x.pt>: Cannot allocate memory (12)"),
    RuntimeError("can't start new thread"),
    pa.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
]
LIMITS: list[Exception] = [
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.EIO, "Input/output error"),
    PermissionError(errno.EACCES, "Permission denied"),
]
OTHERS: list[Exception] = [
    ValueError("it is no Parquet"),
    OSError("Couldn't deserialize thrift"),
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    RuntimeError("PytorchStreamReader failed reading zip archive"),
    UsageError("Cannot allocate memory"),
]


def _path(name: str) -> Path:
    path = Path(name)
    path.write_bytes(b"sound")
    return path


READERS: dict[str, tuple[object, str, Callable[[], object]]] = {
    "packed": (packing, "load_tensors", lambda: packing.load_packed(_path("x.pt"))),
    "questions": (answers, "open_parquet", lambda: answers._last_messages(_path(schema.SEQUENCES_FILE).parent)),
    "checkpoint": (tensor_file, "load_tensors", lambda: checkpoints.load(_path("x.pt"))),
    "columns": (shards, "open_parquet", lambda: shards.require_columns(_path("x.parquet"), pa.schema([]))),
    "tables": (shards, "open_parquet", lambda: next(shards._tables(_path("x.parquet"), pa.schema([]), 1))),
    "rejected": (stats, "open_parquet", lambda: stats._rejected(_path(schema.SEQUENCES_FILE).parent)),
    "tokens": (stats, "open_parquet", lambda: stats.rejected_tokens(_path(schema.SEQUENCES_FILE).parent)),
    "teacher space": (reproject, "open_parquet", lambda: reproject._opened(_path("x.parquet"))),
    "prompts": (parquet, "open_parquet", lambda: list(prompts.records(prompts.Source(_path("x.parquet"))))),
    "gguf": (mmap, "mmap", lambda: gguf_read.opened(_path("x.gguf"), "f").__enter__()),
}


@pytest.mark.parametrize("error", SHORT + LIMITS, ids=str)
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_does_not_call_a_file_damaged_that_it_could_not_read(
    reader: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name, read = READERS[reader]

    def fails(*_: object, **__: object) -> object:
        raise error

    with monkeypatch.context() as patch, pytest.raises((type(error), BitnetError)) as raised:
        patch.setattr(where, name, fails)
        read()
    said_so = isinstance(error, OSError) and f"can't be read ({error.strerror})" in str(raised.value)
    assert raised.value is error or said_so


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take no such names")
def test_a_sound_file_is_not_damaged_because_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"ex\xff")
    folder.mkdir()
    checkpoint, table, gguf = (folder / name for name in ("x.pt", "x.parquet", "x.gguf"))
    tensor_file.save_tensors({}, checkpoint)
    with table.open("wb") as out:
        pq.write_table(pa.table({"a": [1]}), out)
    gguf.write_bytes(b"GGUF")
    readers = (
        lambda: checkpoints.load(checkpoint),
        lambda: shards.require_columns(table, pa.schema([])),
        lambda: utf8_name(gguf),
    )
    for read in readers:
        with pytest.raises(NameNotUTF8, match="its name is not UTF-8; rename the file or its folder"):
            read()


@pytest.mark.parametrize("error", SHORT, ids=str)
def test_a_tokenizer_is_not_unreadable_for_lack_of_memory(error: Exception) -> None:
    with pytest.raises(type(error)), tokenizers._readable(Path("x"), "f"):
        raise error


def test_a_paid_answer_is_not_lost_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: bytes) -> bytes:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(zlib, "decompress", fails)
    with pytest.raises(MemoryError):
        bodies.unpack(b"anything")


@pytest.mark.parametrize("error", SHORT, ids=str)
def test_a_command_and_a_stage_say_that_memory_ran_out(
    error: Exception, isolated: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> int:
        raise error

    monkeypatch.setattr(command, "_run", fails)
    assert command.main(["plan"]) == 1
    said = capsys.readouterr().err
    assert "emory" in said
    assert "ulimit -v" in said
    assert said.count("\n") == 1
    state, code, sentence = _explain(error, Experiment.open(isolated / "exp"), Redactor([]))
    assert (state, code) == ("failed", 1)
    assert sentence.startswith("Memory ran out; choose a smaller TRAIN_BATCH_SIZE")
    assert "bug" not in sentence


def test_a_stage_whose_disk_is_read_only_is_not_sent_to_permissions(isolated: Path) -> None:
    error = OSError(errno.EROFS, os.strerror(errno.EROFS), "/x")
    _, _, sentence = _explain(error, Experiment.open(isolated / "exp"), Redactor([]))
    assert sentence.startswith("/x can't be used (Read-only file system); mount its file system for writing, or")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("No module named 'numpy'", name="numpy"), r"numpy is not installed; run `.*bitnet-tui`"),
        (
            ModuleNotFoundError("No module named 'dotenv.x'", name="dotenv.x"),
            r"dotenv can't be used \(No module .*--force-reinstall python-dotenv`",
        ),
        (
            ImportError("libz.so.1: cannot\nopen", name="torch._C"),
            r"torch can't be used \(libz\.so\.1: cannot open\);",
        ),
        (
            ModuleNotFoundError("No module named '_sqlite3'", name="_sqlite3"),
            "was built without its module _sqlite3;",
        ),
    ],
)
def test_a_command_a_stage_and_the_app_name_a_package_that_is_missing(
    error: Exception,
    said: str,
    isolated: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(_: object) -> int:
        raise error

    monkeypatch.setattr(command, "_run", fails)
    assert command.main(["plan"]) == 1
    sentence = capsys.readouterr().err
    assert re.search(said, sentence)
    assert sentence.count("\n") == 1
    assert re.search(said, _explain(error, Experiment.open(isolated / "exp"), Redactor([]))[2])
    assert re.search(said, crash.report(error))


@pytest.mark.parametrize(
    "error", [ImportError("x"), ImportError("x", name="bitnet_core.x"), ImportError("x", name="re")]
)
def test_what_can_not_be_imported_of_our_own_is_a_bug(error: Exception) -> None:
    assert lacks_package(error) == ""


@pytest.mark.parametrize("package", ["msgspec", "dotenv", "platformdirs"])
@pytest.mark.parametrize("program", ["bitnet_core", "bitnet_tui"])
def test_a_program_without_a_package_that_it_always_needs_says_so(program: str, package: str, isolated: Path) -> None:
    code = f"import sys; sys.modules['{package}'] = None; from {program}.__main__ import main; sys.exit(main())"
    arguments = ["--plain"] if program == "bitnet_tui" else ["keys", "status", "--root", str(isolated / "exp")]
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in ended.stderr
    if ended.returncode:
        assert f"The Python package {package} is not installed; run `" in ended.stderr


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.EISDIR, "; move the folder away that is in the place of a file"),
        (errno.ENOTDIR, "; move the file away that is in the place of a folder"),
        (errno.EEXIST, "; move away what is there"),
    ],
)
def test_what_is_in_the_way_is_no_matter_of_permissions(number: int, fix: str) -> None:
    error = OSError(number, os.strerror(number))
    assert explained(error, "check its permissions") == f"({os.strerror(number)}){fix}"
    assert not is_about_the_machine(error)


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_what_may_be_about_the_file_is_left_to_its_reader(error: Exception) -> None:
    assert not lacks_memory(error)
    raise_if_not_the_file(error, Path("x"))


def test_the_file_is_named_where_the_error_names_none() -> None:
    error = OSError(errno.EMFILE, "Too many open files")
    with pytest.raises(OSError, match="Too many"):
        raise_if_not_the_file(error, Path("data/x.parquet"))
    assert error.filename == "data/x.parquet"


def test_a_damaged_checkpoint_is_still_called_damaged(isolated: Path) -> None:
    with pytest.raises(BitnetError, match="is truncated or not a checkpoint of this program"):
        checkpoints.load(_path("x.pt"))


def test_the_reason_of_a_numbered_error_is_the_systems() -> None:
    """pyarrow gives the number beside words of its own, as in `Detail: [errno 28] No space left on device`."""
    error = OSError("Error writing bytes to file")
    error.errno = errno.ENOSPC
    assert explained(error, "x") == "(No space left on device); free space there"


def test_a_very_long_message_loses_its_middle_and_keeps_its_fix() -> None:
    told = str(BitnetError(f"{'x' * 20_000_000} is not a shape; correct it."))
    assert len(told) < 21_000
    assert told.startswith("xxx")
    assert told.endswith("x is not a shape; correct it.")
    assert str(UsageError("short; mend it.")) == "short; mend it."
