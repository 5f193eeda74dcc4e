"""Items that several tests use."""

from typing import Any

import msgspec

from bitnet_core.suites.graders import grade
from bitnet_core.suites.items import Item


def item(kind: str, reference: str = "x", prompt: str = "Do it.", **check: Any) -> Item:
    return msgspec.convert(
        {"id": "one", "prompt": prompt, "check": {"kind": kind, **check}, "reference": reference}, Item
    )


def reason(one: Item, answer: str) -> str:
    """Why the answer fails; empty if it passes."""
    verdict = grade(one, answer)
    assert verdict.passed == (not verdict.reason)
    return verdict.reason
