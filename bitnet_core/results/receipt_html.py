"""The receipt as one HTML file: no script and nothing from elsewhere, light and dark, printable.

Every text goes through `text`: a name or an answer from outside is never markup. The page forbids itself scripts.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from bitnet_core.results.receipt import RUN_COLUMNS, Fact, Receipt
from bitnet_core.results.svg import DARK_STYLE, STYLE, text
from bitnet_core.tables import row_texts

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;color:#262626;background:#fff;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}h3{font-size:.95rem;margin:1.2rem 0 .3rem}
p{margin:.3rem 0}.faint,th{color:#6c6c6c}.warn{color:#875f00}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.88rem}
th{text-align:left;font-weight:500}
th,td{padding:.2rem .9rem .2rem 0;border-bottom:1px solid #dadada;vertical-align:top}
.one{white-space:nowrap}td.n{text-align:right;font-variant-numeric:tabular-nums}
code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
svg{max-width:100%;height:auto;display:block}
"""
_DARK = """
body{color:#d0d0d0;background:#121212}.faint,th{color:#949494}th,td{border-color:#444}.warn{color:#ffd75f}
"""
_PRINT = "body{margin:0;max-width:none}svg,tr{break-inside:avoid}h2,h3{break-after:avoid}.wide{overflow:visible}"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_ONE_LINE = 48
_FACT_COLUMNS = ("", "value", "origin", "again")


def html(found: Receipt, charts: Sequence[str]) -> str:
    """The page; `charts` are SVG elements of `svg.py`."""
    style = f"{_STYLE}{STYLE}\n@media (prefers-color-scheme: dark){{{_DARK}{DARK_STYLE}}}\n@media print{{{_PRINT}}}"
    parts = [
        f"<h1>{text(found.title)}</h1><p>{text(found.lead)}</p><p class='faint'>{text(found.made)}</p>",
        *(f"<p class='warn'>{text(one)}</p>" for one in found.warnings),
        _section("Results", _facts(found.results) if found.results else "<p>Nothing was measured yet.</p>"),
        _section("Curves", "".join(charts)) if charts else "",
        _section("Teacher and prompts", _facts(found.teacher)),
        _section("Gates and measurements", "".join(_measured(run, one) for run, one in found.tables)),
        _section("Settings that differ from the defaults", _settings(found)),
        _section("Runs", _table(RUN_COLUMNS, found.runs)),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta http-equiv='Content-Security-Policy' content=\"{_POLICY}\">"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{text(found.title)}</title><style>{style}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{text(title)}</h2>{content}" if content else ""


def _facts(facts: Iterable[Fact]) -> str:
    rows = (
        f"<tr><td>{text(one.name)}</td>{_code(one.value, 'n')}<td>{text(one.origin)}</td>{_code(one.command)}</tr>"
        for one in facts
    )
    return _wrapped(_heads(_FACT_COLUMNS) + "".join(rows))


def _code(words: str, kind: str = "") -> str:
    """A cell of plain type, on one line unless it is long."""
    kinds = f"{kind} one" if len(words) <= _ONE_LINE else kind
    return f"<td class='{kinds}'><code>{text(words)}</code></td>"


def _measured(run: str, table: Any) -> str:
    title = f"<h3>{text(table.name.replace('_', ' '))} <span class='faint'>{text(run)}</span></h3>"
    return title + _table(table.columns, table.rows)


def _settings(found: Receipt) -> str:
    if not found.settings:
        return "<p>None.</p>"
    return _table(("setting", "value", "default"), found.settings)


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    return _wrapped(_heads(columns) + "".join(_row(columns, row) for row in rows))


def _row(columns: Sequence[str], values: Sequence[Any]) -> str:
    cells = zip(values, row_texts([str(one) for one in columns], values), strict=True)
    return f"<tr>{''.join(_cell(value, words) for value, words in cells)}</tr>"


def _cell(value: Any, words: str) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"<td{' class=n' if number else ''}>{text(words)}</td>"


def _heads(columns: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<th>{text(str(column))}</th>' for column in columns)}</tr>"


def _wrapped(rows: str) -> str:
    return f"<div class='wide'><table>{rows}</table></div>"
