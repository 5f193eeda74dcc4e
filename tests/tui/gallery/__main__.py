"""Make the documents' pictures of the app anew. `make pictures` also makes the experiments that are on them."""

import argparse
import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

from textual.pilot import Pilot

from bitnet_core.cli.main import main as bitnet
from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import state_folder
from bitnet_tui.app import BitnetApp
from tests.tui.conftest import RecordingLaunch
from tests.tui.gallery.drawing import drawn, in_few_colours
from tests.tui.gallery.place import HOME, WORKSPACE, made_up
from tests.tui.gallery.views import REPORT, VIEWS, View
from tests.tui.pilots import settled, shown, until

_REPO = Path(__file__).parents[3]
_SECONDS = 60.0
"""A model that has to be loaded takes a while."""


async def _go(pilot: Pilot[None], key: str) -> None:
    if key.startswith("["):
        words = key[1:-1].replace("_", " ")
        await until(pilot, lambda: words in " ".join(shown(pilot).replace("_", " ").split()), _SECONDS)
    else:
        await pilot.press(*(key[1:] if key.startswith("=") else [key]))
    await settled(pilot)


async def _picture(view: View) -> bytes:
    home = HOME / view.home
    launch = None if view.home == "locked" else RecordingLaunch(warning="")
    app = BitnetApp(home, home / view.root if view.root else None, launch=launch)
    async with app.run_test(size=view.size) as pilot:
        app.theme = view.theme
        await settled(pilot)
        for key in (*view.keys.split(), f"[{view.shows}]"):
            await _go(pilot, key)
        colours = app.theme_variables
        return drawn(app.screen._compositor.render_strips(), colours["foreground"], colours["background"])


def _report() -> bytes:
    """The beginning of the demo's report, in a browser. BitnetError without one."""
    page, picture = HOME / "report.html", HOME / "report.png"
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise BitnetError("The picture of a report needs Chromium; install it (Debian: chromium).")
    bitnet(["report", "--root", str(WORKSPACE / "demo"), "--to", str(page)])
    options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=900,1000")
    subprocess.run([browser, *options, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)
    return in_few_colours(picture)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.tui.gallery", description=__doc__)
    parser.add_argument("--demo", type=Path, default=_REPO / "experiments" / "demo", help="a finished demo")
    parser.add_argument(
        "--other", type=Path, default=_REPO / "experiments" / "half-rate", help="a second training of its traces"
    )
    parser.add_argument("--to", type=Path, default=_REPO / "assets" / "pictures", help="the pictures' folder")
    parser.add_argument("names", nargs="*", help="only these pictures")
    given = parser.parse_args()
    folder, failed = given.to.absolute(), []
    try:
        with made_up(given.demo, given.other):
            for name in given.names or (*VIEWS, REPORT):
                shutil.rmtree(state_folder(), ignore_errors=True)  # the draft of the picture before
                try:
                    picture = _report() if name == REPORT else asyncio.run(_picture(VIEWS[name]))
                except AssertionError as error:  # some words did not appear
                    failed.append(name)
                    sys.stderr.write(f"{name}: {error}\n")
                    continue
                (folder / f"{name}.png").write_bytes(picture)
                sys.stdout.write(f"{name}.png  {len(picture) / 1000:.0f} kB\n")
    except BitnetError as error:
        sys.exit(f"pictures: {error}")
    sys.exit(f"pictures: not made: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
