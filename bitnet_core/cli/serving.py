"""What `bitnet serve` does: find or make a GGUF, and serve it until Ctrl-C. Heavy: imported when it runs."""

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.cli.command import answer, ask_passphrase, complain, resolution, warn
from bitnet_core.cli.exporting import Source
from bitnet_core.cli.students import student_at
from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.evaluation.llamacpp import CONTEXT_STEP, kv_bytes
from bitnet_core.export import gguf, gguf_read
from bitnet_core.files.user_folders import cache_folder
from bitnet_core.files.writable import writing
from bitnet_core.network.hosts import is_loopback
from bitnet_core.process import available_bytes
from bitnet_core.secrets.find import find_secrets
from bitnet_core.serving.front import Front
from bitnet_core.serving.kept_up import KeptUp
from bitnet_core.serving.request import Gate
from bitnet_core.settings.dotenv import quoted
from bitnet_core.settings.values import DataOptions
from bitnet_core.teachers.embedded.files import MAX_CONTEXT
from bitnet_core.teachers.embedded.server import LlamaServer
from bitnet_core.teachers.profiles import profile
from bitnet_core.text import flat, size
from bitnet_core.traces.places import tokenizer as tokenizer_folder

# Increase the number when `bitnet export gguf` writes another file for the same student.
_CACHE = "served-1"
_MAGIC = b"GGUF"
_CHECKPOINT_SUFFIX = ".pt"
_LARGEST_PORT = (1 << 16) - 1
_MOST_SLOTS = 256
_MASK_BYTES = 512 * 4
"""Of a token of the context in the attention's mask: a number for each token of a batch."""


@dataclass(frozen=True)
class _Model:
    """What is served: its answers share `context` tokens. `length` is what another program's file says it reads.

    One of `ours` is served as it was measured, without a second copy of its weights in another order.
    """

    gguf: Path
    name: str
    context: int
    length: int | None = None
    tokenizer: Path | None = None
    ours: bool = False


def serve(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C. UsageError for a taken port or no such file, BitnetError for a damaged file."""
    if not 1 <= arguments.parallel <= _MOST_SLOTS:
        raise UsageError(f"--parallel is {arguments.parallel}; give a number from 1 to {_MOST_SLOTS}.")
    key, key_name = _key(arguments)
    with _listener(arguments.host, arguments.port) as listener:
        model = _model(arguments)
        server = LlamaServer(
            model.gguf, model.name, parallel=arguments.parallel, context=model.context, reorder=not model.ours
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        with server, contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            asyncio.run(_serve(arguments, server, model, listener, key, key_name))
    return 0


async def _serve(
    arguments: argparse.Namespace,
    server: LlamaServer,
    model: _Model,
    listener: socket.socket,
    key: str,
    key_name: str,
) -> None:
    """Until Ctrl-C. BitnetError if llama.cpp ended and can't be started again."""
    serving = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):  # an exception could be raised in the task of a connection
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)  # type: ignore[union-attr]
    behind = KeptUp(server, warn)
    gate = Gate(key, is_local=is_loopback(arguments.host))
    front = Front(gate, behind, api_key=server.api_key, parallel=arguments.parallel, context=model.context)
    host, port = listener.getsockname()[:2]
    base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    _announce(arguments, server, model, base_url, key_name)
    try:
        await asyncio.gather(behind.keep(), front.serve(listener))
    finally:
        server.close()


def exported(source: Source, type_name: str) -> Path:
    """The student as a GGUF in the user's cache, written there if it is missing.

    Two processes may call it at the same time: the second says that it waits for the first, however long that takes.
    """
    folder = cache_folder() / _CACHE
    path = folder / f"{source.sha256}-{type_name}.gguf"
    said: list[str] = []

    def wait() -> None:
        if not said:
            said.append(f"bitnet: another process is writing a student into {folder}; waiting for it…\n")
            complain(said[0])

    with writing(path, "name another BITNET_CACHE"):
        folder.mkdir(parents=True, exist_ok=True)
        with files.locked(folder / ".lock", on_wait=wait):
            if not _is_whole(path):
                gguf.write(source.student, source.tokenizer, path, type_name, name=source.name, origin=source.origin)
    return path


def _is_whole(path: Path) -> bool:
    try:
        gguf_read.look(path)
    except BitnetError:
        return False
    return True


def _model(arguments: argparse.Namespace) -> _Model:
    path: Path | None = arguments.path
    if path is not None and not path.exists():
        raise UsageError(f"{path} does not exist; give a GGUF file, a checkpoint or an experiment's folder.")
    if path is not None and path.is_file():
        with path.open("rb") as file:
            is_gguf = file.read(len(_MAGIC)) == _MAGIC
        if is_gguf:
            return _with_room(path, path.stem, arguments.parallel)
        if path.suffix != _CHECKPOINT_SUFFIX:
            raise BitnetError(f"{path} is neither a GGUF file nor a checkpoint; give one of those.")
    source = student_at(arguments, path)
    written = exported(source, arguments.type)
    return _with_room(written, source.name, arguments.parallel, _tokenizer(source))


