"""A field for a key or a passphrase: what is typed into it is neither shown nor copied out of it."""

from textual.actions import SkipAction
from textual.widgets import Input


class SecretInput(Input):
    """Textual's own would send what is selected to the terminal's clipboard (OSC 52), in clear, over SSH too."""

    def __init__(self, value: str = "", *, placeholder: str = "", id: str) -> None:  # noqa: A002 - textual's name
        super().__init__(value, password=True, compact=True, placeholder=placeholder, id=id)

    def action_copy(self) -> None:
        """Nothing; without a selection the key means what it means elsewhere."""
        if not self.selected_text:
            raise SkipAction

    def action_cut(self) -> None:
        """Nothing: what was cut would be in the clipboard."""
