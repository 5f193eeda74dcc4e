"""A student as a folder that transformers loads as `BitNetForCausalLM`: two bits a weight, tokenizer and card.

transformers has two ternary linears with reciprocal scales. This is `autobitlinear`, whose `weight_scale` is mean|W|
and whose packed bytes are ours unchanged, in its mode `offline`: its mode `online` would quantise again, to another
scale. It rounds inputs to 8 bits as we do. It knows squared ReLU, but no Hadamard transform.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.export.exportable import own_facts, require_exportable
from bitnet_core.export.places import complete_folder
from bitnet_core.model.packing import CODES_PER_BYTE, PackedBitLinear, pack_student
from bitnet_core.model.student import Student
from bitnet_core.runs.exports import MARK
from bitnet_core.text import crop, flat
from bitnet_core.tokenizer.student import StudentTokenizer

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
CARD_FILE = "README.md"
_FILES = "sha256"
"""Under this name the configuration has the hash of each file and its own."""
_SHOWN_CELLS = 80


def write(
    student: Student,
    tokenizer: StudentTokenizer,
    folder: Path,
    *,
    origin: Mapping[str, Any] | None = None,
    card: str = "",
) -> None:
    """Write a student, packed or not, as a folder, whole or not at all; a folder that is there is replaced.

    `origin` has what is kept of the checkpoint, such as its step; `card` is the text of the model card. BitnetError
    for what transformers can't compute, and when the disk is full.
    """
    require_computable(student, tokenizer)
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with complete_folder(folder) as temp:
        try:
            save_file(_tensors(student), temp / WEIGHTS_FILE, metadata={"format": "pt"})
        except SafetensorError as error:
            raise _system_error(error) from error
        # The library makes it readable for its owner alone.
        (temp / WEIGHTS_FILE).chmod(temp.stat().st_mode & 0o666)
        ends = {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.eos_id}
        files.write_json(temp / GENERATION_FILE, {"do_sample": False, **ends})
        tokenizer.save(temp)
        config = _config(student, tokenizer) | {MARK: own_facts(student, origin)}
        config[MARK][_FILES] = _hashes(temp.iterdir()) | {CONFIG_FILE: _config_hash(config)}
        files.write_json(temp / CONFIG_FILE, config)
        if card:
            files.write_text(temp / CARD_FILE, card)


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each that is a file, by its name."""
    return {one.name: files.sha256_file(one) for one in paths if one.is_file()}


def _config_hash(config: dict[str, Any]) -> str:
    """SHA-256 of what a configuration says beside the hashes."""
    facts = {name: value for name, value in config[MARK].items() if name != _FILES}
    return hashlib.sha256(json.dumps(config | {MARK: facts}, sort_keys=True).encode()).hexdigest()


def require_as_written(folder: Path) -> None:
    """BitnetError for a folder with a file that was changed or removed after it was exported.

    The card may be edited. An earlier version kept no hashes.
    """
    found = files.read_json(folder / CONFIG_FILE)
    facts = found.get(MARK) if isinstance(found, dict) else None
    told = facts.get(_FILES) if isinstance(facts, dict) else None
    if not isinstance(told, dict):
        return
    now = _hashes(one for one in folder.iterdir() if one.name in told) | {CONFIG_FILE: _config_hash(found)}
    for name, sha256 in told.items():
        if now.get(name) != sha256:
            raise BitnetError(f"{folder / name} was changed or removed after it was exported; export it again.")


def _system_error(error: Exception) -> Exception:
    """The system's error that the library tells by its number in a text; the same error if it names none."""
    named = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(named[1]), os.strerror(int(named[1]))) if named else error


def require_computable(student: Student, tokenizer: StudentTokenizer) -> None:
    """BitnetError if transformers would compute another function than the student's."""
    require_exportable(student, tokenizer, "transformers")
    odd = [name for name, (rows, _) in student.config.linear_shapes().items() if rows % CODES_PER_BYTE]
    if odd:
        raise BitnetError(
            f"transformers packs {CODES_PER_BYTE} rows into one, which the rows of {odd[0]} don't fill; "
            "use `bitnet export gguf`."
        )


def require_same_model(folder: Path, student: Student, tokenizer: StudentTokenizer) -> None:
    """BitnetError for a folder whose configuration is not this student's.

    Otherwise the library would build whatever it says, even a billion layers. A field that is not in it is left to
    the library's default.
    """
    path = folder / CONFIG_FILE
    found, config = files.read_json(path), student.config
    given = found if isinstance(found, dict) else {}
    head = {"head_dim": config.hidden_size // config.num_attention_heads}
    for name, value in (head | _config(student, tokenizer)).items():
        if name in given and given[name] != value:
            said = crop(flat(json.dumps(given[name])), _SHOWN_CELLS)
            raise BitnetError(f"{path} says {name} {said}, and the student has {json.dumps(value)}; export it again.")


def _config(student: Student, tokenizer: StudentTokenizer) -> dict[str, Any]:
    quantization = {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "offline",
        "modules_to_not_convert": ["lm_head"],
    }
    # Its own default ids are those of another vocabulary.
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.eos_id}
    return student.config.to_dict() | ends | {"dtype": "float32", "quantization_config": quantization}


def _tensors(student: Student) -> dict[str, Tensor]:
    """The packed student's tensors under transformers' names; the head is the embedding, so it is not stored."""
    packed = any(isinstance(linear, PackedBitLinear) for linear in student.bit_linears())
    source = student if packed else pack_student(student)
    found = {}
    for name, tensor in source.state_dict().items():
        if name.endswith(".packed"):
            found[name.removesuffix(".packed") + ".weight"] = tensor.cpu().contiguous()
        elif name.endswith(".scale"):
            found[name.removesuffix(".scale") + ".weight_scale"] = tensor.float().cpu().reshape(1)
        else:
            found[name] = tensor.detach().float().cpu().contiguous()
    return found
