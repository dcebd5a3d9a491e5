"""A Docker Engine of the tests' own: a second dockerd with its own data, socket, pid and network namespace, which may
be killed, filled up and told to stop everything; and an image of a few files that runs in it.

Never without that namespace: a dockerd that is told to have no bridge removes the host's docker0, which is another
engine's (moby/moby, daemon/daemon_unix.go, removeDefaultBridgeInterface).
"""

from __future__ import annotations

import ctypes
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

IMAGE = "registry.invalid/aim-engine-small:1"
# It serves nothing. Its one process ends when asked to, unless it is told to be stubborn.
_ENTRY = """trap '[ -n "$STUBBORN" ] || exit 0' TERM
echo started
while :; do sleep 0.1; done
"""
_PROGRAMS = ("sh", "sleep", "cat")
_IN_A_NETWORK_OF_ITS_OWN = (
    "unshare", "--net", "sh", "-c",
    '[ "$(readlink /proc/self/ns/net)" != "$0" ] && ip link set lo up && exec dockerd "$@"',
)  # fmt: skip
_START_SECONDS = 40.0
_STOP_SECONDS = 30.0


def why_none() -> str | None:
    """None where one can be started, else why not."""
    if os.getuid() != 0:
        return "dockerd needs root"
    for program in ("dockerd", "docker", "unshare", "ip"):
        if not shutil.which(program):
            return f"there is no {program}"
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        return "no network namespace can be made"
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists() and not Path("/sys/fs/cgroup/devices").exists():
        return "no control groups are mounted"
    return None


def network_of(process: str) -> str:
    """Which network namespace a process is in."""
    return str(Path(f"/proc/{process}/ns/net").readlink())


class PrivateEngine:
    """One dockerd, with everything it writes below a folder."""

    def __init__(self, folder: Path, *, data: Path | None = None) -> None:
        self._folder, self._data = folder, data or folder / "data"
        self.host = f"unix://{folder / 'docker.sock'}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Ours, without settings of AIM Engine, and with the way to this engine."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("AIM_", "DOCKER_", "HF_"))}
        return {**kept, "DOCKER_HOST": self.host, "XDG_STATE_HOME": str(self._folder / "state")}

    @property
    def state(self) -> Path:
        return self._folder / "state"

    def start(self) -> None:
        """Start it, or start it again, and wait until it answers."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        # its containerd died with it, and where process 1 reaps nobody still looks alive to a new dockerd
        (self._folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_IN_A_NETWORK_OF_ITS_OWN, network_of("self"), "--host", self.host, "--data-root", self._data,
                 "--exec-root", self._folder / "exec", "--pidfile", self._folder / "pid", "--bridge", "none",
                 "--iptables=false", "--ip6tables=false"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        while self.docker("version", check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"dockerd does not start: {(self._folder / 'log').read_text()[-1500:]}")
            time.sleep(0.1)

    def docker(self, *words: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(["docker", *words], env=self.environment, capture_output=True, text=True, timeout=60,
                              check=False, **options)  # type: ignore[call-overload]  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        found: subprocess.CompletedProcess[str] = done
        return found

    def network(self) -> str:
        """Which network namespace it is in."""
        assert self._process
        return network_of(str(self._process.pid))

    def listening(self) -> socket.socket:
        """A socket that listens on the loopback of its network, not of ours."""
        assert self._process
        place = Path(f"/proc/{self._process.pid}/ns/net")

        def listen() -> socket.socket:  # a thread can be in another network than its process (setns(2))
            with place.open() as network:
                if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), 0):
                    raise OSError(ctypes.get_errno(), "setns")
            found = socket.socket()
            found.bind(("127.0.0.1", 0))
            found.listen()
            return found

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(listen).result()

    def kill(self) -> None:
        """As a crash does: what it started goes on without it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def ensure(self) -> None:
        """Start it where it does not run."""
        if self._process is None:
            self.start()

    def clear(self) -> None:
        """Remove every container, and the files of secrets."""
        found = self.docker("ps", "--all", "--quiet").stdout.split()
        if found:
            self.docker("rm", "--force", "--volumes", *found)
        shutil.rmtree(self.state, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def end(self) -> None:
        """Whatever state it is in: nothing of it is left."""
        self.stop()
        for pid in self._left_behind():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for place in sorted(self._mounted(), reverse=True):
            subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _left_behind(self) -> list[int]:
        """What a dockerd that was killed had started: its containerd, the shims, and the processes in containers."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if f"{self._folder}/exec/".encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        with suppress(OSError):
            children = {pid: int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
                        for pid in (int(entry.name) for entry in Path("/proc").glob("[0-9]*"))}  # fmt: skip
            found += [pid for pid, parent in children.items() if parent in found]
        return found

    def _mounted(self) -> list[str]:
        lines = Path("/proc/mounts").read_text().splitlines()
        return [line.split()[1] for line in lines if line.split()[1].startswith(f"{self._folder}/")]


def small_image() -> bytes:
    """A shell and two more programs of this host, with the libraries that they load: an archive for docker import."""
    files: dict[str, Path] = {}
    for name in _PROGRAMS:
        program = Path(shutil.which(name) or "").resolve(strict=True)
        files[f"bin/{name}"] = program
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        files |= {path.lstrip("/"): Path(path) for path in re.findall(r"(/\S+) \(0x", listed)}
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", dereference=True) as archive:
        for name, path in files.items():
            archive.add(path.resolve(), name)
        entry = tarfile.TarInfo("entry")
        entry.size = len(_ENTRY)
        archive.addfile(entry, io.BytesIO(_ENTRY.encode()))
    return written.getvalue()


def import_small_image(engine: PrivateEngine, name: str = IMAGE) -> None:
    done = subprocess.run(
        ["docker", "import", "--change", 'ENTRYPOINT ["/bin/sh", "/entry"]', "-", name],
        input=small_image(), env=engine.environment, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


class Gate:
    """A way to the engine that stops before one request, until it is let through; `with` closes it. The first `passing`
    requests of this kind are not the one.
    """

    def __init__(self, engine: PrivateEngine, request: bytes, *, passing: int = 0) -> None:
        self._engine, self._request, self._passing = engine, request, passing
        self._reached, self._opened, self._closed = threading.Event(), threading.Event(), threading.Event()
        self._folder = Path(tempfile.mkdtemp(prefix="gate-"))
        self.host = f"unix://{self._folder / 'gate.sock'}"
        self._sockets = [socket.socket(socket.AF_UNIX)]

    def __enter__(self) -> Gate:
        listening = self._sockets[0]
        listening.bind(self.host.removeprefix("unix://"))
        listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._closed.set()
        self._opened.set()
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        shutil.rmtree(self._folder)

    def reached(self, seconds: float = 30) -> None:
        """Wait until the request has come."""
        assert self._reached.wait(seconds), f"{self._request!r} was never asked"

    def open(self) -> None:
        self._opened.set()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._sockets[0].accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            self._sockets += [near, far]
            try:
                far.connect(self._engine.host.removeprefix("unix://"))
            except OSError:  # nobody is there any more
                near.close()
                continue
            threading.Thread(target=self._pass_on, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(far, near, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, questions: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if questions and self._request in data:
                    self._passing -= 1
                if questions and self._request in data and self._passing < 0:
                    self._reached.set()
                    self._opened.wait()
                    if self._closed.is_set():
                        return
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
