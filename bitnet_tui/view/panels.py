"""The text around the charts: title, figures, what to do next, what went wrong. A view in, lines out."""

from collections.abc import Iterator, Sequence
from math import floor, log10

from bitnet_core.runs.catalog import PIPELINE, stage
from bitnet_core.runs.events import Table
from bitnet_core.settings.kinds import as_written
from bitnet_core.tables import cell
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.text import (
    UNKNOWN,
    count,
    duration,
    finite,
    flat,
    learning_rate,
    listed,
    number,
    pad,
    progress_words,
    rate_words,
    roughly,
    scientific,
    share,
    significant,
    size,
    width,
)
from bitnet_tui.key_names import key
from bitnet_tui.view.collecting import collecting_lines
from bitnet_tui.view.coming import coming
from bitnet_tui.view.offered import a_key, wrapped_links
from bitnet_tui.view.result_tables import in_order, table_lines
from bitnet_tui.view.run_fold import LOG_LEAD, RunView, Traces, begins
from bitnet_tui.view.spans import Line, Span, cells_of, line, wrapped
from bitnet_tui.view.stage_rows import more_parts, prepares
from bitnet_tui.view.states import look
from bitnet_tui.view.watch import ExperimentView, RunShown

_ON_THE_DEVICE = ("embedded", "hf")
"""The teachers that work in our own processes; another one's machine is not known."""
_COLLECT, _CONFIG = "collect", "experiment.config"
_NO_TRACES = (
    "This teacher gives no logprobs, so no traces can be collected from it, and no student trained; choose another "
    "one in Config ({})."
)
_WIDE = 78
_ETA = "ETA"
_ROOM = {"lr": 17, _ETA: 7}
"""The cells that values of these names rarely exceed: what follows stays in its place while they change."""
"""The figures whose meaning stands below their table."""


def title(view: ExperimentView, cells: int, *, stopping: bool = False) -> Line:
    """What is shown: stage, state, time, which run of how many. `stopping` means that it was asked to stop."""
    name = stage(view.stage).title
    if view.run is None:
        return line(Span(name, "title"), Span("   not run yet" if view.rows else "", "label"))
    state = look(view.run.state)
    parts = [Span(name, "title"), Span(f"   {state.glyph} {state.word}", state.style)]
    if stopping and view.run.active:
        parts[1] = Span("   ■ stopping…", "warn")
    if view.outdated:
        outdated = look("outdated")
        parts.append(Span(f"   {outdated.glyph} {outdated.word}", outdated.style))
    needed = len(parts)
    if (took := _took(view, view.run)) is not None:
        parts.append(Span(f"   {duration(took)}", "value"))
    elsewhere = stage(view.stage).uses_teacher and view.teacher not in _ON_THE_DEVICE
    if view.run.view.device and view.stage != PIPELINE.name and not elsewhere:
        parts.append(Span(f"   on {view.run.view.device}", "label"))
    if view.run.of > 1:
        place = view.run.of - view.run.position + 1
        runs = line(Span(f"   run {place} of {view.run.of}", "label"), *_turns(view.run.position, view.run.of))
        while len(parts) > needed and cells_of((*parts, *runs)) > cells:
            parts.pop()  # an old run must not look like the newest one
        parts += runs if cells_of((*parts, *runs)) <= cells else runs[:1]  # a key without its word tells nothing
    return _fit(parts, cells)


def _took(view: ExperimentView, run: RunShown) -> float | None:
    """How long it took; of the newest pipeline that has ended, its stages together, as in the list of stages."""
    row = view.row(PIPELINE.name) if run.stage == PIPELINE.name and run.position == 1 and not run.active else None
    return run.elapsed if row is None or row.took is None else row.took


def load(run: RunShown | None, cells: int) -> Line:
    """What the machine of an active run does now; what does not fit into the cells is left out."""
    parts: list[Span] = []
    for words in run.load.words() if run else ():
        part = Span(f"   {words}", "label")
        if cells_of((*parts, part)) <= cells:
            parts.append(part)
    return tuple(parts)


