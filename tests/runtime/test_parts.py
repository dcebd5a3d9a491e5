"""The small parts: events, log, state, contract, control's answers, processes, prepare, supervisord's text."""

from __future__ import annotations

import configparser
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from aim_engine.errors import CacheError, EngineCrashedError, InputError, InternalError
from aim_engine.runtime import log, prepare, processes, supervisord
from aim_engine.runtime.contract import read_contract
from aim_engine.runtime.ending import say_last_words
from aim_engine.runtime.events import MISSED, Lines, Reader
from aim_engine.runtime.failures import classify
from aim_engine.runtime.poller import Answer, error_text
from aim_engine.runtime.serve import server_environment
from aim_engine.runtime.state import State

from .server import fake_plan

# --- events


def envelope(name: str, payload: str) -> bytes:
    """As supervisor/process.py makes it: the length counts characters."""
    head = f"ver:3.0 server:supervisor serial:1 pool:watch poolserial:1 eventname:{name} len:{len(payload)}\n"
    return (head + payload).encode()


LOG = "processname:server groupname:server pid:7 channel:stdout\n"


def test_events_come_whole_whatever_the_pieces_and_whatever_the_alphabet() -> None:
    data = envelope("PROCESS_LOG_STDOUT", LOG + "█▄ vLLM\nsecond") + envelope(
        "PROCESS_STATE_EXITED", "processname:server groupname:server from_state:RUNNING expected:0 pid:7"
    )
    for size in (1, 3, 7, len(data)):
        reader = Reader()
        events = [e for start in range(0, len(data), size) for e in reader.feed(data[start : start + size])]
        assert [(e.name, e.program, e.pid, e.data) for e in events] == [
            ("PROCESS_LOG_STDOUT", "server", 7, "█▄ vLLM\nsecond"),
            ("PROCESS_STATE_EXITED", "server", 7, ""),
        ]


def test_a_chunk_that_was_cut_inside_a_character() -> None:
    cut = "Undecodable: %r" % "half \u2588".encode()[:-1]  # noqa: UP031 - as supervisor/events.py does
    (event,) = Reader().feed(envelope("PROCESS_LOG_STDOUT", LOG + cut))
    assert event.data == "half \ufffd"


def test_a_text_that_only_looks_like_a_cut_chunk() -> None:
    text = "Undecodable: b''" + "+b''" * 50_000
    (event,) = Reader().feed(envelope("PROCESS_LOG_STDOUT", LOG + text))
    assert event.data == text


def test_lines_from_pieces() -> None:
    lines = Lines(most=3)
    assert lines.add("one\ntw") == ["one"]
    assert lines.add("o\n50%\r100%\rrest") == ["two", "50%", "100%"]
    assert lines.last() == ["two", "50%", "100%", "rest"]
    lines.clear()
    assert lines.last() == []


def test_lines_whose_beginning_was_missed_say_so_until_the_next_beginning() -> None:
    lines = Lines(missed=True)
    lines.add("one\n")
    assert lines.last() == [MISSED, "one"]
    failure = classify(Lines(missed=True).last(), status=3, was_ready=True)
    assert (failure.error.hint, failure.lines) == ("the engine's log says more", (MISSED,))
    lines.clear()
    assert lines.last() == []


# --- log


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("(APIServer pid=7) INFO 11-21 17:43:00 [a.py:1] x", "info"),
        ("(EngineCore pid=9) ERROR 11-21 17:43:00 [a.py:1] x", "error"),
        ("WARNING 11-21 17:43:00 [a.py:1] x", "warning"),
        ("CRITICAL: x", "error"),
        ("Traceback (most recent call last):", "info"),
        ('{"time": no json', "info"),
    ],
)
def test_engine_lines_as_json(line: str, level: str) -> None:
    entry = json.loads(log.wrap_line("engine", line))
    assert (entry["source"], entry["level"], entry["message"]) == ("engine", level, line)


