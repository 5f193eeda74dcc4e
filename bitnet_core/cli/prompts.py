"""`bitnet prompts`: prompts written from topic templates."""

import argparse
import sys

from bitnet_core.cli.command import Commands, answer, answer_table, json_line
from bitnet_core.errors import UsageError
from bitnet_core.files.typed import typed_path


def add_to(commands: Commands) -> None:
    prompts = commands.add("prompts", "write prompts from topic templates, for KD_PROMPTS_FILE", _prompts)
    prompts.add_argument("--count", type=int, metavar="N", help="how many; all are different")
    prompts.add_argument("--seed", type=int, default=0, metavar="S", help="same seed, same prompts (default: 0)")
    prompts.add_argument("--topics", default="", metavar="A,B", help="only these topics")
    prompts.add_argument("--templates", type=typed_path, metavar="FILE", help="your own template file")
    prompts.add_argument(
        "--out", type=typed_path, metavar="FILE", help="write here (JSON lines) instead of to stdout"
    )
    prompts.add_argument("--list", action="store_true", help="show the topics instead")


def _prompts(arguments: argparse.Namespace) -> int:
    from bitnet_core.prompts.drawing import generate, write
    from bitnet_core.prompts.templates import load_topics

    topics = load_topics(arguments.templates, [name.strip() for name in arguments.topics.split(",") if name.strip()])
    if arguments.list:
        rows = [[one.name, one.about, len(one.templates), one.weight, one.size] for one in topics]
        records = [
            {"topic": one.name, "about": one.about, "weight": one.weight, "prompts": one.size} for one in topics
        ]
        columns = ["topic", "about", "templates", "weight", "different prompts"]
        answer_table(arguments, "topics", columns, rows, records)
        return 0
    count: int | None = arguments.count
    if count is None or count < 1:
        raise UsageError("bitnet prompts needs --count N, 1 or more; --list shows the topics.")
    if arguments.out is None:
        made = generate(topics, count, arguments.seed)
        sys.stdout.writelines(json_line(prompt, readable=True) + "\n" for prompt in made)
        return 0
    write(arguments.out, topics, count, arguments.seed)
    fields = {"path": str(arguments.out), "prompts": count, "seed": arguments.seed}
    answer(arguments, fields, f"{count} prompts are in {arguments.out}; collect them with KD_PROMPTS_FILE.")
    return 0
