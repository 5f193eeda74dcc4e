"""What stands above the charts of a run, in the rows that there are."""

from typing import NamedTuple

from bitnet_core.runs.changes import changed_words
from bitnet_core.runs.finding import MARKS, one_cure, without_again
from bitnet_core.text import capital
from bitnet_tui.key_names import key
from bitnet_tui.labels import by_label, first_setting
from bitnet_tui.remedies import actions_in, in_app, offering
from bitnet_tui.view.offered import wrapped_links
from bitnet_tui.view.panels import figures, short_figures
from bitnet_tui.view.run_fold import ShownAlert
from bitnet_tui.view.spans import Line, Span, first_lines, line, wrapped
from bitnet_tui.view.states import look
from bitnet_tui.view.watch import ExperimentView, RunShown

_LEVELS = {"good": "good", "calm": "value", "warn": "warn", "bad": "bad"}
"""The style of a run's health."""
_REPORTS = "experiment.reports"
_MOST_ALERT_LINES = 6
_MOST_HEALTH_LINES = 4
_MOST_UPLOAD_LINES = 2
_LEAST_SAID = 2
"""Lines for health and alerts, before the figures get any. An active run always has them, said or not."""


_OF_THE_PRESENT = {"retrying", "rate_limited"}
"""Codes of alerts that tell what a run is waiting for: nothing any more when it has ended."""


class Above(NamedTuple):
    health: tuple[Line, ...]
    alerts: tuple[Line, ...]
    figures: tuple[Line, ...]


def above(view: ExperimentView, cells: int, rows: int, tab: str = "live") -> Above:
    """Health, alerts and figures above the open `tab`.

    Where there are not enough rows the texts end early and the first figures stay.
    The last of the figures stays too: it is the newest held-out evaluation, if there is one.
    """
    run = view.run
    found = figures(run, cells) if run else ()
    health = health_lines(run, cells, _MOST_HEALTH_LINES, tab)
    alerts = (
        *(() if run is not None and run.active else upload_lines(view, cells)),
        *outdated_lines(view, cells),
        *alert_lines(run, view.problem, cells, _MOST_ALERT_LINES),
    )
    if run is not None and run.active:
        return _steady(run, Above(health, alerts, found), cells, rows)
    said = max(_LEAST_SAID, rows - len(found))
    alerts = first_lines(alerts, said - min(len(health), 1), cells)
    health = first_lines(health, said - len(alerts), cells)
    left = max(0, rows - len(health) - len(alerts))
    if len(found) > left:
        found = (*found[: left - 1], found[-1]) if left else ()
    spare = min(_steady_rows(run, found), rows) - sum(map(len, (health, alerts, found))) if run else 0
    if run and spare > 0:  # the gauge and what is below stay where they were while it ran
        below = min(spare, _to_come(run)) if found else 0
        found = (*found, *[()] * below)
        blank = ((),) * (spare - below)
        health, alerts = (health, (*alerts, *blank)) if alerts else ((*health, *blank), alerts)
    return Above(health, alerts, found)


def _steady_rows(run: RunShown, found: tuple[Line, ...]) -> int:
    """How many rows stand above the charts of an active run with these figures."""
    return len(found) + _to_come(run) + _LEAST_SAID


def _to_come(run: RunShown) -> int:
    """The rows of figures that a training does not have yet."""
    return int(run.stage == "train" and run.view.held_out is None)


def _steady(run: RunShown, said: Above, cells: int, rows: int) -> Above:
    """The same of an active run, on as many lines whatever is said: what is below them never moves.

    Its health, with what to do, comes before older alerts. Both take their lines from the figures.
    """
    rows = max(_LEAST_SAID, min(rows, _steady_rows(run, said.figures)))
    few = short_figures(run, cells)
    most = max(_LEAST_SAID, rows - len(few))
    health = first_lines(said.health, most - min(len(said.alerts), 1), cells)
    alerts = first_lines(said.alerts, most - len(health), cells)
    left = max(0, rows - len(health) - len(alerts))
    found = next((some for some in (said.figures, few, few[-1:]) if len(some) <= left), ())
    blank = left - len(found)
    below = min(blank, _to_come(run)) if found else 0
    return Above((*health, *alerts, *[()] * (blank - below)), (), (*found, *[()] * below))


