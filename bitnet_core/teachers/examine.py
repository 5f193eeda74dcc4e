"""What `bitnet providers probe` reports about one model: measured, not assumed, by requests of a few tokens."""

from collections.abc import Awaitable, Callable
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.http.retries import Unreachable
from bitnet_core.teachers.neutral import PLAIN, one_token
from bitnet_core.teachers.prices import Price
from bitnet_core.teachers.probe import Verdict, ask_probe, plain_answer, probe
from bitnet_core.teachers.refusals import (
    ContextExceeded,
    KeyRefused,
    NoLogprobs,
    OtherAddress,
    PromptRefused,
    SettingsRefused,
    TooManyCandidates,
    UnusableLogprobs,
    no_usable_answer,
)
from bitnet_core.teachers.teacher import Teacher

_MOST = 100
"""The largest value of TEACHER_TOP_LOGPROBS."""
_USUAL = 20
"""The default of TEACHER_TOP_LOGPROBS."""
_FEW = 5
"""Requested after the usual number gave no logprobs: some servers have a lower limit and don't say so."""
_LISTED = 500
_ANSWERED = (
    *(NoLogprobs, UnusableLogprobs, TooManyCandidates, SettingsRefused, ContextExceeded, PromptRefused, BadReply),
)
"""Errors of a server that has accepted the key."""
_FIELDS = (
    *("provider", "model", "base_url", "reachable", "key_accepted", "models", "model_listed", "chat", "latency_s"),
    *("logprobs", "largest_k", "largest_k_capped", "token_ids", "bytes", "logprob_mode", "upstream"),
    *("refused_sampling", "answers_at"),
    *("price_usd_per_million", "price_as_of", "problem"),
)


def blank(
    provider: str, model: str, base_url: str, price: Price | None, problem: str | None = None
) -> dict[str, Any]:
    """The report before anything is known but the names."""
    return dict.fromkeys(_FIELDS) | {
        "provider": provider,
        "model": model,
        "base_url": base_url,
        "price_usd_per_million": price and {"input": price.input, "output": price.output},
        "price_as_of": price and price.as_of,
        "problem": problem,
    }


async def examine(teacher: Teacher, price: Price | None, sampling: Sampling = PLAIN) -> dict[str, Any]:
    """The report on a model, for collecting with this sampling.

    What could not be found out is None, and `problem` is the sentence that says why.

    `largest_k_capped`: it gave all candidates that a setting can ask for, and may be able to give more.
    """
    report = blank(teacher.name, teacher.model, teacher.origin, price)
    listed = await _noted(report, teacher.models)
    if listed is not None:
        report |= {"models": listed[:_LISTED], "model_listed": teacher.model in listed}
    if report["reachable"] is False or report["key_accepted"] is False or report["answers_at"] or not teacher.model:
        return report
    report["problem"] = None  # a server that lists no models may still answer
    plain = await _noted(report, lambda: plain_answer(teacher))
    report |= {"chat": plain is not None, "latency_s": plain and plain[0]}
    if plain is None:
        return report
    if teacher.provider.logprobs == "no":
        report["logprobs"] = False
        return report
    verdict = await _noted(report, lambda: _verdict(report, teacher, sampling))
    if verdict is not None:
        most = await largest_k(teacher, verdict.candidates)
        report |= {
            "logprobs": True,
            "largest_k": most,
            "largest_k_capped": None if most is None else most >= _MOST,
            "token_ids": verdict.token_ids,
            "bytes": verdict.exact_bytes,
            "logprob_mode": verdict.mode,
            "latency_s": verdict.latency_s,
            "upstream": verdict.upstream or None,
            "refused_sampling": list(verdict.refused),
        }
    return report


async def _verdict(report: dict[str, Any], teacher: Teacher, sampling: Sampling) -> Verdict:
    """The probe as `collect` makes it, with fewer candidates if the usual number is refused."""
    usual = min(_USUAL, teacher.provider.max_top_logprobs or _USUAL)
    try:
        return await probe(teacher, usual, sampling=sampling)
    except TooManyCandidates as error:
        fewer = error.most
    except NoLogprobs:
        fewer = _FEW
    except UnusableLogprobs:
        report["logprobs"] = False
        raise
    try:
        return await probe(teacher, min(fewer, usual), sampling=sampling)
    except (NoLogprobs, UnusableLogprobs):
        report["logprobs"] = False
        raise


async def largest_k(teacher: Teacher, known: int) -> int | None:
    """The largest number of candidates that the server gives, found by bisection; None if a request failed.

    `known` is a number that it gives.
    """
    low, high = known, _MOST
    while low < high:
        middle = high if high == _MOST and low == known else (low + high + 1) // 2
        given = await _given(teacher, middle)
        if given is None:
            return None
        if given < middle:
            if given >= low:  # it gave fewer than asked for, so this is its limit
                return given
            high = middle - 1
        else:
            low = middle
    return low


async def _given(teacher: Teacher, wanted: int) -> int | None:
    """How many candidates it gives when asked for `wanted`: 0 if it refuses, None if it fails for another reason."""
    try:
        return (await ask_probe(teacher, one_token(wanted))).candidates
    except TooManyCandidates as error:
        return error.most
    except (NoLogprobs, PromptRefused):
        return 0
    except (BitnetError, BadReply):
        return None


async def _noted(report: dict[str, Any], ask: Callable[[], Awaitable[Any]]) -> Any:
    """What `ask` returns, or None if it fails. The report takes what either shows about the server and the key."""
    try:
        found = await ask()
    except Unreachable as error:
        report |= {"reachable": False, "problem": str(error)}
    except OtherAddress as error:
        report |= {"reachable": True, "answers_at": error.address, "problem": str(error)}
        report |= {"key_accepted": False} if error.refused else {}
    except KeyRefused as error:
        report |= {"reachable": True, "key_accepted": False, "problem": str(error)}
    except (BitnetError, BadReply) as error:
        answered = isinstance(error, _ANSWERED)
        told = no_usable_answer(report["provider"], error) if isinstance(error, BadReply) else error
        report |= {"reachable": True, "problem": str(told)} | ({"key_accepted": True} if answered else {})
    else:
        report |= {"reachable": True, "key_accepted": True}
        return found
    return None
