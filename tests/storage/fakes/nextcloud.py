"""What Nextcloud answers differently, in front of another WebDAV server.

Its errors are SabreDAV's XML; a missing parent is a conflict (409), a file in use is locked (423); names that end
like its own partial uploads are refused; the quota may be -3, which means that it has no end.
"""

import http.client
import threading

from tests.storage.fakes.server import Reply, Request

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}
_MAKES = {"PUT", "MKCOL", "MOVE"}


class Nextcloud:
    """Answers for one user, whose files are at `home` on the server behind; the next `locked` writes find a lock."""

    def __init__(self, port: int, home: str) -> None:
        self._port = port
        self._home = home
        self._lock = threading.Lock()
        self.locked = 0
        self.quota = b"-3"

    def answer(self, request: Request) -> Reply:
        if not request.path.startswith(self._home):
            return _error(404, "NotFound", "File not found")
        if request.method in _MAKES and self._finds_a_lock():
            return _error(423, "Locked", "HTTP/1.1 423 Locked")
        named = request.headers.get("destination", request.path)
        if request.method in _MAKES and named.endswith((".part", ".filepart")):
            return _error(400, "BadRequest", "Filenames must not end with .part")
        reply = self._passed_on(request)
        if request.method in _MAKES and reply.status in (403, 404, 409):
            return _error(409, "Conflict", "Files can only be created in existing collections")
        if reply.status == 404:
            return _error(404, "NotFound", "File not found")
        if request.method == "PROPFIND" and reply.status == 207:
            quota = b"<D:prop><D:quota-available-bytes>" + self.quota + b"</D:quota-available-bytes></D:prop>"
            more = b"<D:propstat>" + quota + b"<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
            return Reply(207, reply.body.replace(b"</D:response>", more), reply.headers)
        return reply

    def _finds_a_lock(self) -> bool:
        with self._lock:
            found = self.locked > 0
            self.locked -= found
            return found

    def _passed_on(self, request: Request) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        try:
            headers = {name: value for name, value in request.headers.items() if name not in _HOP}
            connection.request(request.method, request.path, request.body, headers)
            response = connection.getresponse()
            body = response.read()
            found = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
            return Reply(response.status, body, found)
        finally:
            connection.close()


def _error(status: int, name: str, message: str) -> Reply:
    body = (
        '<?xml version="1.0" encoding="utf-8"?><d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
        f"<s:exception>Sabre\\DAV\\Exception\\{name}</s:exception><s:message>{message}</s:message>\n</d:error>\n"
    )
    return Reply(status, body.encode(), {"Content-Type": "application/xml; charset=utf-8"})
