"""How many tokens a training is to see: what a checkpoint keeps of it, and what is told. It knows no trainer."""

from pathlib import Path
from typing import Any

from msgspec import UNSET

from bitnet_core.runs import events
from bitnet_core.runs.cadence import Cadence
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.flip import Budget, FlipOptions
from bitnet_core.training import checkpoints
from bitnet_core.training.checkpoints import Checkpoint

MOST_EPOCHS = 6
"""Repeating data up to four times is about as good as new data, and gains fade after that (arXiv 2305.16264)."""


def kept_in(path: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint keeps of the budget. Those of older versions have the tokens in their health file alone."""
    kept = checkpoint.counters.get("budget")
    if isinstance(kept, dict) and kept:
        return kept
    health = checkpoints.read_health(path)
    return {"tokens": health["budget_tokens"]} if "budget_tokens" in health else {}


def announce(
    reporter: Reporter,
    found: Budget,
    flip: FlipOptions,
    seen_tokens: int,
    bits: dict[str, Any],
    cadence: Cadence,
) -> None:
    """Say how much the training will see and has seen, and when it flips from its present bits (`report.bits`)."""
    reporter.emit(
        events.Budget(
            tokens=found.tokens,
            epoch_tokens=found.epoch_tokens,
            epochs=found.tokens / found.epoch_tokens,
            flip_at_tokens=flip.threshold,
            ternary_at_tokens=flip.ternary_at or UNSET,
            seen_tokens=seen_tokens,
            evaluates_early_steps=cadence.early or UNSET,
            evaluates_every_steps=cadence.every or UNSET,
            **bits,
        )
    )


def warn_of_many_epochs(reporter: Reporter, found: Budget, reachable_tokens: float) -> None:
    """Warn of a training that repeats its traces too often. `reachable_tokens` are those that its steps can see."""
    tokens = min(found.tokens, reachable_tokens)
    if tokens > MOST_EPOCHS * found.epoch_tokens:
        reporter.alert(
            "warning",
            "many_epochs",
            f"With this budget the student sees its {found.epoch_tokens:,} tokens "
            f"{tokens / found.epoch_tokens:,.1f} times; "
            f"beyond {MOST_EPOCHS} epochs, more answers gain more than further passes.",
            "Collect more (KD_NUM_PROMPTS), or lower BUDGET_TOKENS or BUDGET_EPOCHS.",
        )
