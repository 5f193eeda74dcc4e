"""Curves as SVG, from points: no script, no font and no picture from elsewhere; light and dark by media query.

Curves differ by colour and by dashes, so that a print in grey tells them apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from bitnet_core.results.axes import LABELS, heights, ticks, widened
from bitnet_core.results.curves import SHARES, Curve, Training
from bitnet_core.results.series import Point, thin
from bitnet_core.runs.events import cut
from bitnet_core.text import count, learning_rate, printable, share, significant, tick

WIDTH, HEIGHT = 720, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 40, 34
_COLOURS = (("#262626", "#e4e4e4"), ("#005faf", "#5fafff"), ("#00875f", "#5fd7af"), ("#af5f87", "#d787af"))
_DASHES = ("", "7 3", "2 3", "9 3 2 3")
_FLIP = ("#af5f00", "#ffaf5f")
_FONTS = "'DejaVu Sans','Liberation Sans','Noto Sans',Arial,Helvetica,sans-serif"
"""By name, because the PNG renderer does not know the system's default font."""
_NUMBERS: dict[str, Callable[[float], str]] = {**dict.fromkeys(SHARES, share), "lr": learning_rate}
"""What writes a figure that is not written with four digits."""
_MOST_CHARS = 4000
_CHAR = 7.0
"""About the width of a letter."""
STYLE = "\n".join(
    [
        f".chart text{{font-family:{_FONTS};font-size:12px;fill:#6c6c6c}}",
        ".chart .name{fill:#262626;font-weight:bold}",
        ".chart .grid{stroke:#dadada;stroke-width:1}",
        ".chart path{fill:none;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}",
        ".chart .flip{stroke:#af5f00;stroke-dasharray:4 3}.chart text.flip{fill:#af5f00;stroke:none}",
        ".chart .seam{stroke:#8a8a8a;stroke-dasharray:1 4}.chart text.seam{stroke:none}",
        *(
            f".chart .c{n}{{stroke:{light}}}.chart text.c{n}{{fill:{light};stroke:none}}"
            for n, (light, _) in enumerate(_COLOURS)
        ),
        *(f".chart path.c{n}{{stroke-dasharray:{dashes}}}" for n, dashes in enumerate(_DASHES) if dashes),
    ]
)
DARK_STYLE = "\n".join(
    [
        ".chart text{fill:#a8a8a8}.chart .name{fill:#e4e4e4}.chart .grid{stroke:#444}.chart .paper{fill:#121212}",
        f".chart .flip{{stroke:{_FLIP[1]}}}.chart text.flip{{fill:{_FLIP[1]}}}",
        *(f".chart .c{n}{{stroke:{dark}}}.chart text.c{n}{{fill:{dark}}}" for n, (_, dark) in enumerate(_COLOURS)),
    ]
)


@dataclass(frozen=True)
class Picture:
    """What is drawn in one chart: `curves` are pairs of a curve's name and its words."""

    title: str
    curves: tuple[tuple[str, str], ...]


PICTURES: tuple[Picture, ...] = (
    Picture("Held-out loss", (("heldout_loss", "loss"), ("heldout_kl", "KL"), ("heldout_ce", "CE"))),
    Picture("Loss", (("loss", "total"), ("kl", "KL"), ("ce", "CE"), ("format", "format"))),
    Picture("Agreement", (("agreement", "training"), ("heldout_agreement", "held-out"))),
    Picture("Gradient norm", (("grad_norm", ""),)),
    Picture("Learning rate", (("lr", ""),)),
    Picture("Tokens per second", (("tokens_per_s", ""),)),
)


def charts(training: Training) -> list[str]:
    """An `<svg>` for each picture that has data. All share one range of tokens."""
    by_name = {curve.name: curve for curve in training.curves if curve.segments}
    ends = [(one.segments[0][0][0], one.segments[-1][-1][0]) for one in by_name.values()]
    across = widened(min(end[0] for end in ends), max(end[1] for end in ends)) if ends else (0.0, 1.0)
    found = []
    for picture in PICTURES:
        drawn = [(words, by_name[name]) for name, words in picture.curves if name in by_name]
        if drawn:
            found.append(_svg(_chart(picture.title, drawn, training, across), HEIGHT))
    return found