def _turns(position: int, of: int) -> Iterator[Span]:
    """The keys to older and newer runs, where there are some; 1 is the newest."""
    for way, there in (("older", position < of), ("newer", position > 1)):
        if there:
            yield from (Span("  "), Span(f"{way} (", "label", way))
            yield from (Span(key(f"experiment.{way}"), "key", way), Span(")", "label", way))


def figures(run: RunShown, cells: int) -> tuple[Line, ...]:
    """The live numbers: how the work is going, and for a training below it the newest held-out evaluation."""
    if run.stage != "train":
        return _columns(_working(run), cells)
    return (*_columns(_training(run), cells), *held_out(run.view, cells))


def short_figures(run: RunShown, cells: int) -> tuple[Line, ...]:
    """The same where there is little room: in one line the time left, then what else fits; then the evaluation."""
    pairs = _training(run) if run.stage == "train" else _working(run)
    pairs.sort(key=lambda pair: pair[0] != _ETA)
    parts = [
        one
        for name, value, style in pairs
        for one in (Span(f"{name} ", "label"), Span(value.ljust(_ROOM.get(name, 0)) + "   ", style))
    ]
    while len(parts) > 2 and cells_of(parts) > cells:
        del parts[-2:]
    return (*((tuple(parts),) if parts else ()), *(held_out(run.view, cells) if run.stage == "train" else ()))


def held_out(view: RunView, cells: int) -> tuple[Line, ...]:
    """The newest evaluation on held-out traces in one line, none before the first; what does not fit is left out."""
    if view.held_out is None:
        return ()
    names = ("heldout_loss", "heldout_agreement", "step")
    loss, agreement, step = (finite(getattr(view.held_out, name)) for name in names)
    parts = [
        Span("held-out loss ", "label"),
        Span(significant(loss, 4), "value"),
        Span("   agreement with the teacher " if cells >= _WIDE else "   agreement ", "label"),
        Span(share(agreement), "value"),
        Span(f"   at step {number(step)}", "label"),
    ]
    return (_fit(parts, cells),)


def _columns(pairs: Sequence[tuple[str, str, str]], cells: int) -> tuple[Line, ...]:
    """Values in columns under their names; on a narrow screen each value follows its name."""
    if not pairs:
        return ()
    columns = [max(width(name), width(value)) + 3 for name, value, _ in pairs]
    roomy = [max(column, _ROOM.get(name, 0) + 3) for (name, _, _), column in zip(pairs, columns, strict=True)]
    columns = roomy if sum(roomy) - 3 <= cells else columns
    if cells >= _WIDE and sum(columns) - 3 <= cells:
        names = line(*(Span(pad(name, w), "label") for (name, _, _), w in zip(pairs, columns, strict=True)))
        values = line(*(Span(pad(value, w), style) for (_, value, style), w in zip(pairs, columns, strict=True)))
        return names, values
    lines: list[list[Span]] = [[]]
    used = 0
    for name, value, style in pairs:
        needed = width(name) + width(value) + 4
        if used and used + needed - 3 > cells:
            lines.append([])
            used = 0
        lines[-1] += [Span(f"{name} ", "label"), Span(value, style), Span("   ")]
        used += needed
    return tuple(tuple(one) for one in lines[:2])


def _training(run: RunShown) -> list[tuple[str, str, str]]:
    metric, progress = run.view.metric, run.view.progress
    step = run.view.step if run.view.seen is not None else finite(metric.step)
    steps = count(step)
    if progress and progress.unit.startswith("step") and progress.total and not progress.label:
        steps = progress_words(progress.done if step is None else step, progress.total, "")
    bad = finite(metric.nonfinite)
    pairs = [
        ("step", steps, "value"),
        ("tok/s", count(finite(metric.tokens_per_s)), "value"),
        ("lr", _rate(run), "value"),
        ("grad norm", significant(finite(metric.grad_norm)), "value"),
        ("NaN", count(bad), "bad" if bad else "value" if bad is None else "good"),
        (_ETA, _eta(run), "value"),
    ]
    peak = finite(metric.peak_rss_bytes)
    return pairs if peak is None else [*pairs, ("peak memory", size(peak), "value")]


