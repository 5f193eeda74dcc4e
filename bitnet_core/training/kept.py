"""What may stand in the fields of a checkpoint, whose origin is unknown. It knows no training loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict

import msgspec
import torch
from torch import Tensor

from bitnet_core.model.config import LEAST_BITS, MOST_BITS
from bitnet_core.model.tensor_file import is_tensors

_PLAIN = ("scheduler", "evaluations", "best", "recipe")
_WITH_TENSORS = ("meter", "ternary")

ActivationBits = Annotated[int, msgspec.Meta(ge=LEAST_BITS, le=MOST_BITS)] | None
"""None is full precision."""


class _Evaluation(TypedDict):
    when: str
    step: int
    seen_tokens: int
    heldout_loss: NotRequired[float]


@dataclass
class _Best:
    """Both or none."""

    step: int
    heldout_loss: float


def odd_field(values: Mapping[str, Any]) -> str | None:
    """The first field of a checkpoint whose value is not of its type; None if there is none."""
    return next((name for name, value in values.items() if not _fits(name, value)), None)


def _fits(name: str, value: object) -> bool:
    """Whether a field of a checkpoint has its type. A bool is not a number."""
    if name in _PLAIN and not _is_plain(value):
        return False
    match name:
        case "model":
            return is_tensors(value) and all(map(_is_weights, value.values()))
        case "step" | "seen_tokens":
            return type(value) is int and value >= 0
        case "activation_bits":
            return _is(value, ActivationBits)
        case "tokenizer_hash":
            return isinstance(value, str)
        case "counters":
            return isinstance(value, dict) and _is_counters(value)
        case "evaluations":
            return _is(value, list[_Evaluation])
        case "best":
            return value == {} or _is(value, _Best)
    return isinstance(value, dict)


def _is_weights(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.layout == torch.strided and tensor.device.type == "cpu"


def _is_counters(value: dict[Any, Any]) -> bool:
    """Types of the other counters are checked where a training takes them."""
    plain = {name: one for name, one in value.items() if name not in _WITH_TENSORS}
    return _is_plain(plain) and _is(value.get("layer_bits", []), list[ActivationBits])


def _is_plain(value: object) -> bool:
    """Whether JSON could hold it: no tensor, no number without end, and not nested more deeply than can be walked."""
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    return True


def _is(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
