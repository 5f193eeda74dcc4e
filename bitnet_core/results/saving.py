"""A report as a file: the receipt as HTML, the metrics as CSV, the curves as SVG or PNG. The ending says which."""

from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files import half_written
from bitnet_core.files.writable import writing
from bitnet_core.results import metrics_csv
from bitnet_core.results.receipt import receipt
from bitnet_core.results.receipt_html import html
from bitnet_core.results.subject import TRAIN, Subject
from bitnet_core.results.svg import charts, page
from bitnet_core.secrets.known import redactor

FORMATS = (".html", ".csv", ".svg", ".png")
_ZOOM = 2.0


def default_path(subject: Subject, kind: str = FORMATS[0]) -> Path:
    """In the experiment's reports, named after the training, so that each one keeps its own."""
    train = subject.runs.get(TRAIN)
    return subject.experiment.reports / f"report-{train.id if train else half_written.short(subject.root.name)}{kind}"


def save(subject: Subject, path: Path) -> Path:
    """Write the report, complete or not at all. UsageError for another ending, or if there is nothing to report."""
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise UsageError(f"{path.name} ends in none of {', '.join(FORMATS)}; give --to a file that does.")
    if not subject.runs and subject.problem:
        raise BitnetError(subject.problem)
    if not subject.runs:
        raise UsageError(f"{subject.root} has no run yet; `bitnet pipeline` starts the first.")
    if kind != ".html" and not subject.training.points("loss") and not subject.training.points("heldout_loss"):
        raise UsageError(f"{subject.root} has no curves yet; train first, or write .html instead.")
    files.require_regular(path)
    with writing(path):
        _write(subject, files.real_path(path), kind)  # a link stays one
    return path


def _write(subject: Subject, path: Path, kind: str) -> None:
    mask = redactor()
    if kind == ".html":
        files.write_text(path, mask(html(receipt(subject), charts(subject.training))))
    elif kind == ".csv":
        with files.atomic_path(path) as temp, temp.open("w", encoding="utf-8", newline="") as out:
            metrics_csv.write(subject.trained, out)
    elif kind == ".svg":
        files.write_text(path, mask(page(subject.name, subject.training)))
    else:
        files.write_bytes(path, _png(mask(page(subject.name, subject.training))))


def _png(svg: str) -> bytes:
    """BitnetError if what draws it is not installed."""
    try:
        import resvg_py
    except ImportError:
        raise BitnetError(
            "A PNG needs the package resvg-py; install it with `pip install 'bitnet-tui[png]'`, "
            "or write .svg instead."
        ) from None
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, background="#ffffff", zoom=_ZOOM))
