"""Plan, serve, ask and stop on this machine's CPU: a model comes in (or none), what a newcomer should see goes out.

Run it as scripts/demo, which installs what it needs. It uses only what any user has: the `aim-engine` command, the
health sidecar and the official OpenAI client.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import serving, tiny_model

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".demo"
AIM_ENGINE = str(Path(sys.executable).with_name("aim-engine"))
QUESTION = "Who are you?"

console = Console(highlight=False)


class DemoError(Exception):
    """Something did not go as it should; `code` is what the demo exits with."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What is to be shown."""

    model: str
    is_random: bool
    port: int
    health_port: int
    keep: bool
    state_dir: str

    @property
    def words(self) -> list[str]:
        """What plan and serve are asked alike."""
        ports = ["--port", str(self.port), "--health-port", str(self.health_port)]
        return [self.model, "--hardware", "cpu", "--host", "127.0.0.1", *ports]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def main() -> int:
    options = _parse()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        _show(_prepare(options))
    except KeyboardInterrupt:
        _title("stopped", "interrupted; nothing is left running")
        return 130
    except DemoError as error:
        _title("failed", str(error))
        return error.code
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a Hugging Face id or a model folder")
    parser.add_argument("--keep", action="store_true", help="leave the server running")
    parser.add_argument("--port", type=int, help="the port of the OpenAI API (default: a free one)")
    return parser.parse_args()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _prepare(options: argparse.Namespace) -> Demo:
    port, health_port = serving.free_ports(2)
    if options.port is not None and not 1 <= options.port <= 65535:
        raise DemoError(f"{options.port} is no port; name one from 1 to 65535, or none", 10)
    if options.port and serving.is_open(options.port):
        raise DemoError(f"port {options.port} is in use; name another one, or none", 10)
    FOLDER.mkdir(exist_ok=True)
    return Demo(
        model=options.model or _short(FOLDER / "tiny-random-qwen3"),
        is_random=options.model is None,
        port=options.port or port,
        health_port=health_port,
        keep=options.keep,
        state_dir=tempfile.mkdtemp(prefix="aim-demo-"),
    )


def _show(demo: Demo) -> None:
    if demo.is_random:
        os.chdir(ROOT)
        _title("1 model", "a tiny Qwen3 with random weights, made here")
        if tiny_model.main([demo.model]) != 0:
            raise DemoError("the model could not be made")
    else:
        _title("1 model", demo.model)
    _title("2 plan", shlex.join(["aim-engine", "plan", *demo.words]))
    plan = subprocess.run([AIM_ENGINE, "plan", *demo.words], env=_environment(demo), check=False)
    if plan.returncode != 0:
        raise DemoError("there is no plan; the reason is above", plan.returncode)
    with _server(demo) as server:
        _wait_until_ready(demo, server)
        _describe(demo)
        served_name = _ask(demo)
        if demo.keep:
            _say_how_to_go_on(demo, server, served_name)


def _environment(demo: Demo) -> dict[str, str]:
    """Ours; for the model made here without any network, so that the demo runs where there is none."""
    ours = {**os.environ, "AIM_STATE_DIR": demo.state_dir}
    return {**ours, "AIM_OFFLINE": "1"} if demo.is_random else ours


@contextmanager
def _server(demo: Demo) -> Iterator[serving.Server]:
    """`aim-engine serve` for as long as the block lasts; with --keep for longer, unless the block fails."""
    argv = [AIM_ENGINE, "serve", *demo.words]
    _title("3 serve", shlex.join(["aim-engine", *argv[1:]]))
    log = FOLDER / f"serve-{demo.port}.log"
    server = serving.start(argv, log=log, env=_environment(demo), outlives_us=demo.keep)
    succeeded = False
    try:
        _say(f"pid {server.process.pid}, log {_short(log)}")
        yield server
        succeeded = True
    finally:
        if not (demo.keep and succeeded):
            _end(demo, server, expect_success=succeeded)


def _end(demo: Demo, server: serving.Server, *, expect_success: bool) -> None:
    with _progress("stopping", lambda: "") as show, ThreadPoolExecutor(1) as stopper:
        stopped = stopper.submit(server.stop)
        while not stopped.done():
            show()
            time.sleep(0.25)
        status = stopped.result()
        left = server.end_leftovers()
    shutil.rmtree(demo.state_dir, ignore_errors=True)
    if left:
        raise DemoError("the server left processes behind, which were ended now: " + "; ".join(left))
    for port in (demo.port, demo.health_port):
        if not serving.wait_until_gone(port, 2):
            raise DemoError(f"port {port} is still open")
    if not expect_success:
        return
    if status != 0:
        raise DemoError(f"the server ended with exit code {status} instead of 0\n{server.log_tail(15)}", status)
    _title("5 stop", "exit code 0; no process is left, both ports are closed")
    _say(
        "next: scripts/demo --keep leaves it running; aim-engine plan Qwen/Qwen3-32B --hardware MI300X:8 plans for GPUs"
    )


