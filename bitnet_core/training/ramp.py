"""Gradual ternarisation: how much of the quantisers acts at a step. It knows no trainer.

The share λ rises linearly from 0, full precision, to 1 over the first QUANT_RAMP_FRACTION of the budget, so that the
weights of a pretrained model meet their quantisation gradually (`model/quant.py` has the source). It is a function of
the tokens seen: neither batches nor restarts can move it.
"""

from collections.abc import Mapping
from typing import Any

from bitnet_core.errors import UsageError
from bitnet_core.settings.values import FlipOptions, TrainOptions

FIELD = "quantized_share"
"""Its name in metrics, evaluations, health files and checkpoints."""


def quantized_share(flip: FlipOptions, seen_tokens: int) -> float:
    """λ of a step that starts with `seen_tokens`."""
    end = flip.ternary_at
    return 1.0 if seen_tokens >= end else seen_tokens / end


def is_ternary(measured: Mapping[str, Any]) -> bool:
    """Whether what was measured or kept is of a ternary student; versions without a ramp have no other."""
    return bool(measured.get(FIELD, 1.0) == 1)


def require_an_end(options: TrainOptions, reachable_tokens: float) -> None:
    """UsageError if the steps end before the student is ternary. `reachable_tokens` is an estimate."""
    if reachable_tokens < options.flip.ternary_at:
        raise UsageError(
            f"TOTAL_STEPS={options.total_steps} ends at about {reachable_tokens:,.0f} tokens, before the student is "
            f"ternary at {options.flip.ternary_at:,} (QUANT_RAMP_FRACTION); lower that, or leave TOTAL_STEPS empty."
        )
