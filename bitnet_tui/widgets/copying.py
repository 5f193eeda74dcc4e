"""The text of what is on the screen, to be copied: the whole of it, also what is scrolled out of sight."""

from textual.widget import Widget
from textual.widgets import Input, Log, OptionList

from bitnet_tui.widgets.chart import Plot
from bitnet_tui.widgets.table import Table
from bitnet_tui.widgets.words import Words


def text_of(widget: Widget) -> str:
    """The widget's text and that of the widgets in it that are shown; a list or table gives the entry one is on.

    What is typed into a field is left out: it may be a key.
    """
    if not widget.display or isinstance(widget, Input):
        return ""
    if isinstance(widget, Log):
        return "\n".join(widget.lines)
    if isinstance(widget, OptionList):
        option = widget.highlighted_option
        return "" if option is None else str(option.prompt).rstrip()
    if isinstance(widget, Table):
        return widget.current
    if isinstance(widget, Plot):
        return "\n".join(one.rstrip() for one in widget.drawn_lines)
    if isinstance(widget, Words):
        return "\n".join(line.rstrip() for line in str(widget.visual).splitlines())
    parts = [text_of(child) for child in widget.children]
    return "\n".join(part for part in parts if part.strip())
