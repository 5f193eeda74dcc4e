"""What `bitnet plan --json` said once on two cores, for tests that make no plan of their own."""

from typing import Any

_HERE = {"type": "cpu", "name": "AMD EPYC", "precision": "fp32", "narrow": False, "threads": 2, "cores": 2}
_SHAPES = (
    ("this", 756_295_296, True, 67_986_544, True),
    ("nano", 756_295_296, True, 67_986_544, True),
    ("mini", 3_815_501_440, True, 330_562_896, True),
    ("7b", 119_561_599_616, False, 4_574_790_528, True),
)
PLAN: dict[str, Any] = {
    "version": 1,
    "shape": {"vocab_size": 49152, "hidden_size": 256, "num_hidden_layers": 4},
    "parameters": 15_997_184,
    "device": {
        "type": "cpu",
        "narrow": False,
        "room_bytes": 23_035_834_368,
        "elsewhere": False,
        "here": {**_HERE, "free_bytes": 23_035_834_368, "program_bytes": 286_728_192, "load": 1.5},
    },
    "training_memory": {"parts": {"peak": 378_295_296}, "process_peak": 756_295_296, "process_at_least": True},
    "budget": {"tokens": 1_000_000, "epochs": None, "most_tokens": None},
    "course": {
        "ended_by": None,
        "steps": None,
        "seen_tokens": None,
        "flip_reached": None,
        "supervised_per_step": 1024.0,
        "exact": False,
    },
    "time": {
        "tokens_per_s": None,
        "step_seconds": None,
        "seconds": None,
        "missing": "not timed; leave out --no-probe",
    },
    "disk": {"checkpoint": 192_818_176, "checkpoints": 964_090_880, "traces": None},
    "teacher": {
        "answers": 100,
        "prompt_tokens": 20_593,
        "completion_tokens": 51_200,
        "origin": "at most: no answers here yet",
        "usd": 0.0,
    },
    "fits": {
        "shapes": [
            dict(zip(("shape", "training_bytes", "trains", "running_bytes", "runs"), one, strict=True))
            for one in _SHAPES
        ]
    },
}
TIMED: dict[str, Any] = {
    **PLAN,
    "time": {"tokens_per_s": 640.0, "step_seconds": 1.6, "seconds": None, "origin": "measured"},
}
