"""The student's shape, under the names of transformers' `BitNetConfig`. No tensors here."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeGuard

from bitnet_core.errors import BitnetError

SIZE_MULTIPLE = 256
"""Feed-forward sizes are rounded up to it: llama.cpp's TQ types cut rows into blocks of 256 weights."""
LEAST_MULTIPLE = 64
"""Blocks of Q2_0. Rows that blocks of 256 don't divide are padded when they are exported."""
ACTIVATIONS = ("silu", "relu2")
A4_POLICIES = ("all", "hybrid")
KEPT_EMBEDDINGS = ("Q5_0", "Q4_0")
"""The types of llama.cpp in which an embedding can be kept, unchanged, while the rest is trained."""
LEAST_BITS, MOST_BITS = 2, 8
"""The widths that activations can have."""
_KEPT_WIDE, _KEPT_BITS = ("o_proj", "down_proj"), 8
"""Under the policy `hybrid`, which keeps outliers, the inputs of these linears never go below 8 bits."""
_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "max_position_embeddings"),
)
_NUMBERS = ("rope_theta", "rms_norm_eps", "initializer_range")
_MOST, _TOO_LARGE = 1 << 40, 1e30


@dataclass(frozen=True)
class StudentConfig:
    """Everything that decides the tensors and the forward pass. Activation bits are a state of the student instead.

    Raises BitnetError for sizes that don't fit together.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    max_position_embeddings: int
    rope_theta: float = 500_000.0
    rms_norm_eps: float = 1e-5
    hidden_act: str = "silu"
    initializer_range: float = 0.02
    hadamard: bool = False
    """Hadamard transform of the inputs of o_proj and down_proj (BitNet v2). No other program can run that."""
    a4_policy: str = "all"
    """Which inputs go to 4 bits: `all`, or `hybrid`, which keeps those of o and down at 8 (BitNet a4.8)."""
    embedding_type: str = ""
    """The type of llama.cpp that holds the embedding exactly, because it is not trained; empty for one that is."""

    def __post_init__(self) -> None:
        for name in _SIZES:
            if type(size := getattr(self, name)) is not int or abs(size) > _MOST:
                raise BitnetError(f"{name} is {_told(size)}; give a whole number of at most {_MOST:,}.")
        for name in _NUMBERS:
            if type(value := getattr(self, name)) not in (int, float) or not 0 < value < _TOO_LARGE:
                raise BitnetError(f"{name} is {_told(value)}; give a number above 0.")
        for name in ("hidden_size", "intermediate_size"):
            if (size := getattr(self, name)) < 1 or size % LEAST_MULTIPLE:
                raise BitnetError(f"{name} is {size}; give a multiple of {LEAST_MULTIPLE}.")
        for name in ("vocab_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"):
            if (size := getattr(self, name)) < 1:
                raise BitnetError(f"{name} is {size}; it must be at least 1.")
        if self.hidden_size % self.num_attention_heads or self.head_dim % 2:
            raise BitnetError(
                f"{self.num_attention_heads} heads don't cut hidden_size {self.hidden_size} into equal, even parts; "
                "choose another number of heads."
            )
        if self.num_key_value_heads < 1 or self.num_attention_heads % self.num_key_value_heads:
            raise BitnetError(
                f"num_key_value_heads is {self.num_key_value_heads}; it must divide the "
                f"{self.num_attention_heads} attention heads."
            )
        if type(self.hadamard) is not bool:
            raise BitnetError(f"hadamard is {_told(self.hadamard)}; it is true or false.")
        if self.hidden_act not in ACTIVATIONS:
            raise BitnetError(f"hidden_act is {_told(self.hidden_act)}; it is one of {', '.join(ACTIVATIONS)}.")

        if self.a4_policy not in A4_POLICIES:
            raise BitnetError(f"a4_policy is {_told(self.a4_policy)}; it is one of {', '.join(A4_POLICIES)}.")
        if self.embedding_type not in ("", *KEPT_EMBEDDINGS):
            raise BitnetError(
                f"embedding_type is {_told(self.embedding_type)}; it is empty or one of {', '.join(KEPT_EMBEDDINGS)}."
            )

    def input_bits(self, linear: str, layer_bits: int | None) -> int | None:
        """Bits of the input of a linear, by its name, in a layer at `layer_bits` (None = full precision)."""
        if layer_bits is None or self.a4_policy == "all" or not linear.endswith(_KEPT_WIDE):
            return layer_bits
        return max(layer_bits, _KEPT_BITS)

    def bits_words(self, layer_bits: Sequence[int | None]) -> str:
        """`4 bits`, or `4 bits (o and down 8)` where the policy keeps some wider; over layers as `told_bits`."""

        def words(bits: int | None) -> str:
            kept = self.input_bits(_KEPT_WIDE[0], bits)
            return f"{bits} bits" if kept == bits else f"{bits} bits (o and down {kept})"

        return _over_layers(layer_bits, words)

    def takes_layer_bits(self, found: object) -> TypeGuard[list[int | None]]:
        """Whether these can be the activation bits of each layer: a width in all of them, or None in all."""
        if not isinstance(found, list) or len(found) != self.num_hidden_layers:
            return False
        widths = range(LEAST_BITS, MOST_BITS + 1)
        return all(bits is None for bits in found) or all(type(bits) is int and bits in widths for bits in found)

    def require_tensors(self, tensors: Mapping[str, object]) -> None:
        """BitnetError if these can't be the student's tensors: then it would be larger than what was read."""
        shape = getattr(tensors.get("model.embed_tokens.weight"), "shape", ())
        layers, tokens = self.num_hidden_layers, self.vocab_size
        if tuple(shape) != (tokens, self.hidden_size) or len(tensors) <= layers:
            raise BitnetError(f"Its tensors are not those of {layers} layers and {tokens} tokens.")

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """(out, in) of the seven BitLinears of one layer, by name inside the layer."""
        hidden, ffn, kv = self.hidden_size, self.intermediate_size, self.num_key_value_heads * self.head_dim
        return {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (ffn, hidden),
            "mlp.up_proj": (ffn, hidden),
            "mlp.down_proj": (hidden, ffn),
        }

    def parameters(self) -> int:
        """Number of parameters, the tied embedding counted once."""
        linears = sum(rows * columns for rows, columns in self.linear_shapes().values())
        norms = 3 * self.hidden_size + self.intermediate_size
        return self.vocab_size * self.hidden_size + self.num_hidden_layers * (linears + norms) + self.hidden_size

    def trained_parameters(self) -> int:
        """Of these, those that training changes: all, or all but the embedding."""
        return self.parameters() - (self.vocab_size * self.hidden_size if self.embedding_type else 0)

    def to_dict(self) -> dict[str, Any]:
        """The `config.json` that transformers reads for this student."""
        own = asdict(self)
        if not self.hadamard:
            del own["hadamard"]
        if self.a4_policy == "all":
            del own["a4_policy"]
        if not self.embedding_type:
            del own["embedding_type"]
        fixed = {"architectures": ["BitNetForCausalLM"], "model_type": "bitnet"}
        rope = {"rope_type": "default", "rope_theta": self.rope_theta}
        return fixed | own | {"rope_parameters": rope, "tie_word_embeddings": True, "attention_bias": False}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "StudentConfig":
        """The inverse of `to_dict`. Other keys are ignored. BitnetError for another kind of model."""
        if values.get("model_type") != "bitnet":
            raise BitnetError(f"model_type is {_told(values.get('model_type'))}; only bitnet students are supported.")
        if not values.get("tie_word_embeddings", False) or values.get("attention_bias", False):
            raise BitnetError("This student has an untied head or attention biases; neither is supported.")
        if missing := [field.name for field in fields(cls) if field.default is MISSING and field.name not in values]:
            raise BitnetError(f"The student's configuration is incomplete: {missing[0]} is missing.")
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


def _told(value: object) -> str:
    """A value of whoever wrote the configuration, which may be anything, in a few characters."""
    if isinstance(value, int) and abs(value) > _MOST:
        return "too large"  # Python writes out no integer of more than 4,300 digits
    return f"{value!r:.40}"


def told_bits(layer_bits: Sequence[int | None]) -> int | str | None:
    """The bits of a student's activations: a number, or `4 in 3 of 6 layers, 8 in the others` amid a flip."""
    return layer_bits[0] if len(set(layer_bits)) == 1 else _over_layers(layer_bits, str)


def _over_layers(layer_bits: Sequence[int | None], words: Callable[[int | None], str]) -> str:
    counts = Counter(layer_bits)
    if len(counts) == 1:
        return words(layer_bits[0])
    *some, (last, rest) = counts.items()
    parts = [f"{words(bits)} in {layers} of {len(layer_bits)} layers" for bits, layers in some]
    return ", ".join([*parts, f"{words(last)} in the {'other' if rest == 1 else 'others'}"])
