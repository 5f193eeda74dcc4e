"""The process in which transformers runs an export: `python -m bitnet_core.export.transformers_process`.

It reads one job as a JSON line from stdin, writes the logits of every step to a file, and the rest as one JSON line
to stdout, with blank lines before it as signs of life. It knows no student: the folder is loaded as anybody would
load it, with the library alone.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from bitnet_core.process import importing, parents_pipe, rss_bytes, say_alive


def main() -> int:
    job = json.loads(sys.stdin.readline())
    with parents_pipe() as parent:
        parent.write(json.dumps(_run(job, partial(say_alive, parent))) + "\n")
    return 0


@torch.inference_mode()
def _run(job: dict[str, Any], alive: Callable[[], None]) -> dict[str, Any]:
    with importing():
        import transformers
        import transformers.integrations.bitnet  # else the loader would, and its code count as the model's memory
        from transformers import AutoModelForCausalLM, AutoTokenizer

    def goes_on(ids_BT: torch.Tensor, *_: Any) -> torch.Tensor:
        """Between two tokens: whether to stop, for each row."""
        alive()
        return torch.zeros(len(ids_BT), dtype=torch.bool)

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # Two of its functions are decorated with torch.compile, which would want a C++ compiler.
    torch.compiler.set_stance("force_eager")
    local = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(job["folder"], **local)
    before = rss_bytes()
    model = AutoModelForCausalLM.from_pretrained(job["folder"], dtype=torch.float32, **local).eval()
    memory = rss_bytes()
    alive()
    texts, speeds, rows = [], [], []
    for prompt in job["prompts"]:
        ids = torch.tensor([prompt])
        began, count = time.perf_counter(), job["new_tokens"]
        made = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            do_sample=False,
            stopping_criteria=[goes_on],
        )
        speeds.append((made.shape[1] - ids.shape[1]) / (time.perf_counter() - began))
        texts.append(tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True))
        memory = max(memory, rss_bytes())
    for ids, start in job["sequences"]:
        rows.append(model(torch.tensor([ids])).logits[0, start:].float().numpy())
        alive()
    if rows:
        np.save(job["values"], np.concatenate(rows))
    return {
        "texts": texts,
        "tokens_per_s": float(np.median(speeds)) if speeds else None,
        "memory_bytes": memory - before,
        "token_ids": [tokenizer(text, add_special_tokens=False)["input_ids"] for text in job["tokenize"]],
    }


if __name__ == "__main__":
    raise SystemExit(main())
