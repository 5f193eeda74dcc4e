"""The stages as text: a column of titles, or one line of names on a narrow screen."""

from bitnet_core.runs.catalog import PIPELINE
from bitnet_core.text import crop, pad, width
from bitnet_tui.view.spans import Line, Span, cells_of, line
from bitnet_tui.view.stage_rows import COPIED, StageRow, short_time
from bitnet_tui.view.states import look

_SIGNS, _APART = 5, 1
"""Cells for the sign and the gaps of a line; and one more between title and note, or they read as one sentence."""


def column(rows: tuple[StageRow, ...], chosen: str, cells: int, *, focused: bool) -> tuple[Line, ...]:
    """One line per stage; the pipeline is on top, with an empty line below it."""
    lines: list[Line] = []
    room = cells - _SIGNS - _APART
    for index, row in enumerate(rows):
        state = look(row.shown_state)
        note = crop(row.due_note or (state.word if row.state in ("failed", "interrupted") else ""), 16)
        fuller = f"{note} {row.eta}" if row.eta and note == row.note else note
        fits = (one for one in (fuller, short_time(fuller), note) if width(f"{row.title}{one}") <= room)
        note = next(fits, row.brief_note or note)
        name = pad(row.title, max(4, cells - width(note) - _SIGNS))
        if row.name == chosen:
            style = "chosen" if focused else "chosen-blurred"
            lines.append(line(Span(pad(f" {state.glyph} {name} {note} ", cells), style)))
        else:
            lines.append(
                line(
                    " ",
                    Span(state.glyph, state.style),
                    Span(f" {name} ", "" if row.run_id else "label"),
                    Span(note, state.style if row.active else "label"),
                )
            )
        if index == 0:
            lines.append(())
    return tuple(lines)


def strip(rows: tuple[StageRow, ...], chosen: str, cells: int, *, focused: bool) -> Line:
    """All stages in one line, with the notes of those that run or were copied if they fit."""
    return tuple(span for part in _parts(rows, chosen, cells, focused=focused) for span in part)


def _parts(rows: tuple[StageRow, ...], chosen: str, cells: int, *, focused: bool) -> list[Line]:
    """The line's part of each stage."""
    full = [row.due_note if row.active or row.note == COPIED else "" for row in rows]
    shorter = [row.brief_note if note else "" for row, note in zip(rows, full, strict=True)]
    running = ["" if note == COPIED else note for note in shorter]
    of_stages = ["" if row.name == PIPELINE.name else note for row, note in zip(rows, running, strict=True)]
    for notes in (full, shorter, running, of_stages):
        with_notes = [
            _part(row, row.name == chosen, note, focused=focused) for row, note in zip(rows, notes, strict=True)
        ]
        if sum(map(cells_of, with_notes)) <= cells:
            return with_notes
    bare = [_part(row, row.name == chosen, "", focused=focused) for row in rows]
    return bare if sum(map(cells_of, bare)) <= cells else [part[:-1] for part in bare]  # without the gaps


def _part(row: StageRow, chosen: bool, note: str, *, focused: bool) -> Line:
    state = look(row.shown_state)
    note = f" {note}" if note else ""
    if chosen:
        style = "chosen" if focused else "chosen-blurred"
        return line(Span(f" {state.glyph} {row.name}{note} ", style), " ")
    note_style = state.style if row.active else "label"
    return line(" ", Span(state.glyph, state.style), f" {row.name}", Span(f"{note} ", note_style), " ")


def at(rows: tuple[StageRow, ...], x: int, y: int, cells: int, *, as_column: bool) -> str | None:
    """The stage at a cell of the text, for the mouse."""
    if as_column:
        index = 0 if y == 0 else y - 1 if y >= 2 else -1
        return rows[index].name if 0 <= index < len(rows) else None
    reached = 0
    for row, part in zip(rows, _parts(rows, "", cells, focused=False), strict=True):
        reached += cells_of(part)
        if x < reached:
            return row.name
    return None
