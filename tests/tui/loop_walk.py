"""A walk through the app as one who starts it and acts at once: `python -m tests.tui.loop_walk HOME`.

In a process of its own, where modules are imported and garbage is collected as in the app. Prints the longest
callback of the event loop from the first paint on, in pieces of reference work, and which one it was.
"""

import asyncio
import gc
import json
import sys
from pathlib import Path
from typing import Any

from bitnet_tui.app import BitnetApp
from bitnet_tui.garbage import after_first_paint, in_small_steps
from tests.tui.event_loop import hanging, watched
from tests.tui.loop_time import LongestCallback, reference_seconds
from tests.tui.pilots import burst, processed

_TABS = (*"7631", "a", "escape", "V", "escape")
_TESTED = ("ctrl+t", "escape", "escape")
"""They test the guide's teacher, end that and leave the guide."""
_BESIDE = ("P", "escape", "question_mark", "escape")


async def _press(app: BitnetApp, *keys: str) -> None:
    for key in keys:
        burst(app, [key])
        await processed(app)


async def _walk(home: Path, longest: LongestCallback) -> None:
    """First while all answer, so that there is something to draw, and then while none does."""
    app = BitnetApp(home)
    display = app._display
    painted = asyncio.Event()

    def shown(screen: Any, drawing: Any) -> None:
        display(screen, drawing)
        if drawing is not None and not painted.is_set():
            painted.set()
            longest.take()
            after_first_paint()

    app._display = shown  # type: ignore[method-assign]
    with watched() as touched, longest.watching():
        async with app.run_test(size=(120, 36)):
            await painted.wait()
            await processed(app)
            await _press(app, "enter")
            assert type(app.screen).__name__ == "ExperimentScreen", app.screen
            await _press(app, *_TABS)
            app.new_experiment()
            await processed(app)
            assert type(app.screen).__name__ == "NewExperimentScreen", app.screen
            in_small_steps()
            with hanging(home.parent):
                await app.screen._come_to("teacher")  # type: ignore[attr-defined]
                cards: Any = app.screen.query_one("#cards")
                cards.highlighted = cards.get_option_index("ollama")
                await processed(app)
                await _press(app, *_TESTED, *_BESIDE, *_TABS)
                assert app.workers, "none hangs"
    assert not touched, touched


def main() -> None:
    gc.set_threshold(50_000, 1_000_000)  # as `start` has it
    gc.disable()
    longest, before = LongestCallback(), reference_seconds()
    asyncio.run(_walk(Path(sys.argv[1]), longest))
    found = longest.seconds / max(before, reference_seconds()), longest.where
    sys.stdout.write(f"{json.dumps(found)}\n")


if __name__ == "__main__":
    main()