def page(title: str, training: Training) -> str:
    """All charts as one SVG file, below its title. Empty if nothing can be drawn."""
    drawn = charts(training)
    if not drawn:
        return ""
    top = 40
    moved = [one.replace("<svg ", f'<svg y="{top + HEIGHT * place}" ', 1) for place, one in enumerate(drawn)]
    height = top + HEIGHT * len(drawn)
    style = f"<style>{STYLE}\n@media (prefers-color-scheme: dark){{{DARK_STYLE}}}</style>"
    paper = f'<rect class="paper" width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    name = f'<text class="name" x="16" y="26">{text(title)}</text>'
    return _svg("".join([style, paper, name, *moved]), height)


def text(words: str) -> str:
    """Any text as the content or a quoted attribute of an element: bounded, never markup, and with nothing hidden."""
    return escape(printable(cut(words, _MOST_CHARS)))


def _svg(content: str, height: int) -> str:
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    return f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" {size} role="img">{content}</svg>'


def _chart(title: str, drawn: Sequence[tuple[str, Curve]], training: Training, x_limits: Point) -> str:
    left, right = x_limits
    thinned = [(words, thin(curve.segments, 2 * WIDTH)) for words, curve in drawn]
    points = [point for _, segments in thinned for segment in segments for point in segment]
    low, high = min(y for _, y in points), max(y for _, y in points)
    bottom, top = heights(low, high)

    def at(point: Point) -> tuple[float, float]:
        across = _LEFT + (point[0] - left) / (right - left) * (WIDTH - _LEFT - _RIGHT)
        down = _TOP + (top - point[1]) / (top - bottom) * (HEIGHT - _TOP - _BOTTOM)
        return round(across, 1), round(down, 1)

    parts = [f'<text class="name" x="16" y="20">{text(title)}</text>']
    for y, label in ticks(bottom, top, 4, LABELS.get(drawn[0][1].name, tick)):
        _, down = at((left, y))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{down}" y2="{down}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4}" text-anchor="end">{text(label)}</text>')
    for x, label in ticks(left, right, 6):
        across, _ = at((x, bottom))
        parts.append(f'<text x="{across}" y="{HEIGHT - 16}" text-anchor="middle">{text(label)}</text>')
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 2}" text-anchor="end">seen tokens</text>')
    flips = [float(training.flip.seen_tokens)] if training.flip else []
    words = f"A{training.flip.from_bits}→A{training.flip.to_bits}" if training.flip else ""
    seams = [("seam", x, turn or "resumed") for x, turn in zip(training.seams, training.turns, strict=True)]
    marks = [(kind, at((x, bottom))[0], label) for kind, x, label in seams if left <= x <= right]
    marks += [("flip", at((x, bottom))[0], words) for x in flips if left <= x <= right]
    parts += _markers(marks)
    for place, (_, segments) in enumerate(thinned):
        path = " ".join(_stroke([at(point) for point in segment]) for segment in segments)
        parts.append(f'<path class="c{place}" d="{path}"/>')
    return "".join([*parts, *_legend(thinned, drawn[0][1].name)])


def _stroke(points: Sequence[Point]) -> str:
    """The line through the points; one of a single point is a dot."""
    return "M" + " ".join(f"{x},{y}" for x, y in points) + (" h0" if len(points) == 1 else "")


def _markers(marks: Sequence[tuple[str, float, str]]) -> list[str]:
    """Vertical lines with their words above. Words that would lie on others are seen by pointing at the line."""
    parts, taken = [], list[tuple[float, float]]()
    for kind, across, label in marks[::-1]:
        half = _CHAR * len(label) / 2
        place = min(max(across, half), WIDTH - half)
        rule = f'<line class="{kind}" x1="{across}" x2="{across}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}">'
        parts.append(f"{rule}<title>{text(label)}</title></line>")
        if all(place + half < left or right < place - half for left, right in taken):
            taken.append((place - half, place + half))
            parts.append(
                f'<text class="{kind}" x="{place:.1f}" y="{_TOP - 4}" text-anchor="middle">{text(label)}</text>'
            )
    return parts


def _legend(thinned: Sequence[tuple[str, tuple[tuple[Point, ...], ...]]], figure: str) -> list[str]:
    """Each curve of a figure with its newest value, from the right."""
    parts, written = [], _NUMBERS.get(figure)
    for place, (words, segments) in enumerate(thinned):
        value = segments[-1][-1][1]
        number = written(value) if written else count(value) if abs(value) >= 1000 else significant(value, 4)
        said = f"{words} {number}".strip()
        parts.append(f'<text class="c{place}" x="{176 + 136 * place}" y="20">{text(said)}</text>')
        parts.append(f'<path class="c{place}" d="M{150 + 136 * place},16 {170 + 136 * place},16"/>')
    return parts
