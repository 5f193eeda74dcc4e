"""The receipt of an experiment: what it was made with, what it cost, what came out, and how to get each number again.

Gathers; `receipt_html.py` writes it as a page.
"""

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core import __version__, files
from bitnet_core.results.apart import teacher_of
from bitnet_core.results.differing import changed_from_defaults, settings_of
from bitnet_core.results.figures import MEASURES, figures_of
from bitnet_core.results.subject import TRAIN, StageRun, Subject
from bitnet_core.runs.catalog import STAGES
from bitnet_core.runs.events import Table
from bitnet_core.settings.layers import keeps_no_layers
from bitnet_core.text import UNKNOWN, count, dollars, duration, finite, number, state_word

_FIRST_TABLES = ("gates", "qei", "quality", "imitation")
_PROMPTS = "collect.txt"


@dataclass(frozen=True)
class Fact:
    """A number or word with its origin and the command that gives it again."""

    name: str
    value: str
    origin: str = ""
    command: str = ""


@dataclass(frozen=True)
class Receipt:
    """Everything as text that is not safe to show yet."""

    title: str
    lead: str
    made: str
    results: tuple[Fact, ...]
    teacher: tuple[Fact, ...]
    tables: tuple[tuple[str, Table], ...]
    """With the run that measured it."""
    settings: tuple[tuple[str, str, str], ...]
    runs: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]


RUN_COLUMNS = ("stage", "run", "state", "started", "took", "machine", "device", "versions")


def receipt(subject: Subject) -> Receipt:
    """All that the records and events of these runs tell."""
    train = subject.runs.get(TRAIN)
    return Receipt(
        title=subject.name,
        lead=_lead(subject),
        made=f"Written {_moment(time.time())} by bitnet-tui {__version__}.",
        results=tuple(_results(subject)),
        teacher=tuple(_teacher(subject)),
        tables=tuple(_tables(subject)),
        settings=changed_from_defaults(subject),
        runs=tuple(_runs(subject, train)),
        warnings=tuple(_warnings(subject)),
    )


def command_of(subject: Subject, stage: str) -> str:
    """What runs a stage of this experiment again, from the folder that it lies in."""
    return f"bitnet --root {shlex.quote(subject.root.name)} {stage}"


def _lead(subject: Subject) -> str:
    values = settings_of(subject)
    start = values.get("STUDENT_INIT")
    student = f"a {values.get('MINI_PRESET')} student"
    if start not in (None, "", "random"):
        alone = keeps_no_layers(str(values.get("STUDENT_INIT_LAYERS", "")))
        student = f"{student} with the embedding of {start}" if alone else f"a student from {start}"
    return f"{_teacher_name(subject)} → {student}"


def _teacher_name(subject: Subject) -> str:
    for stage in ("teacher", "collect"):
        run = subject.runs.get(stage)
        model = run.record.summary.get("model") if run else None
        if model:
            return str(model)
    asked = teacher_of(settings_of(subject))
    return asked.model or asked.provider


def _results(subject: Subject) -> Iterator[Fact]:
    figures = figures_of(subject)
    for measure in MEASURES:
        if (figure := figures.get(measure.name)) is not None:
            origin = ", ".join(filter(None, (figure.origin, figure.how, "outdated" if figure.outdated else "")))
            yield Fact(measure.title.strip(), measure.words(figure.value), origin, command_of(subject, measure.stage))


def _teacher(subject: Subject) -> Iterator[Fact]:
    values, collected = settings_of(subject), subject.runs.get("collect")
    yield Fact(
        "teacher", _teacher_name(subject), f"provider {values.get('TEACHER_PROVIDER') or values.get('PROVIDER')}"
    )
    yield _prompts(subject, values)
    summary, spent = (collected.record.summary, collected.spent) if collected else ({}, {})
    again = command_of(subject, "collect")
    for name, value, write in (
        ("requests", spent.get("requests"), number),
        ("tokens, prompts included", spent.get("tokens"), count),
        ("spend", spent.get("usd"), dollars),
        ("sequences kept", summary.get("sequences"), number),
    ):
        if (known := finite(value)) is not None:
            yield Fact(name, write(known), "recorded by collecting", again)
    if (mode := summary.get("logprob_mode")) is not None:
        yield Fact("logprobs", str(mode), "proved before collecting", again)
    if (config := summary.get("config_hash")) is not None:
        yield Fact("collection", str(config), "hash of teacher, sampling, tokenizer and template", again)


def _prompts(subject: Subject, values: dict[str, Any]) -> Fact:
    given = values.get("KD_PROMPTS_FILE")
    path = Path(str(given)) if given else files.asset("prompts", _PROMPTS)
    name = path.name if given else f"{path.name}, packaged"
    run = subject.runs.get("collect")
    state = "the file as it is now" + ("; it may have changed since collecting" if run and run.outdated else "")
    try:
        return Fact("prompts, SHA-256", files.sha256_file(path), f"{name}, {state}")
    except OSError as error:
        return Fact("prompts, SHA-256", UNKNOWN, f"{name} can't be read ({error.strerror})")


def _tables(subject: Subject) -> Iterator[tuple[str, Table]]:
    found = [(run.id, table) for run in subject.runs.values() for table in run.tables]
    places = {name: place for place, name in enumerate(_FIRST_TABLES)}
    yield from sorted(found, key=lambda one: places.get(one[1].name, len(places)))


def _runs(subject: Subject, train: StageRun | None) -> Iterator[tuple[str, ...]]:
    earlier = [run for run in subject.trained if train is None or run.id != train.id]
    for stage in STAGES:
        now = [subject.runs[stage]] if stage in subject.runs else []
        for run in (*reversed(earlier if stage == TRAIN else []), *now):
            started = run.started
            versions = ", ".join(f"{name} {version}" for name, version in started.versions.items()) if started else ""
            yield (
                stage,
                run.id,
                state_word("outdated" if run.outdated else run.state),
                _moment(run.record.started),
                duration(run.seconds),
                run.record.host,
                started.device if started else UNKNOWN,
                versions or UNKNOWN,
            )


def _warnings(subject: Subject) -> Iterator[str]:
    yield from filter(None, subject.problem.split("\n"))
    for seen, turn in zip(subject.training.seams, subject.training.turns, strict=True):
        if turn:
            yield f"{STAGES[TRAIN].title}: it continued with other settings at {number(seen)} tokens ({turn})."
    for stage, run in subject.runs.items():
        if run.outdated:
            yield f"{STAGES[stage].title}: its settings or its input have changed since; run it again."
        if run.state not in ("succeeded", "starting", "running"):
            why = f": {run.record.error}" if run.record.error else "."
            yield f"{STAGES[stage].title}: the run is {state_word(run.state)}{why}"
        if run.state in ("starting", "running"):
            yield f"{STAGES[stage].title} is still running; its figures are the current ones."


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
