"""What `bitnet providers probe` reports of one model: asked for, not assumed. Every request is of one token."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.read import BadReply
from bitnet_core.teachers.chat import ContextExceeded, KeyRefused, NoLogprobs, PromptRefused, Unreachable
from bitnet_core.teachers.prices import Price
from bitnet_core.teachers.probe import Verdict, candidates, patience, plain_token, probe, token
from bitnet_core.teachers.refusals import TooManyCandidates
from bitnet_core.teachers.teacher import Teacher

_MOST = 100
"""The most candidates that a setting can ask for."""
_USUAL = 20
_FEW = 5
_LISTED = 500


def blank(
    provider: str, model: str, base_url: str, price: Price | None, problem: str | None = None
) -> dict[str, Any]:
    """The report of what nothing is known about yet."""
    return {
        "provider": provider,
        "model": model,
        "base_url": base_url,
        "reachable": None,
        "key_accepted": None,
        "models": None,
        "model_listed": None,
        "chat": None,
        "latency_s": None,
        "logprobs": None,
        "largest_k": None,
        "largest_k_capped": None,
        "token_ids": None,
        "bytes": None,
        "logprob_mode": None,
        "upstream": None,
        "price_usd_per_million": None if price is None else {"input": price.input, "output": price.output},
        "price_as_of": None if price is None else price.as_of,
        "problem": problem,
    }


async def examine(teacher: Teacher, price: Price | None) -> dict[str, Any]:
    """The report. A thing that was not found out is None; `problem` is the first sentence that said so.

    `largest_k_capped`: it gave as many candidates as were ever asked for, and might give more.
    """
    report = blank(teacher.name, teacher.model, teacher.origin, price)
    listed = await _tell(report, teacher.models)
    if listed is not None:
        report |= {"models": listed[:_LISTED], "model_listed": teacher.model in listed}
    if report["reachable"] is False or report["key_accepted"] is False or not teacher.model:
        return report
    report["problem"] = None  # a server may list no models and answer all the same
    await _chat(report, teacher)
    if not report["chat"]:
        return report
    if teacher.provider.logprobs == "no":
        report["logprobs"] = False
        return report
    verdict = await _tell(report, lambda: _verdict(report, teacher))
    if verdict is not None:
        most = await largest(teacher, verdict.candidates)
        report |= {
            "logprobs": True,
            "largest_k": most,
            "largest_k_capped": None if most is None else most >= _MOST,
            "token_ids": verdict.token_ids,
            "bytes": verdict.exact_bytes,
            "logprob_mode": verdict.mode,
            "latency_s": verdict.latency_s,
            "upstream": verdict.upstream or None,
        }
    return report


async def _chat(report: dict[str, Any], teacher: Teacher) -> None:
    """Does it answer at all? A model that thinks has no text after one token, and answers all the same."""

    async def ask() -> bool:
        try:
            await teacher.chat(plain_token(), attempts=2, seconds=patience(teacher))
        except BadReply as error:
            if error.reason != "no_text":
                raise
        return True

    began = time.monotonic()
    answered = await _tell(report, ask)
    report["chat"] = bool(answered)
    if answered:
        report["latency_s"] = time.monotonic() - began


async def _verdict(report: dict[str, Any], teacher: Teacher) -> Verdict:
    """As `collect` asks, with fewer candidates where the usual number is refused."""
    usual = min(_USUAL, teacher.provider.max_top_logprobs or _USUAL)
    try:
        return await probe(teacher, usual)
    except TooManyCandidates as error:
        fewer = error.most
    except NoLogprobs:
        fewer = _FEW
    try:
        return await probe(teacher, min(fewer, usual))
    except NoLogprobs:
        report["logprobs"] = False
        raise


async def largest(teacher: Teacher, known: int) -> int | None:
    """The most candidates that the server gives, found by asking for more and halving the doubt; None where it
    failed in between."""
    low, high = known, _MOST
    while low < high:
        middle = high if high == _MOST and low == known else (low + high + 1) // 2
        given = await _given(teacher, middle)
        if given is None:
            return None
        if given < middle:
            if given >= low:  # fewer than asked for, with or without a word: that is all it gives
                return given
            high = middle - 1
        else:
            low = middle
    return low


async def _given(teacher: Teacher, wanted: int) -> int | None:
    """Candidates given when so many are wanted: 0 for a refusal, None for a failure that says nothing of it."""
    try:
        return candidates(await token(teacher, wanted))
    except TooManyCandidates as error:
        return error.most
    except (NoLogprobs, PromptRefused):
        return 0
    except (BitnetError, BadReply):
        return None


async def _tell(report: dict[str, Any], ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer, or None with the reason in the report."""
    try:
        found = await ask()
    except Unreachable as error:
        report |= {"reachable": False, "problem": str(error)}
    except KeyRefused as error:
        report |= {"reachable": True, "key_accepted": False, "problem": str(error)}
    except (BitnetError, BadReply) as error:
        told = isinstance(error, NoLogprobs | TooManyCandidates | ContextExceeded | PromptRefused | BadReply)
        report |= {"reachable": True, "problem": str(error)} | ({"key_accepted": True} if told else {})
    else:
        report |= {"reachable": True, "key_accepted": True}
        return found
    return None
