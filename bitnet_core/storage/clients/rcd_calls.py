"""Calls to a running `rclone rcd`, and what its errors mean: it gives words and no codes, so they decide."""

import contextlib
import json
import re
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from bitnet_core.network.trickle import Patience
from bitnet_core.secrets.redaction import Redactor
from bitnet_core.storage.clients.http import Http, Response
from bitnet_core.storage.target import MIB, Nonsense, Refused, Unreachable, nonsense
from bitnet_core.text import flat

# rclone says nothing while it works. Its own time-out starts over with each byte of its server.
_CALL_SECONDS = 180.0
"""How long it may work on one object, besides moving its bytes."""
_LISTING_SECONDS = 900.0
"""How long it may read everything below a folder, which comes in many pages."""
_SLOWEST_BYTES = 20_000
"""Bytes a second that an upload must bring."""
_HERE = "http://rclone"
_MOST_LISTED_BYTES = 128 * MIB
_LONGEST_ERROR = 8000
_LONGEST_WORDS = 300
_MISSING = re.compile(r"(?:object|directory|file) not found|not a directory|is a directory not a file")
_BUSY = re.compile(
    r"\b(?:408|429|50[0234])\b|rate.?limit|slow.?down|too many|time.?out|timed out|connection|no such host|\bEOF\b",
    re.IGNORECASE,
)
_FIXES = (
    (r"didn't find section", "make the remote with `rclone config`, or correct RCLONE_REMOTE"),
    (r"decrypt configuration|load config file", "set RCLONE_CONFIG_PASS to its password, or correct RCLONE_CONFIG"),
    (r"no space|quota|insufficient storage|\b507\b|storage limit", "free space there"),
    (r"name too long|invalid name", "use a shorter name"),
    (r"knownhosts: key",
     "make sure that it is your server, then put its key into the known_hosts file of the remote"),
    (r"private key|known_hosts_file", "correct the SSH files of the remote with `rclone config`"),
    (r"invalid_grant|empty token|token expired|fetch token|config reconnect|oauth client",
     "log in again with `rclone config reconnect`"),
    (r"\b40[13]\b|access ?denied|forbidden|unauthorized|permission|AccessKeyId|SignatureDoesNotMatch|authenticat|"
     r"login incorrect", "correct the keys of the remote with `rclone config`, or its permissions"),
    (r"\b400\b|read-only|not supported|failed to make Fs|failed to configure|no common algorithm|subsystem request",
     "try the remote with `rclone lsf`"),
)  # fmt: skip
_NONSENSE = re.compile(
    r"XML syntax error|invalid character|deserialization failed|failed to decode|cannot unmarshal"
    r"|unexpected end of JSON|(?:couldn't list files|read metadata failed): EOF"
)
"""What rclone says of a reply that is not one of the service, such as a login page."""
_PATH = re.compile(r"(?<!\S)[^\s/]*+/\S*")
_shapes = Redactor()


