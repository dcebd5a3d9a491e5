"""A stand-in for an engine: a real process with the routes that the runtime uses, which can be told to misbehave.

    fake_engine.py --port N [--delay S] [--say TEXT] [--exit CODE --after S] [--swallow N] [--child] [--segment NAME]
                   [--probe-error TEXT] [--hang]

POST /behave with {"do": "exit", "code": 0} or {"do": "kill"} or {"do": "freeze"} makes it do so at run time;
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

OPTIONS: argparse.Namespace
in_flight = 0
frozen = False
terms = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        global in_flight
        path, _, query = self.path.partition("?")
        if path == "/health":
            self.answer(200, "")
        elif path == "/load":
            self.answer(200, json.dumps({"server_load": 1 if frozen else 0}))
        elif path == "/metrics":
            self.answer(200, f'vllm:iteration_tokens_total_count{{engine="0"}} 7\nvllm:num_requests_running {in_flight}\n')
        elif path == "/slow":
            in_flight += 1
            time.sleep(float(query.partition("=")[2]))
            self.answer(200, "finished")
            in_flight -= 1
        elif path == "/env":
            self.answer(200, json.dumps(dict(os.environ)))
        else:
            self.answer(404, "")

    def do_POST(self) -> None:
        global frozen
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/behave":
            if body["do"] == "freeze":
                frozen = True
                self.answer(200, "")
            elif body["do"] == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                print(body.get("say", ""), flush=True)
                os._exit(body["code"])
        elif OPTIONS.probe_error:
            self.answer(500, json.dumps({"error": {"message": OPTIONS.probe_error}}))
        else:
            self.answer(200, json.dumps({"choices": [{"text": "!"}]}))

    def answer(self, status: int, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def on_term(*_: object) -> None:
    global terms
    terms += 1
    if terms <= OPTIONS.swallow:
        return

    def finish() -> None:
        while in_flight:
            time.sleep(0.02)
        os._exit(0)

    threading.Thread(target=finish, daemon=True).start()


def leave_child() -> None:
    """A process of our group that ignores SIGTERM, as an engine core that is orphaned."""
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        segment = hold_segment(OPTIONS.segment) if OPTIONS.segment else None
        while segment is None or segment:
            time.sleep(60)


def hold_segment(name: str) -> mmap.mmap:
    with Path("/dev/shm", name).open("w+b") as file:
        file.truncate(4096)
        return mmap.mmap(file.fileno(), 4096)


def main() -> None:
    global OPTIONS
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, default=0)
    parser.add_argument("--say", default="Starting to load model fake...")
    parser.add_argument("--exit", type=int)
    parser.add_argument("--after", type=float, default=0)
    parser.add_argument("--swallow", type=int, default=0)
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--segment", default="")
    parser.add_argument("--probe-error", default="")
    parser.add_argument("--once", default="", help="misbehave only while this file does not exist")
    OPTIONS = parser.parse_args()
    signal.signal(signal.SIGTERM, on_term)
    print(OPTIONS.say, file=sys.stderr, flush=True)
    if OPTIONS.child:
        leave_child()
    if OPTIONS.exit is not None and not (OPTIONS.once and Path(OPTIONS.once).exists()):
        if OPTIONS.once:
            Path(OPTIONS.once).touch()
        time.sleep(OPTIONS.after)
        os._exit(OPTIONS.exit)
    time.sleep(OPTIONS.delay)
    server = ThreadingHTTPServer(("127.0.0.1", OPTIONS.port), Handler)
    server.daemon_threads = True
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
