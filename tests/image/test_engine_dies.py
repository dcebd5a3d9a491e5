"""A Docker Engine of the tests' own that is killed, restarted, full, or told to stop everything: what commands say
then, with which exit code, and what they leave. The containers run a shell that serves nothing.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.image.private_commands import Start, assert_nothing_is_left, done, last_words, names, secrets
from tests.image.private_engine import IMAGE, Gate, PrivateEngine, import_small_image, network_of

pytestmark = pytest.mark.image

LOCK = "aim-engine-launch-lock"


def test_it_is_not_in_the_host_s_network(private: PrivateEngine) -> None:
    """There it would remove docker0, which is another engine's."""
    assert private.network() != network_of("self")


# --- stop --all ------------------------------------------------------------------------------------------------------


def test_stop_all_of_nothing(private: PrivateEngine, aim: Start) -> None:
    assert "no endpoint is on this host" in done(aim, "stop", "--all")[1]
    assert json.loads(done(aim, "stop", "--all", "--json")[0]) == []


def test_stop_all_takes_every_endpoint_and_no_stranger(
    private: PrivateEngine, aim: Start, launching: Sequence[str]
) -> None:
    private.docker(
        "run", "--detach", "--name", "stranger", "--network", "none", "--label", "com.example.model=x", IMAGE
    )
    launches = [aim(*launching, "--detach", "--name", name, *more) for name, more in
                (("polite", ()), ("stubborn", ("--env", "STUBBORN=1")), ("ended", ()))]  # fmt: skip
    assert [one.end()[0] for one in launches] == [0, 0, 0]
    private.docker("kill", "ended")
    assert names(private) == ["ended", "polite", "stranger", "stubborn"]
    assert len(secrets(private)) == 3
    out, _ = done(aim, "stop", "--all", "--timeout", "1", "--json", code=143)
    stopped = {one["name"]: (one["was_running"], one["cut_short"], one["removed"]) for one in json.loads(out)}
    assert stopped == {
        "polite": (True, False, True),
        "stubborn": (True, True, True),
        "ended": (False, False, True),
    }
    assert names(private) == ["stranger"]
    assert secrets(private) == []


# --- the engine is killed --------------------------------------------------------------------------------------------


def test_an_engine_that_is_down(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    private.kill()
    for words in ((*launching,), ("list",), ("stop", "--all"), ("watch", "--once"), ("logs", "any"), ("status", "any")):
        _, err = done(aim, *words, code=60)
        assert "Docker Engine" in last_words(err)["message"]
        assert "systemctl start docker" in last_words(err)["hint"]
    assert secrets(private) == []


def test_killed_while_it_pulls(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    with private.listening() as registry:  # it takes the engine's question and never answers
        registry.settimeout(20)
        image = f"127.0.0.1:{registry.getsockname()[1]}/x/small:1"
        command = aim(*launching, "--name", "pulled", "--image", image)
        asked, _ = registry.accept()
        with asked:
            private.kill()
            code, _, err = command.end()
    assert code == 60
    assert "went away" in last_words(err)["message"]
    assert "may be left" not in err
    private.start()
    assert_nothing_is_left(private)


def test_killed_before_the_create(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    private.docker("create", "--name", LOCK, IMAGE)  # another launch decides
    command = aim(*launching, "--name", "never")
    command.until("waiting for another launch")
    private.kill()
    code, _, err = command.end()
    assert code == 60
    assert last_words(err)["hint"]
    private.start()
    assert names(private) == [LOCK]
    assert secrets(private) == []


def test_killed_between_create_and_start(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    """The way to the engine stops after the create, so that the moment is always there."""
    with Gate(private, b"/start ") as gate:
        command = aim(*launching, "--name", "half-made", environment={"DOCKER_HOST": gate.host})
        gate.reached()
        private.kill()
        gate.open()
        code, _, err = command.end()
    assert code == 60
    assert "the container half-made may be left: aim-engine stop half-made" in err
    private.start()
    assert names(private) == ["half-made"]
    listed, told = done(aim, "list")
    assert "half-made" in listed
    assert "half-made: created and never started; aim-engine stop half-made removes it" in told
    assert "half-made: had ended, removed" in done(aim, "stop", "half-made")[0]
    assert_nothing_is_left(private)


def test_killed_while_it_is_waited_for(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    command = aim(*launching, "--name", "waited-for", "--json")
    command.until("starting")
    private.kill()
    code, out, err = command.end()
    assert code == 60
    assert json.loads(out)["error"]["code"] == 60
    assert "the container waited-for may be left: aim-engine stop waited-for" in err
    private.start()
    assert "waited-for" in done(aim, "list", "--all")[0]
    assert "waited-for" in done(aim, "stop", "--all")[0]
    assert_nothing_is_left(private)


# --- what only looks -------------------------------------------------------------------------------------------------


def test_watch_goes_on_when_the_engine_is_back(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    done(aim, *launching, "--detach", "--name", "watched", "--restart", "always")
    command = aim("watch", "--json", "--interval", "0.5")
    assert command.process.stdout
    assert json.loads(command.process.stdout.readline())["name"] == "watched"
    private.kill()
    command.until("waiting until it is back")
    private.start()
    back = datetime.now(UTC) + timedelta(seconds=1)  # rows are stamped with whole seconds
    too_late = threading.Timer(40, command.process.kill)
    too_late.start()
    rows = (json.loads(line) for line in command.process.stdout)
    assert next(row for row in rows if datetime.fromisoformat(row["at"]) >= back)["name"] == "watched"
    too_late.cancel()
    command.process.send_signal(signal.SIGINT)
    assert command.end()[0] == 0


def test_following_a_log_ends_with_a_clear_word(private: PrivateEngine, aim: Start, launching: Sequence[str]) -> None:
    done(aim, *launching, "--detach", "--name", "followed")
    command = aim("logs", "-f", "followed")
    assert command.process.stdout
    assert command.process.stdout.readline() == "started\n"
    private.kill()
    code, _, err = command.end()
    assert code == 60
    assert "the Docker Engine went away" in last_words(err)["message"]


# --- no room ---------------------------------------------------------------------------------------------------------


def test_a_full_disk(running_private: PrivateEngine, tmp_path: Path, launching: Sequence[str]) -> None:
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", data], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mounted.stderr.decode()}")
    full = PrivateEngine(tmp_path / "full", data=data)
    try:
        full.start()
        import_small_image(full)
        fill = data / "fill"
        with suppress(OSError), fill.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 65536)
        argv = [sys.executable, "-m", "aim_engine.cli.main", *launching, "--detach", "--name", "no-room"]
        found = subprocess.run(argv, env=full.environment, capture_output=True, text=True, timeout=60, check=False)
        assert found.returncode == 42, found.stderr
        assert "no space left on device" in last_words(found.stderr)["message"]
        assert "docker system df" in last_words(found.stderr)["hint"]
        fill.unlink()
        assert_nothing_is_left(full)
        again = subprocess.run(argv, env=full.environment, capture_output=True, text=True, timeout=60, check=False)
        assert again.returncode == 0, again.stderr
    finally:
        full.end()
        subprocess.run(["umount", "--lazy", data], check=False)
