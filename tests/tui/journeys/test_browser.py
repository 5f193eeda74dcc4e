"""A journey in a real browser, through `bitnet-tui --web`."""

import asyncio
import base64
import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tui.journeys.browser import Browser
from tests.tui.serving import get

_CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(_CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")
async def test_a_journey_in_a_real_browser(served: str, tmp_path: Path):
    import aiohttp

    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
    command = [
        str(_CHROMIUM),
        *flags,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--window-size=1000,600",
        "about:blank",
    ]
    chromium = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert chromium.stderr is not None
    try:
        debugger = next(line.split()[-1] for line in chromium.stderr if "DevTools listening on" in line)
        async with aiohttp.ClientSession() as client, client.ws_connect(debugger, max_msg_size=0) as connection:
            browser = Browser(connection)
            target = await browser.call("Target.createTarget", url="about:blank")
            attached = await browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            page = attached["sessionId"]
            await browser.call("Network.enable", page)
            await browser.call("Emulation.setFocusEmulationEnabled", page, enabled=True)
            await browser.call("Page.navigate", page, url=served)
            await browser.until("1 experiment")
            where = await browser.call("Runtime.evaluate", page, expression="location.search + document.cookie")
            assert where["result"]["value"] == ""  # the token is gone, and no script sees the cookie
            focus = "document.querySelector('textarea').focus()"
            await browser.call("Runtime.evaluate", page, expression=focus)
            await browser.press("?", page)
            await browser.until("esc closes")
            await browser.press("q", page)
            await browser.until("kd")
            row = browser.row
            for _ in range(3):  # a click before the help is gone is the help's
                await browser.click(90, row * 21 + 10, page)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(6):
                        await browser.until("quantity")
                    break
            else:
                pytest.fail("a click on the experiment does not open it")
            picture = await browser.call("Page.captureScreenshot", page)
            assert base64.b64decode(picture["data"])[:4] == b"\x89PNG"
            (tmp_path / "page.png").write_bytes(base64.b64decode(picture["data"]))
            assert {"/".join(url.split("/")[:3]) for url in browser.requested} <= {
                "/".join(served.split("/")[:3]), "data:,",
            }  # fmt: skip
            await browser.press("q", page)
            shown = "getComputedStyle(document.querySelector('.ended')).display"
            while (await browser.call("Runtime.evaluate", page, expression=shown))["result"]["value"] != "flex":
                pass
            # The address is used up for every other browser.
            assert get(served, f"/{served.split('/', 3)[3]}")[0] == 403
            await browser.call("Browser.close")
    finally:
        chromium.kill()
        chromium.wait()
        chromium.stderr.close()
