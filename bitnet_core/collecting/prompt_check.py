"""Which prompts the student's chat template or tokenizer refuses.

They are found before a teacher is asked, so that none is paid for.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bitnet_core.collecting.requests import Collection, Request
from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.chat_template import TemplateRefused
from bitnet_core.tokenizer.refused import NotTokenized, Refused

_STATUSES = (None, None, TemplateRefused.status, NotTokenized.status)
"""The status of a prompt by its verdict."""
_UNKNOWN, _ACCEPTED = range(2)


@dataclass(frozen=True)
class Refusal:
    """One refused prompt; `merging_helps` if the template takes it with TEMPLATE_SYSTEM=merge."""

    prompt_idx: int
    by: str
    """What refuses it: "chat template" or "tokenizer"."""
    reason: str
    merging_helps: bool

    def __str__(self) -> str:
        return f"prompt {self.prompt_idx}: {self.reason}"


class PromptCheck:
    """Renders and cuts each prompt once and remembers the verdict in a byte. Safe for several threads."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._verdicts = bytearray()
        self.first: Refusal | None = None
        """The first prompt found to be refused."""

    def refuses(self, request: Request) -> bool:
        return self.status(request) is not None

    def status(self, request: Request) -> str | None:
        """The status of a refused prompt, with which its sequence is rejected; None for any other."""
        # Prompts that are asked again have the same order.
        place = request.prompt_idx % (self._collection.distinct_prompts or request.prompt_idx + 1)
        if place >= len(self._verdicts):
            self._verdicts.extend(bytes(place + 1 - len(self._verdicts)))
        if self._verdicts[place] == _UNKNOWN:
            self._verdicts[place] = self._verdict(request)
        return _STATUSES[self._verdicts[place]]

    def advice(self) -> str:
        """What to do about refused prompts, as a clause."""
        if self.first is not None and self.first.merging_helps:
            return "set TEMPLATE_SYSTEM=merge to put the system message before the user's, or change TEMPLATE"
        by_tokenizer = self.first is not None and self.first.by == NotTokenized.by
        return f"change these prompts, or {'TOKENIZER_NAME' if by_tokenizer else 'TEMPLATE'}"

    def require_one(self, check_stop: Callable[[], None]) -> None:
        """BitnetError if every prompt is refused. Walks to the first that isn't."""
        for request in self._collection.requests():
            check_stop()
            if not self.refuses(request):
                return
        raise BitnetError(f"{self.refuser()} refuses every prompt ({self.first}); {self.advice()}.")

    def refuser(self) -> str:
        """What refuses prompts, as the subject of a sentence."""
        by = self.first.by if self.first is not None else TemplateRefused.by
        return self._collection.tokenizer.refuser(by)

    def _verdict(self, request: Request) -> int:
        tokenizer = self._collection.tokenizer
        try:
            tokenizer.encode_prompt(request.prompt.messages)
        except Refused as error:
            if self.first is None:
                merging_helps = error.by == TemplateRefused.by and tokenizer.takes_merged(request.prompt.messages)
                self.first = Refusal(request.prompt_idx, error.by, error.reason, merging_helps)
            return _STATUSES.index(error.status)
        return _ACCEPTED
