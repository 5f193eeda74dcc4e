"""When activations go from 8 to 4 bits: a pure function of the tokens seen, so nothing can move it."""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

BITS_BEFORE, BITS_AFTER = 8, 4


@dataclass(frozen=True)
class FlipSchedule:
    """A8 below ⌊fraction · budget⌋ seen tokens, A4 from there on.

    Seen tokens are the supervised completion tokens of completed optimizer steps. The first step that starts
    with that many seen is the first at 4 bits, however the tokens were cut into batches or runs.
    """

    budget_tokens: int
    fraction: float

    @property
    def threshold(self) -> int:
        # In decimals, as the user wrote it: 0.29 · 100 is 28.999… in binary.
        exact = Decimal(repr(self.fraction)) * self.budget_tokens
        return int(exact.to_integral_value(rounding=ROUND_FLOOR))

    def bits(self, seen_tokens: int) -> int:
        return BITS_BEFORE if seen_tokens < self.threshold else BITS_AFTER
