"""A launch that is ended from outside at each of its steps: by ^C (twice), SIGTERM, a closed terminal, a reader that
has left, a kill -9. Nothing half-made stays, or what stays is seen and can be cleared.
"""

from __future__ import annotations

import os
import pty
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.image.private_commands import Command, Start, assert_nothing_is_left, done, last_words, names, secrets
from tests.image.private_engine import IMAGE, Gate, PrivateEngine

pytestmark = pytest.mark.image

LOCK = "aim-engine-launch-lock"
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

MADE = ("the container is asked for", "its start is asked for", "wait")

# A command that has come so far, and what lets it go on.
Stopped = AbstractContextManager[tuple[Command, Callable[[], None]]]
Stop = Callable[[PrivateEngine, Start, Sequence[str]], Stopped]


@contextmanager
def at_pull(
    private: PrivateEngine, aim: Start, launching: Sequence[str]
) -> Iterator[tuple[Command, Callable[[], None]]]:
    with private.listening() as registry:  # it takes the engine's question and never answers
        registry.settimeout(20)
        image = f"127.0.0.1:{registry.getsockname()[1]}/x/small:1"
        command = aim(*launching, "--name", "cut", "--image", image)
        with registry.accept()[0]:
            yield command, lambda: None


@contextmanager
def at_lock(
    private: PrivateEngine, aim: Start, launching: Sequence[str]
) -> Iterator[tuple[Command, Callable[[], None]]]:
    private.docker("create", "--name", LOCK, IMAGE)
    command = aim(*launching, "--name", "cut")
    command.until("waiting for another launch")
    yield command, lambda: None
    private.docker("rm", LOCK)


def at_request(request: bytes) -> Stop:
    """The engine has not seen this request yet."""

    @contextmanager
    def stop(
        private: PrivateEngine, aim: Start, launching: Sequence[str]
    ) -> Iterator[tuple[Command, Callable[[], None]]]:
        with Gate(private, request) as gate:
            command = aim(*launching, "--name", "cut", environment={"DOCKER_HOST": gate.host})
            gate.reached()
            yield command, gate.open

    return stop


@contextmanager
def at_wait(
    private: PrivateEngine, aim: Start, launching: Sequence[str]
) -> Iterator[tuple[Command, Callable[[], None]]]:
    command = aim(*launching, "--name", "cut")
    command.until("starting")
    yield command, lambda: None


STEPS: dict[str, Stop] = {
    "pull": at_pull,
    "lock": at_lock,
    "the lock is asked for": at_request(f"name={LOCK}".encode()),
    "the container is asked for": at_request(b"name=cut"),
    "its start is asked for": at_request(b"/start "),
    "wait": at_wait,
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_each_step(
    private: PrivateEngine, aim: Start, launching: Sequence[str], step: str, number: signal.Signals
) -> None:
    """A request that the engine hears of only after the signal is the hard one: it makes something all the same."""
    with STEPS[step](private, aim, launching) as (command, go_on):
        command.process.send_signal(number)
        time.sleep(0.2)
        go_on()
        code, out, err = command.end()
    assert code == SIGNALS[number], err
    assert out == ""
    made = "what was made is removed" if step in MADE else "nothing was made"
    assert f"interrupted: {made}\n" in err
    assert_nothing_is_left(private)


def test_more_signals_do_not_cut_the_removal_short(
    private: PrivateEngine, aim: Start, launching: Sequence[str]
) -> None:
    with Gate(private, b"DELETE /", passing=1) as gate:  # the lock's removal is the first one
        command = aim(*launching, "--name", "cut", environment={"DOCKER_HOST": gate.host})
        command.until("starting")
        command.process.send_signal(signal.SIGINT)
        gate.reached()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            command.process.send_signal(number)
            time.sleep(0.1)
        command.until("that ends by itself")
        gate.open()
        code, _, err = command.end()
    assert code == 130, err
    assert err.count("that ends by itself") == 3
    assert_nothing_is_left(private)


def test_an_engine_that_says_nothing_can_be_left(aim: Start, launching: Sequence[str], tmp_path: Path) -> None:
    """It takes the connection and never answers: ^C ends that at once."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        command = aim(*launching, environment={"DOCKER_HOST": f"unix://{tmp_path / 'silent.sock'}"})
        command.until("detect")
        time.sleep(0.3)
        began = time.monotonic()
        command.process.send_signal(signal.SIGINT)
        assert command.end()[0] == 130
    assert time.monotonic() - began < 5


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def test_what_a_kill_leaves_is_seen_and_cleared(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    with STEPS["its start is asked for"](private, aim, launching) as (command, _):
        command.process.kill()
        command.process.wait()
    assert names(private) == ["cut"]
    assert len(secrets(private)) == 1
    listed, told = done(aim, "list")
    assert "cut" in listed
    assert "cut: created and never started; aim-engine stop cut removes it" in told
    _, err = done(aim, *launching, "--name", "cut", code=10)
    assert "a container of that name is there already" in last_words(err)["message"]
    done(aim, *launching, "--name", "other", "--detach")
    assert "cut: had ended, removed" in done(aim, "stop", "cut")[0]
    done(aim, "stop", "other")
    assert_nothing_is_left(private)


# --- the terminal, and whoever reads ---------------------------------------------------------------------------------


_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


class OnTerminal:
    """A command whose three streams are a terminal that can be closed under it."""

    def __init__(self, private: PrivateEngine, words: Sequence[str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, sys.executable, "-m", "aim_engine.cli.main", *words],
            env={**private.environment, "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.said = ""

    def until(self, words: str, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.said:
            assert time.monotonic() < deadline, self.said
            if select.select([self._ours], [], [], 0.5)[0]:
                self.said += os.read(self._ours, 65536).decode(errors="replace")

    def close(self) -> int:
        """Its exit code."""
        os.close(self._ours)
        return self.process.wait(40)


def test_a_terminal_that_is_closed_while_it_waits(private: PrivateEngine, launching: Sequence[str]) -> None:
    command = OnTerminal(private, [*launching, "--name", "closed"])
    command.until("starting")
    assert command.close() == 129
    assert_nothing_is_left(private)


@pytest.mark.parametrize("moment", ["create", "start", "is starting"])
def test_a_terminal_that_is_closed_at_once_after_a_detached_launch(
    private: PrivateEngine, launching: Sequence[str], moment: str
) -> None:
    """All of it, or nothing."""
    command = OnTerminal(private, [*launching, "--name", "closed", "--detach"])
    command.until(moment)
    code = command.close()
    if code == 129:
        assert_nothing_is_left(private)
        return
    assert code in (0, -signal.SIGHUP)  # the latter where the launch was over
    assert private.docker("inspect", "--format", "{{.State.Running}}", "closed").stdout == "true\n"


def test_a_reader_who_leaves(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    line = shlex.join([sys.executable, "-m", "aim_engine.cli.main", *launching, "--name", "read", "--detach"])
    found = subprocess.run(
        ["bash", "-c", f"{line} | head -1; exit ${{PIPESTATUS[0]}}"],
        env=private.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (0, "read is starting\n")
    ours, theirs = os.pipe()
    os.close(ours)
    command = aim(*launching, "--name", "unread", "--detach", stdout=theirs)
    os.close(theirs)
    assert command.end()[0] == 0
    assert names(private) == ["read", "unread"]


def test_a_result_that_cannot_be_written(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = aim(*launching, "--name", "unread", "--detach", "--json", stdout=full)
    code, _, err = command.end()
    assert code == 42
    assert "the endpoint runs all the same: aim-engine status unread; aim-engine stop unread" in err
    assert names(private) == ["unread"]
