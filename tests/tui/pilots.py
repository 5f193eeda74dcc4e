"""Drives the app in tests: waits until it is idle and reads what is on the screen."""

from pathlib import Path

from textual.pilot import Pilot

SIZES = [(120, 36), (80, 24)]


async def settled(pilot: Pilot[None]) -> None:
    """Wait until the screen is furnished and every worker has reported."""
    for _ in range(3):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()


def shown(pilot: Pilot[None]) -> str:
    """The text on the screen."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips)


def words(pilot: Pilot[None]) -> str:
    """The same without line ends and frames, to search for a wrapped sentence."""
    return " ".join(shown(pilot).replace("│", " ").replace("▌", " ").split())


def notices(pilot: Pilot[None]) -> list[str]:
    """The notifications on the screen, each as one line of words."""
    lines = shown(pilot).split("\n")
    regions = [toast.region for toast in pilot.app.screen.query("Toast")]
    texts = (" ".join(line[at.x : at.right] for line in lines[at.y : at.bottom]) for at in regions)
    return [" ".join(text.replace("▌", " ").split()) for text in texts]


def files_text(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
