"""Whether an answer can become traces, whatever the student, and what to change if it can't.

The probe and every answer of a collection are judged by these rules. Pure.
"""

import re
from collections.abc import Callable

from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.tokenizer.finish import FILTERED
from bitnet_core.tokenizer.mass import fault_words, first_fault, text_fault
from bitnet_core.tokenizer.steps import Completion

MAX_UNREPORTED_TOKENS = 4
"""Tokens that a server may count but not report at the end: half a character, and the end of the text."""
_NO_THINKING = "switch its thinking off on the server, or choose a model that does not think"
_TOKEN_AS_ID = re.compile(rb"token_id:\d+")


def only_thinking(tokens: int) -> tuple[str, str]:
    """What is wrong with a teacher whose first `tokens` have no text, and what to change."""
    return f"its first {tokens} tokens have no text, so they may have gone into thinking", _NO_THINKING


def answer_fault(result: ChatResult, max_tokens: int) -> str | None:
    """Why the answer to a request of `max_tokens` can't be used, as a short code; None if these rules allow it."""
    if result.finish_reason == FILTERED:
        return "cut_by_filter"
    if not result.steps:
        return "no_logprobs"
    if not result.text_matches_bytes:
        return "text_differs"
    if len(result.steps) > max_tokens + 1:  # some servers report the end of the text beyond the limit
        return "too_many_tokens"
    return None


def probe_fault(result: ChatResult, max_tokens: int) -> tuple[str, str] | None:
    """What is wrong with the answer to a probe, and what to change, in words; None if it can be used."""
    reason = answer_fault(result, max_tokens)
    if reason == "cut_by_filter":
        return (
            "its content filter cut the answer to a harmless question",
            "relax that filter, or choose another model",
        )
    steps = result.steps
    if steps is None or reason == "no_logprobs":
        return None  # this has an error of its own
    if reason == "text_differs":
        return next(
            ((wrong, fix) for found, wrong, fix in _DIFFERENCES if found(steps, result.text)),
            ("its tokens don't add up to its text", "choose another model or server"),
        )
    if reason == "too_many_tokens":
        return f"it gave {len(steps)} tokens where {max_tokens} were asked for", "choose another model or server"
    if result.completion_tokens - len(steps) > MAX_UNREPORTED_TOKENS and result.text.isascii():
        return (
            f"it counts {result.completion_tokens} tokens but reports {len(steps)}, so some are missing",
            _NO_THINKING,
        )
    fault = first_fault(steps) or text_fault(steps, steps.text())
    return None if fault is None else (f"{fault_words(fault)} in its first tokens", "choose another model")


def _are_ids(steps: Completion, _text: str) -> bool:
    return all(_TOKEN_AS_ID.fullmatch(steps.table.spellings[number]) for number in steps.sampled_N[:1].tolist())


def _lack_blanks(steps: Completion, text: str) -> bool:
    told = steps.text().decode("utf-8", errors="replace")
    return "".join(told.split()) == "".join(text.split()) and len(told) < len(text)


def _hold_thinking(steps: Completion, text: str) -> bool:
    told = steps.text().decode("utf-8", errors="replace")
    return "think>" in told or (len(told) > len(text) and told.rstrip().endswith(text.strip()))


_DIFFERENCES: tuple[tuple[Callable[[Completion, str], bool], str, str], ...] = (
    (
        _are_ids,
        "it gives ids in place of tokens",
        "start the server without --return-tokens-as-token-ids",
    ),
    (
        _lack_blanks,
        "it gives tokens without their blanks, as vLLM did until July 2026",
        "update the server",
    ),
    (_hold_thinking, "its logprobs also cover its thinking", _NO_THINKING),
)
