"""How many tokens a training is to see, and when the student's quantisation changes, as shares of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from decimal import ROUND_FLOOR, Decimal
from typing import Any, Literal

from bitnet_core.errors import UsageError
from bitnet_core.settings.group import Group, setting

FlipPolicy = Literal["hard", "ramp"]
A4Policy = Literal["all", "hybrid"]


class FlipOptions(Group):
    """When the student is ternary, and when activations go from 8 to 4 bits, and whose; fractions are of the budget.

    UsageError for a flip before the student is ternary. Without `budget_tokens` the budget is `budget_epochs` times
    the training traces: `decided` knows it, when they are there. Until then `budget`, `ternary_at`, `threshold` and
    `completed_at` raise ValueError.
    """

    budget_tokens: int | None = setting("BUDGET_TOKENS")
    budget_epochs: float | None = setting("BUDGET_EPOCHS")
    """None only in records of versions without it."""
    fraction: float = setting("FLIP_FRACTION")
    policy: FlipPolicy = setting("FLIP_POLICY")
    ramp_fraction: float = setting("FLIP_RAMP_FRACTION")
    a4_policy: A4Policy = setting("A4_POLICY")
    quant_ramp_fraction: float | None = setting("QUANT_RAMP_FRACTION")
    """None only in records of versions without it."""

    def __post_init__(self) -> None:
        if (self.quant_ramp_fraction or 0) > self.fraction:
            raise UsageError(
                f"QUANT_RAMP_FRACTION is {self.quant_ramp_fraction:g}, so the student is ternary only after the flip "
                f"at {self.fraction:g} of the budget (FLIP_FRACTION); lower the one or raise the other."
            )

    @property
    def budget(self) -> int:
        """Supervised tokens to see."""
        if self.budget_tokens is None:
            raise ValueError("the token budget is not decided before the traces are known")
        return self.budget_tokens

    def decided(self, epoch_tokens: int) -> "FlipOptions":
        """The same with a budget in tokens, where an epoch has `epoch_tokens`. UsageError if nothing gives one."""
        if self.budget_tokens is not None:
            return self
        if self.budget_epochs is None:
            raise UsageError("The training has no budget; set BUDGET_TOKENS or BUDGET_EPOCHS.")
        return replace(self, budget_tokens=max(1, round(self.budget_epochs * epoch_tokens)))

    @property
    def threshold(self) -> int:
        """Seen tokens at which the flip begins: ⌊fraction · budget⌋."""
        return self._tokens(Decimal(repr(self.fraction)))

    @property
    def completed_at(self) -> int:
        """Seen tokens from which every layer is at 4 bits; never more than the budget."""
        if self.policy == "hard":
            return self.threshold
        return self._tokens(min(Decimal(1), Decimal(repr(self.fraction)) + Decimal(repr(self.ramp_fraction))))

    @property
    def ternary_at(self) -> int:
        """Seen tokens from which the quantisers act in full: ⌊quant_ramp_fraction · budget⌋, 0 without a ramp."""
        return self._tokens(Decimal(repr(self.quant_ramp_fraction or 0.0)))

    def _tokens(self, share: Decimal) -> int:
        # In decimals, as the user wrote it: in binary, 0.29 · 100 is 28.999…
        return int((share * self.budget).to_integral_value(rounding=ROUND_FLOOR))


@dataclass(frozen=True)
class Budget:
    """`tokens` to see, where an epoch has `epoch_tokens`; both are supervised ones of the training traces."""

    tokens: int
    epoch_tokens: int
    setting: float | None
    """The BUDGET_EPOCHS that decided; None where BUDGET_TOKENS did."""

    def record(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return asdict(self)


def decide(flip: FlipOptions, epoch_tokens: int, kept: Mapping[str, Any]) -> Budget:
    """The budget of a training. `kept` is what its checkpoint has of it, empty where nothing is resumed.

    What was kept stays, unless BUDGET_TOKENS is given now, or BUDGET_EPOCHS has changed.
    """
    if flip.budget_tokens is not None:
        return Budget(flip.budget_tokens, epoch_tokens, None)
    tokens = kept_tokens(kept)
    if tokens and kept.get("setting", flip.budget_epochs) == flip.budget_epochs:
        return Budget(tokens, epoch_tokens, flip.budget_epochs)
    return Budget(flip.decided(epoch_tokens).budget, epoch_tokens, flip.budget_epochs)


def kept_tokens(kept: Mapping[str, Any]) -> int | None:
    """The tokens of a record, which may hold anything."""
    tokens = kept.get("tokens")
    return tokens if type(tokens) is int and tokens > 0 else None


def flip_fraction_at(tokens: int, budget: int) -> str:
    """The shortest FLIP_FRACTION that puts the flip exactly at these seen tokens of the budget."""
    for digits in range(1, len(str(budget)) + 2):
        share = -(-tokens * 10**digits // budget)
        if share * budget // 10**digits == tokens:
            return str(Decimal(share).scaleb(-digits).normalize())
    raise ValueError(f"{tokens} tokens are not within a budget of {budget}")