def _wait_until_ready(demo: Demo, server: serving.Server) -> None:
    started = time.monotonic()
    phase = "starting"

    def current_phase() -> str:
        return phase

    with _progress("waiting until it is ready", current_phase) as show:
        while serving.ask(demo.health_port, "/health/ready")[0] != 200:
            if server.has_ended:
                raise DemoError(_why(server), max(server.process.returncode, 1))
            status, answer = serving.ask(demo.health_port, "/status")
            if status and isinstance(answer, dict):
                phase = str(answer.get("phase", phase))
            show()
            time.sleep(0.25)
    _say(f"ready after {time.monotonic() - started:.1f} s")


def _why(server: serving.Server) -> str:
    """What `aim-engine serve` said last, for people: its message and hint, and the end of its log."""
    words = server.last_words()
    said = "\n".join(filter(None, [words.get("message"), *words.get("details", []), words.get("hint")]))
    return f"{said or 'the server ended'}\n\nThe end of {_short(server.log)}:\n{server.log_tail(15)}"


def _describe(demo: Demo) -> None:
    """The plan in one line, and what the sidecar says, both from the running server."""
    plan = serving.ask(demo.health_port, "/plan")[1]
    if isinstance(plan, dict):
        evidence = (plan.get("evidence") or {}).get("level")
        _say(
            f"plan    recipe {plan.get('recipe_id')}, {plan.get('backend')}, {plan.get('precision')},"
            f" context {plan.get('max_model_len')}, evidence {evidence}"
        )
    for path in ("/health/live", "/health/ready"):
        status, answer = serving.ask(demo.health_port, path)
        said = [f"{name} {value}" for name, value in answer.items() if value] if isinstance(answer, dict) else []
        _say(f"health  {path} {status} {', '.join(said)}")


def _ask(demo: Demo) -> str:
    """Ask the question through the official client; the name that the model is served under."""
    import openai

    # trust_env: a configured proxy is not for 127.0.0.1
    client = openai.OpenAI(
        base_url=demo.url,
        api_key=os.environ.get("AIM_API_KEY", "none"),
        max_retries=0,
        timeout=120,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )
    _title("4 ask", f"openai.OpenAI(base_url={demo.url!r}).chat.completions.create(...)")
    try:
        model = client.models.list().data[-1].id  # the shortest of a folder's names is the last
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": QUESTION}], max_tokens=24
        )
    except openai.OpenAIError as error:
        raise DemoError(f"the question was not answered: {error}", 61) from error
    _say(f"question  {QUESTION}")
    _say(f"answer    {answer.choices[0].message.content!r}")
    if demo.is_random:
        _say("          (noise, because the weights are random: what this shows is that the whole way works)")
    return model


def _say_how_to_go_on(demo: Demo, server: serving.Server, model: str) -> None:
    _title("5 keep", "the server goes on running")
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 24})
    key = ' -H "Authorization: Bearer $AIM_API_KEY"' if "AIM_API_KEY" in os.environ else ""
    _say(f"ask     curl {demo.url}/chat/completions -H 'Content-Type: application/json'{key} -d {shlex.quote(body)}")
    _say(f"health  curl http://127.0.0.1:{demo.health_port}/status")
    _say(f"stop    kill {server.process.pid}")


# --- showing ---------------------------------------------------------------------------------------------------------


def _title(name: str, text: str) -> None:
    console.print(f"[bold]{name:<8}[/] {escape(text)}", soft_wrap=True)


def _say(text: str) -> None:
    console.print("  " + escape(text), soft_wrap=True)


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@contextmanager
def _progress(text: str, phase: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """A spinner with the elapsed time on a terminal; elsewhere a line for each new phase. Call what it yields often."""
    started = time.monotonic()
    said = ""

    def line() -> str:
        return f"{text}  {phase()}  {time.monotonic() - started:.0f} s"

    if console.is_terminal and not console.is_dumb_terminal:
        with console.status(escape(line())) as status:
            yield lambda: status.update(escape(line()))
        return

    def show() -> None:
        nonlocal said
        if phase() != said:
            said = phase()
            _say(line())

    yield show


if __name__ == "__main__":
    sys.exit(main())
