"""When activations go from 8 to 4 bits: a pure function of the tokens seen, so nothing can move it."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Literal

BITS_BEFORE, BITS_AFTER = 8, 4
Policy = Literal["hard", "ramp"]


@dataclass(frozen=True)
class FlipSchedule:
    """A8 below ⌊fraction · budget⌋ seen tokens; from there on A4, for all layers at once or one after the other.

    Seen tokens are the supervised completion tokens of completed optimizer steps. The first step that starts
    with that many seen is the first at 4 bits, however the tokens were cut into batches or runs. With the policy
    `ramp` the first layer flips there, and the last when `ramp_fraction` of the budget more was seen, or all of it.
    """

    budget_tokens: int
    fraction: float
    policy: Policy = "hard"
    ramp_fraction: float = 0.0

    @property
    def threshold(self) -> int:
        """Seen tokens at which the flip begins."""
        return self._tokens(Decimal(repr(self.fraction)))

    @property
    def completed_at(self) -> int:
        """Seen tokens from which every layer is at 4 bits."""
        if self.policy == "hard":
            return self.threshold
        # Never past the budget: what is left at its end is one student, not half of two.
        share = min(Decimal(1), Decimal(repr(self.fraction)) + Decimal(repr(self.ramp_fraction)))
        return self._tokens(share)

    def bits(self, seen_tokens: int) -> int:
        """Bits of the layer that flips first."""
        return BITS_BEFORE if seen_tokens < self.threshold else BITS_AFTER

    def layer_bits(self, seen_tokens: int, layers: int) -> tuple[int, ...]:
        """Bits of every layer, from the input on; the ramp begins there."""
        flipped = self._flipped(seen_tokens, layers)
        return (BITS_AFTER,) * flipped + (BITS_BEFORE,) * (layers - flipped)

    def _flipped(self, seen_tokens: int, layers: int) -> int:
        begin, end = self.threshold, self.completed_at
        if seen_tokens < begin:
            return 0
        if seen_tokens >= end or layers == 1:
            return layers
        # In whole numbers, so that no rounding moves a layer: layer i at begin + ⌈i·(end − begin)/(layers − 1)⌉.
        return 1 + (seen_tokens - begin) * (layers - 1) // (end - begin)

    def _tokens(self, share: Decimal) -> int:
        # In decimals, as the user wrote it: 0.29 · 100 is 28.999… in binary.
        return int((share * self.budget_tokens).to_integral_value(rounding=ROUND_FLOOR))


def flip_report(evaluations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the flip cost on the held-out traces, from the rows that training measured; empty before the flip.

    `flip_shock` is the worst loss right after a layer flipped, less the loss before the first one, in nats.
    `flip_recovered_after_tokens` counts from the first flip to the first measurement, after the last one, that
    is no worse than before it; None until there is one.
    """
    measured = [row for row in evaluations if "heldout_loss" in row]
    begin = next((place for place, row in enumerate(measured) if row["when"] == "before flip"), None)
    flips = [place for place, row in enumerate(measured) if row["when"] == "after flip"]
    if begin is None or not flips:
        return {}
    before = measured[begin]
    back = next((row for row in measured[flips[-1] :] if row["heldout_loss"] <= before["heldout_loss"]), None)
    return {
        "flip_shock": max(measured[place]["heldout_loss"] for place in flips) - before["heldout_loss"],
        "flip_recovered_after_tokens": back["seen_tokens"] - before["seen_tokens"] if back else None,
    }
