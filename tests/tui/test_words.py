"""How a widget of plain text takes another one."""

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.screen import Screen

from bitnet_tui.widgets.words import Words
from tests.tui.pilots import shown


class _Two(App[None]):
    CSS = "Words { width: 8; height: auto; } .-short { height: 1 }"

    def compose(self) -> ComposeResult:
        yield Words(Content("took 58s"))
        yield Words("below")


@pytest.mark.parametrize(
    ("text", "laid_out", "below"),
    [("took 59s", False, 1), ("took 1m", True, 1), ("took\n59s", True, 2), ("took 1m 03s", True, 2)],
)
async def test_a_screen_is_laid_out_again_only_for_a_text_of_another_size(
    monkeypatch: pytest.MonkeyPatch, text: str, *, laid_out: bool, below: int
):
    layouts, lay_out = [0], Screen._refresh_layout
    monkeypatch.setattr(
        Screen, "_refresh_layout", lambda *given, **more: layouts.append(1) or lay_out(*given, **more)
    )
    async with _Two().run_test() as pilot:
        await pilot.pause()
        layouts.clear()
        pilot.app.query(Words).first().update(Content(text))
        await pilot.pause()
        lines = [one.rstrip() for one in shown(pilot).split("\n")]
        assert lines[below] == "below"
        assert "".join(lines[:below]).replace(" ", "") == text.replace(" ", "").replace("\n", "")
        assert bool(layouts) == laid_out
        pilot.app.query(Words).first().add_class("-short")
        await pilot.pause()
        layouts.clear()
        pilot.app.query(Words).first().update(Content("one two three"))
        await pilot.pause()
        assert shown(pilot).startswith("one two")
        assert not layouts, "its size does not depend on what it says"


async def test_a_text_as_long_as_before_that_wraps_elsewhere_gets_its_rows():
    async with _Two().run_test() as pilot:
        first = pilot.app.query(Words).first()
        for text, rows in (("one two three", 2), ("abc defghi jk", 3), ("one two three", 2)):
            first.update(Content(text))
            await pilot.pause()
            assert first.size.height == rows
