"""What a plan says of the traces that are there: how many, how long, and what they take."""

from pathlib import Path
from typing import Any

from bitnet_core.prompts.parquet import open_parquet
from bitnet_core.settings.values import TrainOptions
from bitnet_core.text import finite
from bitnet_core.traces.dataset import TraceSet
from bitnet_core.traces.examples import Examples
from bitnet_core.traces.schema import SEQUENCES_FILE
from bitnet_core.training import heldout
from bitnet_core.training.batches import Sampler


def traces_record(traces: TraceSet, sampler: Sampler, options: TrainOptions, folder: Path) -> dict[str, Any]:
    """What a plan takes from the traces in `folder`."""
    train, held_out = traces.split()
    examples = Examples(train, options.max_seq_len)
    stored = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "sequences": len(train) + len(held_out),
        "train_tokens": int(examples.supervised_S.sum()),
        "supervised_per_step": sampler.mean_supervised * options.accumulate,
        "held_out_tokens": sum(one.supervised for one in heldout.choose(Examples(held_out, options.max_seq_len))),
        "bytes": sum(path.stat().st_size for path in stored),
        "teacher_tokens": teacher_tokens(folder),
    }


def teacher_tokens(folder: Path) -> dict[str, float] | None:
    """Mean prompt and completion tokens of an answer, as the teacher counted them; None where it is not known."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = ["prompt_tokens", "completion_tokens"]
    try:
        with open_parquet(folder / SEQUENCES_FILE, names) as file:
            table = file.read(names)
        means = {name: pc.mean(table.column(name)).as_py() for name in names}
    except (OSError, pa.ArrowException, KeyError):
        return None
    return None if any(finite(mean) is None for mean in means.values()) else {**means, "answers": float(len(table))}
