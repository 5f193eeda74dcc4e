"""Stage `dryrun`: measure one forward pass of a 7B student at A8 and one at A4. Wiring only."""

from typing import Any

import torch

from bitnet_core.evaluation import passes
from bitnet_core.evaluation.random_student import OnLayer, wanted_shape, what_fits
from bitnet_core.model.precision import pick_device
from bitnet_core.runs.context import StageContext
from bitnet_core.settings.values import DeviceOptions, DryRunOptions

REPORT = "dryrun_7b_memory.json"


def run(ctx: StageContext) -> dict[str, Any]:
    """Build, run twice, measure; write `reports/dryrun_7b_memory.json` and the tables memory and passes."""
    options = DryRunOptions.of(ctx.settings)
    device = torch.device("cpu") if options.force_cpu else pick_device(DeviceOptions.of(ctx.settings))
    wanted = wanted_shape(options)
    config = what_fits(wanted, options, device, ctx)

    layers, parts = config.num_hidden_layers, 0

    def progress(label: str) -> OnLayer:
        nonlocal parts
        before, parts = parts * layers, parts + 1

        def on_layer(done: int) -> None:
            ctx.check_stop()
            ctx.progress(before + done, passes.PARTS * layers, "layers", label)

        return on_layer

    found = passes.dry_run(wanted, config, options, device, progress)
    ctx.table("memory", passes.MEMORY_COLUMNS, passes.memory_table(found))
    ctx.table("passes", passes.PASSES_COLUMNS, passes.passes_table(found))
    ctx.report(REPORT, passes.record(found, options))
    return {
        "parameters": config.parameters(),
        "layers": config.num_hidden_layers,
        "downgraded": config != wanted,
        "weights_bytes": found.weights_bytes,
        "peak_bytes": found.peak_bytes,
        "seconds": {f"A{one.bits}": one.seconds for one in (found.first, found.second)},
        "hidden_difference": found.difference.relative,
    }
