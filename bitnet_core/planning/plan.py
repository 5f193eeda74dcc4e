"""The plan: every figure with where it comes from, as a record for `--json` (docs/planning.md).

`facts` are the answer of `probe.py`. A figure that nothing here can know is null, and `missing` says what would tell.
"""

import math
from collections.abc import Callable
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
    made_bytes,
    packed_bytes,
    training_bytes,
)
from bitnet_core.planning.preparation import ELSEWHERE, preparation
from bitnet_core.planning.teacher import TeacherPlan
from bitnet_core.runs.cadence import FORWARD, Cadence
from bitnet_core.settings.presets import PLANNED
from bitnet_core.settings.values import TrainOptions
from bitnet_core.text import size

CHECKPOINTS = 5
"""The newest three, the best one, and one that is being written."""
_MANY = 1 << 40
"""Bytes of tensors, from which the share of the allocator is known exactly enough."""
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
        recompute=options.recompute,
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
    start = facts["start"] | ELSEWHERE if facts["start"] and elsewhere else facts["start"]
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
        "disk": _disk(config, traces, teacher, start),
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
    """What a process takes that trains with this many bytes of tensors: the program, and the tensors as the allocator
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
        "gguf_embedding": deployed.embedding.name,
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


def _disk(config: StudentConfig, traces: Record | None, teacher: TeacherPlan | None, start: Record | None) -> Record:
    one = checkpoint_bytes(config)
    stored = None
    if traces and teacher:
        stored = round(traces["bytes"] / traces["sequences"] * max(teacher.answers, traces["sequences"]))
    return {
        "checkpoint": one,
        "checkpoints": CHECKPOINTS * one,
        "start": made_bytes(config) if start else 0,
        "traces": stored,
    }


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
    """The fewest devices, each with this much memory, that hold the training together; None beyond 1024."""
    counts = (1 << power for power in range(11))
    return next((devices for devices in counts if takes(one, batch, devices=devices)["peak"] <= room), None)
