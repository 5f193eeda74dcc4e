"""What is selected in a field when one comes to it by keys or mouse."""

from textual.app import App, ComposeResult

from bitnet_tui.widgets.inputs import SteadyInput


class _Form(App[None]):
    def compose(self) -> ComposeResult:
        yield SteadyInput("http://lab:8000", id="address")
        yield SteadyInput("5e-5", id="rate", select_on_focus=True)


async def test_what_is_typed_replaces_a_number_and_goes_behind_other_text():
    app = _Form()
    async with app.run_test() as pilot:
        address, rate = app.query_one("#address", SteadyInput), app.query_one("#rate", SteadyInput)
        await pilot.press("x", "tab", *"1e-3")
        assert (address.value, rate.value) == ("http://lab:8000x", "1e-3")
        await pilot.click(address, offset=(6, 1))
        assert not address.selected_text
        await pilot.click(rate, offset=(3, 1))
        await pilot.press(*"2e-3")
        assert rate.value == "2e-3"
        await pilot.click(rate, offset=(3, 1))
        assert not rate.selected_text and rate.cursor_position == 0
        await pilot.click(address, offset=(6, 1), times=2)
        await pilot.press("y")
        assert address.value == "y"
