"""One trace as the Traces tab shows it: its head, its text, what the shades mean, buttons, and one token."""

from textual.app import ComposeResult
from textual.containers import Vertical

from bitnet_tui.view.traces.found import Scored, Shading, Token, Trace
from bitnet_tui.view.traces.lines import NAMES, head_lines, legend
from bitnet_tui.view.traces.token import token_lines
from bitnet_tui.widgets.buttons import KeyBar, KeyButton
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.token_text import TokenText

_WORST = (("Worst token", "Worst"), ("Teacher's least sure", "Teacher unsure"))
_WORST_OF_ALL = (("Worst of all", "Worst of all"), ("Least sure of all", "Unsure of all"))
"""What is gone to by KL, and by Other, by which the teacher is least sure; second, where there is little room."""


class TraceShown(Vertical):
    """Empty until there is a trace."""

    def __init__(self) -> None:
        super().__init__(id="trace-shown", classes="-empty")
        self.trace: Trace | None = None
        self._chosen: Shading | None = None
        """What was chosen to shade by; else KL where there is a student."""

    def compose(self) -> ComposeResult:
        yield Painted(id="trace-head")
        yield TokenText()
        yield Painted(id="trace-legend")
        with KeyBar(id="trace-going"):
            yield KeyButton("Worst token", "traces.worst", others=_WORST, id="trace-worst")
            yield KeyButton("Worst of all", "traces.worst-of-all", others=_WORST_OF_ALL, id="trace-worst-of-all")
            yield KeyButton("", "traces.shade", id="trace-shading")
        yield Painted(id="trace-token")

    @property
    def text(self) -> TokenText:
        return self.query_one(TokenText)

    @property
    def token(self) -> Token | None:
        """The one that the cursor is on."""
        return self.text.token

    def show(self, trace: Trace, cursor: int) -> None:
        """Another trace, with the cursor on a token; `draw` does the rest once this is laid out."""
        self.trace = trace
        self.remove_class("-empty")
        self.text.show(trace, self.shading, cursor)

    # -- shading -----------------------------------------------------------------------------------------------------

    @property
    def shading(self) -> Shading:
        """What tokens are shaded by: KL where this trace was scored, unless something else was chosen."""
        scored = self.trace is not None and self.trace.kl is not None
        return self._chosen or ("kl" if scored else "other")

    def shade_otherwise(self) -> None:
        """Shade by the other one of the two."""
        self._chosen = "other" if self.shading == "kl" else "kl"
        self.text.shade(self._chosen)

    def forget_shading(self) -> None:
        """Shade the next trace by what it has."""
        self._chosen = None

    # -- drawing -----------------------------------------------------------------------------------------------------

    @property
    def cells(self) -> int:
        """How wide lines may be."""
        return max(20, self.text.content_size.width)

    def draw(self, scored: Scored | None, *, by_error: bool, folded: bool) -> None:
        """Everything but the text. `scored` is what is known of the student, `by_error` whether its errors rank all.

        The head leaves the prompt out if the list is `folded`, which shows it.
        """
        self.query_one("#trace-worst", KeyButton).say(*_WORST[self.shading == "other"])
        self.query_one("#trace-worst-of-all", KeyButton).say(*_WORST_OF_ALL[not by_error])
        self.query_one("#trace-shading", KeyButton).say(
            f"Shaded by {NAMES[self.shading]}", f"By {NAMES[self.shading]}"
        )
        if self.trace is not None:
            self.query_one("#trace-head", Painted).show(head_lines(self.trace, self.cells)[folded:])
            self.query_one("#trace-legend", Painted).show((legend(self.shading, scored, self.cells),))
            self._draw_token()

    def _draw_token(self) -> None:
        shown, token = self.query_one("#trace-token", Painted), self.token
        cells, rows = shown.content_size
        if token is not None and self.trace is not None and rows:
            shown.show(token_lines(token, len(self.trace.positions), max(20, cells), rows))

    def on_token_text_moved(self, _: TokenText.Moved) -> None:
        self._draw_token()
