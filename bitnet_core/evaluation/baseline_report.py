"""The baseline as figures: the report's fields and the table. QEI divides by them, so unknown figures stay null."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet_core.evaluation.baseline import Baseline, TimedAnswer
from bitnet_core.settings.values import BaselineOptions
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.teachers.identity import Identity
from bitnet_core.teachers.prices import price_of

BASELINE_FILE = "teacher_baseline.json"
"""In the reports folder. The evaluation reads it."""
COLUMNS = ["quantity", "value", "unit", "origin"]


def record(found: Baseline, identity: Identity, options: BaselineOptions) -> dict[str, Any]:
    """The measured part of `reports/teacher_baseline.json`, with the origin of each quantity."""
    results = [answer.result for answer in found.answers]
    seconds = np.array([answer.seconds for answer in found.answers])
    first_tokens = np.array([answer.first_token_s for answer in found.answers if answer.first_token_s is not None])
    prompt_tokens = _sum([result.prompt_tokens or None for result in results])
    completion_tokens = _sum([result.completion_tokens if result.counted else None for result in results])
    end_to_end = None if completion_tokens is None else completion_tokens / float(seconds.sum())
    return {
        "sampling_sent": found.sampling_sent,
        "answered": len(found.answers),
        "failed": found.failed,
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
        "answers_without_count": sum(not answer.counted for answer in found.answers),
        "tokens_per_s": {"end_to_end": end_to_end, "decode": _decode_rate(results), "origin": _origin(end_to_end)},
        "latency_s": {"mean": float(seconds.mean()), **_times(seconds)},
        "time_to_first_token_s": _times(first_tokens) if len(first_tokens) else None,
        "determinism": found.determinism,
        "cost": cost(identity, options, prompt_tokens, completion_tokens),
        "wall_s": found.wall_s,
        "memory": _memory(found.memory_bytes, options.memory_gb),
        "generations": [_answer_record(answer) for answer in found.answers],
    }


def table(record: Mapping[str, Any]) -> list[list[Any]]:
    """Rows under COLUMNS, from what `record` gives."""
    completion_tokens = record["usage"]["completion_tokens"]
    speed, memory, cost = record["tokens_per_s"], record["memory"], record["cost"]
    determinism = record["determinism"]
    times = [("latency", record["latency_s"]), ("first token", record["time_to_first_token_s"] or {})]
    return [
        ["prompts answered", record["answered"], "", "measured"],
        ["answers without a count of tokens", record["answers_without_count"], "", "measured"],
        ["completion tokens", completion_tokens, "tokens", _origin(completion_tokens)],
        ["speed, end to end", _rounded(speed["end_to_end"]), "tokens/s", _origin(speed["end_to_end"])],
        ["speed, decoding", _rounded(speed["decode"]), "tokens/s", _origin(speed["decode"])],
        *(
            [f"{label} {name}", round(found[name], 3), "s", "measured"]
            for label, found in times
            for name in found
            if name.startswith("p")
        ),
        ["equal answers, asked twice", determinism["equal"], f"of {determinism['asked_twice']}", "measured"],
        ["cost", cost["usd"], "USD", cost["origin"]],
        ["memory, bytes", memory["bytes"], "", memory["origin"]],
    ]


def _answer_record(answer: TimedAnswer) -> dict[str, Any]:
    result = answer.result
    return {
        "prompt": answer.prompt.text,
        "prompt_hash": answer.prompt.hash,
        "text": result.text,
        "finish_reason": result.finish_reason,
        "prompt_tokens": result.prompt_tokens or None,
        "completion_tokens": result.completion_tokens if result.counted else None,
        "seconds": answer.seconds,
        "first_token_s": answer.first_token_s,
        "text_hash": hashlib.sha256(result.text.encode()).hexdigest(),
    }


def _memory(measured: int | None, given_gb: float | None) -> dict[str, Any]:
    if given_gb is not None:
        return {"bytes": round(given_gb * 1e9), "origin": "given"}
    return {"bytes": measured, "origin": _origin(measured)}


def cost(
    identity: Identity, options: BaselineOptions, prompt_tokens: int | None, completion_tokens: int | None
) -> dict[str, Any]:
    """US dollars of the answers, by the price file; null where it has no price or tokens were not counted."""
    price = price_of(identity.provider, identity.model, options.prices_file, address=identity.base_url)
    free = price is not None and not (price.input or price.output)
    if price is None or ((prompt_tokens is None or completion_tokens is None) and not free):
        return {"usd": None, "origin": "unknown"}
    usd = price.usd(prompt_tokens or 0, completion_tokens or 0)
    return {"usd": usd, "origin": f"price file, {price.as_of}" if price.as_of else "no cost", "source": price.source}


def _decode_rate(results: Sequence[ChatResult]) -> float | None:
    """Tokens a second of decoding alone, by the server's own clock; None where it reports none."""
    tokens = sum(result.timings.get("predicted_n", 0.0) for result in results)
    milliseconds = sum(result.timings.get("predicted_ms", 0.0) for result in results)
    return tokens / milliseconds * 1000 if tokens and milliseconds else None


def _times(seconds: npt.NDArray[np.float64]) -> dict[str, Any]:
    """The report's percentiles of some durations."""
    return {f"p{share}": float(np.percentile(seconds, share)) for share in (50, 95, 99)} | {"origin": "measured"}


def _sum(counts: Sequence[int | None]) -> int | None:
    """The sum of all counts; None if one of them is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _origin(value: float | None) -> str:
    return "unknown" if value is None else "measured"
