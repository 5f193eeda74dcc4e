"""Leaves out what no one sees: the frames of an app without a terminal, until a test looks at its screen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import pytest
from textual._compositor import Compositor
from textual._context import active_app, visible_screen_stack
from textual.app import App
from textual.strip import Strip

from bitnet_tui.app import BitnetApp
from bitnet_tui.widgets.chart import Plot

_DISPLAYS = (App._display, BitnetApp._display)
_changed: WeakSet[Compositor] = WeakSet()
"""Those that have left out a frame and drawn none since."""


@contextmanager
def drawn_when_looked_at() -> Iterator[None]:
    """Frames that Textual throws away took a fifth of the processor's time of the app's tests.

    What a test reads of the screen is drawn then. A test that replaces `App._display` sees every frame, and so does a
    chart, which begins to compute its curves when it is drawn.
    """
    update, strips = Compositor.render_update, Compositor.render_strips

    def render_update(compositor: Compositor, full: bool = False, **options: Any) -> Any:
        app = active_app.get()
        seen = not app.is_headless or getattr(app._display, "__func__", None) not in _DISPLAYS
        if full or seen or any(isinstance(one, Plot) for one in compositor.visible_widgets):
            return update(compositor, full, **options)
        if compositor._dirty_regions:
            _changed.add(compositor)
            compositor._dirty_regions.clear()
        return None

    def render_strips(compositor: Compositor, *given: Any) -> list[Strip]:
        _changed.discard(compositor)
        if compositor is active_app.get().screen._compositor:  # it draws those below it itself
            visible_screen_stack.set(active_app.get()._background_screens)
        return strips(compositor, *given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Compositor, "render_update", render_update)
        patched.setattr(Compositor, "render_strips", render_strips)
        yield


def draw(app: App[Any]) -> None:
    """Draw the screen if it has changed: where the app is at rest, it can be drawn."""
    if app.screen._compositor in _changed:
        app.screen._compositor.render_strips()
