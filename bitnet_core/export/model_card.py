"""The model card of an export: what the student is, how it was made, and how it was measured. Pure.

What stands in reports is text from outside: it becomes one line of plain signs, and nothing in it is markup.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bitnet_core.export.verify import Verification
from bitnet_core.runs.exports import INSTALL_TRANSFORMERS, ask_code
from bitnet_core.text import crop, finite, flat, number, share, significant, size

_CELLS = 200
_SHAPE = {
    "num_hidden_layers": "layers",
    "hidden_size": "hidden size",
    "intermediate_size": "feed-forward size",
    "num_attention_heads": "attention heads",
    "num_key_value_heads": "key and value heads",
    "vocab_size": "vocabulary",
    "max_position_embeddings": "positions",
    "hidden_act": "activation",
}


def text(
    name: str,
    config: Mapping[str, Any],
    origin: Mapping[str, Any],
    recipe: Mapping[str, Any],
    report: Mapping[str, Any],
    found: Sequence[Verification],
) -> str:
    """Markdown with the header that hubs read. `report` is that of `bitnet eval` for this checkpoint, or empty."""
    teacher = report.get("teacher")
    teacher = teacher if isinstance(teacher, Mapping) else {}
    bits = origin.get("activation_bits")
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags:\n- bitnet\n- distillation\n---",
        f"# {_plain(name)}",
        "A ternary student (weights −1, 0 and 1, one scale for each matrix; inputs of every product rounded to "
        f"{_plain(bits)} in training), distilled with bitnet-tui"
        + (f" from {_plain(teacher.get('model'))} ({_plain(teacher.get('provider'))})." if teacher else "."),
        *(
            ["It has not been trained: it has the weights that training starts from."]
            if origin.get("step") == 0
            else []
        ),
        f"## How to run it\n\n```\n{INSTALL_TRANSFORMERS}\n```\n\nIn this folder:\n\n```python\n"
        + "\n".join(ask_code("."))
        + "\n```\n\n"
        'Without a C++ compiler, call `torch.compiler.set_stance("force_eager")` first. '
        "transformers rounds inputs to 8 bits.",
        "## Shape\n\n" + _table({title: config.get(key) for key, title in _SHAPE.items()} | _embedding(config)),
        "## How it was made\n\n" + _table({**origin, **recipe}),
        "## How it was measured\n\n" + _measured(report, found),
    ]
    return "\n\n".join(parts) + "\n"


def _embedding(config: Mapping[str, Any]) -> dict[str, str]:
    kept = config.get("embedding_type")
    return {"embedding, also the head": f"not trained, exact in llama.cpp's {kept}" if kept else "trained in fp32"}


def _measured(report: Mapping[str, Any], found: Sequence[Verification]) -> str:
    lines = []
    quality = report.get("quality")
    scores = quality if isinstance(quality, Mapping) else {}
    for side in ("student", "teacher"):
        score = scores.get(side)
        value = finite(score.get("value")) if isinstance(score, Mapping) else None
        if value is not None:
            lines.append(f"- quality of the {side} on items and fixed text, from 0 to 1: {significant(value)}")
    imitation = report.get("imitation")
    by_bits = imitation.get("by_activation_bits") if isinstance(imitation, Mapping) else None
    for bits, figures in by_bits.items() if isinstance(by_bits, Mapping) else ():
        for title, key, words in (
            ("bits per byte", "student_bits_per_byte", significant),
            ("agreement with the teacher", "agreement", share),
        ):
            estimate = figures.get(key) if isinstance(figures, Mapping) else None
            value = finite(estimate.get("value")) if isinstance(estimate, Mapping) else None
            if value is not None:
                lines.append(
                    f"- the teacher's held-out text, activation bits {_plain(bits)}, {title}: {words(value)}"
                )
    for one in found:
        speed = "" if one.tokens_per_s is None else f", {significant(one.tokens_per_s)} tokens/s"
        lines.append(
            f"- in {one.runtime}, beside {one.compared_with}, {one.found.steps} steps: largest difference "
            f"{significant(one.found.max_difference)}, mean KL {number(one.found.mean_kl)} nats, same most likely "
            f"token on {share(one.found.agreement)}{speed}, {size(one.memory_bytes)} of memory where it was exported"
        )
    return "\n".join(lines) or "Not measured: run `bitnet eval` and `bitnet verify-export`."


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {_plain(key)} | {_plain(value)} |" for key, value in values.items()]
    return "\n".join(["| what | value |", "|---|---|", *rows])


def _plain(value: object) -> str:
    shown = crop(flat(str(value)), _CELLS)
    return "".join("\\" + char if char in "\\`*_[]<>|#" else char for char in shown)