class Calls:
    """The calls to one rclone; `place` is the remote, for messages. `about` is the name a call is about."""

    def __init__(self, http: Http, place: str, written: Callable[[], int | None] = lambda: None) -> None:
        """`written` tells how many bytes rclone has written so far, if that is known."""
        self._http = http
        self._place = place
        self._written = written

    def ask(self, command: str, **parameters: object) -> Response:
        """A command's response, whatever its status says."""
        options = parameters.get("opt")
        lists_all = isinstance(options, dict) and bool(options.get("recurse"))
        return self._http.send(
            "POST",
            f"{_HERE}/{command}",
            content=json.dumps(parameters).encode(),
            headers={"Content-Type": "application/json"},
            busy=False,
            most_bytes=_MOST_LISTED_BYTES,
            silence_seconds=_LISTING_SECONDS if lists_all else _CALL_SECONDS,
        )

    def result(self, command: str, about: str, **parameters: object) -> dict[str, Any]:
        """A command's result. Refused or Unreachable if it failed."""
        return self.done(self.ask(command, **parameters), about)

    def done(self, response: Response, about: str) -> dict[str, Any]:
        """The object in a response. Refused or Unreachable if it reports an error."""
        if response.status != 200:
            raise self._fault(response, about)
        return object_of(response)

    def nonsense(self) -> Nonsense:
        """The error for a remote where something else than its service answers."""
        return nonsense(self._place, "a reply of the remote's service", "its address in `rclone config`")

    def upload(self, remote: str, path: str, data: bytes) -> None:
        folder, _, name = path.rpartition("/")
        # rclone reads all of it before it sends it on: so it knows size and hash, and compares them afterwards.
        whole = json.dumps({"StreamingUploadCutoff": f"{len(data) + 1}B"})
        boundary = secrets.token_hex(16)
        head = (
            f"--{boundary}\r\nContent-Disposition: form-data; name=file; filename*=UTF-8''{quote(name, safe='')}\r\n"
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        response = self._http.send(
            "POST",
            f"{_HERE}/operations/uploadfile?{urlencode({'fs': remote, 'remote': folder, '_config': whole})}",
            content=b"".join((head.encode(), data, f"\r\n--{boundary}--\r\n".encode())),
            headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
            busy=False,
            silence_seconds=_CALL_SECONDS + len(data) / _SLOWEST_BYTES,
            patience=self._patience(len(data)),
        )
        self.done(response, path)

    def _patience(self, size: int) -> Patience:
        """How long an upload may take: it must bring so many bytes a second, and what it has brought shows whether.

        Where that is not known, it may take as long as the slowest one.
        """
        before = self._written()

        def seconds() -> float:
            now = self._written()
            brought = size if before is None or now is None else min(size, now - before)
            return _CALL_SECONDS + brought / _SLOWEST_BYTES

        return seconds

    def download(self, remote: str, path: str) -> bytes | None:
        """A file's bytes; None if there is none."""
        address = f"{_HERE}/{quote(f'[{remote}]', safe='')}/{quote(path)}"
        response = self._http.send("GET", address, busy=False, silence_seconds=_CALL_SECONDS)
        if response.status == 200:
            return response.body
        if response.status == 404 and not _says_missing(response):
            # The file is there but could not be opened, and only other commands say why.
            response = self.ask("operations/hashsumfile", fs=remote, remote=path, hashType="md5", download=True)
            if response.status in (200, 404) and not _says_missing(response):
                raise Unreachable(f"{self._place} did not open {path}.")
        if _says_missing(response):
            return None
        raise self._fault(response, path)

    def _fault(self, response: Response, about: str) -> Refused | Unreachable:
        """What no word decides may pass: it is Unreachable."""
        said = _error(response)
        # The cause is at the end. Names may contain any word and number.
        words = said if len(said) <= _LONGEST_WORDS else f"… {said[-_LONGEST_WORDS:]}"
        judged = _PATH.sub("", said.replace(about, "") if about else said)
        if _NONSENSE.search(judged) and not _BUSY.search(_NONSENSE.sub("", judged)):
            return self.nonsense()
        if not _BUSY.search(judged):
            for pattern, fix in _FIXES:
                if re.search(pattern, judged, re.IGNORECASE):
                    return Refused(f"{self._place} can't be used ({words}); {fix}.")
        return Unreachable(f"{self._place} can't be reached ({words}).")


def object_of(response: Response) -> dict[str, Any]:
    """The JSON object in a response. Nonsense if it is something else."""
    return response.object("a reply of rclone", _MOST_LISTED_BYTES)


def is_missing(response: Response) -> bool:
    """Whether a response says that what it is about is not there."""
    return response.status == 404 or _says_missing(response)


def _says_missing(response: Response) -> bool:
    return response.status != 200 and bool(_MISSING.search(_error(response)))


def _error(response: Response) -> str:
    with contextlib.suppress(Nonsense, Unreachable):
        return _shapes(flat(str(object_of(response).get("error"))[:_LONGEST_ERROR]))
    return response.words
