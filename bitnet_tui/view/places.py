"""Where the user was in an experiment's tabs, so that they open there again, and what need not be asked again.

It is kept as long as the app runs.
"""

from dataclasses import dataclass, field

from bitnet_tui.view.traces.columns import Order


@dataclass
class ConfigPlace:
    """The filter, whether only differences are shown, and the highlighted setting."""

    filter: str = ""
    only: bool = False
    row: str = ""


@dataclass
class TracesPlace:
    """The search, the order, and the trace and token that are shown."""

    search: str = ""
    order: Order = field(default_factory=Order)
    at: tuple[int, int] = (-1, -1)
    order_before_scores: Order | None = None
    """The order when the first scoring began: its end sorts by errors, unless another order was chosen meanwhile."""


@dataclass
class Agreed:
    """The changes since the traces were collected that the user has agreed to, so that they are asked about once."""

    stale: str = ""


@dataclass
class LogPlace:
    """The search, what is shown and how, and the highlighted line: its run and its number."""

    search: str = ""
    least: str = "debug"
    wrap: bool = True
    follow: bool = True
    line: tuple[str, int] = ("", -1)
