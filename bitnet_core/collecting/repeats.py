"""One answer for many prompts: a proxy's cache, or a server that has stopped reading what it is asked.

Each such answer passes every check of a single one.
"""

IN_A_ROW = 8
"""This many different prompts in a row with one answer can't be chance."""
LEAST_STEPS = 16
"""Of such an answer: a shorter one may be the right answer to many questions, or a refusal."""


class Repeats:
    """Looks at usable answers as they come."""

    def __init__(self) -> None:
        self._text = b""
        self._prompts: set[str] = set()
        self._told = False

    def noticed(self, prompt: str, text: bytes, steps: int) -> bool:
        """Whether the answers in a row are now too many of one text; True once. `prompt` is the prompt's hash."""
        if text != self._text:
            self._text = text
            self._prompts.clear()
        self._prompts.add(prompt)
        found = not self._told and len(self._prompts) >= IN_A_ROW and steps >= LEAST_STEPS
        self._told = self._told or found
        return found
