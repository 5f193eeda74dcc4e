"""A server in the hub's place names files of this machine: nothing is written outside the hub's cache."""

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer import hub_answers
from bitnet_core.tokenizer.hub import download

_CHUNK = 1 << 10
SHA, ETAG = "a" * 40, f'"{"c" * 40}"'


class _Mirror(BaseHTTPRequestHandler):
    said: dict[str, str]

    def do_GET(self) -> None:
        if (does := self.said.get(f"does {self.command} {'api' if '/api/' in self.path else 'file'}")) is not None:
            _MISDEEDS[does](self)
        else:
            self.answer()

    def answer(self) -> None:
        self.said["asked"] = self.said.get("asked", "") + f"{self.path} {self.headers['User-Agent']}\n"
        api = self.path.startswith("/api/")
        listed = [{"type": "file", "path": "tokenizer.json", "size": 2, "oid": "b" * 40}]
        about = {"id": "a/b", "sha": self.said["sha"], "siblings": [{"rfilename": "tokenizer.json"}]}
        body = json.dumps(listed if "/tree/" in self.path else about).encode() if api else b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if not api:
            self.send_header("X-Repo-Commit", self.said["commit"])
            self.send_header("ETag", self.said["etag"])
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def _endless(mirror: _Mirror, *, before: bytes = b"", coding: str = "") -> None:
    mirror.send_response(200)
    mirror.send_header("ETag", ETAG)
    mirror.send_header("X-Repo-Commit", SHA)
    if coding:
        mirror.send_header("Content-Encoding", coding)
    mirror.end_headers()
    mirror.wfile.write(before)
    chunk = gzip.compress(bytes(1 << 23)) if coding else bytes(1 << 20)
    for _ in range(1 << 12):
        mirror.wfile.write(chunk)


def _headers(mirror: _Mirror, status: int, **headers: str) -> None:
    mirror.send_response(status)
    for name, value in headers.items():
        mirror.send_header(name.replace("_", "-"), value)
    mirror.end_headers()


def _sends(mirror: _Mirror, body: bytes) -> None:
    _headers(mirror, 200, Content_Length=str(len(body)))
    mirror.wfile.write(body)


def _next_page(mirror: _Mirror) -> None:
    body = b"[]"
    _headers(mirror, 200, Content_Length="2", Link=f'<http://{mirror.headers["Host"]}{mirror.path}>; rel="next"')
    mirror.wfile.write(body)


def _piecewise(mirror: _Mirror) -> None:
    """One more piece of the file each time, and then the connection breaks."""
    told = str(10 * _CHUNK + 1)  # never reached exactly, where the library would end
    if mirror.command == "HEAD":
        _headers(mirror, 200, Content_Length=told, ETag=ETAG, X_Repo_Commit=SHA)
    else:
        _headers(mirror, 206 if mirror.headers["Range"] else 200, Content_Length=told)
        mirror.wfile.write(bytes(_CHUNK))


_MISDEEDS: dict[str, Callable[[_Mirror], object]] = {
    "endless": _endless,
    "bomb": lambda mirror: _endless(mirror, coding="gzip"),
    "endless list": lambda mirror: _endless(mirror, before=b"[" + b" " * 100),
    "page": lambda mirror: _sends(mirror, b"<html>Log in</html>"),
    "number": lambda mirror: _sends(mirror, b"5"),
    "nothing": lambda mirror: _sends(mirror, b""),
    "object": lambda mirror: _sends(mirror, b'{"a": [1]}'),
    "pages": lambda mirror: _next_page(mirror) if "/tree/" in mirror.path else mirror.answer(),
    "a petabyte": lambda mirror: _headers(mirror, 200, Content_Length=str(10**15), ETag=ETAG, X_Repo_Commit=SHA),
    "endless error": lambda mirror: (_headers(mirror, 404), mirror.wfile.write(bytes(1 << 26))),
    "wait": lambda mirror: _headers(mirror, 429, Retry_After="999999", Content_Length="0"),
    "wait for a rate": lambda mirror: _headers(mirror, 429, RateLimit='"api";r=0;t=86400', Content_Length="0"),
    "silence": lambda _: threading.Event().wait(5),
    "pieces": _piecewise,
}


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What a mirror says, to be changed; the hub's cache is in `tmp_path / "1" / "2"`."""
    said = {"sha": SHA, "commit": SHA, "etag": ETAG}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("_", (_Mirror,), {"said": said})) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "1" / "2"))
        yield said
        server.shutdown()


def _download() -> Path:
    return download("a/b", ["tokenizer.json"], kind="tokenizer", fix="correct TOKENIZER_NAME")


def test_a_mirrors_file_is_downloaded(said: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the hub is not told of this machine, nor asked for which variables of the environment to look."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", False)
    monkeypatch.setattr("huggingface_hub.utils._detect_agent._registry", None)
    monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", str(tmp_path / "1" / "none"))
    assert (_download() / "tokenizer.json").read_text() == "{}"
    assert [one.name for one in tmp_path.iterdir()] == ["1"]
    assert "/resolve/" in said["asked"]
    assert "harness" not in said["asked"]
    assert "torch/" not in said["asked"]


@pytest.mark.parametrize("what", ["sha", "commit", "etag"])
@pytest.mark.parametrize("name", ["../../../../evil", "/ABSOLUTE/evil", "..", "a/b", "x\\..\\y", "c" * 300])
def test_a_hash_that_leads_out_of_the_cache_is_refused(
    what: str, name: str, said: dict[str, str], tmp_path: Path
) -> None:
    name = name.replace("/ABSOLUTE", str(tmp_path))
    said[what] = f'"{name}"' if what == "etag" else name
    with pytest.raises(BitnetError, match=r"127\.0\.0\.1 gives .* as the hash of a file, and it is none"):
        _download()
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("of", "does", "sentence"),
    [
        ("GET file", "endless", "sends more than it announced, or than anybody needs; use another HF_ENDPOINT"),
        ("GET file", "bomb", "sends more than it announced"),
        ("GET file", "endless error", "sends more than it announced"),
        ("GET file", "a petabyte", "free, and the hub sends 1000 TB; free space there, or set HF_HOME"),
        ("GET file", "wait", "takes no requests for 11d"),
        ("GET file, HEAD file", "pieces", "sends more than it announced"),
        ("GET api", "endless list", "sends more than it announced"),
        ("GET api", "bomb", "sends more than it announced"),
        ("GET api", "pages", "sends more than it announced"),
        ("GET api", "endless error", "sends more than it announced"),
        ("GET api", "wait", "takes no requests for 11d"),
        ("GET api", "wait for a rate", "takes no requests for 24h"),
        ("GET api", "page", "answers with something that is not the hub's; check that HF_ENDPOINT is right"),
        ("GET api", "number", "answers with something that is not the hub's"),
        ("GET api", "nothing", "answers with something that is not the hub's"),
        ("GET api", "object", "answers with something that is not the hub's"),
        ("GET api", "silence", "can't be downloaded from the hub"),
    ],
)
def test_a_mirror_is_bounded_in_what_it_sends_and_in_time(
    of: str, does: str, sentence: str, said: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_answers, "_SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(hub_answers, "_MOST_API_BYTES", 1 << 20)
    monkeypatch.setattr(hub_answers, "_MOST_API_ANSWERS", 20)
    monkeypatch.setattr("time.sleep", lambda _, real=time.sleep: real(0.01))
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", _CHUNK)
    said.update(dict.fromkeys([f"does {one}" for one in of.split(", ")], does))
    with pytest.raises(BitnetError, match=sentence):
        _download()
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 1 << 21
