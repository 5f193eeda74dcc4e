"""`bitnet generate` and `bitnet serve`: the student's answers, in this process or as a server for other programs."""

import argparse
import sys

from bitnet_core.cli.command import Commands, resolution
from bitnet_core.cli.export import TYPES, patient_threads
from bitnet_core.cli.piped import question
from bitnet_core.files.typed import typed_path
from bitnet_core.settings.registry import SECRET_NAMES

_PORT = 8080
_SLOTS = 4


def add_to(commands: Commands) -> None:
    generate = commands.add("generate", "let the student answer, in this process; Ctrl-C ends the answer", _generate)
    generate.add_argument(
        "prompts", nargs="*", metavar="TEXT", help="a question, or several to answer together (default: from stdin)"
    )
    add_student(generate)
    generate.add_argument("--max-tokens", type=int, metavar="N", help="default: EVAL_MAX_NEW_TOKENS")
    generate.add_argument("--temperature", type=float, metavar="T", help="0 is greedy (default: EVAL_TEMPERATURE)")
    generate.add_argument("--top-k", type=int, default=0, metavar="K", help="draw from the K likeliest tokens")
    generate.add_argument(
        "--top-p", type=float, metavar="P", help="draw from the likeliest tokens with this mass (default: EVAL_TOP_P)"
    )
    generate.add_argument(
        "--min-p", type=float, default=0.0, metavar="P", help="leave out tokens below P times the likeliest"
    )
    generate.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1: fewer repetitions"
    )
    generate.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end the answer before this text (repeatable)"
    )
    generate.add_argument("--seed", type=int, metavar="N", help="default: SEED")
    answers = commands.add(
        "answer", "answer requests in JSON lines from stdin, until it ends (the app does)", _answer
    )
    answers.add_argument("side", choices=("student", "teacher"), help="who answers; docs/SERVING.md has the lines")
    add_student(answers)
    serve = commands.add(
        "serve", "serve the student, or any GGUF file, as OpenAI's API does (llama.cpp); Ctrl-C ends it", _serve
    )
    serve.add_argument(
        "path",
        nargs="?",
        type=typed_path,
        metavar="PATH",
        help="a GGUF file, a checkpoint or an experiment's folder (default: this experiment)",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument(
        "--demand",
        choices=sorted(SECRET_NAMES),
        metavar="NAME",
        help="setting whose key clients must send (default: none at 127.0.0.1, else LLAMACPP_API_KEY)",
    )
    serve.add_argument("--port", type=int, default=_PORT, help=f"port to listen on (default: {_PORT}; 0: a free one)")
    serve.add_argument(
        "--parallel", type=int, default=_SLOTS, metavar="N", help=f"answers made at once (default: {_SLOTS})"
    )
    serve.add_argument(
        "--type", choices=TYPES, default=TYPES[0], help="a checkpoint: type of its export (default: TQ2_0)"
    )


def _answer(arguments: argparse.Namespace) -> int:
    from bitnet_core.cli.answering import Inbox

    with Inbox() as inbox:
        if arguments.side == "student":
            patient_threads()
            from bitnet_core.cli import answering_student

            answering_student.answer(arguments, inbox)
        else:
            resolved = resolution(arguments)
            from bitnet_core.cli import answering_teacher

            answering_teacher.answer(resolved, inbox)
    return 0


def add_student(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--student",
        type=typed_path,
        metavar="RUN",
        help="an experiment's folder or a checkpoint (default: this experiment's newest)",
    )


def _generate(arguments: argparse.Namespace) -> int:
    prompts = [question(one, "generate") for one in arguments.prompts or [None]]
    patient_threads()
    from bitnet_core.cli import students

    return students.generate(arguments, prompts)


def _serve(arguments: argparse.Namespace) -> int:
    if not arguments.json:  # what follows, down to torch, may take minutes on a busy machine
        sys.stdout.write("Starting…\n")
        sys.stdout.flush()
    patient_threads()
    from bitnet_core.cli import serving

    return serving.serve(arguments)
