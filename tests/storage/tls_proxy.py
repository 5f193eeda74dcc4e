"""Stand in for a vendor's hosts: a loopback proxy that ends their TLS with a test authority and answers as a fake.

A client needs no hook: it gets there by HTTPS_PROXY and the authority's file, as behind a company's proxy. A fake is
a function from a request to a reply.
"""

import contextlib
import datetime
import os
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class Request:
    """A complete request; the names of its headers are lower case, the path is decoded."""

    method: str
    host: str
    path: str
    raw_path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    def form(self) -> dict[str, str]:
        """The body as `application/x-www-form-urlencoded`."""
        return {name: values[-1] for name, values in parse_qs(self.body.decode(), keep_blank_values=True).items()}


@dataclass(frozen=True)
class Reply:
    """A response. With `cut`, the connection ends after so many bytes of the body."""

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None


Answer = Callable[[Request], Reply]


@dataclass
class Proxy:
    """A running proxy. `hosts` are the vendor's; a request to any other gets no connection."""

    hosts: tuple[str, ...]
    answer: Answer
    authority: Path
    port: int = 0
    instead: Callable[[Request], Reply | None] | None = None
    """Asked first, to play a fault; None = the fake answers."""
    faults: list[str] = field(default_factory=list)
    """Tracebacks of the fake, which must stay empty."""

    def through(self, port: int) -> dict[str, str]:
        """Lead this process's requests to a proxy on `port` that leads here: `Running.through`. Needs no settings."""
        os.environ.update(self.environment(port))
        return {}

    def environment(self, port: int = 0) -> dict[str, str]:
        """The variables of a user behind the proxy, or behind another one on `port` that leads to it."""
        url = f"http://127.0.0.1:{port or self.port}"
        return {
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), url),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            **dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(self.authority)),
        }


@contextlib.contextmanager
def proxy(hosts: tuple[str, ...], answer: Answer, folder: Path) -> Iterator[Proxy]:
    """Run a proxy for these hosts (`*.example.com` too) until the context ends; `folder` gets its certificates."""
    authority, chain = _certificates(hosts, folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    running = Proxy(hosts, answer, authority)
    with _Server(running, context) as served:
        running.port = served.server_address[1]
        thread = threading.Thread(target=served.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield running
        finally:
            served.shutdown()
            thread.join()


@contextlib.contextmanager
def behind(running: Proxy) -> Iterator[None]:
    """Put this process behind the proxy until the context ends."""
    before = {name: os.environ.get(name) for name in running.environment()}
    os.environ.update(running.environment())
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, running: Proxy, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.running = running
        self.context = context

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that hang up; a fake's own fault is in `Proxy.faults`."""


class _Connection(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 120

    def do_CONNECT(self) -> None:
        host = self.path.partition(":")[0]
        if not any(_matches(host, pattern) for pattern in self.server.running.hosts):
            self.send_error(403, "Not a host of this fake")
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = self.connection.makefile("wb", -1)
        self.tunnel_host = host
        self.close_connection = False

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        with contextlib.suppress(OSError):
            self.connection.close()

    def do_GET(self) -> None:
        if not hasattr(self, "tunnel_host"):
            self.send_error(405, "Only CONNECT")
            return
        length = self.headers.get("Content-Length")
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b"".join(self._chunks())
        else:
            body = self.rfile.read(int(length or 0))
            if len(body) < int(length or 0):
                self.close_connection = True
                return
        url = urlsplit(self.path)
        request = Request(
            self.command,
            self.tunnel_host,
            unquote(url.path),
            url.path,
            {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()},
            {name.lower(): value for name, value in self.headers.items()},
            body,
        )
        self._send(self._reply(request))

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_HEAD = do_GET

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _reply(self, request: Request) -> Reply:
        running = self.server.running
        try:
            return (running.instead and running.instead(request)) or running.answer(request)
        except Exception:  # noqa: BLE001 - told to the test by `faults`
            running.faults.append(f"{request}\n{traceback.format_exc()}")
            return Reply(500, b"the fake has a fault")

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body if reply.cut is None else reply.body[: reply.cut])
        if reply.cut is not None:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep quiet: the requests hold tokens."""


def _matches(host: str, pattern: str) -> bool:
    return host == pattern or (pattern.startswith("*.") and host.partition(".")[2] == pattern[2:])


def _certificates(hosts: tuple[str, ...], folder: Path) -> tuple[Path, Path]:
    """The authority's certificate, and the hosts' certificate with its key."""
    folder.mkdir(parents=True, exist_ok=True)
    authority_key, host_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    authority = (
        _unsigned(name, authority_key, name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, decipher_only=False, **usage),
            critical=True,
        )
        .sign(authority_key, hashes.SHA256())
    )
    host = (
        _unsigned(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test hosts")]), host_key, name, authority_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in hosts]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    (folder / "authority.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (folder / "hosts.pem").write_bytes(
        host.public_bytes(serialization.Encoding.PEM)
        + host_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "authority.pem", folder / "hosts.pem"


def _unsigned(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