def test_our_own_json_is_not_wrapped_twice() -> None:
    ours = log.json_line("watch", "info", 'quote " and\nbreak')
    assert log.wrap_line("engine", ours.rstrip("\n")) == ours


def test_levels_and_text(capfd: pytest.CaptureFixture[str]) -> None:
    voice = log.Log("watch", level="warning")
    voice.info("hidden")
    voice.warning("shown")
    shown = capfd.readouterr().err
    assert "hidden" not in shown
    assert shown[8:] == " aim watch: warning: shown\n"


# --- state, contract, serve


def test_state_files_are_private_and_whole(tmp_path: Path) -> None:
    state = State(str(tmp_path))
    state.write("x.json", {"a": "ü"})
    assert state.read("x.json") == {"a": "ü"}
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o600
    (tmp_path / "half.json").write_text('{"a":')
    assert state.read("half.json") is None
    assert state.read("none.json") is None
    state.record(phase="starting")
    state.record(event="exec", pid=7)
    assert [entry.get("phase") for entry in state.timeline()] == ["starting", None]


def test_a_plan_that_lacks_something_is_our_bug(tmp_path: Path) -> None:
    plan = fake_plan(tmp_path)
    assert read_contract(plan).max_retries == 0
    assert read_contract({**plan, "runtime": {**plan["runtime"], "max_retries": 2, "fallback": False}}).max_retries == 0
    del plan["command"]["argv"]
    with pytest.raises(InternalError, match="argv"):
        read_contract(plan)


def test_the_engine_s_environment(tmp_path: Path) -> None:
    contract = read_contract(fake_plan(tmp_path))
    given = {"PATH": "/bin", "REMOVED": "1", "ADDED": "no", "AIM_RUNTIME_STATE": "x", "SUPERVISOR_ENABLED": "1",
             "AIM_API_KEY": "k"}  # fmt: skip
    assert server_environment(contract, given) == {"PATH": "/bin", "ADDED": "yes", "AIM_API_KEY": "k"}


# --- poller


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(status=500, body='{"error": {"message": "head dim 16"}}'), "the engine answered 500: head dim 16"),
        (Answer(status=404, body='{"message": "no model"}'), "the engine answered 404: no model"),
        (Answer(status=500, body="oops"), "the engine answered 500: oops"),
        (Answer(status=500, body="[1]"), "the engine answered 500: [1]"),
        (Answer(status=0), "the server ended the connection without an answer"),
    ],
)
def test_the_engine_s_own_words(answer: Answer, text: str) -> None:
    assert error_text(answer) == text


# --- processes


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"], start_new_session=True)


def test_a_process_is_told_from_another_with_its_pid() -> None:
    with sleeper() as child:
        identity = processes.identify(child.pid)
        assert identity is not None
        assert processes.is_alive(identity)
        stranger = processes.Identity(identity.pid, identity.start_ticks - 1)
        assert not processes.is_alive(stranger)
        assert not processes.send(stranger, signal.SIGKILL)
        assert child.poll() is None
        assert [p.identity for p in processes.descendants(os.getpid()) if p.group == child.pid] == [identity]
        assert processes.end_all(lambda: [p for p in processes.descendants(os.getpid()) if p.group == child.pid])
        assert child.wait() == -signal.SIGKILL
        assert not processes.is_alive(identity)


