"""What `bitnet plan --json` says, as lines: what this machine runs well, and what a training will take."""

import math
from collections.abc import Mapping
from typing import Any

from bitnet_core.settings.presets import PLANNED
from bitnet_core.text import count, dollars, duration, pad, size
from bitnet_core.text import epochs as epochs_words
from bitnet_tui.view.guide.doubts import length_that_fits
from bitnet_tui.view.guide.draft import Draft
from bitnet_tui.view.guide.words import plain, preset_words
from bitnet_tui.view.share import parsed
from bitnet_tui.view.spans import Line, Span, line, short

Record = Mapping[str, Any]
_LABEL_CELLS = 11
_NO_TIME: Record = {"seconds": 0.0}
TITLE = "What it will take"
_NO_PLAN = "No estimate: a value is wrong."


def row(label: str, text: str, style: str = "", more: str = "") -> Line:
    return line(
        Span(pad(label, _LABEL_CELLS), "label"), Span(text, style), Span(f"  {more}" if more else "", "label")
    )


# -- the machine -----------------------------------------------------------------------------------------------------


def machine_lines(
    facts: Record | None, plan: Record | None, keyring: str, colours: str, *, failed: bool = False
) -> tuple[Line, ...]:
    """What this machine has; what is not known yet is being looked at."""
    facts = facts or {}
    here = ((plan or {}).get("device") or {}).get("here") or {}
    device = {"cpu": "CPU", "cuda": "GPU", "mps": "Apple GPU"}.get(here.get("type", ""), "")
    cores = facts.get("cores")
    load = here.get("load")
    busy = f"busy: load {load:.1f}" if isinstance(load, float) and cores and load > cores else ""
    free = f"{size(facts['free_memory'])} free of {size(facts['memory'])}" if "memory" in facts else "…"
    return (
        row("Device", device or ("unknown" if failed else "…"), "" if device else "label", str(here.get("name", ""))),
        row("Cores", f"{cores}" if cores else "…", "", busy),
        row("Memory", free),
        row("Disk", f"{size(facts['free_disk'])} free" if "free_disk" in facts else "…"),
        row("Folder", short(facts["place"]) if "place" in facts else "…", "label"),
        row("Keys", keyring or "…"),
        row("Colours", colours),
    )


def fit_lines(plan: Record | None, problem: str) -> tuple[Line, ...]:
    """Which students this machine can train and run."""
    if plan is None or (plan.get("early") and not plan.get("fits")):
        return (line(Span(plain(problem), "warn") if problem else Span("Looking at this machine…", "label")),)
    shapes = {one["shape"]: one for one in (plan.get("fits") or {}).get("shapes", ()) if isinstance(one, dict)}
    device, at_least = plan["device"]["type"], _at_least(plan.get("training_memory"))
    return tuple(_fit(preset_words(name), shapes[name], device, at_least) for name in PLANNED if name in shapes)


def _at_least(memory: Record | None) -> str:
    """What stands before bytes that are the least that a process takes."""
    return "≥ " if (memory or {}).get("process_at_least") else ""


def _fit(words: str, shape: Record, device: str, at_least: str) -> Line:
    needs = f"{at_least}{size(shape['training_bytes'])}"
    if not shape["trains"]:
        runs = f"runs in {size(shape['running_bytes'])}" if shape["runs"] else "too big to run"
        return line(Span("✗ ", "faint"), pad(words, 6), Span(f"needs {needs}; {runs}", "label"))
    slow = device == "cpu" and words != "nano"
    mark, style = ("!", "warn") if slow else ("✓", "good")
    return line(
        Span(f"{mark} ", style), pad(words, 6), Span(f"trains in {needs}{', slowly' if slow else ''}", "label")
    )


# -- the training ----------------------------------------------------------------------------------------------------


def plan_title(plan: Record | None, *, asking: bool, wrong: bool) -> str:
    """What stands above the estimate: that the one shown is of another draft. There it is seen in any window."""
    if plan is None or not (asking or wrong):
        return TITLE
    return f"{TITLE}: {'estimating again…' if asking else 'a value is wrong'}"


