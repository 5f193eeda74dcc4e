"""Whether the teacher or the prompts are to blame for missing answers.

A prompt can be refused (a filter) or fail (the server breaks on it). One such prompt is passed over; many without an
answer between them mean that the teacher is the problem, or that the rest is better left for a later run. Knows
nothing of what prompts and answers say.
"""

from enum import Enum, auto

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.refusals import PromptRefused

REFUSALS_TO_TEST = 5
"""After this many refusals without an answer between them, the teacher is tested with a request of one token."""
MAX_NEW_REFUSALS = 50
"""This many refusals of prompts that were not refused before, without an answer between them, end the run."""
MAX_FAILED_PROMPTS = 8
"""This many failing prompts without an answer between them end the run, or leave the rest for a later one."""


class Reaction(Enum):
    """What the run does after a prompt without an answer."""

    CONTINUE = auto()
    TEST_TEACHER = auto()
    """Ask for one token: a teacher that refuses even that refuses everything."""
    LEAVE_THE_REST = auto()
    """Ask no more: all these prompts failed in an earlier run, too."""
    GIVE_UP = auto()


class FailureCounts:
    """Prompts without an answer since the last answer."""

    def __init__(self, parallel: int) -> None:
        # Failures come faster than answers: as many answers may be on their way as there are other requests.
        self._in_flight = parallel - 1
        self._leaving = False
        self.reset()

    def reset(self) -> None:
        """An answer came: whatever failed before was about its prompt."""
        self._refused = self._newly_refused = 0
        self._newly_failed = self._failed_again = 0

    def record(self, error: BitnetError, status_before: str | None) -> Reaction:
        """Count a prompt without an answer. `status_before` is its status in an earlier run, None for a new one."""
        if self._leaving:
            return Reaction.CONTINUE
        if isinstance(error, PromptRefused):
            self._refused += 1
            self._newly_refused += status_before != PromptRefused.status
            if self._newly_refused >= MAX_NEW_REFUSALS + self._in_flight:
                return Reaction.GIVE_UP
            test = self._refused % (REFUSALS_TO_TEST + self._in_flight) == 0
            return Reaction.TEST_TEACHER if test else Reaction.CONTINUE
        self._newly_failed += status_before is None
        self._failed_again += status_before is not None
        if self._newly_failed >= MAX_FAILED_PROMPTS + self._in_flight:
            return Reaction.GIVE_UP
        if self._failed_again >= MAX_FAILED_PROMPTS + self._in_flight:
            self._leaving = True
            return Reaction.LEAVE_THE_REST
        return Reaction.CONTINUE
