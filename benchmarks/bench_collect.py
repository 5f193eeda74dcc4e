"""How well collecting uses its server, and how it copes with a rate limiter in front of an unreliable one.

1. The embedded teacher: tokens a second of the collecting loop against a plain load generator (threads, urllib, the
   same requests, nothing stored) with its best number of parallel requests; each twice, in turn.
2. nginx (`limit_req`, 4 requests a second, 429) in front of a server that fails with 503 for 8 % of requests: the
   time against the ideal, and refusals for each answer. Skipped with a message if nginx is not installed.
3. Given texts: the embedded teacher writes answers (llama.cpp) and scores the same texts as KD_TEXT_FILE does (its
   weights in this process), by turns; tokens a minute of each.

Run: python benchmarks/bench_collect.py [--answers 64] [--limited 160] [--only given]; on a busy machine with
OMP_WAIT_POLICY=passive, because a stage's threads don't spin while they wait either.
"""

import argparse
import asyncio
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import truediv
from pathlib import Path
from typing import Any

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from bitnet_core.collecting.accounting import Accounts
from bitnet_core.collecting.asking import Asker
from bitnet_core.collecting.budget import Budget
from bitnet_core.collecting.journal import Journal, Spent
from bitnet_core.collecting.requests import Request
from bitnet_core.pretrained.choose import open_source
from bitnet_core.pretrained.llama import as_llama
from bitnet_core.pretrained.wanted import Wanted
from bitnet_core.prompts.prompt import Given, iter_prompts
from bitnet_core.settings.values import CollectOptions, LimitOptions, Sampling, TeacherOptions
from bitnet_core.teachers.embedded.files import ensure_files
from bitnet_core.teachers.embedded.server import EmbeddedServer
from bitnet_core.teachers.hf.chat import TransformersChat
from bitnet_core.teachers.hf.model import around
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.load import load_tokenizer

TOKENS = 64
OPTIONS = CollectOptions(sampling=Sampling(max_tokens=TOKENS, temperature=0.8, top_p=0.95), top_logprobs=20)
RATE, FAILING = 4, 0.08


def requests_for(count: int) -> list[Request]:
    prompts = list(iter_prompts(None, "collect.txt"))
    return [Request(n, prompts[n % len(prompts)], n, f"key{n}") for n in range(count)]


async def collected(
    chat: Any, pace: Pace | None, requests: list[Request], parallel: int, folder: Path, texts: list[Any] | None = None
) -> tuple[float, int]:
    """Seconds and tokens of the collecting loop, with its journal. The answers are appended to `texts`."""
    tokens = 0

    async def on_answer(request: Request, _entry: Any, result: Any) -> None:
        nonlocal tokens
        tokens += result.completion_tokens if result else 0
        if texts is not None and result:
            texts.append((request, Given(result.text, ends=result.finish_reason == "stop")))

    with Journal(folder / f"{random.getrandbits(32):x}.sqlite") as journal:
        accounts = Accounts(journal, Budget(LimitOptions(), None, Spent()))
        began = time.monotonic()
        async with chat:
            asker = Asker(Teacher(chat, None, pace), OPTIONS, accounts, on_answer)
            await asker.run(iter(requests), parallel, lambda: None)
        return time.monotonic() - began, tokens


def plain(server: EmbeddedServer, chat: OpenAIChat, requests: list[Request], parallel: int) -> float:
    """Tokens a second of a load generator that stores nothing."""

    def ask(request: Request) -> int:
        body = json.dumps(chat.request_body(request.chat_request(OPTIONS))).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {server.api_key}"}
        wire = urllib.request.Request(server.base_url + "/chat/completions", body, headers)
        with urllib.request.urlopen(wire) as reply:
            return int(json.loads(reply.read())["usage"]["completion_tokens"])

    began = time.monotonic()
    with ThreadPoolExecutor(parallel) as pool:
        tokens = sum(pool.map(ask, requests))
    return tokens / (time.monotonic() - began)


def against_a_load_generator(answers: int, folder: Path) -> None:
    requests = requests_for(answers)
    best: dict[str, float] = {"plain": 0.0, "collect": 0.0}
    with EmbeddedServer(ensure_files().gguf, parallel=4, context=8192) as server:

        def chat(pace: Pace | None = None) -> OpenAIChat:
            provider = PROVIDERS["embedded"]
            return OpenAIChat(provider, server.base_url, server.model, server.api_key, pace=pace)

        plain(server, chat(), requests[:4], 4)  # warm-up: the first requests wait for the weights
        found = {parallel: plain(server, chat(), requests, parallel) for parallel in (2, 4, 8)}
        parallel = max(found, key=lambda one: found[one])
        print("plain load generator, tokens/s: " + ", ".join(f"{n} at once {rate:.1f}" for n, rate in found.items()))
        for _ in range(2):
            pace = Pace(8)  # as the stage does: four slots and four requests in the queue
            seconds, tokens = asyncio.run(collected(chat(pace), pace, requests, 8, folder))
            best["collect"] = max(best["collect"], tokens / seconds)
            best["plain"] = max(best["plain"], plain(server, chat(), requests, parallel))
    best["plain"] = max(best["plain"], *found.values())
    share = best["collect"] / best["plain"]
    print(f"collect: {best['collect']:.1f} tokens/s, plain: {best['plain']:.1f}; ratio {share:.3f}")


