"""Which prompts the student's chat template refuses: found before a teacher is asked, so that none is paid for."""

from collections.abc import Callable
from dataclasses import dataclass

from bitnet_core.collecting.requests import Collection, Request
from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.chat_template import ChatTemplate, TemplateRefused, merging_system
from bitnet_core.tokenizer.student import StudentTokenizer

_UNKNOWN, _ACCEPTED, _REFUSED = range(3)


@dataclass(frozen=True)
class Refusal:
    """One refused prompt; `merging_helps` if the template takes it with TEMPLATE_SYSTEM=merge."""

    prompt_idx: int
    reason: str
    merging_helps: bool

    def __str__(self) -> str:
        return f"prompt {self.prompt_idx}: {self.reason}"


class PromptCheck:
    """Renders each prompt once and remembers the verdict in a byte. Safe for several threads."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._verdicts = bytearray()
        self.first: Refusal | None = None
        """The first prompt found to be refused."""

    def refuses(self, request: Request) -> bool:
        # Prompts that are asked again have the same order.
        place = request.prompt_idx % (self._collection.distinct_prompts or request.prompt_idx + 1)
        if place >= len(self._verdicts):
            self._verdicts.extend(bytes(place + 1 - len(self._verdicts)))
        if self._verdicts[place] == _UNKNOWN:
            self._verdicts[place] = self._render(request)
        return self._verdicts[place] == _REFUSED

    def advice(self) -> str:
        """What to do about refused prompts, as a clause."""
        if self.first is not None and self.first.merging_helps:
            return "set TEMPLATE_SYSTEM=merge to put the system message before the user's, or change TEMPLATE"
        return "change these prompts, or TEMPLATE"

    def require_one(self, check_stop: Callable[[], None]) -> None:
        """BitnetError if every prompt is refused. Walks to the first that isn't."""
        for request in self._collection.requests():
            check_stop()
            if not self.refuses(request):
                return
        name = self._collection.tokenizer.name
        raise BitnetError(f"The chat template of {name} refuses every prompt ({self.first}); {self.advice()}.")

    def _render(self, request: Request) -> int:
        tokenizer = self._collection.tokenizer
        try:
            tokenizer.render_prompt(request.prompt.messages)
        except TemplateRefused as error:
            if self.first is None:
                self.first = Refusal(request.prompt_idx, error.reason, _merging_helps(tokenizer, request))
            return _REFUSED
        return _ACCEPTED


def _merging_helps(tokenizer: StudentTokenizer, request: Request) -> bool:
    try:
        merging = ChatTemplate(merging_system(tokenizer.template), tokenizer.name)
        merging.render(request.prompt.messages, tokenizer.special_tokens)
    except BitnetError:
        return False
    return True
