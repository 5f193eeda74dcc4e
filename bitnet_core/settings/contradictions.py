"""Settings whose values are allowed one by one but not together, and what mends that."""

from typing import NamedTuple

from bitnet_core.errors import UsageError
from bitnet_core.settings.resolved import Settings


class Mend(NamedTuple):
    """The setting to change and its new text; an empty one unsets it."""

    name: str
    text: str = ""


class Contradiction(UsageError):
    """The sentence names the settings. With `mend` they fit together."""

    def __init__(self, sentence: str, mend: Mend) -> None:
        super().__init__(sentence)
        self.mend = mend


def contradiction(settings: Settings) -> Contradiction | None:
    """Why a training would refuse to start with settings that are allowed one by one; None if they fit together."""
    from bitnet_core.settings.values import TrainOptions  # which raises it

    try:
        TrainOptions.of(settings)
    except Contradiction as found:
        return found
    except UsageError:  # a value is missing or not allowed, which is reported as such
        pass
    return None