def health_lines(run: RunShown | None, cells: int, most: int, tab: str = "live") -> tuple[Line, ...]:
    """How the run is doing, in words: the worst first, with what to do about it."""
    lines: list[Line] = []
    for finding in run.health if run else ():
        mark, style = f"{MARKS[finding.level]} ", _LEVELS[finding.level]
        elsewhere = finding.code == "gates" and tab != "reports"
        words = in_app(finding.words) + (f" {key(_REPORTS)} opens Reports." if elsewhere else "")
        fresh = wrapped_links(mark, words, style, cells, _REPORTS, *actions_in(finding.words))
        fresh += _offering("  ", finding.advice, "label", cells) if finding.advice else []
        if lines and len(lines) + len(fresh) > most:
            break
        lines += fresh
    return tuple(lines)


def outdated_lines(view: ExperimentView, cells: int) -> tuple[Line, ...]:
    """That the results shown were made before a change."""
    if not view.outdated or view.run is None or not view.run.view.tables:
        return ()
    again = f"{key('experiment.run')} runs it again."
    text = f"Settings or input have changed since these results; {again}"
    if view.changes:
        text = f"Since these results: {by_label(changed_words(view.changes))}; {again}"
    return tuple(wrapped_links("↻ ", text, "warn", cells, "experiment.run"))


def upload_lines(view: ExperimentView, cells: int) -> tuple[Line, ...]:
    """What keeps an upload that outlives its stage from sending. The tab Storage has the whole of it."""
    found = view.copy.upload.health if view.copy.sending and view.copy.upload else ()
    wrong = next((one for one in found if one.level in ("warn", "bad")), None)
    if wrong is None:
        return ()
    again = "" if wrong.code == "storage_behind" else " It is tried again."
    return first_lines(_offering("▲ ", f"Upload: {wrong.words}{again}", "warn", cells), _MOST_UPLOAD_LINES, cells)


def alert_lines(run: RunShown | None, problem: str, cells: int, most: int) -> tuple[Line, ...]:
    """What must not be missed: the problem with the settings, the run's failure, then the newest alerts."""
    lines: list[Line] = []
    if problem:
        lines += _offering("✗ ", problem, "bad", cells)
    newest = run is not None and run.position == 1  # what would go on with an earlier one has been seen
    goes_on = newest and run is not None and not any(one.advice for one in run.health)
    if run is not None and run.error and run.state in ("failed", "cancelled"):
        error = one_cure(run.error, run.health) if newest else without_again(run.error)
        lines += _offering(f"{look(run.state).glyph} ", error, look(run.state).style, cells)
        if run.state == "failed" and run.output is not None:
            lines += wrapped("  ", f"Its output is in {run.output}", "label", cells)
    if run is not None and run.state == "interrupted":
        again = "resumes from what was saved" if run.keeps else "starts it from the beginning"
        offer = f"; {key('experiment.resume')} {again}" if goes_on else ""
        text = f"{capital(run.error)}{offer}."
        lines += wrapped_links("! ", text, "bad", cells, "experiment.resume")
    said = {finding.code for finding in run.health if finding.code} if run else set()
    for alert in reversed(run.view.alerts if run else ()):
        if alert.alert.code in said or (not (run and run.active) and alert.alert.code in _OF_THE_PRESENT):
            continue
        if len(lines) > most:
            break
        lines += _alert(alert, cells)
    if len(lines) > most:
        lines = [*lines[: most - 1], line(Span("  more in the log", "label"))]
    return tuple(lines)


def _alert(shown: ShownAlert, cells: int) -> list[Line]:
    alert = shown.alert
    mark, style = ("· ", "label") if alert.severity == "info" else ("! ", "warn")
    style = "bad" if alert.severity in ("error", "critical") else style
    times = f" (×{shown.times})" if shown.times > 1 else ""
    lines = wrapped(mark, in_app(alert.message) + times, style, cells)
    return lines + (_offering("  ", alert.advice, "label", cells) if alert.advice else [])


def _offering(lead: str, sentence: str, style: str, cells: int) -> list[Line]:
    """A sentence of the core in wrapped lines, with the keys that it names as places to click."""
    return wrapped_links(lead, offering(sentence), style, cells, *actions_in(sentence))


def advised_setting(run: RunShown | None) -> str:
    """The first setting that the health or the alerts of a run say to change; empty if there is none."""
    if run is None:
        return ""
    failed = [run.error] if run.state in ("failed", "cancelled") else []
    said = [*(one.advice for one in run.health), *failed, *(one.alert.advice for one in reversed(run.view.alerts))]
    return next(filter(None, map(first_setting, filter(None, said))), "")
