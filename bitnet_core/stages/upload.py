"""Bring the copy of the experiment up to date, while other stages run and once more when they have ended.

Started beside a stage (`runs/companion.py`) as a run of its own: `bitnet watch upload` follows it.
"""

from typing import Any

from bitnet_core import process
from bitnet_core.runs.context import StageContext
from bitnet_core.storage.finding_keys import keys_of_stage
from bitnet_core.storage.sync import Uploader, summary

_NICENESS = 12
"""On Linux a tenth of a core that a training keeps busy, which is a little nice itself. Its work takes as much of a
busy machine at any priority; at the lowest one a copy would take minutes to begin."""


def run(ctx: StageContext) -> dict[str, Any]:
    """Push until nothing is left to push."""
    process.let_others_go_first(_NICENESS)
    keys = keys_of_stage(ctx.settings, ctx.secrets, lambda told: ctx.alert("warning", "key_not_kept", told))
    return summary(Uploader(ctx.experiment, keys, ctx).run())
