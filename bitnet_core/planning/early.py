"""What a plan says before anything has looked at this machine: formulas alone, without torch."""

import os
import sys
from pathlib import Path
from typing import Any

from bitnet_core.model.presets import student_config
from bitnet_core.planning.plan import Asked, plan
from bitnet_core.planning.program import kept_program_bytes
from bitnet_core.planning.teacher import TeacherPlan
from bitnet_core.process import available_bytes
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import (
    DataOptions,
    DeviceOptions,
    InitOptions,
    OnlineOptions,
    PlaceOptions,
    StudentOptions,
    TokenizerOptions,
    TrainOptions,
)
from bitnet_core.teachers.embedded.files import VOCABULARY

_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
"""One of them is there wherever torch may find a GPU on Linux."""


def early_plan(settings: Settings, teacher: TeacherPlan | None, asked: Asked) -> dict[str, Any] | None:
    """The record of `plan`, with `early`; None where traces, a tokenizer or a model have to be read for it.

    Memory is null where this machine may have a GPU, and before the program has ever been measured.
    """
    data, tokenizer = DataOptions.of(settings), TokenizerOptions.of(settings)
    folder = data.path or PlaceOptions.of(settings).data
    read = InitOptions.of(settings).names_model or OnlineOptions.of(settings).online or tokenizer.name
    if read or any(folder.glob("kd_shard_*.parquet")):
        return None
    options = TrainOptions.of(settings)
    program = kept_program_bytes()
    here = {"type": "cpu", "narrow": False, "free_bytes": available_bytes(), "warm_bytes": program}
    facts = {
        "shape": student_config(StudentOptions.of(settings), VOCABULARY, options.max_seq_len).to_dict(),
        "start_from": None,
        "device": here | {"load": os.getloadavg()[0], "cores": os.cpu_count() or 1},
        "traces": None,
        "step": None,
        "decoding": None,
        "online": None,
        "source_bytes": 0,
        "start": None,
    }
    record = plan(facts, options, data.top_k, teacher, asked)
    known = program is not None and _is_cpu(DeviceOptions.of(settings))
    return record | {"early": True} | ({} if known else {"training_memory": None, "fits": None})


def _is_cpu(options: DeviceOptions) -> bool:
    """Whether training here computes on the CPU for certain."""
    if options.force_cpu or options.device == "cpu":
        return True
    return options.device == "auto" and sys.platform == "linux" and not any(one.exists() for one in _DRIVERS)
