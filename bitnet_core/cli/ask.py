"""What `bitnet providers probe` and `bitnet chat` do: open a teacher for a command, outside a stage.

Heavy: imported when such a command runs. Prints nothing; what there is to show is returned or goes to a callback.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.model.precision import pick_device
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DeviceOptions, EvalOptions, TeacherOptions
from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.examine import blank, examine
from bitnet_core.teachers.identity import Identity, identify_as
from bitnet_core.teachers.opening import Host, open_teacher
from bitnet_core.teachers.prices import price_of
from bitnet_core.teachers.teacher import Teacher

_T = TypeVar("_T")
_STOPPED = "Stopped; the request was given up."
Notice = Callable[[str], None]
Secrets = Callable[[tuple[str, ...]], Mapping[str, str]]
"""Looks up the secrets of these names; called once, with all that are needed."""


class _CommandHost(Host):
    """Shows a teacher's messages as notices, and stops when the command is cancelled."""

    def __init__(self, secrets: Mapping[str, str], notice: Notice) -> None:
        self._secrets = secrets
        self._notice = notice
        self._last_label = ""
        self.stopping = False

    def secret(self, name: str) -> str | None:
        return self._secrets.get(name)

    def alert(self, severity: str, code: str, message: str, advice: str = "") -> None:  # noqa: ARG002 - see Host
        self._notice(message)

    def check_stop(self) -> None:
        """Needed by work in another thread, which cancelling a task does not reach."""
        if self.stopping:
            raise Stopped(_STOPPED)

    def progress(self, done: float, total: float | None, unit: str, label: str = "") -> None:  # noqa: ARG002
        if label and label != self._last_label:
            self._last_label = label
            self._notice(f"{label}…")


def probe(settings: Settings, name: str, model: str, secrets: Secrets, notice: Notice) -> dict[str, Any]:
    """The report on one model of a provider; see `examine`.

    It ends with the list of models if no model is set, and is the problem alone if nothing can be asked for want of a
    key or an address.
    """
    options = TeacherOptions.of(settings)
    identity = identify_as(options, name, model, need_model=False)
    price = price_of(identity.provider, identity.model, options.prices_file, address=identity.base_url)
    try:
        return _ask(settings, identity, secrets, notice, lambda teacher: examine(teacher, price))
    except Stopped:
        raise
    except BitnetError as error:
        return blank(name, identity.model, identity.base_url, price, problem=str(error))


def chat(
    settings: Settings, prompt: str, secrets: Secrets, notice: Notice, on_text: Callable[[str], None]
) -> ChatResult:
    """One answer of the chat provider (PROVIDER), streamed to `on_text`."""
    options = TeacherOptions.of(settings)
    identity = identify_as(options, options.chat_provider)
    sampling = EvalOptions.of(settings).sampling
    message = {"role": "user", "content": prompt}
    request = ChatRequest([message], sampling.max_tokens, sampling.temperature, sampling.top_p)
    try:
        return _ask(settings, identity, secrets, notice, lambda teacher: teacher.chat(request, on_text=on_text))
    except BadReply as error:
        raise BitnetError(f"{identity.provider.name} gave no usable answer ({error}); try again.") from error


def _ask(
    settings: Settings,
    identity: Identity,
    secrets: Secrets,
    notice: Notice,
    ask: Callable[[Teacher], Awaitable[_T]],
) -> _T:
    """What `ask` returns for the open teacher. Raises Stopped on SIGINT and SIGTERM."""
    host = _CommandHost(secrets(identity.key_settings), notice)
    device = partial(pick_device, DeviceOptions.of(settings))

    async def open_and_ask() -> _T:
        async with open_teacher(host, TeacherOptions.of(settings), device=device, identity=identity) as teacher:
            return await ask(teacher)

    async def cancellable() -> _T:
        task = asyncio.ensure_future(open_and_ask())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, task)
        return await task

    def stop(task: asyncio.Future[_T]) -> None:
        host.stopping = True
        task.cancel()

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        raise Stopped(_STOPPED) from None
