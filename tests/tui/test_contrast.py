"""Text stands out from the ground under it, as it is drawn: on full screens, in each theme with its own colours."""

from pathlib import Path

import pytest

from bitnet_tui.themes import THEMES
from tests.tui.contrast import drawn
from tests.tui.every_screen import SCREENS, app_of, go
from tests.tui.pilots import settled

_LEAST = 4.5
_THEMES = [theme.name for theme, _ in THEMES.values() if not theme.ansi]
"""The colours of the theme `bitnet-terminal` are the terminal's."""
_FULL = [
    "welcome",
    "list",
    "experiment without a run",
    "experiment with a finished run",
    "a setting being changed",
    "a comparison with a silent run",
    "what to compare with",
    "a new name",
    "its teacher",
    "fetching",
    "keys over a silent run",
    "settings of the app",
    "themes over a silent run",
    "palette",
    "playground",
    "vault",
]


@pytest.mark.parametrize("name", _FULL)
async def test_text_stands_out_from_what_is_under_it(workspaces: Path, name: str):
    way = SCREENS[name]
    async with app_of(workspaces, way).run_test(size=(120, 36)) as pilot:
        await go(pilot, way)
        for theme in _THEMES:
            pilot.app.theme = theme
            await settled(pilot)
            said = [one for one in drawn(pilot.app.screen) if any(map(str.isalnum, one[0]))]
            assert said
            assert not [(theme, text, round(found, 2)) for text, found in said if found < _LEAST]
