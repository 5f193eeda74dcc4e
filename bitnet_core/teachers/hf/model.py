"""Load a transformers model and its tokenizer onto a device.

Heavy: torch and transformers. Knows no requests.
"""

import contextlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from bitnet_core.errors import BitnetError
from bitnet_core.files.models import is_gguf
from bitnet_core.process import importing, rss_bytes
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers.hf.files import locate
from bitnet_core.tokenizer.folder import TEMPLATE_FILE
from bitnet_core.tokenizer.load import NoTemplate, load_tokenizer
from bitnet_core.tokenizer.student import StudentTokenizer

_FLOAT_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_FLOATS = frozenset(_FLOAT_NAMES.values())
"""As safetensors names them."""
_WEIGHTS = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)
"""The library reads the first of these that a folder has."""


class OutOfMemory(BitnetError):
    """The model, or the batch it has to decode, does not fit into memory."""


@dataclass
class LoadedModel:
    """`ends` are the tokens that end an answer; `context` limits the tokens of prompt and answer together.

    `unused` are tensors of its files that its configuration leaves out.
    """

    model: Any
    tokenizer: StudentTokenizer
    ends: frozenset[int]
    context: int
    _before: int
    unused: tuple[str, ...] = ()
    _most: int = 0

    @property
    def known(self) -> int:
        """The number of tokens that have text; vocabularies are often padded beyond them."""
        return min(self.tokenizer.vocab_size, int(self.model.config.get_text_config().vocab_size))

    def memory(self) -> int:
        """Bytes that loading and running the model added: CUDA's peak, or the highest value of all calls so far."""
        self._most = max(self._most, _memory(self.model.device) - self._before)
        return self._most


def load(name: str, options: TeacherOptions, device: torch.device, token: str | None) -> LoadedModel:
    """Load a model from a folder, a GGUF file or the hub. Raises BitnetError, whose one sentence names the fault."""
    path = locate(name, token)
    tokenizer = tokenizer_of(name, path)
    dtype = pick_dtype(options, device)
    with importing():
        import transformers.modeling_utils  # noqa: F401 - here, for its code is no part of the model's memory
    before = _memory(device)
    with out_of_memory(f"{name} does not fit into the memory of {device}; choose a smaller one."):
        model, unused = _model(name, path, dtype)
        if getattr(model, "_is_stateful", False):
            raise BitnetError(
                f"{name} has a recurrent state instead of a cache and can't be decoded here; serve it with vLLM."
            )
        model = model.to(device).eval()
    return around(model, tokenizer, options, before, unused)


def around(
    model: Any, tokenizer: StudentTokenizer, options: TeacherOptions, before: int = 0, unused: tuple[str, ...] = ()
) -> LoadedModel:
    """A model that is on its device already; `before` is the memory in use before it was loaded."""
    context = min(options.context, positions_of(model) or options.context)
    loaded = LoadedModel(model, tokenizer, _ends(model, tokenizer), context, before, unused)
    loaded.memory()
    return loaded


def positions_of(model: Any) -> int | None:
    """The longest text that a model reads, in tokens; None if its configuration does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None) or None


def pick_dtype(options: TeacherOptions, device: torch.device) -> torch.dtype:
    """float32 on a CPU, where it is faster; a 16-bit type on a GPU, unless TORCH_DTYPE is fp32."""
    if device.type == "cpu" or options.dtype == "fp32":
        return torch.float32
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16


@contextlib.contextmanager
def out_of_memory(message: str) -> Iterator[None]:
    """Turn every way in which torch reports a lack of memory into OutOfMemory with `message`."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(message) from error
    except RuntimeError as error:
        # The CPU's and Apple's allocators raise a plain RuntimeError.
        if "not enough memory" in str(error) or "out of memory" in str(error):
            raise OutOfMemory(message) from error
        raise


def tokenizer_of(name: str, path: Path) -> StudentTokenizer:
    """The tokenizer of a model that `locate` found."""
    folder = path.parent if is_gguf(path) else path
    if is_gguf(path) and not (folder / "tokenizer.json").is_file():
        raise BitnetError(
            f"There is no tokenizer.json beside {path}; put the model's and its tokenizer_config.json there "
            "(a GGUF file does not say how its text is tokenized), or serve it with TEACHER_PROVIDER=llamacpp."
        )
    try:
        return load_tokenizer(folder, fix="correct TEACHER_MODEL or HF_MODEL")
    except NoTemplate as error:
        raise BitnetError(
            f"{name} has no chat template, so it can't chat; choose a chat model (often named Instruct), or "
            f"put a {TEMPLATE_FILE} beside its tokenizer.json."
        ) from error


