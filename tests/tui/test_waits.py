"""The pilot's wait asks only who is at work, and waits for all that Textual's own waits for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.idle import until_processed

_TEXTUALS = Pilot._wait_for_screen  # before a fixture puts the other in its place

Wait = Callable[[Pilot[Any]], Awaitable[object]]


class _Held(Static):
    """Works until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()
        self.did: list[str] = []

    async def work(self) -> None:
        self.begun.set()
        await self.let_go.wait()
        self.did.append("worked")


class _App(App[None]):
    def compose(self) -> ComposeResult:
        yield Static()
        yield _Held()


async def _later(held: _Held) -> None:
    held.call_later(held.work)
    await held.begun.wait()


async def _next(held: _Held) -> None:
    held.call_next(held.work)
    await held.begun.wait()


async def _behind_it(held: _Held) -> None:
    await _later(held)
    held.call_later(held.did.append, "more")


async def _not_begun(held: _Held) -> None:
    held.call_later(held.work)


@pytest.mark.parametrize("wait", [_TEXTUALS, until_processed])
@pytest.mark.parametrize("begin", [_later, _next, _behind_it, _not_begun])
async def test_what_is_at_work_is_waited_for(wait: Wait, begin: Callable[[_Held], Awaitable[None]]):
    async with _App().run_test() as pilot:
        held = pilot.app.query_one(_Held)
        await begin(held)
        waiting = asyncio.ensure_future(wait(pilot))
        for _ in range(50):
            await asyncio.sleep(0)
        waits = not waiting.done()
        held.let_go.set()
        await waiting
        assert waits
        assert held.did == ["worked", "more"][: 1 + (begin is _behind_it)]


@pytest.mark.parametrize("wait", [_TEXTUALS, until_processed])
async def test_nobody_waits_for_an_app_that_failed(wait: Wait):
    async with _App().run_test() as pilot:
        held = pilot.app.query_one(_Held)
        await _later(held)
        pilot.app._exception_event.set()
        await wait(pilot)
        assert held.did == []
        held.let_go.set()


async def test_who_is_at_rest_is_not_asked():
    async with _App().run_test() as pilot:
        await pilot.pause()
        asked: list[object] = []
        for one in pilot.app.screen.walk_children():
            one.message_signal.subscribe(one, asked.append, immediate=True)
        await until_processed(pilot)
        assert asked == []
        await _TEXTUALS(pilot)
        assert len(asked) >= 2
