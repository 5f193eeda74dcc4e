"""Sends a notice: to a command of the user's, or to a webhook in the form that its service takes.

Each is tried once and ended when it takes too long. A failure is a BitnetError whose sentence shows no address.
"""

import base64
import contextlib
import errno
import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from email.header import Header
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from bitnet_core import process
from bitnet_core.errors import BitnetError
from bitnet_core.network.proxy import LOOPBACK, answer_of_proxy, proxy_of, status_of_proxy
from bitnet_core.runs.notices import Notice
from bitnet_core.secrets.handover import environment_without_secrets
from bitnet_core.text import crop, flat

COMMAND_SECONDS = 30.0
WEBHOOK_SECONDS = 15.0
_DISCORD_CHARS = 1900
_REASON_CELLS = 200
_PAGE = "a web page came back, as where a network asks for a login"
_PAGES = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_PAGE_BYTES = 512
_NO_ADDRESS = "it is not an address"
_MOST_SAID = 1 << 24
_LOOK_SECONDS = 0.05
_SERVICES = {
    "hooks.slack.com": "slack",
    "hooks.slack-gov.com": "slack",
    "discord.com": "discord",
    "discordapp.com": "discord",
    "ntfy.sh": "ntfy",
}


def run_command(command: str, notice: Notice, seconds: float = COMMAND_SECONDS) -> None:
    """Run the command with two more arguments, title and text, and the notice as a JSON line on stdin.

    No shell reads it, and its environment has no keys.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BitnetError(f"NOTIFY_COMMAND can't be read ({error}); close its quotes.") from None
    # A dash at the beginning would make an option of the text.
    text = f"– {notice.text}" if notice.text.startswith("-") else notice.text
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        try:
            child = subprocess.Popen(
                [*words, notice.title, text],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                text=True,
                env=environment_without_secrets(for_users_own=True),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            fix = "it must begin with a program that exists"
            if isinstance(error, PermissionError):
                fix = "make its program executable (chmod +x), on a file system that runs programs"
            elif isinstance(error, OSError) and error.errno == errno.ENOEXEC:
                fix = "its program must be one of this machine, or begin with a line such as #!/bin/sh"
            raise BitnetError(f"NOTIFY_COMMAND can't be started ({why}); {fix}.") from None
        _wait(child, said, seconds, json.dumps(notice.to_record()) + "\n")
        if child.returncode:
            last = crop(flat(process.last_line(said)), _REASON_CELLS) or "it said nothing"
            raise BitnetError(
                f"NOTIFY_COMMAND ended with exit code {child.returncode} ({last}); correct it, and try it in a shell."
            )


def _wait(child: "subprocess.Popen[str]", said: IO[str], seconds: float, request: str | None) -> None:
    """Wait for the command's end. It is killed when it takes too long, or would fill the disk with what it says."""
    end = time.monotonic() + seconds
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(request, timeout=_LOOK_SECONDS)
                return
            request = None  # its pipe has it already
            if os.fstat(said.fileno()).st_size > _MOST_SAID:
                raise BitnetError(
                    f"NOTIFY_COMMAND wrote more than {_MOST_SAID >> 20} MiB and was killed; let it write to a file."
                )
            if time.monotonic() > end:
                raise BitnetError(
                    f"NOTIFY_COMMAND did not end within {seconds:.0f} s and was killed; let it do less, or detach."
                )
    except BaseException:
        process.kill_group(child.pid)
        raise


def service_of(address: str, form: str = "") -> str:
    """`slack`, `discord`, `ntfy` or `json`: the form that is set, or else the one of the address's host."""
    if form not in ("", "auto"):
        return form
    host = urlsplit(address).hostname or ""
    return _SERVICES.get(host, "ntfy" if host.startswith("ntfy.") else "json")


