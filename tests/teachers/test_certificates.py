"""TLS that fails is called what it is: a certificate that is not trusted, or no TLS at all."""

import asyncio
import datetime as dt
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bitnet_core.errors import BitnetError
from bitnet_core.storage.clients.http import Http
from bitnet_core.teachers.http.client import JsonClient
from bitnet_core.teachers.http.retries import Failure, Unreachable

NOW = dt.datetime.now(dt.UTC)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"


def certificate(folder: Path, *, host: str = "127.0.0.1", days: int = 1) -> Path:
    """A self-signed certificate and its key in one file; expired if `days` is negative."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    alternative = x509.DNSName(host) if host.isalpha() else x509.IPAddress(ip_address(host))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - dt.timedelta(days=9))
        .not_valid_after(NOW + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}{days}.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(pem))
    return path


@asynccontextmanager
async def serving(pem: Path | None) -> AsyncIterator[str]:
    """The https address of a server with this certificate, or of one that knows no TLS."""
    tls = None
    if pem is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(pem)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await (reader.readuntil(b"\r\n\r\n") if tls else reader.read(16))
            writer.write(ANSWER)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class Watched:
    def __init__(self) -> None:
        self.failures: list[Failure] = []

    async def sent(self) -> None:
        pass

    async def failed(self, how: Failure) -> None:
        self.failures.append(how)


@pytest.mark.parametrize(
    ("host", "days", "trusted", "reason"),
    [
        ("127.0.0.1", 1, False, "self-signed certificate"),
        ("127.0.0.1", -1, True, "certificate has expired"),
        ("localhost", 1, True, "IP address mismatch, certificate is not valid for '127.0.0.1'."),
        ("10.0.0.1", 1, True, "IP address mismatch"),
    ],
)
async def test_a_certificate_that_is_not_trusted(
    host: str, days: int, trusted: bool, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path, host=host, days=days)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    watched = Watched()
    async with serving(pem) as address, JsonClient(address) as client:
        with pytest.raises(Unreachable) as caught:
            await client.post("/v1", {}, watch=watched)
        with pytest.raises(Unreachable):
            await client.stream("/v1", {}, print)
    assert str(caught.value).startswith(f"{address} can't be reached (its certificate is not trusted: {reason}")
    assert "in SSL_CERT_FILE." in str(caught.value)
    assert watched.failures == [Failure.UNSENT]  # another attempt would see the same certificate


async def test_the_authority_in_ssl_cert_file_is_trusted_on_this_machine_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    async with serving(pem) as address, JsonClient(address.replace("https", "HTTPS")) as client:
        assert (await client.post("/v1", {})).code == 200


async def test_a_server_without_tls_is_not_blamed_for_its_certificate() -> None:
    async with serving(None) as address, JsonClient(address, first_wait=0.001) as client:
        with pytest.raises(Unreachable, match=r"no TLS connection: .*; check the address") as caught:
            await client.post("/v1", {}, attempts=2)
    assert "certificate" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_wrong_ssl_cert_file_is_named(content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(BitnetError, match=r"The certificates of SSL_CERT_FILE .*; correct the variable"):
        JsonClient("https://127.0.0.1:1")


@pytest.mark.parametrize(
    ("proxy", "why"),
    [
        ("http://user:canary@[::1", "it is not a proxy's address"),
        ("http://host:port", "it is not a proxy's address"),
        ("ftp://127.0.0.1:1", "it is not a proxy's address"),
        ("socks5://user:canary@127.0.0.1:1", "SOCKS is not supported"),
    ],
)
def test_a_proxy_that_can_not_be_used_is_named(proxy: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    for make in (
        lambda: JsonClient("https://api.example.com"),
        lambda: Http("S3")._client("https://api.example.com"),
    ):
        with pytest.raises(BitnetError, match=re.escape(f"can't be used ({why}); set it to")) as caught:
            make()
        assert "canary" not in str(caught.value)
