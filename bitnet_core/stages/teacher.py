"""Stage `teacher`: the teacher's greedy baseline: text, speed, latency, usage and memory. Wiring only."""

import asyncio
import hashlib
from functools import partial
from typing import Any

from bitnet_core.evaluation import baseline_report
from bitnet_core.evaluation.baseline import Baseline, Interview
from bitnet_core.model.precision import pick_device
from bitnet_core.prompts.prompt import Prompt, canonical_json, load_prompts, prompts_hash
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import BaselineOptions, DeviceOptions, TeacherOptions
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.teachers.identity import Identity, identify
from bitnet_core.teachers.opening import fetch_progress, open_teacher
from bitnet_core.tokenizer.load import load_tokenizer

PACKAGED_PROMPTS = "baseline.txt"
_SPARE_TOKENS = 16
"""Room in the embedded teacher's context besides the longest prompt and its answer."""


def run(ctx: StageContext) -> dict[str, Any]:
    """Measure the baseline, write `reports/teacher_baseline.json` and the table baseline."""
    options = BaselineOptions.of(ctx.settings)
    identity = identify(TeacherOptions.of(ctx.settings))
    prompts = load_prompts(options.prompts_file, PACKAGED_PROMPTS)[: options.max_prompts]
    found = asyncio.run(_measure(ctx, options, identity, prompts))
    measured = baseline_report.record(found, identity, options)
    ctx.table("baseline", baseline_report.COLUMNS, baseline_report.table(measured))
    sampling = {
        "temperature": options.sampling.temperature,
        "top_p": options.sampling.top_p,
        "max_tokens": options.sampling.max_tokens,
        "seed": options.seed,
    }
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
    ctx.report(baseline_report.BASELINE_FILE, report)
    return {key: report[key] for key in ("provider", "model", "usage", "tokens_per_s", "latency_s", "memory")}


async def _measure(
    ctx: StageContext, options: BaselineOptions, identity: Identity, prompts: list[Prompt]
) -> Baseline:
    context = None
    if identity.provider.name == "embedded":
        context = _longest_prompt(ctx, prompts) + options.sampling.max_tokens + _SPARE_TOKENS
    device = partial(pick_device, DeviceOptions.of(ctx.settings))
    async with open_teacher(ctx, TeacherOptions.of(ctx.settings), device=device, context=context) as teacher:
        return await Interview(teacher, options.sampling, options.seed, ctx).measure(prompts)


def _longest_prompt(ctx: StageContext, prompts: list[Prompt]) -> int:
    """Tokens of the longest prompt, by the embedded teacher's own tokenizer."""
    tokenizer = load_tokenizer(ensure_files(fetch_progress(ctx)).tokenizer_dir)
    return max(len(tokenizer.encode_prompt(prompt.messages).ids) for prompt in prompts)