def request_of(notice: Notice, service: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers for a service. What the text holds mentions and formats nothing there.

    `json` is the notice's record with `content`: services that take Slack's or Discord's form ignore the rest.
    """
    whole = f"{notice.title}\n{notice.text}"
    if service == "ntfy":
        title = notice.title if notice.title.isascii() else Header(notice.title, "utf-8", maxlinelen=10_000).encode()
        headers = {"Title": title, "Priority": "high" if notice.is_bad else "default"}
        return notice.text.encode(), {**headers, "Content-Type": "text/plain; charset=utf-8", "Markdown": "no"}
    fields: dict[str, Any] = {**notice.to_record(), "content": whole}
    if service == "slack":
        for char, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            whole = whole.replace(char, written)
        fields = {"text": whole}
    elif service == "discord":
        fields = {"content": whole[:_DISCORD_CHARS], "allowed_mentions": {"parse": []}}
    return json.dumps(fields).encode(), {"Content-Type": "application/json"}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the notice somewhere else than the user has said."""

    def http_error_302(self, *_: Any, **__: Any) -> None:
        """Leave it an error, wherever it leads to."""

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def call_webhook(address: str, form: str, notice: Notice, seconds: float = WEBHOOK_SECONDS) -> None:
    """POST the notice. The time limit counts for everything: a name that is not resolved, an answer in drops."""
    try:
        parts = urlsplit(address)
        host, plain = parts.hostname, parts.scheme in ("http", "https")
        _ = parts.port
    except ValueError:
        host, plain = None, False
    if not host or not plain:
        raise BitnetError("NOTIFY_WEBHOOK is not an address; set it to one such as https://ntfy.sh/my-topic.")
    body, headers = request_of(notice, service_of(address, form))
    if "@" in parts.netloc:  # urllib would take the name and the password for a part of the host
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = urllib.request.Request(address, body, {"User-Agent": "bitnet-tui", **headers})  # noqa: S310 - see above
    problem = _in_time(request, seconds)
    if problem:
        proxy = proxy_of(address, knows_all=False)
        way = f" through {proxy}" if proxy and problem != _NO_ADDRESS else ""
        raise BitnetError(f"The webhook at {flat(host)} was not notified{way}: {problem}; check NOTIFY_WEBHOOK.")


class _Cuttable(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Keeps its connections, so that another thread can cut them off."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[Any] = []

    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        def connection(host: str, **more: Any) -> Any:
            self._made.append(http_class(host, **more))
            return self._made[-1]

        return super().do_open(connection, req, **options)

    def cut(self) -> None:
        for connection in self._made:
            with contextlib.suppress(OSError, AttributeError):  # it is not connected yet, or not any more
                connection.sock.shutdown(socket.SHUT_RDWR)


def _post(request: urllib.request.Request, connections: _Cuttable, seconds: float) -> str:
    """Why the request failed; empty if it did not."""
    try:
        local = [urllib.request.ProxyHandler({})] if urlsplit(request.full_url).hostname in LOOPBACK else []
        with urllib.request.build_opener(_NoRedirect, connections, *local).open(request, timeout=seconds) as reply:
            return _PAGE if _is_page(reply) else ""
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}"
    except (http.client.InvalidURL, UnicodeError):
        return _NO_ADDRESS
    except http.client.HTTPException as error:  # RemoteDisconnected is a ConnectionError, too
        return "the connection broke" if isinstance(error, ConnectionError) else "it does not speak HTTP"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return _late(seconds)
        if status := status_of_proxy(reason):
            return answer_of_proxy(status)
        return crop(flat(str(getattr(reason, "strerror", None) or type(reason).__name__)), _REASON_CELLS)


def _is_page(reply: Any) -> bool:
    """Whether the login page of a network came instead of the site. A service may call a word or two HTML."""
    if "html" not in reply.headers.get("Content-Type", ""):
        return False
    with contextlib.suppress(OSError, http.client.HTTPException):
        return bool(_PAGES.match(reply.read1(_PAGE_BYTES)))
    return False


def _in_time(request: urllib.request.Request, seconds: float) -> str:
    """As `_post`. After that time its connection is cut off; while a name is looked up, its thread is left behind."""
    said: list[str] = []
    connections = _Cuttable()
    thread = threading.Thread(target=lambda: said.append(_post(request, connections, seconds)), daemon=True)
    thread.start()
    thread.join(seconds)
    if said:
        return said[0]
    connections.cut()
    return _late(seconds)


def _late(seconds: float) -> str:
    return f"no answer within {seconds:.0f} s"