def plan_lines(
    plan: Record | None, draft: Draft, *, asking: bool, timing: bool, problem: str, wrong: bool = False
) -> tuple[Line, ...]:
    """What the training will take. A plan of another draft is faint."""
    if problem:
        return (line(Span("! ", "warn"), Span(plain(problem), "warn")),)
    if plan is None:
        return (line(Span(_NO_PLAN if wrong and not asking else "Estimating…", "label")),)
    shape = plan["shape"]
    size_words = f"{shape['hidden_size']} wide, {shape['num_hidden_layers']} layers"
    lines = [
        row("Student", f"{count(plan['parameters'])} parameters", "value"),
        row("", size_words, "label"),
        _memory(plan["training_memory"], plan["device"]["room_bytes"]),
        *_budget(plan["budget"]),
        *_time_rows(plan, draft, timing=timing),
        *_fit_first(plan),
        row("Disk", _disk(plan), "value", "checkpoints"),
        *_teacher(plan["teacher"]),
        _cut(draft),
        *_end(plan, draft),
    ]
    if asking or wrong:
        lines = [tuple(Span(span.text, "faint") for span in one) for one in lines]
    return tuple(lines)


def _cut(draft: Draft) -> Line:
    """That the ends of long answers are not trained on; an empty line where there are none."""
    if not length_that_fits(draft):
        return ()
    return line(Span(f"! Sequences of {draft.get('MAX_SEQ_LEN')} cut long answers.", "warn"))


def _memory(memory: Record | None, room: int | None) -> Line:
    """None until it is known what device there is."""
    if memory is None:
        return row("Memory", "…", "label")
    peak = memory["process_peak"]
    words, fits = f"{_at_least(memory)}{size(peak)}", room is None or peak <= room
    return row("Memory", words, "value" if fits else "bad", f"of {size(room)} free" if room else "")


def cost_line(plan: Record | None, draft: Draft, *, timing: bool, problem: bool, free: bool = False) -> Line:
    """Time, disk and money in one line; what can't be known is left out. `free`: no answer has to be paid for."""
    if problem or plan is None:
        known = " time and disk… · costs nothing" if free else "…"
        return line(Span("No estimate" if problem else f"Estimating{known}", "label"))
    words, style, _ = _time(plan, draft, timing=timing)
    parts = [f"{_disk(plan)} disk", *([_money(plan["teacher"])] if plan["teacher"] else [])]
    if style == "value":
        first = first_words(plan)
        parts.insert(0, f"{words} + {first} to fit the layers" if first else words)
    elif timing:
        parts.append("time: being measured…")
    return line(Span(f"Takes {' · '.join(parts)}", "label"))


def _disk(plan: Record) -> str:
    return size(plan["disk"]["checkpoints"])


def _time_rows(plan: Record, draft: Draft, *, timing: bool) -> tuple[Line, ...]:
    """What was measured for it is below: beside it, it would wrap."""
    words, style, more = _time(plan, draft, timing=timing)
    first = row("Time", words, style)
    return (first, row("", more, "label")) if more else (first,)


def _fit_first(plan: Record) -> tuple[Line, ...]:
    """How long a student that starts from a model is fitted to it before its first step."""
    found = plan.get("preparation")
    if not found:
        return ()
    if found["made"]:
        return (row("Layer fit", "made already", "value"),)
    steps, words = f"{found['fit_steps']:,} steps", _fit_words(found)
    return (row("Layer fit", words, "value", steps) if words else row("Layer fit", steps),)


def start_made(plan: Record) -> bool | None:
    """Whether the student that training begins with is made already; None where that is not known yet."""
    if plan.get("early"):
        return None
    found = plan.get("preparation")
    return bool(found and found["made"])


def first_words(plan: Record) -> str:
    """How long a training that starts from a model takes to its first step; empty where that is not known."""
    found = plan.get("preparation")
    return _fit_words(found) if found else ""


def _fit_words(found: Record) -> str:
    """How long it takes; empty where it was not timed, or is done."""
    if found["seconds"] is None or found["made"]:
        return ""
    return ("" if found["exact"] else "at most ") + duration(found["seconds"])


def _time(plan: Record, draft: Draft, *, timing: bool) -> tuple[str, str, str]:
    """Without traces, how much a step sees is not known: steps that are given are counted, else the fewest.

    Until a few steps are timed, how many there will be is all that is known.
    """
    spent = plan["time"]
    if spent["step_seconds"] is not None:
        rate = f"{count(spent['tokens_per_s'])} tokens/s here"
        if spent["seconds"] is not None:
            return duration(spent["seconds"] + (spent.get("evaluations") or _NO_TIME)["seconds"]), "value", rate
        steps = _number(draft, "TOTAL_STEPS")
        if steps is None:  # full rows would need so many steps, and rows may be less full
            budget = plan["budget"]
            if budget["tokens"] is not None:
                return f"at least {duration(budget['tokens'] / spent['tokens_per_s'])}", "value", rate
            if budget["most_tokens"] is None:
                return "unknown until it is collected", "label", rate
            return f"about {duration(budget['most_tokens'] / spent['tokens_per_s'])}", "value", rate
        return f"at most {duration(steps * spent['step_seconds'])}", "value", rate
    more = "timing a few steps…" if timing else plain(str(spent.get("missing", ""))).partition(";")[0]
    return _steps(plan, draft) or "unknown", "", more


