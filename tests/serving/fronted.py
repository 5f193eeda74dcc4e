"""A front in a thread of its own, before llama.cpp or what stands for it."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from bitnet_core.serving.front import Front
from bitnet_core.serving.kept_up import KeptUp
from bitnet_core.serving.request import Gate


@contextlib.contextmanager
def fronted(server: Any, *, key: str = "", told: list[str] | None = None, parallel: int = 2) -> Iterator[str]:
    """The base URL of a server that is kept up; what it says of restarts goes to `told`."""
    loop = asyncio.new_event_loop()
    behind = KeptUp(server, ([] if told is None else told).append)
    front = Front(Gate(key, is_local=True), behind, api_key=server.api_key, parallel=parallel, context=512)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def serve() -> None:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(behind.keep(), front.serve(listener))

        serving = loop.create_task(serve())
        thread = threading.Thread(target=asyncio.Runner(loop_factory=lambda: loop).run, args=(_until(serving),))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            loop.call_soon_threadsafe(serving.cancel)
            thread.join()


async def _until(task: "asyncio.Task[None]") -> None:
    await task
