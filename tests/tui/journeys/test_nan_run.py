"""A run with a loss that was not finite: it is seen, stopped and resumed."""

from pathlib import Path

from bitnet_tui.app import BitnetApp
from tests.tui.conftest import RecordingLaunch
from tests.tui.journeys.hand import Hand, by_each
from tests.tui.pilots import settled, shown, words
from tests.tui.simulated import SimulatedRun, experiment, leave_traces, save_checkpoint


@by_each
async def test_a_run_with_a_loss_that_was_not_finite_is_stopped_and_resumed(
    home: Path, recorder: RecordingLaunch, by: str
):
    exp = experiment(home, "shared")
    leave_traces(exp)
    save_checkpoint(exp, 10)
    live = SimulatedRun(exp, "train", alive=True)
    live.train(0, 60, bad_at=31)
    try:
        assert live.child is not None
        async with BitnetApp(home, launch=recorder).run_test(size=(120, 36)) as pilot:
            hand = Hand(pilot, by)
            await settled(pilot)
            await hand.sees(lambda: "shared" in shown(pilot))
            await hand.do(["enter"], "shared", "shared")
            await hand.sees(lambda: "not finite. Lower “Learning rate”." in words(pilot).replace("▎ ", ""))
            gap = [line for line in shown(pilot).split("\n") if " 0┤" in line]
            assert [line.strip("▎ ").split() for line in gap] == [["0┤", "x"]]
            await hand.sees(lambda: "s Stop" in shown(pilot))
            await hand.do(["s"], "s Stop")
            await hand.sees(lambda: "Stop it" in shown(pilot))
            await hand.do(["y"], "Stop it")
            assert live.child.wait(60) == -15
            await hand.sees(lambda: "r Resume" in shown(pilot))
            await hand.do(["r"], "r Resume")
        assert recorder.launched == [(exp.root, "train")]
    finally:
        live.end_process()
