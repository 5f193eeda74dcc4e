"""The tables of a plan: what each figure is, and where it comes from."""

from collections.abc import Sequence
from typing import Any

from bitnet_core.planning.plan import CHECKPOINTS, Record
from bitnet_core.planning.preparation import preparation_rows
from bitnet_core.text import duration, epochs, size

_DISTURBED = 1.25
"""How many times as fast the steps must be by their processor time for a table to say so."""

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
    rows.append(["disk, checkpoints", size(disk["checkpoints"]), f"{CHECKPOINTS} × {size(disk['checkpoint'])}"])
    if disk["start"]:
        rows.append(["disk, start", size(disk["start"]), "its layers, for another training from the same start"])
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
        [f"GGUF TQ2_0, embedding {one['gguf_embedding']}, tensors", size(one["gguf_tq2_0"])],
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
