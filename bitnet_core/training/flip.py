"""When activations go from 8 to 4 bits: a function of the tokens seen, so neither batches nor restarts can move it.

Seen tokens are the supervised completion tokens of completed optimizer steps.
"""

from collections.abc import Sequence
from typing import Any

from bitnet_core.runs.events import Flip
from bitnet_core.settings.values import FlipOptions

BITS_BEFORE, BITS_AFTER = 8, 4


def layer_bits(flip: FlipOptions, seen_tokens: int, layers: int) -> tuple[int, ...]:
    """Activation bits of each layer, from the input on, for a step that starts with `seen_tokens`.

    All are at 8 bits below `flip.threshold`. The policy `hard` flips every layer there; `ramp` flips the first layer
    there and the last at `flip.completed_at`, the others at even distances between.
    """
    begin, end = flip.threshold, flip.completed_at
    if seen_tokens < begin:
        flipped = 0
    elif seen_tokens >= end or layers == 1:
        flipped = layers
    else:
        # In integers, so that no rounding moves a layer: layer i flips at begin + ⌈i·(end − begin)/(layers − 1)⌉.
        flipped = 1 + (seen_tokens - begin) * (layers - 1) // (end - begin)
    return (BITS_AFTER,) * flipped + (BITS_BEFORE,) * (layers - flipped)


def lowered(bits: Sequence[int | None], flip: FlipOptions, seen_tokens: int) -> tuple[int | None, ...]:
    """Activation bits of each layer, from those of now. None goes back when a larger budget makes it due later."""
    due = layer_bits(flip, seen_tokens, len(bits))
    return tuple(old if old is None else min(old, new) for old, new in zip(bits, due, strict=True))


def flip_event(bits: Sequence[int | None], step: int, seen_tokens: int, policy: str) -> Flip:
    """What is told of a flip after which the layers have `bits`."""
    return Flip(
        step=step,
        seen_tokens=seen_tokens,
        from_bits=BITS_BEFORE,
        to_bits=BITS_AFTER,
        layers_flipped=bits.count(BITS_AFTER),
        layers_total=len(bits),
        policy=policy,
    )


def flip_report(evaluations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the flip cost on the held-out traces, by the evaluations of a training; empty before the flip.

    `flip_shock` is the worst loss right after a layer flipped, minus the loss before the first flip, in nats.
    `flip_recovered_after_tokens` counts the tokens from the first flip to the first evaluation after the last flip
    whose loss is no worse than before the flip; None while there is none.
    """
    measured = [row for row in evaluations if "heldout_loss" in row]
    begin = next((place for place, row in enumerate(measured) if row["when"] == "before flip"), None)
    flips = [place for place, row in enumerate(measured) if row["when"] == "after flip"]
    if begin is None or not flips:
        return {}
    before = measured[begin]
    recovered = next((row for row in measured[flips[-1] :] if row["heldout_loss"] <= before["heldout_loss"]), None)
    return {
        "flip_shock": max(measured[place]["heldout_loss"] for place in flips) - before["heldout_loss"],
        "flip_recovered_after_tokens": recovered["seen_tokens"] - before["seen_tokens"] if recovered else None,
    }


def recovery_due(evaluations: Sequence[dict[str, Any]], step: int) -> bool:
    """Whether a report at `step` is to measure if the loss is back where it was before the flip.

    Not if it was; else whenever the steps since the last flip have doubled since the last evaluation. So a recovery
    is found within twice its tokens, and a training that does not recover is not slowed down by looking for it.
    """
    if flip_report(evaluations).get("flip_recovered_after_tokens", 0) is not None:
        return False
    flipped = max(row["step"] for row in evaluations if row["when"] == "after flip")
    return bool(step - flipped >= 2 * (evaluations[-1]["step"] - flipped))
