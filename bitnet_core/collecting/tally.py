"""What a run has collected so far, and when its answers are so bad that asking on would only cost."""

import time
from collections import Counter

from bitnet_core.collecting.answers import ReadAnswer
from bitnet_core.collecting.asking import NO_ANSWER
from bitnet_core.errors import BitnetError
from bitnet_core.teachers.refusals import ContextExceeded, PromptRefused

_MIN_JUDGED = 8
"""The number of answers after which a teacher that has given no usable one is given up."""
_NOT_ANSWERS = (PromptRefused.status, ContextExceeded.status, NO_ANSWER)
"""Statuses that don't count as answers; how many of them are too many is decided while asking."""


class Tally:
    """Counts of one run. `done` and the judgement include answers of earlier runs."""

    def __init__(self) -> None:
        self.done = 0
        self.answers = 0
        self.tokens = 0
        self.usable = 0
        self._rejected: Counter[str] = Counter()
        self._started = time.monotonic()
        self._seconds = 0.0

    def start_clock(self) -> None:
        self._started = time.monotonic()

    def add(self, answer: ReadAnswer) -> None:
        """Count an answer that has just arrived."""
        self._seconds = time.monotonic() - self._started
        self.done += 1
        self.answers += 1
        self.tokens += answer.completion_tokens
        self.judge(answer)

    def judge(self, answer: ReadAnswer) -> None:
        if not answer.rejected:
            self.usable += 1
        elif answer.rejected not in _NOT_ANSWERS:
            self._rejected[answer.rejected] += 1

    def tokens_per_s(self) -> float | None:
        return self.tokens / self._seconds if self._seconds > 0 and self.tokens else None

    def require_usable(self, model: str, in_flight: int = 0) -> None:
        """BitnetError if no answer so far can be used; `in_flight` answers get the benefit of the doubt."""
        judged = self._rejected.total()
        if not self.usable and judged >= _MIN_JUDGED + in_flight:
            reason = self._rejected.most_common(1)[0][0].replace("_", " ")
            raise BitnetError(
                f"None of the first {judged} answers of {model} can be used ({reason}); choose another model or "
                "TEACHER_PROVIDER=embedded."
            )
