"""What `bitnet providers probe` and `bitnet chat` do: open a teacher for a command, outside a stage.

Heavy: imported when such a command runs. The teacher's messages go to stderr; what it answers is returned.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from bitnet_core.cli.command import ask_passphrase, complain
from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.secrets.find import find_secrets
from bitnet_core.settings.resolved import Resolution
from bitnet_core.settings.values import CollectOptions, EvalOptions, TeacherOptions
from bitnet_core.stages.device import device_of
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.examine import blank, examine
from bitnet_core.teachers.identity import Identity, identify_as
from bitnet_core.teachers.opening import Host, open_teacher
from bitnet_core.teachers.prices import price_of
from bitnet_core.teachers.refusals import no_usable_answer
from bitnet_core.teachers.teacher import Teacher

_T = TypeVar("_T")
_STOPPED = "Stopped; the request was abandoned."


class CommandHost(Host):
    """Shows a teacher's messages on stderr, and stops when the command is cancelled."""

    def __init__(self, resolved: Resolution, key_settings: tuple[str, ...]) -> None:
        self._keys = find_secrets(key_settings, resolved, ask=ask_passphrase)
        self._last_label = ""
        self.stopping = False

    def secret(self, name: str) -> str | None:
        return self._keys[name].value if name in self._keys else None

    def alert(self, severity: str, code: str, message: str, advice: str = "") -> None:  # noqa: ARG002 - see Host
        complain(f"bitnet: {message}\n")

    def check_stop(self) -> None:
        """Needed by work in another thread, which cancelling a task does not reach."""
        if self.stopping:
            raise Stopped(_STOPPED)

    def progress(self, done: float, total: float | None, unit: str, label: str = "") -> None:  # noqa: ARG002
        if label and label != self._last_label:
            self._last_label = label
            complain(f"bitnet: {label}…\n")


def probe(resolved: Resolution, name: str, model: str) -> dict[str, Any]:
    """The report on one model of a provider; see `examine`.

    If no model is set, it ends with the list of models. If a key or an address is missing, it holds only the problem.
    """
    options = TeacherOptions.of(resolved.settings)
    identity = identify_as(options, name, model, need_model=False)
    price = price_of(identity.provider, identity.model, options.prices_file, address=identity.base_url)
    sampling = CollectOptions.of(resolved.settings).sampling
    try:
        return _ask(resolved, identity, lambda teacher: examine(teacher, price, sampling))
    except Stopped:
        raise
    except BitnetError as error:
        return blank(name, identity.model, identity.base_url, price, problem=str(error))


def chat(resolved: Resolution, prompt: str, on_text: Callable[[str], None]) -> ChatResult:
    """One answer of the chat provider (PROVIDER), streamed to `on_text`."""
    options = TeacherOptions.of(resolved.settings)
    identity = identify_as(options, options.chat_provider)
    sampling = EvalOptions.of(resolved.settings).sampling
    message = {"role": "user", "content": prompt}
    request = ChatRequest([message], sampling.max_tokens, sampling.temperature, sampling.top_p)
    try:
        return _ask(resolved, identity, lambda teacher: teacher.chat(request, on_text=on_text))
    except BadReply as error:
        raise no_usable_answer(identity.provider.name, error) from error


def chat_name(resolved: Resolution) -> str:
    """The chat provider and its model."""
    options = TeacherOptions.of(resolved.settings)
    identity = identify_as(options, options.chat_provider)
    return f"{identity.model} ({identity.provider.name})"


def _ask(resolved: Resolution, identity: Identity, ask: Callable[[Teacher], Awaitable[_T]]) -> _T:
    """What `ask` returns for the open teacher. Raises Stopped on SIGINT and SIGTERM."""
    host = CommandHost(resolved, identity.key_settings)
    options = TeacherOptions.of(resolved.settings)
    device = device_of(resolved.settings)

    async def open_and_ask() -> _T:
        task = cast("asyncio.Task[_T]", asyncio.current_task())
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop, task)
        async with open_teacher(host, options, device=device, identity=identity) as teacher:
            return await ask(teacher)

    def stop(task: "asyncio.Task[_T]") -> None:
        host.stopping = True
        task.cancel()

    try:
        return asyncio.run(open_and_ask())
    except asyncio.CancelledError:
        raise Stopped(_STOPPED) from None