def test_a_resource_tracker_may_clean_up_before_it_is_ended() -> None:
    program = (
        "import os, sys, time; from multiprocessing import shared_memory; "
        "s = shared_memory.SharedMemory(create=True, size=4096); print(s.name, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          start_new_session=True) as child:  # fmt: skip
        assert child.stdout is not None
        path = Path("/dev/shm") / child.stdout.readline().decode().strip()
        assert path.exists()
        assert str(path) in processes.segments_of([child.pid])
        assert processes.remove_segments([str(path)]) == []  # somebody maps it
        members = [p.identity for p in processes.everyone().values() if p.group == child.pid]
        assert len(members) == 2
        (tracker,) = (one.pid for one in members if one.pid != child.pid)
        while (found := processes.look(tracker)) is None or found.state != "S":  # it may be loading Python yet
            time.sleep(0.02)
        time.sleep(0.5)
        assert processes.end_all(
            lambda: [p for identity in members if (p := processes.look(identity.pid)) and p.identity == identity]
        )
        assert not path.exists()


def test_segments_that_nobody_maps_are_removed_and_others_left() -> None:
    ours, other = (Path(f"/dev/shm/psm_aim{os.getpid()}{n}") for n in (1, 2))
    for path in (ours, other):
        path.write_bytes(b"x")
    try:
        assert processes.remove_segments([str(ours), "/dev/shm/psm_gone"]) == [str(ours)]
        assert other.exists()
    finally:
        other.unlink()


# --- prepare


def test_a_state_folder_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # its own path may be longer than a state folder's may
    folder = Path("aim-engine-0") / "8000"
    prepare.make_private_folder(folder)
    assert [stat.S_IMODE(place.stat().st_mode) for place in (folder, folder.parent)] == [0o700, 0o700]
    link = tmp_path / "link"
    link.symlink_to(tmp_path / folder)
    with pytest.raises(InputError, match="cannot hold the state"):
        prepare.make_private_folder(link)


def test_a_state_folder_that_others_could_replace_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(InputError, match="others could replace it"):
        prepare.make_private_folder(tmp_path / "state")
    tmp_path.chmod(0o1777)
    prepare.make_private_folder(tmp_path / "state")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_state_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, -1)
    with pytest.raises(InputError, match="belongs to uid 12345"):
        prepare.make_private_folder(folder)


def test_paths_that_cannot_be() -> None:
    with pytest.raises(InputError, match="longer than 80"):
        prepare.make_private_folder(Path("/tmp") / ("x" * 90))
    with pytest.raises(CacheError) as caught:
        prepare.make_private_folder(Path("/proc/nowhere"))
    assert f"uid {os.getuid()}" in caught.value.message
    assert "AIM_STATE_DIR" in caught.value.hint
    with pytest.raises(CacheError) as caught:
        prepare.check_cache(Path("/proc/nowhere"))
    assert "/proc/nowhere" in caught.value.message
    assert "AIM_CACHE_DIR" in caught.value.hint


# --- the end


def test_last_words_for_kubernetes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words: dict[str, Any] = EngineCrashedError("x" * 5000).as_json()
    termination_log = tmp_path / "termination-log"
    say_last_words(State(str(tmp_path)), words, termination_log=str(termination_log))
    assert not termination_log.exists()  # it is there only where Kubernetes put it
    termination_log.touch()
    say_last_words(State(str(tmp_path)), words, termination_log=str(termination_log))
    assert len(termination_log.read_bytes()) == 4096
    assert json.loads(capfd.readouterr().err.splitlines()[-1]) == words
    assert json.loads((tmp_path / "last-words.json").read_text()) == words


# --- supervisord


def test_supervisord_s_text_is_fixed_and_complete() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(supervisord.CONFIGURATION)
    assert parser.getboolean("program:server", "autorestart") is False
    assert parser.getboolean("program:server", "stopasgroup") is True
    assert parser.getboolean("program:sidecar", "autorestart") is True
    assert parser.getboolean("eventlistener:watch", "autorestart") is True
    expansions = {part.split(")")[0] for part in supervisord.CONFIGURATION.split("%(")[1:]}
    assert expansions == {f"ENV_{supervisord.STATE_VARIABLE}", f"ENV_{supervisord.PROGRAM_VARIABLE}"}


def test_every_process_is_slim() -> None:
    program = (
        "import sys; sys.path.append({root!r}); import aim_engine.runtime.{module}; "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "('pydantic', 'yaml', 'requests', 'rich', 'importlib.metadata', 'asyncio', 'subprocess', 'xmlrpc')))"
    )
    root = str(Path(__file__).parents[2])
    for module in ("boot", "serve", "watch", "sidecar"):
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program.format(root=root, module=module)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == "[]", module
