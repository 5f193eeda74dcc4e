"""What is selected in a field when one comes to it by keys or mouse."""

from pathlib import Path

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.theme import Theme

from bitnet_tui import app
from bitnet_tui.themes import DARK, DEFAULTS, TERMINAL
from bitnet_tui.widgets import inputs
from bitnet_tui.widgets.inputs import SecretInput, SteadyInput


class _Form(App[None]):
    def compose(self) -> ComposeResult:
        yield SteadyInput("5e-5", id="rate")
        yield SteadyInput("http://lab:8000", id="address")
        yield SecretInput("sk-old", id="key")


async def _paste(pilot: Pilot[None], text: str) -> None:
    pilot.app.post_message(events.Paste(text))
    await pilot.pause()


async def test_what_is_typed_or_pasted_replaces_what_is_in_a_field():
    form = _Form()
    async with form.run_test() as pilot:
        rate, address, key = (form.query_one(f"#{name}", SteadyInput) for name in ("rate", "address", "key"))
        await pilot.press(*"1e-3", "tab")
        await _paste(pilot, "http://hall:9000")
        await pilot.press("tab")
        await _paste(pilot, "sk-new")
        assert (rate.value, address.value, key.value) == ("1e-3", "http://hall:9000", "sk-new")
        await pilot.press("shift+tab", "end", "x")
        assert address.value == "http://hall:9000x"
        await pilot.press("shift+tab", "end", "ctrl+a", *"3e-4", "tab")  # not in front of what was there
        assert rate.value == "3e-4"
        for written in ("use sk-very-secret-key-0123456789", "Authorization: Bearer 0123456789abcdef0"):
            await _paste(pilot, written)
            assert address.value == "http://hall:9000x"
            assert [one.message for one in form._notifications] == [inputs._LIKE_A_KEY]
            form.clear_notifications()


async def test_a_click_from_elsewhere_selects_all_and_the_next_one_puts_the_cursor():
    form = _Form()
    async with form.run_test() as pilot:
        rate, address = form.query_one("#rate", SteadyInput), form.query_one("#address", SteadyInput)
        await pilot.click(address, offset=(6, 1))
        assert address.selected_text == address.value
        await pilot.click(address, offset=(3, 1))
        assert not address.selected_text and address.cursor_position == 0
        await pilot.click(rate, offset=(3, 1))
        await pilot.press(*"2e-3")
        assert rate.value == "2e-3"
        await pilot.click(address, offset=(6, 1), times=2)
        await pilot.press("y")
        assert address.value == "y"


async def test_what_one_drags_over_on_coming_is_what_is_selected():
    form = _Form()
    async with form.run_test() as pilot:
        address = form.query_one("#address", SteadyInput)
        await pilot.mouse_down(address, offset=(3, 1))
        await pilot.hover(address, offset=(7, 1))
        await pilot.mouse_up(address, offset=(7, 1))
        assert address.selected_text == "http"


class _Styled(_Form):
    CSS_PATH = Path(app.__file__).with_name("app.tcss")

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return dict(DEFAULTS)


@pytest.mark.parametrize("theme", [DARK, TERMINAL])
async def test_what_is_selected_looks_unlike_the_rest_of_the_field(theme: Theme):
    form = _Styled()
    form.register_theme(theme)
    form.theme = theme.name
    async with form.run_test() as pilot:
        await pilot.press("tab")
        address = form.query_one("#address", SteadyInput)
        selected, rest = address.get_component_rich_style("input--selection"), address.rich_style
        assert selected.reverse or selected.bgcolor != rest.bgcolor
