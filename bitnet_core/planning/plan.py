"""The plan: every figure with where it comes from, as a record for `--json` and as tables (docs/planning.md).

`facts` are the answer of `probe.py`. A figure that nothing here can know is null, and `missing` says what would tell.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from bitnet_core.export.layout import layout_named
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.presets import preset
from bitnet_core.planning.course import Course, course
from bitnet_core.planning.memory import (
    Batch,
    Beside,
    checkpoint_bytes,
    kv_cache_bytes,
    largest_batch,
    packed_bytes,
    training_bytes,
)
from bitnet_core.planning.preparation import UNTIMED, preparation, preparation_rows
from bitnet_core.planning.teacher import TeacherPlan
from bitnet_core.runs.cadence import FORWARD, Cadence
from bitnet_core.settings.presets import PLANNED
from bitnet_core.settings.values import TrainOptions
from bitnet_core.text import duration, epochs, size

_CHECKPOINTS = 5
"""The newest three, the best one, and one that is being written."""
_MANY = 1 << 40
"""Bytes of tensors, from which the share of the allocator is known exactly enough."""
_DISTURBED = 1.25
"""How many times as fast steps must be by their processor time to say so."""
_FP32, _NARROW = 4, 2
Record = dict[str, Any]
Takes = partial[dict[str, int]]
"""`training_bytes` on the device of the plan."""


@dataclass(frozen=True)
class Asked:
    """What the user asks for beyond the settings. `device` and `memory_bytes` describe another machine."""

    devices: int = 1
    context: int = 2048
    device: str | None = None
    memory_bytes: int | None = None
    tokens_per_s: float | None = None


def plan(facts: Record, options: TrainOptions, top_k: int, teacher: TeacherPlan | None, asked: Asked) -> Record:
    """All figures; bytes, seconds and US dollars."""
    config = StudentConfig.from_dict(facts["shape"])
    here, traces = facts["device"], facts["traces"]
    elsewhere = asked.memory_bytes is not None or (asked.device or here["type"]) != here["type"]
    kind = asked.device or here["type"]
    # Only GPUs compute in 2 bytes; one that is elsewhere is taken to.
    narrow = kind == "cuda" and (elsewhere or bool(here["narrow"]))
    room = asked.memory_bytes if elsewhere else here["free_bytes"]
    online = facts["online"]
    takes = partial(
        training_bytes,
        narrow=narrow,
        device_type=kind,
        quantize=options.quantize,
        teacher=_beside(online, kind, elsewhere=elsewhere),
        source=facts["source_bytes"],
    )
    candidates = 0 if online else top_k
    batch = Batch(options.batch_size, options.max_seq_len, options.accumulate, options.pack, candidates)
    budget = _budget(options, traces, teacher)
    options = replace(options, flip=replace(options.flip, budget_tokens=budget["tokens"]))
    supervised = traces["supervised_per_step"] if traces else float(batch.positions * batch.accumulate)
    found = course(options, supervised, exact=traces is not None)
    step = None if elsewhere else facts["step"]
    memory = _memory(config, batch, takes, asked.devices, None if elsewhere else here, step)
    spent = _time(found, supervised, step, asked.tokens_per_s, elsewhere)
    evaluations = _evaluations(found, supervised, traces, options.checkpoint_interval, spent["tokens_per_s"])
    start = facts["start"] | UNTIMED if facts["start"] and elsewhere else facts["start"]
    return {
        "version": 1,
        "shape": config.to_dict(),
        "parameters": config.parameters(),
        "start_from": facts["start_from"],
        "device": {"type": kind, "narrow": narrow, "room_bytes": room, "elsewhere": elsewhere}
        | ({} if elsewhere else {"here": here}),
        "training_memory": memory | {"compiled": options.compiled},
        "deployment_memory": _deployment(config, asked.context),
        "decoding": _decoding(None if elsewhere else facts["decoding"]),
        "budget": budget,
        "course": asdict(found) | {"supervised_per_step": supervised, "exact": traces is not None},
        "time": spent | {"evaluations": evaluations},
        "preparation": preparation(start, traces, teacher, options.max_seq_len),
        "epochs": found.seen_tokens / traces["train_tokens"] if traces and found.seen_tokens is not None else None,
        "disk": _disk(config, traces, teacher),
        "teacher": None if teacher is None else asdict(teacher),
        "online": online,
        "fits": _fits(
            config, batch, takes, asked.context, room, partial(_process, None if elsewhere else here, step)
        ),
    }


def _budget(options: TrainOptions, traces: Record | None, teacher: TeacherPlan | None) -> Record:
    """`tokens` to see and, where they come from BUDGET_EPOCHS, the `epochs`.

    Without traces such a budget is not known; `most_tokens` counts the answers that are asked for as if each were of
    full length and trained on.
    """
    flip = options.flip
    if flip.budget_tokens is not None:
        return {"tokens": flip.budget_tokens, "epochs": None, "most_tokens": None}
    if traces:
        tokens = flip.decided(traces["train_tokens"]).budget
        return {"tokens": tokens, "epochs": flip.budget_epochs, "most_tokens": None}
    most = None
    if teacher is not None and teacher.answers:
        longest = min(math.ceil(teacher.completion_tokens / teacher.answers), options.max_seq_len)
        most = flip.decided(teacher.answers * longest).budget
    return {"tokens": None, "epochs": flip.budget_epochs, "most_tokens": most}


def _beside(online: Record | None, kind: str, *, elsewhere: bool) -> Beside | None:
    """A teacher that is asked while training; elsewhere, in the type that `teachers/hf` takes on such a device."""
    if online is None:
        return None
    number = online["number_bytes"]
    if elsewhere:
        number = _FP32 if kind == "cpu" or online["fp32"] else _NARROW
    return Beside(online["parameters"], online["hidden_size"], number)


def _memory(
    config: StudentConfig, batch: Batch, takes: Takes, devices: int, here: Record | None, step: Record | None
) -> Record:
    def parts(devices: int) -> dict[str, int]:
        return takes(config, batch, devices=devices)

    whole, factor = parts(1), step.get("memory_factor") if step else None
    return {
        "parts": whole,
        "allocator_factor": factor,
        "process_peak": None if here is None else _process(here, step, whole["peak"]),
        "process_at_least": here is not None and factor is None,
        "sharded": {"devices": devices, "parts": parts(devices)} if devices > 1 else None,
    }


def _process(here: Record | None, step: Record | None, tensors: int) -> int:
    """What a process takes that trains with so many bytes of tensors: the program, and the tensors as the allocator
    keeps them. At least, where no steps were timed; the tensors alone, on another machine (`here` is None).
    """
    factor = step.get("memory_factor") if step else None
    program = 0
    if here is not None:
        program = (here.get("warm_bytes") if factor is None else here["program_bytes"]) or 0
    return round(program + (factor or 1.0) * tensors)


def _deployment(config: StudentConfig, context: int) -> Record:
    deployed = layout_named(config, "TQ2_0")
    return {
        "context": context,
        "packed": packed_bytes(config),
        "packed_kv_cache": kv_cache_bytes(config, context, _FP32),
        "gguf_tq2_0": deployed.tensor_bytes(),
        "gguf_kv_cache": kv_cache_bytes(deployed.shape, context),
        "fp32": _FP32 * config.parameters(),
    }


def _decoding(timed: Record | None) -> Record:
    """Tokens/s of one answer of the finished student in llama.cpp, as timed; else null with the reason."""
    if timed is None or "missing" in timed:
        missing = timed["missing"] if timed else "not timed; `bitnet eval` measures the finished student"
        return {"tokens_per_s": None, "origin": "unknown", "missing": missing}
    return {"tokens_per_s": timed["tokens_per_s"], "origin": "measured", "timed": timed}


def _time(found: Course, supervised: float, step: Record | None, given: float | None, elsewhere: bool) -> Record:
    """Tokens/s and seconds of the steps alone: from --tokens-per-s, or as timed; else null with the reason."""
    if given is not None:
        seconds = None if found.seen_tokens is None else found.seen_tokens / given
        return {"tokens_per_s": given, "origin": "given", "step_seconds": supervised / given, "seconds": seconds}
    if step is None or step["seconds"] is None:
        missing = "not timed; leave out --no-probe, or give --tokens-per-s"
        if step is not None and step.get("missing"):
            missing = step["missing"]
        elif elsewhere:
            missing = "another machine can't be timed from here; run `bitnet plan` there, or give --tokens-per-s"
        elif step is not None:
            missing = (
                f"the timed steps need {size(step['needed_bytes'])} and may take {size(step['room_bytes'])}, half of "
                "what is free; free some, or give --tokens-per-s"
            )
        return {"tokens_per_s": None, "origin": "unknown", "step_seconds": None, "seconds": None, "missing": missing}
    seconds = None if found.steps is None else found.steps * step["seconds"]
    return {
        "tokens_per_s": supervised / step["seconds"],
        "undisturbed": _undisturbed(supervised, step),
        "origin": "measured",
        "step_seconds": step["seconds"],
        "seconds": seconds,
        "timed": step,
    }


def _evaluations(
    found: Course, supervised: float, traces: Record | None, interval: int, tokens_per_s: float | None
) -> Record | None:
    """About how many evaluations there will be, and the seconds that they take; None where the traces don't tell."""
    if traces is None or found.steps is None or tokens_per_s is None or not traces["held_out_tokens"]:
        return None
    held_out = traces["held_out_tokens"]
    times = Cadence.of(found.steps, interval, held_out, supervised).times(found.steps, interval)
    times += 2 if found.flip_reached else 0
    return {"times": times, "seconds": times * held_out * FORWARD / tokens_per_s}


