"""How much is held out, and how much of that is measured. Without torch: a plan counts with it."""

from typing import NamedTuple

ENOUGH_PROMPTS = 32
"""With fewer, a few odd prompts decide the held-out figures."""
MOST_TOKENS = 20_000
"""Of the held-out side that are measured: enough for an estimate within a hundredth of a nat."""


class HeldOut(NamedTuple):
    """Traces, and their prompts: near-identical ones as one, and counted to ENOUGH_PROMPTS and no further."""

    traces: int
    prompts: int

    @property
    def words(self) -> str:
        """`24 prompts with 30 traces are`."""
        prompts = "1 prompt" if self.prompts == 1 else f"{self.prompts} prompts"
        traces = "1 trace" if self.traces == 1 else f"{self.traces:,} traces"
        return f"{prompts} with {traces} {'is' if self.prompts == 1 else 'are'}"