def _steps(plan: Record, draft: Draft) -> str:
    """How many steps there will be; empty where nothing tells."""
    course, given = plan["course"], _number(draft, "TOTAL_STEPS")
    budget, most = plan["budget"]["tokens"], plan["budget"]["most_tokens"]
    if course["steps"] is not None:
        return f"{course['steps']:,} steps"
    if given is not None:
        return f"at most {given:,.0f} steps"
    tokens = most if budget is None else budget
    if tokens is None:
        return ""
    least = f"{math.ceil(tokens / float(course['supervised_per_step'])):,} steps"
    return f"about {least}" if budget is None else f"{least} or more"


def _budget(budget: Record) -> tuple[Line, ...]:
    """Tokens, or the epochs that decide them, and below those how many that will be: beside them it would wrap."""
    tokens, epochs, most = budget["tokens"], budget["epochs"], budget["most_tokens"]
    if epochs is None:
        return (row("Budget", f"{count(tokens)} tokens", "value"),)
    about = f"about {count(tokens)} tokens" if tokens is not None else f"at most {count(most)} tokens" if most else ""
    first = row("Budget", epochs_words(epochs), "value", "of the traces")
    return (first, row("", about, "label")) if about else (first,)


ASKED_NOTHING: Record = {"prompt_tokens": 0, "completion_tokens": 0, "usd": 0.0, "origin": "copied"}
"""The part of a teacher whose traces are copied along."""


def _teacher(teacher: Record | None) -> list[Line]:
    if teacher is ASKED_NOTHING:
        return [row("Teacher", "not asked", "value", "traces are copied")]
    if not teacher:
        return [row("Teacher", "choose one first", "label")]
    tokens = (teacher.get("prompt_tokens") or 0) + (teacher.get("completion_tokens") or 0)
    return [
        row("Teacher", f"{_most(teacher)}{count(tokens)} tokens", "value"),
        row("Money", _money(teacher), "warn" if teacher.get("usd") is None else "value"),
    ]


def _money(teacher: Record) -> str:
    usd = teacher.get("usd")
    if usd is None:
        return "price unknown"
    return f"{_most(teacher)}{dollars(float(f'{usd:.2g}'))}" if usd else "costs nothing"


def _most(teacher: Record) -> str:
    return "at most " if str(teacher.get("origin", "")).startswith("at most") else ""


def _end(plan: Record, draft: Draft) -> tuple[Line, ...]:
    """Which of steps and budget ends the run, and whether the flip comes before it."""
    course = plan["course"]
    budget, steps = plan["budget"]["tokens"], _number(draft, "TOTAL_STEPS")
    share = parsed(draft.get("FLIP_FRACTION"), 0.9)
    if course["ended_by"] == "BUDGET_TOKENS" and course["steps"] is not None:
        return (line(f"The budget ends it, after {_steps(plan, draft)}."),)
    if budget is None:
        return (line("The budget ends it." if steps is None else f"The budget ends it, or {steps:,.0f} steps."),)
    if steps is None:
        return (line(f"The budget ends it, after {_steps(plan, draft)}."),)
    most = steps * float(course["supervised_per_step"])
    if most < budget * share:
        text = f"The steps end it at {count(most)} tokens or fewer, before the flip at {count(budget * share)}."
        return (line(Span(text, "warn")),)
    if most < budget:
        return (line(f"The steps end it, at {count(most)} tokens or fewer."),)
    return (
        line(f"The budget ends it if steps see {budget / steps:,.0f} tokens"),
        line("on average; else the steps do."),
    )


def _number(draft: Draft, name: str) -> float | None:
    """The number in a field; None if there is none."""
    try:
        return max(1.0, float(draft.get(name).replace("_", "")))
    except ValueError:
        return None


def colour_words(system: str | None, *, no_color: bool) -> str:
    """How the terminal shows colours."""
    if no_color or system is None:
        return "none; signs instead"
    return {"truecolor": "true colour", "256": "256"}.get(system, "16")