def cpu_seconds(pid: int | None = None) -> float:
    """Of a process, by default this one: what other programs take meanwhile does not count."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def written_and_scored(answers: int, folder: Path) -> None:
    """Both read the same prompts; what is written is scored in the next turn."""
    requests, provider, options = requests_for(answers), PROVIDERS["embedded"], TeacherOptions()
    tokenizer = load_tokenizer(ensure_files().tokenizer_dir)
    model = as_llama(open_source(Wanted("", "")), torch.float32)
    rates: dict[str, list[float]] = {"writing": [], "scoring": []}
    costs: dict[str, list[float]] = {"writing": [], "scoring": []}

    def note(name: str, seconds: float, tokens: int, cpu_seconds: float) -> None:
        rates[name].append(60 * tokens / seconds)
        costs[name].append(tokens / cpu_seconds)

    for _ in range(3):
        texts: list[Any] = []
        with EmbeddedServer(ensure_files().gguf, parallel=4, context=8192) as server:
            pace, before = Pace(8), cpu_seconds() + cpu_seconds(server.pid)
            writer = OpenAIChat(provider, server.base_url, server.model, server.api_key, pace=pace)
            seconds, tokens = asyncio.run(collected(writer, pace, requests, 8, folder, texts))
            note("writing", seconds, tokens, cpu_seconds() + cpu_seconds(server.pid) - before)
        given = [replace(one, prompt=replace(one.prompt, given=text)) for one, text in texts]
        before = cpu_seconds()
        scorer = TransformersChat(provider, server.model, around(model, tokenizer, options), parallel=4)
        seconds, tokens = asyncio.run(collected(scorer, None, given, 8, folder))
        note("scoring", seconds, tokens, cpu_seconds() - before)
    for what, by_turn in (("minute", rates), ("CPU second", costs)):
        for name, found in by_turn.items():
            print(f"{name}, tokens a {what} by turn: " + ", ".join(f"{rate:,.0f}" for rate in found))
        low, median, high = sorted(map(truediv, by_turn["scoring"], by_turn["writing"]))
        print(f"scoring makes {median:.2f} times as many a {what} (median of three turns; {low:.2f} to {high:.2f})")


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    draw = random.Random(1)
    lock = threading.Lock()
    taken = failed = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with Upstream.lock:
            Upstream.taken += 1
            fails = Upstream.draw.random() < FAILING
            Upstream.failed += fails
        token = {"token": "A", "bytes": [65], "logprob": -0.1}
        choice = {
            "message": {"content": "A"},
            "finish_reason": "stop",
            "logprobs": {"content": [{**token, "top_logprobs": [token]}]},
        }
        usage = {"prompt_tokens": 5, "completion_tokens": 1}
        body = b"busy" if fails else json.dumps({"choices": [choice], "usage": usage}).encode()
        self.send_response(503 if fails else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Silence."""


def behind_a_limiter(answers: int, folder: Path, retry_after: str) -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        print("no nginx here (apt-get install nginx): the part with the rate limiter is skipped")
        return
    Upstream.taken = Upstream.failed = 0
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conf = folder / "nginx.conf"
    conf.write_text(f"""
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  limit_req_zone $binary_remote_addr zone=all:1m rate={RATE}r/s;
  limit_req_status 429;
  server {{
    listen 127.0.0.1:{port};
    location / {{ limit_req zone=all; proxy_pass http://127.0.0.1:{upstream.server_address[1]};
      error_page 429 = @limited; }}
    location @limited {{ {retry_after} return 429; }}
  }}
}}
""")
    process = subprocess.Popen([nginx, "-c", str(conf), "-p", str(folder)], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        pace = Pace(32)
        chat = OpenAIChat(PROVIDERS["custom"], f"http://127.0.0.1:{port}", "m", None, pace=pace)
        seconds, _ = asyncio.run(collected(chat, pace, requests_for(answers), 32, folder))
    finally:
        process.terminate()
        process.wait()
        upstream.shutdown()
    ideal = Upstream.taken / RATE
    name = "with Retry-After: 1" if retry_after else "without Retry-After"
    print(f"behind {RATE} requests/s, {Upstream.failed} of {Upstream.taken} failing, {name}:")
    print(f"  {seconds:.1f} s, ideal {ideal:.1f} s, ratio {seconds / ideal:.2f}")
    print(f"  {pace.refusals} refusals, {pace.refusals / answers:.2f} an answer")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, default=64)
    parser.add_argument("--limited", type=int, default=160)
    parser.add_argument("--only", choices=["given"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        written_and_scored(arguments.answers, Path(folder))
        if arguments.only:
            return
        behind_a_limiter(arguments.limited, Path(folder), "")
        behind_a_limiter(arguments.limited, Path(folder), "add_header Retry-After 1 always;")
        against_a_load_generator(arguments.answers, Path(folder))


if __name__ == "__main__":
    main()
