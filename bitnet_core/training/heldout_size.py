"""How much of the held-out side is measured. Without torch: a plan counts with it."""

ENOUGH_PROMPTS = 32
"""With fewer, a few odd prompts decide the held-out figures."""
MOST_TOKENS = 20_000
"""Of the held-out side that are measured: enough for an estimate within a hundredth of a nat."""
