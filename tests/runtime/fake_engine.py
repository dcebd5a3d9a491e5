"""A stand-in for an engine: a real process with the routes that the runtime uses, which can be told to misbehave.

    fake_engine.py --port N [--delay S] [--say TEXT] [--exit CODE --after S] [--swallow N] [--child] [--segment NAME]
                   [--probe-error TEXT] [--flood LINES] [--busy] [--blocks N] [--chatter TEXT] [--answer TEXT]

POST /behave with {"do": "exit", "code": 0}, {"do": "kill"}, {"do": "freeze"} or {"do": "eat"} makes it do so, with
{"do": "lose", "sick": true} it loses its child, and is not well any more;
GET /slow?seconds=N answers after N seconds, and a SIGTERM waits for such requests.
"""

import argparse
import json
import mmap
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Engine:
    """What it was told, and what it does now."""

    options: argparse.Namespace
    in_flight = 0
    frozen = False
    child = 0
    sick = False
    terms = 0
    steps = 7
    counted_at = 0.0


ENGINE = Engine()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/health":
            self.answer(503 if ENGINE.sick else 200, "")
        elif path == "/load":
            self.answer(200, json.dumps({"server_load": 1 if works() else 0}))
        elif path == "/metrics":
            running = f"vllm:num_requests_running {1 if works() else ENGINE.in_flight}"
            blocks = f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{ENGINE.options.blocks}"}} 1.0'
            self.answer(200, f'vllm:iteration_tokens_total_count{{engine="0"}} {steps()}\n{running}\n{blocks}\n')
        elif path == "/slow":
            ENGINE.in_flight += 1
            time.sleep(float(query.partition("=")[2]))
            self.answer(200, "finished")
            ENGINE.in_flight -= 1
        elif path == "/env":
            self.answer(200, json.dumps(dict(os.environ)))
        else:
            self.answer(404, "")

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/behave":
            if body["do"] == "freeze":
                ENGINE.frozen = True
                self.answer(200, "")
            elif body["do"] == "eat":
                eaten = []
                while True:
                    eaten.append(b"x" * 2**24)
            elif body["do"] == "lose":
                os.kill(ENGINE.child, signal.SIGKILL)
                ENGINE.sick = body["sick"]
                self.answer(200, "")
            elif body["do"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                print(body.get("say", ""), flush=True)
                os._exit(body["code"])
        elif ENGINE.options.probe_error:
            self.answer(500, json.dumps({"error": {"message": ENGINE.options.probe_error}}))
        else:
            self.answer(200, json.dumps({"choices": [{"text": ENGINE.options.answer}]}))

    def answer(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def works() -> bool:
    return bool(ENGINE.frozen or ENGINE.options.busy)


def steps() -> int:
    """An engine that is busy has advanced since it was last asked, unless nobody could advance in between."""
    now = time.monotonic()
    if ENGINE.options.busy and now - ENGINE.counted_at < 2:
        ENGINE.steps += 1
    ENGINE.counted_at = now
    return ENGINE.steps


def on_term(*_: object) -> None:
    ENGINE.terms += 1
    if ENGINE.terms <= ENGINE.options.swallow:
        return

    def finish() -> None:
        while ENGINE.in_flight:
            time.sleep(0.02)
        os._exit(0)

    threading.Thread(target=finish, daemon=True).start()


def leave_child() -> None:
    """A process of our group that ignores SIGTERM, as an engine core that is orphaned."""
    ENGINE.child = os.fork()
    if ENGINE.child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        segment = hold_segment(ENGINE.options.segment) if ENGINE.options.segment else None
        while segment is None or segment:
            time.sleep(60)


def hold_segment(name: str) -> mmap.mmap:
    with Path("/dev/shm", name).open("w+b") as file:
        file.truncate(4096)
        return mmap.mmap(file.fileno(), 4096)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0)
    parser.add_argument("--chatter", default="", help="print this now and then while it starts")
    parser.add_argument("--say", default="Starting to load model fake...")
    parser.add_argument("--exit", type=int)
    parser.add_argument("--after", type=float, default=0)
    parser.add_argument("--swallow", type=int, default=0)
    parser.add_argument("--flood", type=int, default=0, help="print so many lines")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--segment", default="")
    parser.add_argument("--blocks", type=int, help="of the KV cache")
    parser.add_argument("--probe-error", default="")
    parser.add_argument("--answer", default="!")
    parser.add_argument("--once", default="", help="misbehave only while this file does not exist")
    ENGINE.options = parser.parse_args()
    signal.signal(signal.SIGTERM, on_term)
    print(ENGINE.options.say, file=sys.stderr, flush=True)
    for number in range(ENGINE.options.flood):
        print("line", number, "x" * 60)
    sys.stdout.flush()
    if ENGINE.options.child:
        leave_child()
    if ENGINE.options.exit is not None and not (ENGINE.options.once and Path(ENGINE.options.once).exists()):
        if ENGINE.options.once:
            Path(ENGINE.options.once).touch()
        time.sleep(ENGINE.options.after)
        os._exit(ENGINE.options.exit)
    over = time.monotonic() + ENGINE.options.delay
    while (left := over - time.monotonic()) > 0:
        if ENGINE.options.chatter:
            print(ENGINE.options.chatter, flush=True)
        time.sleep(min(left, 0.3) if ENGINE.options.chatter else left)
    server = ThreadingHTTPServer(("127.0.0.1", ENGINE.options.port), Handler)
    server.daemon_threads = True
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
