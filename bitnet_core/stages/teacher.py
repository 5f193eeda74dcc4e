"""The teacher stage: the teacher's greedy baseline, measured: text, speed, latency, usage and memory.

Prompts are asked one after another, so that latency is the teacher's and not the queue's. What it measures
is what QEI divides by, so nothing here is assumed: a number that could not be measured is null.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet_core.errors import BitnetError
from bitnet_core.model.precision import pick_device
from bitnet_core.prompts.prompt import Prompt, canonical_json, load_prompts, prompts_hash
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.events import Sample
from bitnet_core.settings.values import DeviceOptions, TeacherOptions
from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.teachers.chat import ChatRequest, PromptRefused
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.teachers.identity import identify
from bitnet_core.teachers.opening import fetch_progress, open_teacher
from bitnet_core.teachers.prices import price_of
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.tokenizer.load import load_tokenizer

REPORT = "teacher_baseline.json"
PACKAGED_PROMPTS = "baseline.txt"
_GIGABYTE = 1e9
_POLL_SECONDS = 0.2
_ASKED_TWICE = 3


@dataclass(frozen=True)
class _Generation:
    prompt: Prompt
    result: ChatResult
    seconds: float
    first_token_s: float | None
    """None where the answer came in one piece."""


def run(ctx: StageContext) -> dict[str, Any]:
    """Measure the baseline, write `reports/teacher_baseline.json` and return its short form."""
    settings = ctx.settings
    identity = identify(TeacherOptions.of(settings))
    prompts = load_prompts(settings.maybe_path("TEACHER_BASELINE_PROMPTS_FILE"), PACKAGED_PROMPTS)
    prompts = prompts[: settings.int("TEACHER_BASELINE_MAX_PROMPTS")]
    sampling = {
        "temperature": settings.float("TEACHER_BASELINE_TEMPERATURE"),
        "top_p": settings.float("TEACHER_BASELINE_TOP_P"),
        "max_tokens": settings.int("TEACHER_BASELINE_MAX_TOKENS"),
        "seed": settings.int("SEED"),
    }
    measured = asyncio.run(_measure(ctx, prompts, sampling))
    config = {"provider": identity.provider.name, "model": identity.model, "origin": identity.origin, **sampling}
    report = {
        "version": 1,
        **config,
        "sampling": sampling,
        "prompts": len(prompts),
        "prompts_hash": prompts_hash(prompts),
        "config_hash": hashlib.sha256(canonical_json(config).encode()).hexdigest(),
        **measured,
    }
    ctx.report(REPORT, report)
    return {key: report[key] for key in ("provider", "model", "usage", "tokens_per_s", "latency_s", "memory")}


async def _measure(ctx: StageContext, prompts: list[Prompt], sampling: dict[str, Any]) -> dict[str, Any]:
    options = TeacherOptions.of(ctx.settings)
    device = partial(pick_device, DeviceOptions.of(ctx.settings))
    context = None
    if identify(options).provider.name == "embedded":
        context = _longest_prompt(ctx, prompts) + sampling["max_tokens"] + 16
    generations: list[_Generation] = []
    failed: list[dict[str, str]] = []
    async with open_teacher(ctx, options, device=device, parallel=1, context=context) as teacher:
        # The first request after loading also pays for reading the weights: it is made and not counted.
        with contextlib.suppress(BadReply, PromptRefused):
            await _generate(ctx, teacher, prompts[0], {**sampling, "max_tokens": 1})
        started = time.monotonic()
        for index, prompt in enumerate(prompts):
            ctx.progress(index, len(prompts), "prompts", "baseline")
            try:
                generation = await _answered(ctx, teacher, prompt, sampling)
            except (BadReply, PromptRefused) as error:
                failed.append({"prompt": prompt.text, "reason": str(error)})
                continue
            generations.append(generation)
            ctx.emit(Sample(prompt=prompt.text, text=generation.result.text, source="teacher"))
            teacher.memory_bytes()
        wall = time.monotonic() - started
        sent = dict(teacher.sent(ChatRequest(prompts[0].messages, **sampling)))
        determinism = await _determinism(ctx, teacher, generations, sampling)
        ctx.progress(len(prompts), len(prompts), "prompts", "baseline")
        memory = _memory(ctx, teacher)
    if not generations:
        raise BitnetError(
            f"The teacher answered none of {len(prompts)} baseline prompts ({failed[0]['reason']}); "
            "choose another model."
        )
    uncounted = _uncounted(generations)
    if uncounted:
        ctx.alert(
            "warning",
            "tokens_not_counted",
            f"{uncounted} of {len(generations)} answers came without a count of their tokens.",
            "Speed, usage and cost that need it are not known; ask the provider for usage in streams.",
        )
    if failed:
        ctx.alert(
            "warning",
            "prompts_failed",
            f"{len(failed)} of {len(prompts)} baseline prompts got no usable answer ({failed[0]['reason']}).",
            "They are left out of the figures; see the report.",
        )
    return {"sampling_sent": sent} | _figures(ctx, generations, failed, wall, memory, determinism)


async def _answered(ctx: StageContext, teacher: Teacher, prompt: Prompt, sampling: dict[str, Any]) -> _Generation:
    """One answer, asked for once more where a gateway may have spoilt the first."""
    try:
        return await _generate(ctx, teacher, prompt, sampling)
    except BadReply as error:
        if not error.retryable:
            raise
    return await _generate(ctx, teacher, prompt, sampling)


async def _generate(ctx: StageContext, teacher: Teacher, prompt: Prompt, sampling: dict[str, Any]) -> _Generation:
    """One answer, streamed so that its first token can be timed; abandoned at once when the stage is stopped."""
    began = time.monotonic()
    first: list[float] = []

    def on_text(_text: str) -> None:
        if not first:
            first.append(time.monotonic() - began)

    task = asyncio.create_task(teacher.chat(ChatRequest(prompt.messages, **sampling), on_text=on_text))
    try:
        while not task.done():
            ctx.check_stop()
            await asyncio.wait({task}, timeout=_POLL_SECONDS)
        return _Generation(prompt, task.result(), time.monotonic() - began, first[0] if first else None)
    finally:
        task.cancel()


async def _determinism(
    ctx: StageContext, teacher: Teacher, generations: list[_Generation], sampling: dict[str, Any]
) -> dict[str, Any]:
    """Ask the first prompts a second time, greedily: are the answers the same?"""
    greedy = {**sampling, "temperature": 0.0, "top_p": 1.0}
    same = asked = 0
    first_difference: int | None = None
    for generation in generations[:_ASKED_TWICE]:
        ctx.check_stop()
        try:
            once = generation.result.text
            if sampling != greedy:
                once = (await _generate(ctx, teacher, generation.prompt, greedy)).result.text
            twice = (await _generate(ctx, teacher, generation.prompt, greedy)).result.text
        except (BadReply, PromptRefused):
            continue
        asked += 1
        same += once == twice
        if once != twice and first_difference is None:
            pairs = enumerate(zip(once, twice, strict=False))
            first_difference = next((place for place, (a, b) in pairs if a != b), min(len(once), len(twice)))
    return {
        "asked_twice": asked,
        "equal": same,
        "deterministic": None if not asked else same == asked,
        "first_difference_at_character": first_difference,
        "origin": "measured",
    }


def _longest_prompt(ctx: StageContext, prompts: list[Prompt]) -> int:
    tokenizer = load_tokenizer(ensure_files(fetch_progress(ctx)).tokenizer_dir)
    return max(len(tokenizer.encode(tokenizer.render_prompt(prompt.messages))) for prompt in prompts)


def _memory(ctx: StageContext, teacher: Teacher) -> dict[str, Any]:
    """Bytes of the teacher, and where the number is from; a given one is shown as given."""
    given = ctx.settings.maybe_float("TEACHER_MEMORY_GB")
    if given is not None:
        return {"bytes": round(given * _GIGABYTE), "origin": "given"}
    measured = teacher.memory_bytes()
    return {"bytes": measured, "origin": "unknown" if measured is None else "measured"}


def _figures(
    ctx: StageContext,
    generations: list[_Generation],
    failed: list[dict[str, str]],
    wall: float,
    memory: dict[str, Any],
    determinism: dict[str, Any],
) -> dict[str, Any]:
    seconds = np.array([generation.seconds for generation in generations])
    results = [generation.result for generation in generations]
    prompt_tokens = _sum([result.prompt_tokens or None for result in results])
    completion_tokens = _sum([result.completion_tokens if result.counted else None for result in results])
    uncounted = _uncounted(generations)
    end_to_end = None if completion_tokens is None else completion_tokens / float(seconds.sum())
    decode = _decode_rate(generations)
    latency = _percentiles(seconds)
    firsts = np.array([one.first_token_s for one in generations if one.first_token_s is not None])
    first_token = _percentiles(firsts) if len(firsts) else None
    cost = _cost(ctx, prompt_tokens, completion_tokens)
    ctx.table(
        "baseline",
        ["quantity", "value", "unit", "origin"],
        [
            ["prompts answered", len(generations), "", "measured"],
            ["answers without a count of tokens", uncounted, "", "measured"],
            ["completion tokens", completion_tokens, "tokens", _origin(completion_tokens)],
            ["speed, end to end", _rounded(end_to_end), "tokens/s", _origin(end_to_end)],
            ["speed, decoding", _rounded(decode), "tokens/s", _origin(decode)],
            *[[f"latency {name}", round(value, 3), "s", "measured"] for name, value in latency.items()],
            *[
                [f"first token {name}", round(value, 3), "s", "measured"]
                for name, value in (first_token or {}).items()
            ],
            ["equal answers, asked twice", determinism["equal"], f"of {determinism['asked_twice']}", "measured"],
            ["cost", cost["usd"], "USD", cost["origin"]],
            ["memory", memory["bytes"], "bytes", memory["origin"]],
        ],
    )
    return {
        "answered": len(generations),
        "failed": failed,
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
        "answers_without_count": uncounted,
        "tokens_per_s": {"end_to_end": end_to_end, "decode": decode, "origin": _origin(end_to_end)},
        "latency_s": {"mean": float(seconds.mean()), **latency, "origin": "measured"},
        "time_to_first_token_s": None if first_token is None else {**first_token, "origin": "measured"},
        "determinism": determinism,
        "cost": cost,
        "wall_s": wall,
        "memory": memory,
        "generations": [
            {
                "prompt": generation.prompt.text,
                "prompt_hash": generation.prompt.hash,
                "text": generation.result.text,
                "finish_reason": generation.result.finish_reason,
                "prompt_tokens": generation.result.prompt_tokens or None,
                "completion_tokens": generation.result.completion_tokens if generation.result.counted else None,
                "seconds": generation.seconds,
                "first_token_s": generation.first_token_s,
                "text_hash": hashlib.sha256(generation.result.text.encode()).hexdigest(),
            }
            for generation in generations
        ],
    }


def _percentiles(seconds: npt.NDArray[np.float64]) -> dict[str, float]:
    return {f"p{share}": float(np.percentile(seconds, share)) for share in (50, 95, 99)}


def _uncounted(generations: list[_Generation]) -> int:
    return sum(not (one.result.counted and one.result.prompt_tokens) for one in generations)


def _sum(counts: Sequence[int | None]) -> int | None:
    """None where one of them is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _cost(ctx: StageContext, prompt_tokens: int | None, completion_tokens: int | None) -> dict[str, Any]:
    """US dollars of the answers, by the price file; null where that has no price or tokens were not counted."""
    identity = identify(TeacherOptions.of(ctx.settings))
    prices = ctx.settings.maybe_path("KD_PRICES_FILE")
    price = price_of(identity.provider, identity.model, prices, address=identity.base_url)
    free = price is not None and not (price.input or price.output)
    if price is None or ((prompt_tokens is None or completion_tokens is None) and not free):
        return {"usd": None, "origin": "unknown"}
    usd = price.usd(prompt_tokens or 0, completion_tokens or 0)
    return {"usd": usd, "origin": f"price file, {price.as_of}" if price.as_of else "no cost", "source": price.source}


def _origin(value: float | None) -> str:
    return "unknown" if value is None else "measured"


def _decode_rate(generations: list[_Generation]) -> float | None:
    """Tokens a second while decoding alone, by the server's own clock; None where it tells none."""
    tokens = sum(generation.result.timings.get("predicted_n", 0.0) for generation in generations)
    milliseconds = sum(generation.result.timings.get("predicted_ms", 0.0) for generation in generations)
    return tokens / milliseconds * 1000 if tokens and milliseconds else None
