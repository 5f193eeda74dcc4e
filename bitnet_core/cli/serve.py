"""`bitnet generate` and `bitnet serve`: the student's answers, in this process or as a server for other programs."""

import argparse
from pathlib import Path

from bitnet_core.cli.command import Commands
from bitnet_core.cli.export import TYPES, patient_threads

_PORT = 8080
_SLOTS = 4


def add_to(commands: Commands) -> None:
    serve = commands.add(
        "serve", "serve the student, or any GGUF file, as OpenAI's API does (llama.cpp); Ctrl-C ends it", _serve
    )
    serve.add_argument(
        "path",
        nargs="?",
        type=Path,
        metavar="PATH",
        help="a GGUF file, a checkpoint or an experiment's folder (default: this experiment)",
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=_PORT, help=f"port to listen on (default: {_PORT}; 0: a free one)")
    serve.add_argument(
        "--parallel", type=int, default=_SLOTS, metavar="N", help=f"answers made at once (default: {_SLOTS})"
    )
    serve.add_argument(
        "--type", choices=TYPES, default=TYPES[0], help="a checkpoint: type of its export (default: TQ2_0)"
    )


def _serve(arguments: argparse.Namespace) -> int:
    patient_threads()
    from bitnet_core.cli import serving

    return serving.serve(arguments)
