"""What stands above the tabs of a run, in the rows that there are."""

from typing import NamedTuple

from bitnet_tui.view.panels import alert_lines, figures, health_lines, outdated_lines
from bitnet_tui.view.spans import Line, first_lines
from bitnet_tui.view.watch import ExperimentView

_MOST_ALERT_LINES = 6
_MOST_HEALTH_LINES = 4
_LEAST_SAID = 2
"""Lines for health and alerts, before the figures get any."""


class Above(NamedTuple):
    health: tuple[Line, ...]
    alerts: tuple[Line, ...]
    figures: tuple[Line, ...]


def above(view: ExperimentView, cells: int, rows: int) -> Above:
    """Health, alerts and figures. Where there are not enough rows the texts end early and the first figures stay.

    The last of the figures stays too: it is the newest held-out evaluation, if there is one.
    """
    run = view.run
    found = figures(run, cells) if run else ()
    health = health_lines(run, cells, _MOST_HEALTH_LINES)
    alerts = (
        *outdated_lines(view, cells),
        *alert_lines(run, view.problem, cells, _MOST_ALERT_LINES),
    )
    said = max(_LEAST_SAID, rows - len(found))
    alerts = first_lines(alerts, said - min(len(health), 1), cells)
    health = first_lines(health, said - len(alerts), cells)
    left = max(0, rows - len(health) - len(alerts))
    if len(found) > left:
        found = (*found[: left - 1], found[-1]) if left else ()
    return Above(health, alerts, found)
