"""How many tokens a training is to see: decided when it begins, and kept when it resumes. It knows no trainer."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import UNSET

from bitnet_core.runs import events
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import FlipOptions
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint

MOST_EPOCHS = 6
"""Repeating data up to four times is about as good as new data, and gains fade after that (arXiv 2305.16264)."""


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
    tokens = _tokens(kept)
    if tokens and kept.get("setting", flip.budget_epochs) == flip.budget_epochs:
        return Budget(tokens, epoch_tokens, flip.budget_epochs)
    return Budget(flip.decided(epoch_tokens).budget, epoch_tokens, flip.budget_epochs)


def kept_in(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint keeps of the budget. Those of older versions have the tokens in their health file alone."""
    kept = checkpoint.counters.get("budget")
    if isinstance(kept, dict) and kept:
        return kept
    health = checkpoints.read_health(path)
    return {"tokens": health["budget_tokens"]} if "budget_tokens" in health else {}


@dataclass(frozen=True)
class FlipIsAhead:
    """Whether the flip, where it is wanted now, comes after all the steps of a checkpoint."""

    flip: FlipOptions
    epoch_tokens: int

    def __call__(self, path: Path, checkpoint: Checkpoint) -> bool:
        found = decide(self.flip, self.epoch_tokens, kept_in(path, checkpoint))
        return checkpoint.seen_tokens <= replace(self.flip, budget_tokens=found.tokens).threshold


def _tokens(kept: Mapping[str, Any]) -> int | None:
    """The tokens of a record, which may hold anything."""
    tokens = kept.get("tokens")
    return tokens if type(tokens) is int and tokens > 0 else None


def announce(reporter: Reporter, found: Budget, kept: Mapping[str, Any], flip: FlipOptions) -> None:
    """Say how much the training will see, and whether that changed since the checkpoint that has `kept`."""
    reporter.emit(
        events.Budget(
            tokens=found.tokens,
            epoch_tokens=found.epoch_tokens,
            epochs=found.tokens / found.epoch_tokens,
            flip_at_tokens=flip.threshold,
            ternary_at_tokens=flip.ternary_at or UNSET,
        )
    )
    before = _tokens(kept)
    if before not in (None, found.tokens):
        reporter.log(f"The budget was {before:,} tokens until this run.")


def warn_of_many_epochs(reporter: Reporter, found: Budget, reachable_tokens: float) -> None:
    """Warn of a training that repeats its traces too often. `reachable_tokens` are those that its steps can see."""
    tokens = min(found.tokens, reachable_tokens)
    if tokens > MOST_EPOCHS * found.epoch_tokens:
        reporter.alert(
            "warning",
            "many_epochs",
            f"With this budget the student sees its {found.epoch_tokens:,} tokens "
            f"{tokens / found.epoch_tokens:,.1f} times; "
            f"from {MOST_EPOCHS} epochs on it learns them by heart rather than what they have in common.",
            "Collect more (KD_NUM_PROMPTS), or lower BUDGET_TOKENS or BUDGET_EPOCHS.",
        )
