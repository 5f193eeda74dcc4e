"""What `bitnet providers probe` reports of one model: asked for, not assumed. Every request is of one token."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.providers.chat import ChatRequest, ContextExceeded, KeyRefused, NoLogprobs, Unreachable
from bitnet_core.providers.prices import Price
from bitnet_core.providers.probe import MESSAGES, one_token, probe
from bitnet_core.providers.replies import BadReply
from bitnet_core.providers.teacher import Teacher

_MOST = 100
"""The most candidates that a setting can ask for."""
_USUAL = 20
_LISTED = 500


async def examine(teacher: Teacher, price: Price | None) -> dict[str, Any]:
    """The report. A thing that was not found out is None; `problem` is the first sentence that said so."""
    report: dict[str, Any] = {
        "provider": teacher.name,
        "model": teacher.model,
        "base_url": teacher.origin,
        "reachable": None,
        "key_accepted": None,
        "models": None,
        "model_listed": None,
        "chat": None,
        "latency_s": None,
        "logprobs": None,
        "largest_k": None,
        "token_ids": None,
        "bytes": None,
        "logprob_mode": None,
        "price_usd_per_million": None if price is None else {"input": price.input, "output": price.output},
        "price_as_of": None if price is None else price.as_of,
        "problem": None,
    }
    listed = await _tell(report, teacher.models)
    if listed is not None:
        report |= {"models": listed[:_LISTED], "model_listed": teacher.model in listed}
    if report["reachable"] is False or report["key_accepted"] is False or not teacher.model:
        return report
    began = time.monotonic()
    report["problem"] = None  # a server may list no models and answer all the same
    answer = await _tell(report, lambda: teacher.chat(ChatRequest(MESSAGES, 1, 0.0, 1.0), attempts=2))
    report["chat"] = answer is not None
    if answer is None:
        return report
    report["latency_s"] = time.monotonic() - began
    if teacher.provider.logprobs == "no":
        report["logprobs"] = False
        return report
    verdict = await _tell(report, lambda: _verdict(teacher))
    report["logprobs"] = verdict is not None
    if verdict is not None:
        report |= {
            "largest_k": await largest(teacher, verdict.candidates),
            "token_ids": verdict.token_ids,
            "bytes": verdict.exact_bytes,
            "logprob_mode": verdict.mode,
            "latency_s": verdict.latency_s,
        }
    return report


async def _verdict(teacher: Teacher) -> Any:
    """As `collect` asks, with fewer candidates where the usual number is refused."""
    usual = min(_USUAL, teacher.provider.max_top_logprobs or _USUAL)
    try:
        return await probe(teacher, usual)
    except NoLogprobs:
        if usual <= 5:
            raise
        return await probe(teacher, 5)


async def largest(teacher: Teacher, known: int) -> int:
    """The most candidates that the server gives, found by asking for more and halving the doubt."""
    low, high = known, _MOST
    while low < high:
        middle = high if high == _MOST and low == known else (low + high + 1) // 2
        given = await _given(teacher, middle)
        if given < middle:
            if given >= low:  # fewer than asked for, without a word: that is all it gives
                return given
            high = middle - 1
        else:
            low = middle
    return low


async def _given(teacher: Teacher, wanted: int) -> int:
    try:
        result = await teacher.chat(one_token(wanted), attempts=2)
    except (BitnetError, BadReply):
        return 0
    return 0 if result.steps is None else len(result.steps.step(0).top_logprobs)


async def _tell(report: dict[str, Any], ask: Callable[[], Awaitable[Any]]) -> Any:
    """The answer, or None with the reason in the report."""
    try:
        found = await ask()
    except Unreachable as error:
        report |= {"reachable": False, "problem": str(error)}
    except KeyRefused as error:
        report |= {"reachable": True, "key_accepted": False, "problem": str(error)}
    except (BitnetError, BadReply) as error:
        told = isinstance(error, NoLogprobs | ContextExceeded | BadReply)
        report |= {"reachable": True, "problem": str(error)} | ({"key_accepted": True} if told else {})
    else:
        report |= {"reachable": True, "key_accepted": True}
        return found
    return None
