"""Stage `teacher`: the teacher's greedy baseline: text, speed, latency, usage and memory. Wiring only."""

import asyncio
import hashlib
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from bitnet_core.evaluation import baseline_report, kept_answers, suite_scores
from bitnet_core.evaluation.baseline import Baseline, Interview
from bitnet_core.evaluation.kept_answers import KeptAnswers
from bitnet_core.evaluation.teacher_answers import TeacherAnswers, user_turn
from bitnet_core.prompts.prompt import Prompt, canonical_json, load_prompts, prompts_hash
from bitnet_core.runs import catalog
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.reporter import Part
from bitnet_core.settings.values import BaselineOptions, SuiteOptions, TeacherOptions
from bitnet_core.stages.device import device_of
from bitnet_core.suites.asked import items_to_answer
from bitnet_core.suites.run import prompts_of
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.teachers.identity import Identity, identify
from bitnet_core.teachers.opening import fetch_progress, open_teacher, usual_requests
from bitnet_core.tokenizer.load import load_tokenizer

PACKAGED_PROMPTS = "baseline.txt"
_SPARE_TOKENS = 16
"""Room in the embedded teacher's context besides the longest prompt and its answer."""


def run(ctx: StageContext) -> dict[str, Any]:
    """Measure the baseline, write `reports/teacher_baseline.json` and the tables baseline and checks."""
    options, asked = BaselineOptions.of(ctx.settings), SuiteOptions.of(ctx.settings)
    suites = items_to_answer(asked)
    identity = identify(TeacherOptions.of(ctx.settings))
    prompts = load_prompts(options.prompts_file, PACKAGED_PROMPTS)[: options.max_prompts]
    parallel = asked.concurrency or usual_requests(identity.provider.name)
    kept = _kept_answers(ctx, identity)
    answers = TeacherAnswers(prompts_of(suites), asked, parallel, ctx, kept)
    found = asyncio.run(_measure(ctx, options, identity, prompts, answers, kept))
    measured = baseline_report.record(found, identity, options)
    ctx.table("baseline", baseline_report.COLUMNS, baseline_report.table(measured))
    runtime = "llama.cpp" if identity.provider.name == "embedded" else identity.provider.name
    checks = suite_scores.grade_teacher(suites, answers.found, asked, runtime, ctx)
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
        suite_scores.REPORT_KEY: checks and checks | _spent(answers, identity, options),
    }
    ctx.report(baseline_report.BASELINE_FILE, report)
    kept.remove()
    return {key: report[key] for key in ("provider", "model", "usage", "tokens_per_s", "latency_s", "memory")}


def _kept_answers(ctx: StageContext, identity: Identity) -> KeptAnswers:
    """The answers of a run that did not end: of the same teacher, under the same settings and on this machine."""
    seed = BaselineOptions.of(ctx.settings).seed
    decides = [catalog.fingerprint(ctx.stage, ctx.settings, {}), seed, identity.origin, platform.node()]
    same = hashlib.sha256(canonical_json(decides).encode()).hexdigest()
    kept = KeptAnswers(ctx.experiment.reports / kept_answers.FILE, same, ctx, ctx.redact)
    if len(kept):
        ctx.log(f"{len(kept):,} answers are there from an earlier run; the others are asked for.")
    return kept


async def _measure(
    ctx: StageContext,
    options: BaselineOptions,
    identity: Identity,
    prompts: list[Prompt],
    answers: TeacherAnswers,
    kept: KeptAnswers,
) -> Baseline:
    """The baseline; then the suites' items, several at once, because those answers are not timed."""
    ctx.part, last = (Part(1, 2), Part(2, 2)) if answers.prompts else (None, None)
    device = device_of(ctx.settings)
    opened = partial(open_teacher, ctx, TeacherOptions.of(ctx.settings), device=device)
    if identity.provider.name != "embedded":
        async with opened(parallel=answers.parallel) as teacher:
            found = await Interview(teacher, options.sampling, options.seed, ctx, kept).measure(prompts)
            ctx.part = last
            await answers.ask(teacher)
        return found
    # A server with several slots has a larger KV cache, which would count as the baseline's memory.
    longest = _longest_prompt(ctx, [prompt.messages for prompt in prompts])
    async with opened(context=longest + options.sampling.max_tokens + _SPARE_TOKENS) as teacher:
        found = await Interview(teacher, options.sampling, options.seed, ctx, kept).measure(prompts)
    if answers.prompts:
        ctx.part = last
        longest = _longest_prompt(ctx, [user_turn(prompt) for prompt in answers.prompts])
        context = answers.parallel * (longest + answers.max_tokens + _SPARE_TOKENS)
        async with opened(parallel=answers.parallel, context=context) as teacher:
            await answers.ask(teacher)
    return found


def _spent(answers: TeacherAnswers, identity: Identity, options: BaselineOptions) -> dict[str, Any]:
    """What the suites' answers have used, beside the baseline's own usage and cost."""
    tokens = answers.prompt_tokens, answers.completion_tokens
    return {
        "usage": dict(zip(("prompt_tokens", "completion_tokens"), tokens, strict=True)),
        "cost": baseline_report.cost(identity, options, *tokens),
    }


def _longest_prompt(ctx: StageContext, prompts: Sequence[Sequence[Mapping[str, str]]]) -> int:
    """Tokens of the longest prompt, by the embedded teacher's own tokenizer."""
    tokenizer = load_tokenizer(ensure_files(fetch_progress(ctx)).tokenizer_dir)
    return max(len(tokenizer.encode_prompt(messages).ids) for messages in prompts)
