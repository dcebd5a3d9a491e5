"""Real containers for the tests: options and a command in; a container to look at, talk to and end out."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# of everything that a run makes: two at once on one engine need two (TEST_MARK=mine scripts/test image)
LABEL = os.environ.get("TEST_MARK", "aim-engine-test")
START_SECONDS = 150.0  # of which 25 are usual on two cores


def docker(
    *arguments: str, check: bool = True, seconds: float = 120, **options: Any
) -> subprocess.CompletedProcess[str]:
    """One docker command, with both streams kept apart."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=seconds, check=False, **options
    )
    if check and done.returncode != 0:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def why_no_engine() -> str | None:
    """None when a Docker Engine answers, else why not."""
    try:
        asked = docker("version", check=False, seconds=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return asked.stderr.strip() or "it says nothing" if asked.returncode else None


class Container:
    """A container that `docker run --detach` started."""

    def __init__(self, image: str, *command: str, options: Sequence[str] = ()) -> None:
        self.started = time.monotonic()
        self.id = docker("run", "--detach", "--label", LABEL, *options, image, *command).stdout.strip()

    def inspect(self, template: str) -> Any:
        return json.loads(docker("inspect", "--format", f"{{{{json {template}}}}}", self.id).stdout)

    @property
    def is_running(self) -> bool:
        return bool(self.inspect(".State.Running"))

    def logs(self) -> str:
        """Both streams, merged as `docker logs` shows them to a terminal."""
        return subprocess.run(["docker", "logs", self.id], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=60, check=True).stdout  # fmt: skip

    def words(self) -> dict[str, Any]:
        """The last words: the last line on stderr."""
        stderr = docker("logs", self.id).stderr.strip()
        found = json.loads(stderr.splitlines()[-1])
        assert isinstance(found, dict)
        return found

    # --- talking to it -----------------------------------------------------------------------------------------------

    def url(self, port: int, scheme: str = "http") -> str:
        """Where the host reaches a published port."""
        address = docker("port", self.id, str(port)).stdout.splitlines()[0]
        return f"{scheme}://{address}"

    def get(self, path: str, *, port: int = 8080, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """GET from the host; (0, reason) while nobody answers."""
        request = urllib.request.Request(self.url(port) + path, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def execute(self, *command: str, user: str | None = None) -> str:
        """Run a command inside, and return what it prints."""
        return docker("exec", *(("--user", user) if user else ()), self.id, *command).stdout

    def python(self, code: str) -> str:
        return self.execute("python3", "-c", code)

    def ask_inside(self, path: str, *, port: int = 8080, body: Any = None) -> tuple[int, str]:
        """The same as `get`, for a container without a network."""
        code = (
            "import json,sys,urllib.request as u,urllib.error as e\n"
            f"r = u.Request('http://127.0.0.1:{port}{path}', {json.dumps(body).encode() if body else None!r},"
            " {'Content-Type': 'application/json'})\n"
            "try: a = u.urlopen(r, timeout=30); print(a.status); print(a.read().decode())\n"
            "except e.HTTPError as x: print(x.code); print(x.read().decode())\n"
            "except OSError as x: print(0); print(x)\n"
        )
        status, _, text = self.python(code).partition("\n")
        return int(status), text

    # --- waiting -----------------------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.is_running, f"{what}: it has ended\n{self.logs()[-3000:]}"
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s\n{self.logs()[-3000:]}"
            time.sleep(0.2)

    def until_ready(self) -> float:
        """Seconds from docker run to ready."""
        has_network = self.inspect(".HostConfig.NetworkMode") != "none"
        ask = self.get if has_network else self.ask_inside
        self.until(lambda: ask("/health/ready")[0] == 200, START_SECONDS, "waiting until it is ready")
        return time.monotonic() - self.started

    def wait(self, seconds: float = 60) -> int:
        """The exit code, which `docker inspect` then repeats."""
        docker("wait", self.id, seconds=seconds)
        return int(self.inspect(".State.ExitCode"))


def end_all() -> None:
    """Remove every container that these tests started, and the volumes that they made."""
    for kind, listing, removal in (("container", ("ps", "--all"), ("rm", "--force", "--volumes")),
                                   ("volume", ("volume", "ls"), ("volume", "rm", "--force"))):  # fmt: skip
        found = docker(*listing, "--quiet", "--filter", f"label={LABEL}").stdout.split()
        if found:
            print(f"removing {len(found)} {kind}s", file=sys.stderr)
            docker(*removal, *found)


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))
