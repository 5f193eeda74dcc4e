"""A server in the hub's place names files of this machine: nothing is written outside the hub's cache."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.tokenizer.hub import download

SHA, ETAG = "a" * 40, f'"{"c" * 40}"'


class _Mirror(BaseHTTPRequestHandler):
    said: dict[str, str]

    def do_GET(self) -> None:
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