def _rate(run: RunShown) -> str:
    """The learning rate now, and the one of the settings, which is its peak."""
    now, peak = finite(run.view.metric.lr), run.plan.peak_rate
    if now is None or not peak:
        return scientific(now)
    whole = as_written(peak)
    if "e" in whole or now < peak / 100:  # both in one form
        return f"{scientific(now)} of {learning_rate(peak)}"
    return f"{now:.{max(0, 2 - floor(log10(peak)))}f} of {whole}"


def _working(run: RunShown) -> list[tuple[str, str, str]]:
    progress = run.view.progress
    pairs = _qei(run)
    if progress is not None and run.stage != PIPELINE.name:
        if progress.rate is not None and run.state != "succeeded":  # that of its last part alone, as in `gauge`
            pairs.append(("rate", rate_words(progress.rate, flat(progress.unit)), "value"))
        if run.active and progress.eta_s is not None and not (prepares(run.stage, progress) or more_parts(progress)):
            pairs.append((_ETA, _eta(run), "value"))
    return pairs


def _qei(run: RunShown) -> list[tuple[str, str, str]]:
    """QEI and QEI_speed; for a pipeline also what an evaluation has found since."""
    then, since = _indices(run.view.tables), _indices(run.since)
    pairs = []
    for name, value in then.items():
        newer = since.get(name, value)
        pairs.append((name, value if newer == value else f"{value} in this run, {newer} since", "title"))
    return pairs


def _indices(tables: Sequence[Table]) -> dict[str, str]:
    """The rows of the `qei` table whose names begin so."""
    rows = [row for table in tables if table.name == "qei" for row in table.rows if len(row) > 1]
    return {cell(row[0]): cell(row[1]) for row in rows if str(row[0]).startswith("QEI")}


def _eta(run: RunShown) -> str:
    if not run.active or prepares(run.stage, run.view.progress):
        return UNKNOWN
    return roughly(run.view.progress.eta_s if run.view.progress else None)


def summary(view: ExperimentView, cells: int, launching: str | None = None) -> tuple[Line, ...]:
    """What is shown in place of curves: results, else what has arrived so far, else what to do next."""
    if view.run is None:
        return what_next(view, cells, launching)
    collected = collecting_lines(view.run, cells) if view.stage == "collect" else ()
    if collected and view.run.active:
        return collected
    lines: list[Line] = []
    seen = view.run.view
    if seen.traces.dropped:
        lines += _dropped(seen.traces)
    lines += _tables(seen, cells)
    lines += collected
    if not seen.tables and seen.samples:
        newest = seen.samples[-1]
        lines += [line(Span("latest sample", "title"), Span(f"  {flat(newest.source)}", "label"))]
        lines += wrapped("› ", newest.prompt, "label", cells)[:3]
        lines += wrapped("  ", newest.text, "", cells)
    if not lines and view.stage == PIPELINE.name and view.run.active:
        text = f"Its stages run one after the other; {key('experiment.follow')} follows the one that is running."
        lines += wrapped_links("", text, "label", cells, "experiment.follow")
    if not lines and view.stage == "train" and view.run.active and not seen.unread:
        text = "No step yet. The curves begin with the first one."
        text += f" {key('experiment.older')} shows the run before." if view.run.position < view.run.of else ""
        lines += wrapped_links("", text, "label", cells, "experiment.older")
    return tuple(lines)


def _dropped(traces: Traces) -> list[Line]:
    reasons = ", ".join(f"{flat(reason)} {count(tokens)}" for reason, tokens in traces.dropped)
    return [line(Span("dropped  ", "label"), Span(reasons, "warn")), ()]


