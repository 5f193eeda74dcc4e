"""Grade an answer: whether it passes its item's check, and if not, why. Pure functions of item and text.

An answer is untrusted text of any length. What is asked for may be wrapped as models wrap it (a reasoning block, a
fence, bold type, a sentence around it), but it must be said plainly, once, and not inside a refusal.
"""

import re
from dataclasses import dataclass

from bitnet_core.suites import graders_json, graders_number, graders_text
from bitnet_core.suites.items import ExtractCheck, Item, JsonCheck, NumberCheck, ToolCheck

_LONGEST = 1 << 15
_REASONING = re.compile(r"\s*<(think|thinking|reasoning)>.*?</\1>", re.DOTALL)
_OPEN_REASONING = re.compile(r"\s*<(?:think|thinking|reasoning)>")


@dataclass(frozen=True)
class Verdict:
    """`reason` says in a few words why an answer failed; it is empty for one that passed."""

    passed: bool
    reason: str = ""


def grade(item: Item, text: str) -> Verdict:
    """The verdict on an answer. Total: it raises for no text."""
    fault = _fault(item, text)
    return Verdict(not fault, fault)


def _fault(item: Item, text: str) -> str:
    if len(text) > _LONGEST:
        return f"it is longer than {_LONGEST:,} characters"
    reasoning = _REASONING.match(text)
    answer = (text[reasoning.end() :] if reasoning else text).strip("\ufeff \t\r\n")
    if not answer or _OPEN_REASONING.match(answer):
        return "it is empty"
    match item.check:
        case JsonCheck(schema=schema):
            return graders_json.schema_fault(answer, schema)
        case ToolCheck() as check:
            return graders_json.tool_fault(answer, check.name, check.arguments, check.optional)
        case ExtractCheck() as check:
            return graders_text.extract_fault(answer, check.accepted, check.rejected)
        case NumberCheck() as check:
            return graders_number.number_fault(answer, check.value, check.units)
    return graders_text.rules_fault(answer, item.check, item.prompt)