def _undisturbed(supervised: float, step: Record) -> float | None:
    """The most tokens/s if nothing else ran: with every thread at work all of a step's time. None on a GPU."""
    used = step["processor_seconds"]
    return supervised * step["threads"] / used if used else None


def _disk(config: StudentConfig, traces: Record | None, teacher: TeacherPlan | None) -> Record:
    one = checkpoint_bytes(config)
    stored = None
    if traces and teacher:
        stored = round(traces["bytes"] / traces["sequences"] * max(teacher.answers, traces["sequences"]))
    return {"checkpoint": one, "checkpoints": _CHECKPOINTS * one, "traces": stored}


def _fits(
    config: StudentConfig,
    batch: Batch,
    takes: Takes,
    context: int,
    room: int | None,
    process: Callable[[int], int],
) -> Record | None:
    """What `room` bytes hold: this shape and its largest batch, and every preset. `process` is that of tensors."""
    if room is None:
        return None
    program = process(0)
    tensors = max(0, (room - program) * _MANY // (process(_MANY) - program))

    def row(name: str, one: StudentConfig) -> Record:
        training = process(takes(one, batch)["peak"])
        running = packed_bytes(one) + kv_cache_bytes(one, context, _FP32)
        return {
            "shape": name,
            "training_bytes": training,
            "trains": training <= room,
            "devices": _devices(one, batch, takes, tensors),
            "running_bytes": running,
            "runs": running <= room,
        }

    presets = [
        row(name, preset(name, config.vocab_size, max_positions=config.max_position_embeddings)) for name in PLANNED
    ]
    return {
        "room_bytes": room,
        "largest_batch": largest_batch(config, batch, tensors, **takes.keywords),
        "shapes": [row("this", config), *presets],
    }


def _devices(one: StudentConfig, batch: Batch, takes: Takes, room: int) -> int | None:
    """The fewest devices with so much memory each that hold the training between them; None beyond 1024."""
    counts = (1 << power for power in range(11))
    return next((devices for devices in counts if takes(one, batch, devices=devices)["peak"] <= room), None)


# -- tables ----------------------------------------------------------------------------------------------------------

Tables = Sequence[tuple[str, list[str], list[list[Any]]]]


def tables(record: Record) -> Tables:
    """(name, columns, rows) of each table, in the order to read them."""
    return [
        ("training", ["what", "figure", "origin"], _course_rows(record)),
        ("training memory, bytes", ["part", *_memory_columns(record)], _memory_rows(record)),
        ("deployment memory, bytes", ["part", "bytes"], _deployment_rows(record)),
        *([("what fits here", *_fits_rows(record))] if record["fits"] else []),
    ]


def _course_rows(record: Record) -> list[list[Any]]:
    running, spent = record["course"], record["time"]
    known = "the traces" if running["exact"] else "at most: no traces yet"
    rows: list[list[Any]] = [
        ["parameters", record["parameters"], "the shape"],
        *_start_rows(record["start_from"]),
        ["supervised tokens a step", round(running["supervised_per_step"]), known],
        ["the budget", *_budget_words(record["budget"])],
        ["the end", running["words"], "TOTAL_STEPS, the budget, FLIP_FRACTION"],
    ]
    if record["epochs"] is not None:
        rows.append(["times through the traces", round(record["epochs"], 2), "the traces"])
    if spent["tokens_per_s"] is None:
        rows.append(["tokens/s", None, spent["missing"]])
    else:
        rows.append(["tokens/s", round(spent["tokens_per_s"], 1), _timed_words(spent)])
        most = spent.get("undisturbed")
        if most and most > _DISTURBED * spent["tokens_per_s"]:
            rows.append(["tokens/s, undisturbed", round(most, 1), "at most: the steps' processor time alone"])
        lasts = f"steps alone; {_evaluations_words(spent['evaluations'])} and checkpoints come on top"
        if spent["seconds"] is None:
            lasts = "how many steps there will be depends on the traces"
        rows.append(["duration", None if spent["seconds"] is None else duration(spent["seconds"]), lasts])
    rows += preparation_rows(record["preparation"])
    rows.append(["decoding afterwards, tokens/s", *_decoding_words(record["decoding"])])
    disk = record["disk"]
    rows.append(["disk, checkpoints", size(disk["checkpoints"]), f"{_CHECKPOINTS} × {size(disk['checkpoint'])}"])
    traces = "measured on those here" if disk["traces"] is not None else "unknown until some answers are collected"
    rows.append(["disk, traces", None if disk["traces"] is None else size(disk["traces"]), traces])
    if online := record["online"]:
        rows.append(["teacher while training", online["model"], "asked at every step; it costs no money"])
    if teacher := record["teacher"]:
        rows.append(["teacher, prompt tokens", teacher["prompt_tokens"], teacher["origin"]])
        rows.append(["teacher, completion tokens", teacher["completion_tokens"], teacher["origin"]])
        usd = None if teacher["usd"] is None else round(teacher["usd"], 4)
        rows.append(["teacher, US dollars", usd, teacher["price_from"]])
    return rows


def _evaluations_words(found: Record | None) -> str:
    return f"about {found['times']:,} evaluations ({duration(found['seconds'])})" if found else "evaluations"


def _start_rows(start: str | None) -> list[list[Any]]:
    return [["may start from", f"STUDENT_INIT={start}", "weights of this shape"]] if start else []


def _budget_words(budget: Record) -> tuple[str, str]:
    """The budget, and the setting that it comes from."""
    if budget["epochs"] is None:
        return f"{budget['tokens']:,} tokens", "BUDGET_TOKENS"
    tokens = "" if budget["most_tokens"] is None else f", at most about {budget['most_tokens']:,} tokens"
    if budget["tokens"] is not None:
        tokens = f", {budget['tokens']:,} tokens"
    return f"{epochs(budget['epochs'])} of what is collected{tokens}", "BUDGET_EPOCHS"


def _timed_words(spent: Record) -> str:
    if spent["origin"] == "given":
        return "--tokens-per-s"
    timed = spent["timed"]
    layers = " and ".join(map(str, timed["timed_layers"]))
    words = f"timed here with {layers} layers, {timed['steps']} steps, at a load of {timed['load']:.1f}"
    if timed.get("teacher"):
        words += f", {timed['teacher']} reading along"
    if timed["spread"] > 0.1:
        words += f"; steps differ by {timed['spread']:.0%}"
    return words + ("; kept from before" if timed["cached"] else "")


def _decoding_words(found: Record) -> tuple[float | None, str]:
    if found["tokens_per_s"] is None:
        return None, found["missing"]
    timed = found["timed"]
    layers = " and ".join(map(str, timed["timed_layers"]))
    words = f"{timed['how']}; timed here with {layers} layers, at a load of {timed['load']:.1f}"
    return round(found["tokens_per_s"], 1), words + ("; kept from before" if timed["cached"] else "")


def _memory_columns(record: Record) -> list[str]:
    sharded = record["training_memory"]["sharded"]
    return ["one device", *([f"each of {sharded['devices']}"] if sharded else [])]


def _memory_rows(record: Record) -> list[list[Any]]:
    memory = record["training_memory"]
    sharded = memory["sharded"]
    rows = [
        [part, size(amount), *([size(sharded["parts"][part])] if sharded else [])]
        for part, amount in memory["parts"].items()
    ]
    if memory["process_peak"] is not None:
        label = "process, at least (tensors and the program; not timed)"
        if not memory["process_at_least"]:
            label = f"process, peak (tensors × {memory['allocator_factor']:.2f} as measured, and the program)"
        rows.append([label, size(memory["process_peak"]), *([None] if sharded else [])])
    return rows


def _deployment_rows(record: Record) -> list[list[Any]]:
    one = record["deployment_memory"]
    context = f"{one['context']:,} tokens"
    return [
        ["packed, in this program", size(one["packed"])],
        [f"its KV cache, {context}", size(one["packed_kv_cache"])],
        ["GGUF TQ2_0, embedding Q8_0, tensors", size(one["gguf_tq2_0"])],
        [f"its KV cache, {context}, fp16", size(one["gguf_kv_cache"])],
        ["the same in fp32", size(one["fp32"])],
    ]


def _fits_rows(record: Record) -> tuple[list[str], list[list[Any]]]:
    fits = record["fits"]
    columns = ["shape", "training", f"fits {size(fits['room_bytes'])}", "devices like it", "running", "fits"]
    rows = [
        [
            one["shape"],
            size(one["training_bytes"]),
            one["trains"],
            one["devices"],
            size(one["running_bytes"]),
            one["runs"],
        ]
        for one in fits["shapes"]
    ]
    return columns, [*rows, ["largest batch of this", fits["largest_batch"], None, None, None, None]]
