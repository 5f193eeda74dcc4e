"""A field for a key or a passphrase: what is typed is neither shown nor copied."""

from textual.actions import SkipAction
from textual.widgets import Input


class SecretInput(Input):
    """Textual's `Input` would send selected text unmasked to the terminal's clipboard (OSC 52), even over SSH."""

    def __init__(self, value: str = "", *, placeholder: str = "", id: str) -> None:  # noqa: A002 - textual's name
        super().__init__(value, password=True, compact=True, placeholder=placeholder, id=id)

    def action_copy(self) -> None:
        """Copy nothing. Without a selection, the key does what it does elsewhere."""
        if not self.selected_text:
            raise SkipAction

    def action_cut(self) -> None:
        """Cut nothing: it would end up in the clipboard."""
