"""A model whose weights a student can start from: what fits, and how a tensor is read. It knows no file format.

A student is Llama with two more norms, so a source is a plain Llama: no biases, no norms of q and k, rotary positions
without scaling, SiLU. Tensors have the names of transformers' `LlamaForCausalLM`, which are the student's own.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
FITS = (
    "what fits is a model of Llama's shape (Llama, SmolLM2, Mistral, TinyLlama): no biases, no norms of q and k, "
    "unscaled rotary positions, SiLU"
)


_P = ParamSpec("_P")
_T = TypeVar("_T")


class DoesNotFit(BitnetError):
    """The model is of another kind than a student's; the sentence says what fits."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"A student can't start from {name} ({reason}); {FITS}.")


@dataclass(frozen=True)
class Source:
    """`shape` is that of the whole model, with as many tokens as its embedding has rows."""

    name: str
    shape: StudentConfig
    tied: bool
    """Whether its head is its embedding, as a student's is."""
    tokens: Mapping[int, str]
    """Every token's spelling in its vocabulary, by id."""
    read: Callable[[str], Tensor]
    """A tensor by its name, fp32, in memory of its own."""
    sha256: Callable[[], str]
    """Hash of the model's files."""


class Unchanged:
    """Files whose headers were read: their weights are read later, by name, and must be those of the headers."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._versions = {path: _version(path) for path in paths}

    def checked(self, call: Callable[_P, _T]) -> Callable[_P, _T]:
        """The same call, which raises BitnetError if a file is another one before it or after it."""

        def check(*args: _P.args, **options: _P.kwargs) -> _T:
            self._require()
            found = call(*args, **options)
            self._require()
            return found

        return check

    def _require(self) -> None:
        for path, version in self._versions.items():
            if _version(path) != version:
                raise BitnetError(f"{path} was replaced or changed while its model was read; start again.")


def _version(path: Path) -> tuple[int, ...]:
    """Empty for a file that is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def layer_names(config: StudentConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of a source's tensors in one layer, by their names in it: those of a student without its sub-norms."""
    norms = dict.fromkeys(("input_layernorm", "post_attention_layernorm"), (config.hidden_size,))
    return {f"{name}.weight": shape for name, shape in {**config.linear_shapes(), **norms}.items()}


def shape_of(name: str, values: Mapping[str, Any]) -> StudentConfig:
    """The shape of a model that says `values` of itself, which may be anything. DoesNotFit for no student's shape."""
    try:
        shape = StudentConfig(**values)
    except BitnetError as error:
        raise DoesNotFit(name, str(error).rstrip(".")) from error
    return replace(shape, rope_theta=float(shape.rope_theta), rms_norm_eps=float(shape.rms_norm_eps))


def require_tensors(name: str, found: Mapping[str, tuple[int, ...]], shape: StudentConfig) -> None:
    """DoesNotFit for a tensor that a Llama hasn't got, BitnetError for one that is missing or of another size."""
    wanted: dict[str, tuple[int, ...]] = {
        EMBEDDING: (shape.vocab_size, shape.hidden_size),
        FINAL_NORM: (shape.hidden_size,),
    }
    # With as many layers as tensors, one is missing already: no more are listed, however many the file claims.
    for layer in range(min(shape.num_hidden_layers, len(found))):
        wanted |= {f"model.layers.{layer}.{part}": size for part, size in layer_names(shape).items()}
    if odd := next((one for one in found if one not in wanted and one != HEAD), None):
        raise DoesNotFit(name, f"it has a tensor {odd!r:.80}")
    if missing := next((one for one in wanted if one not in found), None):
        raise BitnetError(f"{name} has no tensor {missing}; get all of its files again.")
    for one, size in wanted.items():
        if found[one] != size:
            raise BitnetError(f"{name} has a tensor {one} of {found[one]}, not {size}; get its files again.")


def require_same_tokens(
    name: str,
    source: Mapping[int, str],
    student: Mapping[int, str],
    otherwise: str = "choose another STUDENT_INIT",
) -> None:
    """BitnetError if some id means another text in the traces: its row of the embedding would be another token's."""
    other = [index for index, token in student.items() if source.get(index) != token]
    if other:
        first = min(other)
        raise BitnetError(
            f"{name} has another tokenizer than the traces: {len(other):,} of {len(student):,} ids differ, such as "
            f"{first} ({source.get(first)!r:.40} there, {student[first]!r:.40} here); collect with that model's "
            f"TOKENIZER_NAME, project the traces (bitnet traces project), or {otherwise}."
        )


def tokens_of(definition: Mapping[str, Any]) -> dict[int, str]:
    """Spellings by id of what a `tokenizer.json` defines."""
    vocabulary = definition["model"]["vocab"]
    pairs: Iterable[tuple[str, int]] = (
        vocabulary.items()
        if isinstance(vocabulary, dict)
        else ((piece[0], index) for index, piece in enumerate(vocabulary))
    )
    found = {index: token for token, index in pairs}
    return found | {one["id"]: one["content"] for one in definition.get("added_tokens", ())}