def _tokenizer(source: Source) -> Path:
    data = DataOptions.of(source.experiment.settings).path or source.experiment.data
    return tokenizer_folder(data).resolve()


def _with_room(path: Path, name: str, parallel: int, tokenizer: Path | None = None) -> _Model:
    """The model, with tokens that fit into memory: a file may claim any length, and llama.cpp fills it at once.

    BitnetError if so many answers of one of ours do not fit. Those of another program's model share its length, or
    what of it fits into half of the free memory.
    """
    keys, free = gguf_read.read_keys(path), available_bytes()
    try:
        context = gguf_read.look(path).context
    except gguf_read.OtherModel:
        length = keys.get(f"{keys.get('general.architecture')}.context_length")
        if type(length) is not int or length < 1:
            return _Model(path, name, 0)  # llama.cpp says what is missing
        return _Model(path, name, _shared(length, keys, free // 2), length)
    needed = kv_bytes(keys, context * parallel) or 0
    if needed > free:
        raise BitnetError(
            f"{parallel} answers of {context:,} tokens, as {path} allows, take {size(needed)} of memory, "
            f"and {size(free)} is free; give --parallel a smaller number, or train with a smaller MAX_SEQ_LEN."
        )
    return _Model(path, name, context * parallel, tokenizer=tokenizer, ours=True)


def _shared(context: int, keys: Mapping[str, Any], room: int) -> int:
    """How many tokens of a context fit into `room` bytes; at least the fewest that llama.cpp takes."""
    a_token = kv_bytes(keys, 1)
    most = room // (a_token + _MASK_BYTES) // CONTEXT_STEP * CONTEXT_STEP if a_token else MAX_CONTEXT
    return min(context, max(most, CONTEXT_STEP))


def _key(arguments: argparse.Namespace) -> tuple[str, str]:
    """The key that clients must send, and the setting that has it; empty if they need none.

    At a loopback address only a key that is named with --demand is: LLAMACPP_API_KEY is also what this program sends
    to somebody else's llama.cpp server. UsageError if a key is needed and not set.
    """
    name = arguments.demand or ("" if is_loopback(arguments.host) else profile("llamacpp").key_setting)
    if not name:
        return "", ""
    found = find_secrets([name], resolution(arguments), ask=ask_passphrase, sent=False)
    if name in found:
        return found[name].value, name
    if is_loopback(arguments.host):
        raise UsageError(f"{name} is not set; run `bitnet keys set {name}`, or leave out --demand.")
    raise UsageError(
        f"At {arguments.host} other machines could use this server without a key; run `bitnet keys set "
        f"{name}`, which it then demands, or leave out --host."
    )


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens on the port, opened before the model is loaded. UsageError if that is not possible."""
    if not 0 <= port <= _LARGEST_PORT:
        raise UsageError(f"--port is {port}; give a number from 0 to {_LARGEST_PORT}.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, dualstack_ipv6=both)
    except socket.gaierror as error:
        raise UsageError(f"--host {host} is not an address; leave it out to serve this machine only.") from error
    except OSError as error:
        reason = explained(error, "give --port another one, or 0 for a free one")
        raise UsageError(f"Port {port} of {host} can't be listened on {reason}.") from error


def _announce(
    arguments: argparse.Namespace, server: LlamaServer, model: _Model, base_url: str, key_name: str
) -> None:
    with_key = f"with the key in {key_name}" if key_name else "without a key"
    settings = {
        "TEACHER_PROVIDER": "llamacpp",
        "TEACHER_MODEL": model.name,
        "TEACHER_BASE_URL": base_url,
        **({"TOKENIZER_NAME": str(model.tokenizer)} if model.tokenizer else {}),
    }
    lines = [f"{flat(model.name)} is served at {base_url}, {with_key}; Ctrl-C ends it."]
    if model.length and model.context < model.length:
        lines += [f"Its answers share {model.context:,} tokens, as memory allows; it can read {model.length:,}."]
    lines += ["Settings that make it the teacher of another experiment:"]
    lines += [f"  {name}={quoted(value)}" for name, value in settings.items()]  # as in a .env: a name may be anything
    fields = {"model": model.name, "base_url": base_url, "file": str(model.gguf), "context": model.context}
    answer(arguments, fields | {"pid": server.pid, "settings": settings}, "\n".join(lines))
    sys.stdout.flush()