def unloaded(name: str, path: Path) -> Any:
    """The model without its weights, from its configuration alone. BitnetError as of `load`."""

    def empty(folder: str, **options: Any) -> Any:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **options))

    return _read(name, path, empty)


def _model(name: str, path: Path, dtype: torch.dtype) -> tuple[Any, tuple[str, ...]]:
    """The model with its weights, and the tensors that it has no use for.

    BitnetError for missing tensors and those of another size, which the library fills with random numbers, and for
    those that are not floats, which it casts.
    """
    loading = partial(
        AutoModelForCausalLM.from_pretrained,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # else the library prints them, and refers to what it has printed
        return_dict=True,  # whatever the configuration says
    )
    model, about = _read(name, path, loading)
    for own, stored, wanted in sorted(about["mismatched_keys"]):
        raise BitnetError(
            f"{name} has a tensor {own:.80} of {tuple(stored)}, and its config.json asks for {tuple(wanted)}; get "
            "all of its files again."
        )
    if missing := sorted(about["missing_keys"]):
        raise BitnetError(
            f"{name} lacks {len(missing)} of the tensors that its configuration asks for, such as {missing[0]:.80}; "
            "get all of its files again."
        )
    if not hasattr(model, "hf_quantizer"):
        with _explained(name):
            stored = list(_stored_types(path, model.config))
        _require_floats(name, stored, [own for own, _ in model.named_parameters()])
    return model, tuple(sorted(about["unexpected_keys"]))


def _require_floats(name: str, stored: Sequence[tuple[str, str]], parameters: Sequence[str]) -> None:
    """BitnetError for a parameter `stored` in a type of quantised weights: a cast would leave out their scales.

    Other tensors may have any type; older files keep masks.
    """
    for own, kind in stored:
        if kind not in _FLOATS and any(one == own or one.endswith(f".{own}") for one in parameters):
            raise BitnetError(
                f"{name} stores {own:.80} as {kind}, and its config.json has no quantization_config that says what "
                "that means; get all of its files again, or choose the model that is not quantised."
            )


def _stored_types(path: Path, config: Any) -> Iterator[tuple[str, str]]:
    """The name and type of every tensor in a folder's weights; of a GGUF none, for its types say what they mean."""
    for one in _weight_files(path, config):
        if one.suffix == ".safetensors":
            with safe_open(one, framework="pt") as file:
                yield from ((own, file.get_slice(own).get_dtype()) for own in file.keys())  # noqa: SIM118 - no dict
        else:
            found = torch.load(one, map_location="meta", weights_only=True)
            tensors = {own: value for own, value in found.items() if isinstance(value, torch.Tensor)}
            yield from ((own, _FLOAT_NAMES.get(value.dtype, str(value.dtype))) for own, value in tensors.items())


def _weight_files(folder: Path, config: Any) -> list[Path]:
    """The files from which the library reads a model's weights: others beside them are none of its business."""
    chosen = getattr(config, "transformers_weights", None)
    for path in (folder / name for name in ([chosen] if chosen else _WEIGHTS)):
        if path.is_file():
            names = json.loads(path.read_bytes())["weight_map"].values() if path.suffix == ".json" else [path.name]
            return [folder / name for name in sorted(set(names))]
    return []


def _read(name: str, path: Path, read: Callable[..., Any]) -> Any:
    folder = path.parent if is_gguf(path) else path
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    options = {"gguf_file": path.name} if is_gguf(path) else {}
    if options and importlib.util.find_spec("accelerate") is None:
        raise BitnetError(f"transformers needs accelerate to load {name}; run pip install 'bitnet-tui[gguf]'.")
    with _explained(name):
        # Unsaid, the library asks on stdin whether to run the model's own code, and a piped question may answer "y".
        return read(str(folder), local_files_only=True, trust_remote_code=False, **options)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the library raises while it reads the model `name` into a BitnetError."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        # Unknown architecture, missing or damaged weights, custom code: the library raises errors of all kinds.
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise BitnetError(
            f"transformers can't load {name} ({type(error).__name__}: {reason}); correct TEACHER_MODEL or "
            "HF_MODEL, or serve it with another provider."
        ) from error


def _ends(model: Any, tokenizer: StudentTokenizer) -> frozenset[int]:
    """The end tokens of tokenizer and model: some have one for a turn and one for a text."""
    ends = {tokenizer.eos_id}
    for config in (model.generation_config or GenerationConfig(), model.config.get_text_config()):
        ids = getattr(config, "eos_token_id", None)
        ends |= set(ids if isinstance(ids, list) else [] if ids is None else [ids])
    return frozenset(ends)


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return rss_bytes()
