"""What the teacher will be asked and what that costs: measured means of the traces, or else upper bounds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

from bitnet_core.settings.values import CollectOptions
from bitnet_core.teachers.prices import Price

_TOKENS_PER_MESSAGE, _TOKENS_PER_REQUEST = 32, 128
"""As collecting reserves: more than a chat template adds to a message, and a server's preface to a request."""


@dataclass(frozen=True)
class TeacherPlan:
    """Tokens and US dollars of a collection. `origin` says whether they are an estimate or the most they can be."""

    answers: int
    prompt_tokens: int
    completion_tokens: int
    origin: str
    usd: float | None
    price_from: str


def teacher_plan(
    options: CollectOptions,
    prompts: Iterable[Sequence[Mapping[str, str]]],
    known: Mapping[str, float] | None,
    price: Price | None,
) -> TeacherPlan:
    """`known` has the mean `prompt_tokens` and `completion_tokens` of answers that were collected, if there are any.

    `prompts` are the messages of each prompt; they repeat until there are enough answers. Every token is at least one
    byte. Without a `price` the dollars stay unknown.
    """
    if known is not None:
        prompt = round(known["prompt_tokens"] * options.answers)
        completion = round(known["completion_tokens"] * options.answers)
        origin = f"mean of {known['answers']:,.0f} answers here"
    else:
        sizes = [
            sum(len(one["content"].encode()) + _TOKENS_PER_MESSAGE for one in messages) + _TOKENS_PER_REQUEST
            for messages in islice(prompts, options.answers)
        ]
        prompt = sum(islice(cycle(sizes), options.answers)) if sizes else 0
        completion = options.answers * options.sampling.max_tokens
        origin = "at most: no answers here yet"
    usd = None if price is None else price.usd(prompt, completion)
    source = "no price for this model in the price file (KD_PRICES_FILE)"
    if price is not None:
        source = f"price file, {price.as_of}" if price.as_of else price.source
    return TeacherPlan(options.answers, prompt, completion, origin, usd, source)
