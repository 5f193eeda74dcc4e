"""What `bitnet providers probe` and `bitnet chat` do: a teacher opened outside a stage, for a command.

Heavy: imported when the command runs. Prints nothing; what there is to show is returned or handed to a callback.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.model.precision import pick_device
from bitnet_core.settings.resolved import Settings
from bitnet_core.teachers.answers.read import BadReply
from bitnet_core.teachers.chat import ChatRequest, ChatResult
from bitnet_core.teachers.examine import blank, examine
from bitnet_core.teachers.opening import Host, Identity, identify_as, open_teacher, secret_names
from bitnet_core.teachers.prices import price_of

_T = TypeVar("_T")
_STOPPED = "Stopped; the request was given up."
Notice = Callable[[str], None]
Secrets = Callable[[tuple[str, ...]], Mapping[str, str]]
"""Finds the secrets of these names; asked once, for those that are needed."""


class _Caller(Host):
    """The command as a teacher's host: it says things on a side channel and stops by being cancelled."""

    def __init__(self, settings: Settings, secrets: Mapping[str, str], notice: Notice) -> None:
        self._settings = settings
        self._secrets = secrets
        self._notice = notice
        self._told = ""
        self.stopping = False

    @property
    def settings(self) -> Settings:
        return self._settings

    def secret(self, name: str) -> str | None:
        return self._secrets.get(name)

    def alert(self, severity: str, code: str, message: str, advice: str = "") -> None:  # noqa: ARG002 - a host's
        self._notice(message)

    def check_stop(self) -> None:
        """For what runs in a thread of its own, where nothing is cancelled."""
        if self.stopping:
            raise Stopped(_STOPPED)

    def progress(self, done: float, total: float | None, unit: str, label: str = "") -> None:  # noqa: ARG002
        if label and label != self._told:
            self._told = label
            self._notice(f"{label}…")


def probe(settings: Settings, name: str, model: str, secrets: Secrets, notice: Notice) -> dict[str, Any]:
    """The report on one model of a provider; see `examine`. Without a model it ends at the list of models, and
    without what is needed to ask at all (a key, an address) with the problem alone."""
    identity = identify_as(settings, name, model, need_model=False)
    prices = settings.maybe_path("KD_PRICES_FILE")
    price = price_of(identity.provider, identity.model, prices, address=identity.base_url)

    async def ask(host: Host) -> dict[str, Any]:
        async with open_teacher(host, device=pick_device, identity=identity) as teacher:
            return await examine(teacher, price)

    try:
        return _run(settings, identity, secrets, notice, ask)
    except Stopped:
        raise
    except BitnetError as error:
        return blank(name, identity.model, identity.base_url, price, problem=str(error))


def chat(
    settings: Settings, prompt: str, secrets: Secrets, notice: Notice, on_text: Callable[[str], None]
) -> ChatResult:
    """One answer of the chat provider (PROVIDER), streamed to `on_text`."""
    identity = identify_as(settings, settings.text("PROVIDER"))
    request = ChatRequest(
        [{"role": "user", "content": prompt}],
        settings.int("EVAL_MAX_NEW_TOKENS"),
        settings.float("EVAL_TEMPERATURE"),
        settings.float("EVAL_TOP_P"),
    )

    async def ask(host: Host) -> ChatResult:
        async with open_teacher(host, device=pick_device, identity=identity) as teacher:
            return await teacher.chat(request, on_text=on_text)

    try:
        return _run(settings, identity, secrets, notice, ask)
    except BadReply as error:
        raise BitnetError(f"{identity.provider.name} gave no usable answer ({error}); try again.") from error


def _run(
    settings: Settings, identity: Identity, secrets: Secrets, notice: Notice, ask: Callable[[Host], Awaitable[_T]]
) -> _T:
    host = _Caller(settings, secrets(secret_names(identity)), notice)

    async def cancellable() -> _T:
        task = asyncio.ensure_future(ask(host))
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
