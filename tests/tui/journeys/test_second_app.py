"""Several apps have one experiment open: what one does to a run the other shows, and the run outlives both."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from textual.pilot import Pilot

from bitnet_tui.app import BitnetApp
from bitnet_tui.services.launching import Launched
from tests.tui.journeys.hand import Hand, by_each
from tests.tui.pilots import settled, shown
from tests.tui.simulated import SimulatedRun, experiment, leave_traces, save_checkpoint


@by_each
async def test_a_run_is_stopped_from_a_second_app_resumed_and_followed_when_the_first_is_gone(home: Path, by: str):
    exp = experiment(home, "shared")
    leave_traces(exp)
    save_checkpoint(exp, 10)
    runs: list[SimulatedRun] = []

    def launch(_: Path, __: Path, stage: str, ___: Mapping[str, str] | None = None, /) -> Launched:
        """A training that goes on at the step at which the one before it ended."""
        runs.append(SimulatedRun(exp, stage, time.time() - 300 + len(runs), alive=True))
        runs[-1].train(60 * len(runs) - 60, 60 * len(runs))
        return Launched(runs[-1].run.id)

    def shows(pilot: Pilot[None], text: str) -> Callable[[], bool]:
        return lambda: text in shown(pilot)

    try:
        async with BitnetApp(home, launch=launch).run_test(size=(120, 36)) as second_pilot:
            second = Hand(second_pilot, by)
            async with BitnetApp(home, launch=launch).run_test(size=(100, 30)) as first_pilot:
                first = Hand(first_pilot, by)
                await settled(first_pilot)
                await first.do(["enter"], "shared", "shared")
                await first.do(["down"] * 3, "train")
                await first.sees(shows(first_pilot, "r Run stage"))
                await first.do(["r"], "r Run stage")
                await first.sees(shows(first_pilot, "44.7k of 150k"))

                await second.sees(shows(second_pilot, "1 running"))
                await second.do(["enter"], "shared", "shared")
                await second.sees(shows(second_pilot, "44.7k of 150k"))
                await second.do(["s"], "s Stop")
                await second.sees(shows(second_pilot, "Stop it"))
                await second.do(["y"], "Stop it")
                assert runs[0].child is not None and runs[0].child.wait(60) == -15

                await first.sees(shows(first_pilot, "r Resume"))
                await first.do(["r"], "r Resume")
                await first.sees(shows(first_pilot, "89.4k of 150k"))
                await second.sees(shows(second_pilot, "89.4k of 150k"))
                await first.do(["q"], "q Quit")
                assert first_pilot.app._exit
            assert len(runs) == 2 and runs[1].child is not None and runs[1].child.poll() is None
            runs[1].train(121, 200)
            await second.sees(shows(second_pilot, "149k of 150k"))
            runs[1].finish()
            await second.sees(shows(second_pilot, "✓ done"))
    finally:
        for run in runs:
            run.end_process()
