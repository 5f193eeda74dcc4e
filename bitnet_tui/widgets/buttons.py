"""Buttons whose words change: they take as much room as the words need."""

from textual.widgets import Button

NARROW = 70
"""Cells of a tab below which its buttons have short words."""


def relabel(button: Button, label: str) -> None:
    if str(button.label) != label:
        button.label = label
        button.refresh(layout=True)
