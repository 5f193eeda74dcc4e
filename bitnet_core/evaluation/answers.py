"""The prompts that a student is asked in its evaluation, and its answers as the report keeps them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.model.decoding import Generation
from bitnet_core.prompts.parquet import open_parquet
from bitnet_core.prompts.prompt import Prompt, load_prompts
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import EvalOptions
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.student import StudentTokenizer
from bitnet_core.traces.dataset import TraceSet
from bitnet_core.traces.schema import SEQUENCES_FILE

_PACKAGED_PROMPTS = "baseline.txt"


@dataclass(frozen=True)
class EvalPrompt:
    """One prompt: `ids` are what the student reads, `text` is the user's last message, to be shown."""

    text: str
    ids: list[int]


def choose_prompts(
    data: Path,
    traces: TraceSet,
    tokenizer: StudentTokenizer,
    options: EvalOptions,
    most_tokens: int,
    reporter: Reporter,
) -> list[EvalPrompt]:
    """The user's prompts, else the held-out ones, else the packaged ones, without those of over `most_tokens` tokens.

    Raises BitnetError if all are too long.
    """
    _, held_out = traces.split()
    if options.prompts_file is None and held_out:
        texts = _last_messages(data)
        found = [
            EvalPrompt(texts.get(sequence.prompt_idx, sequence.prompt_text), sequence.prompt_ids_P.tolist())
            for sequence in held_out
        ]
    else:
        found = _rendered(load_prompts(options.prompts_file, _PACKAGED_PROMPTS), tokenizer, reporter)
    found = found[: options.max_prompts]
    fitting = [prompt for prompt in found if len(prompt.ids) <= most_tokens]
    if len(fitting) < len(found):
        reporter.alert(
            "warning",
            "prompts_too_long",
            f"{len(found) - len(fitting)} of {len(found)} prompts are longer than the student's {most_tokens} "
            "positions and are left out.",
            "Shorten them.",
        )
    if not fitting:
        source = options.prompts_file or data
        raise BitnetError(f"No prompt fits into the student's {most_tokens} positions; shorten those of {source}.")
    return fitting


def _rendered(prompts: list[Prompt], tokenizer: StudentTokenizer, reporter: Reporter) -> list[EvalPrompt]:
    """The prompts that the student's chat template and tokenizer accept. BitnetError if it accepts none."""
    found, refusals = [], []
    for place, prompt in enumerate(prompts):
        try:
            found.append(EvalPrompt(prompt.text, tokenizer.encode_prompt(prompt.messages).ids))
        except Refused as error:
            refusals.append((tokenizer.refuser(error.by), f"prompt {place}: {error.reason}"))
    if refusals:
        refuser, first = refusals[0]
        if not found:
            raise BitnetError(f"{refuser} refuses every prompt ({first}); change EVAL_PROMPTS_FILE.")
        reporter.alert(
            "warning",
            "prompts_refused",
            f"{refuser} refuses {len(refusals)} of {len(prompts)} prompts (the first is {first}); they are left out.",
            "Change EVAL_PROMPTS_FILE.",
        )
    return found


def _last_messages(data: Path) -> dict[int, str]:
    """The user's last message in each prompt of a trace set, by `prompt_idx`; the stream holds only rendered ones."""
    path = data / SEQUENCES_FILE
    if not path.exists():
        return {}
    again = f"{path} is damaged; move it away, the rendered prompts are shown then."
    try:
        with open_parquet(path, names := ["prompt_idx", "messages_json"]) as file:
            rows = file.read(names).to_pylist()
        return {row["prompt_idx"]: json.loads(row["messages_json"])[-1]["content"] for row in rows}
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, RecursionError) as error:
        raise_if_not_the_file(error, path)
        raise BitnetError(again) from error


def sample_record(prompt: EvalPrompt, answer: Generation, tokenizer: StudentTokenizer) -> dict[str, Any]:
    """One of the report's `samples`."""
    return {
        "prompt": prompt.text,
        "text": tokenizer.decode(answer.ids),
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "tokens": len(answer.ids),
        "prefill_s": answer.prefill_s,
        "decode_s": answer.decode_s,
    }