def what_next(view: ExperimentView, cells: int, launching: str | None = None) -> tuple[Line, ...]:
    """For a stage that has not run: what it is for, what it needs, and what starts it: a key, or the pipeline.

    Nothing before the experiment was read, or if it can't be: the stage may have run.
    """
    if not view.rows:
        return ()
    one = stage(view.stage)
    lines = wrapped("", one.about, "", cells)
    leaves = ", ".join(f"{folder}/{pattern}" for folder, pattern in one.outputs)
    lines += [(), *wrapped("leaves  ", leaves, "label", cells)]
    for need in one.needs:
        row = view.row(need)
        copied = row is not None and row.copied
        state = look(row.shown_state if row else "new")
        word = "copied from another experiment" if copied else "not run yet" if state == look("new") else state.word
        named = Span(f"{state.glyph} {stage(need).title}", state.style)
        lines.append(line(Span("needs   ", "label"), named, Span(f"  {word}")))
    lines.append(())
    own = view.row(one.name)
    if soon := coming(view.rows, one.name, launching=launching):
        lines += wrapped("", soon, "", cells)
    elif one.name in (PIPELINE.name, _COLLECT) and _gives_none(view):
        lines += wrapped_links("", _NO_TRACES.format(key(_CONFIG)), "warn", cells, _CONFIG)
    elif one.name == PIPELINE.name:
        lines.append(line("Press ", a_key("experiment.pipeline"), " to run all five stages, one after the other."))
    elif own is not None and own.lacking:
        has = "has" if len(own.lacking) == 1 else "have"
        first = f"It can run once {listed([f'“{stage(name).title}”' for name in own.lacking])} {has} run"
        soon = coming(view.rows, *own.lacking, launching=launching)
        then = f". {soon}" if soon else f"; press {key('experiment.pipeline')} for the whole pipeline."
        lines += wrapped_links("", first + then, "", cells, "experiment.pipeline")
    else:
        if own is not None and own.copied:
            lines.append(line("What it makes was copied from another experiment; it need not run."))
        lines.append(
            line(
                *("Press ", a_key("experiment.run"), " to run it, or "),
                *(a_key("experiment.pipeline"), " for the whole pipeline."),
            )
        )
    return tuple(lines)


def _gives_none(view: ExperimentView) -> bool:
    """Whether there are no traces and none can be collected, because the teacher's provider never gives logprobs."""
    train, provider = view.row("train"), PROVIDERS.get(view.teacher)
    return train is not None and _COLLECT in train.lacking and provider is not None and provider.logprobs == "no"


def sample_lines(run: RunShown | None, cells: int) -> tuple[Line, ...]:
    """Every kept sample, the newest first; without one, why, if it is a run of a stage that generates text."""
    if run is None or not run.view.samples:
        if run is None or run.stage not in ("teacher", "eval"):
            return ()
        text = "No samples yet. They appear here once the stage has generated a text."
        return tuple(
            wrapped("", text if run.active else "This run ended before it had generated a text.", "label", cells)
        )
    lines: list[Line] = []
    for sample in reversed(run.view.samples):
        lines.append(line(Span("── ", "faint"), Span(flat(sample.source) or "sample", "title")))
        lines += wrapped("› ", sample.prompt, "label", cells)
        lines += [*wrapped("  ", sample.text, "", cells), ()]
    return tuple(lines)


def result_lines(run: RunShown | None, cells: int) -> tuple[Line, ...]:
    """Every table, QEI first."""
    if run is None or not run.view.tables:
        return (line(Span("No results yet. Tables appear here once the stage has measured something.", "label")),)
    return tuple(_tables(run.view, cells))


def _tables(view: RunView, cells: int) -> list[Line]:
    return [one for table in in_order(view.tables) for one in (*table_lines(table, cells), ())]


def log_tail(run: RunShown | None, count_of: int, cells: int) -> tuple[Line, ...]:
    """The newest log lines, for the foot of the Live tab; not the rest of a message whose beginning has no room."""
    newest = run.view.log[-count_of:] if run else ()
    rows = [
        (begins(text) and not place, row)
        for text in newest
        for place, row in enumerate(wrapped(text[:LOG_LEAD], text[LOG_LEAD:], "label", cells))
    ][-count_of:]
    first = next((place for place, (is_first, _) in enumerate(rows) if is_first), 0)
    return tuple(row for _, row in rows[first:])


def _fit(parts: Sequence[Span], cells: int) -> Line:
    while len(parts) > 1 and cells_of(parts) > cells:
        parts = parts[:-1]
    return tuple(parts)
