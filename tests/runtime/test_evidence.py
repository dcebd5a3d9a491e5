"""evidence.py, bundle.py, witnesses.py, redaction.py: what is kept of a failure, and that no restart waits for it."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aim_engine.errors import EngineHungError
from aim_engine.runtime import bundle, witnesses
from aim_engine.runtime.bundle import FILE_BYTES, FOLDER, KEPT, keep_bundle
from aim_engine.runtime.evidence import Evidence, Scene
from aim_engine.runtime.log import Log
from aim_engine.runtime.processes import Process, look
from aim_engine.runtime.redaction import Redaction
from aim_engine.runtime.state import State
from aim_engine.secret_shapes import MASK as HIDDEN

from .server import fake_plan

KEY, TOKEN = 'k"ey\\with}quotes', "hf_abcdefghijklmnopqrstuvwxyz"
SECRETS = {"AIM_API_KEY": KEY, "HF_TOKEN": TOKEN, "TOKENIZERS_PARALLELISM": "false", "NUMBER_OF_TOKENS": "12"}


@pytest.fixture
def sleeper() -> Iterator[Process]:
    program = "import time\ndef sleeping_in_here():\n    time.sleep(60)\nsleeping_in_here()"
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", program]) as child:
        found = look(child.pid)
        assert found is not None
        yield found
        child.kill()


def evidence(folder: Path, **files: Any) -> Evidence:
    state = State(str(folder))
    state.write("plan.json", {**fake_plan(folder), "candidates": [1], "note": f"a {KEY} in it"})
    state.write("observations.json", [{"at": 1.0, "open": 2.0}])
    for name, value in files.items():
        state.write(name, value)
    return Evidence(state, str(folder / "cache"), Log("watch"), SECRETS)


def scene(*living: Process, lines: tuple[str, ...] = ("one", "two")) -> Scene:
    error = EngineHungError("3 requests wait", hint="look at dmesg")
    return Scene(error=error, attempt={"number": 2, "pid": 7, "monotonic": 3.0}, lines=lines, living=living)


def read(path: str) -> dict[str, Any]:
    return {file.name: json.loads(file.read_text()) if file.suffix == ".json" else file.read_text()
            for file in Path(path).iterdir()}  # fmt: skip


def test_what_is_kept(tmp_path: Path, sleeper: Process) -> None:
    (tmp_path / "cache").mkdir()
    began = time.monotonic()
    path = evidence(tmp_path).keep(scene(sleeper, lines=(f"the key is {KEY}", f"and {TOKEN} too")), seconds=6)
    assert time.monotonic() - began < 7
    assert path is not None
    found = read(path)
    assert set(found) == {"verdict.json", "counters.json", "plan.json", "gpus.json", "stacks.txt", "log-tail.txt"}
    assert (found["verdict.json"]["class"], found["verdict.json"]["attempt"]["number"]) == ("EngineHung", 2)
    assert found["counters.json"] == [{"at": 1.0, "open": 2.0}]
    assert found["plan.json"]["model_id"] == "org/fake"
    assert "candidates" not in found["plan.json"]
    assert found["plan.json"]["note"] == f"a {HIDDEN} in it"
    assert found["log-tail.txt"] == f"the key is {HIDDEN}\nand {HIDDEN} too\n"
    assert found["gpus.json"]["gpus"] or found["gpus.json"]["error"]
    assert f"pid {sleeper.identity.pid}" in found["stacks.txt"]
    # either the stacks, or why there are none and what to do about it
    assert any(words in found["stacks.txt"] for words in ("sleeping_in_here", "aim-engine[stacks]", "SYS_PTRACE"))
    assert not any(KEY in file.read_text() or TOKEN in file.read_text() for file in Path(path).iterdir())
    assert {stat.S_IMODE(place.stat().st_mode) for place in Path(path).iterdir()} == {0o600}
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o700


def test_what_a_stopped_process_does(sleeper: Process) -> None:
    os.kill(sleeper.identity.pid, signal.SIGSTOP)
    while (found := look(sleeper.identity.pid)) is not None and found.state != "T":
        time.sleep(0.005)
    text = witnesses.stacks([sleeper], time.monotonic() + 5)
    assert "State:\tT (stopped)" in text
    assert f"thread {sleeper.identity.pid} " in text


# a machine with other work may not have ended what was killed within half a second
@pytest.mark.filterwarnings("ignore:Exception ignored in.*Popen:pytest.PytestUnraisableExceptionWarning")
def test_of_one_that_is_gone_nothing_is_asked(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    path = evidence(tmp_path).keep(scene(), seconds=1.5)
    assert path is not None
    assert "stacks.txt" not in read(path)


@pytest.mark.parametrize(
    ("cache", "words"),
    [("/proc/nowhere", "No such file"), ("/dev/null", "Not a directory")],
)
def test_a_cache_that_takes_nothing_is_a_warning(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], cache: str, words: str
) -> None:
    keeper = Evidence(State(str(tmp_path)), cache, Log("watch"), {})
    assert keeper.keep(scene(), seconds=1.5) is None
    said = capfd.readouterr().err
    assert f"nothing of this failure could be kept in {cache}/evidence: {words}" in said


def test_a_cache_that_does_not_answer_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aim_engine.runtime.evidence.keep_bundle", lambda *_: time.sleep(5))
    began = time.monotonic()
    assert evidence(tmp_path).keep(scene(), seconds=0.3) is None
    assert time.monotonic() - began < 4.5
    assert "took longer than 1.3 s" in capfd.readouterr().err


def test_a_program_that_never_answers_is_killed() -> None:
    child = witnesses.Child([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
    began = time.monotonic()
    assert child.answer(began + 0.3) == (False, "no answer in time")
    assert time.monotonic() - began < 20
    assert witnesses.Child(["/nowhere/program"]).answer(began + 5) == (
        False, "/nowhere/program: No such file or directory",
    )  # fmt: skip


@pytest.mark.parametrize(
    "text", ["Error: Permission denied (os error 13)", "Error: Operation not permitted (os error 1)"]
)
def test_py_spy_that_may_not_look_names_the_remedy(text: str) -> None:
    assert "--cap-add SYS_PTRACE" in witnesses._told(False, text)
    assert "SYS_PTRACE" not in witnesses._told(False, "Error: no python")


# --- where it lies


def test_the_newest_few_stay_and_strangers_too(tmp_path: Path) -> None:
    root = tmp_path / FOLDER
    root.mkdir()
    (root / "20200101T000000Z-a-note.txt").touch()
    (root / "of a user").mkdir()
    for number in range(KEPT + 2):
        (root / f"2020010{number}T000000Z-EngineCrashed").mkdir()
        (root / f"2020010{number}T000000Z-EngineCrashed" / "verdict.json").touch()
    path = keep_bundle(str(tmp_path), "EngineHung", {"verdict.json": "{}"})
    ours = sorted(place.name for place in root.iterdir() if place.is_dir() and place.name != "of a user")
    assert len(ours) == KEPT
    assert ours[-1] == Path(path).name
    assert ours[0] == "20200103T000000Z-EngineCrashed"
    assert (root / "20200101T000000Z-a-note.txt").exists()
    assert (root / "of a user").exists()


def test_several_in_the_same_second_stay_apart(tmp_path: Path) -> None:
    paths = {keep_bundle(str(tmp_path), "EngineHung", {"a": "1"}) for _ in range(4)}
    assert len(paths) == 4
    assert all((Path(path) / "a").read_text() == "1" for path in paths)


def test_a_file_is_cut_to_its_end(tmp_path: Path) -> None:
    path = keep_bundle(str(tmp_path), "EngineHung", {"log": "line\n" * FILE_BYTES + "the last\n"})
    text = (Path(path) / "log").read_text()
    assert len(text) <= FILE_BYTES + 10
    assert text.startswith("[cut]\nline\n")
    assert text.endswith("the last\n")


def test_of_one_long_line_its_end_is_kept(tmp_path: Path) -> None:
    path = keep_bundle(str(tmp_path), "EngineHung", {"log": "x" * 2 * FILE_BYTES + "the last\n"})
    text = (Path(path) / "log").read_text()
    assert (len(text), text[-10:]) == (FILE_BYTES + len("[cut]\n"), "xthe last\n")


def test_half_a_bundle_is_never_seen_and_goes_in_time(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        keep_bundle(str(tmp_path), "EngineHung", {"a": "1", "b": None})  # type: ignore[dict-item]
    assert list((tmp_path / FOLDER).iterdir()) == []
    old = tmp_path / FOLDER / ".20200101T000000Z-EngineHung-7"
    old.mkdir()
    os.utime(old, (0, 0))
    keep_bundle(str(tmp_path), "EngineHung", {"a": "1"})
    assert not old.exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    """Whoever may write beside us must not have our rights used against our files."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "20200101T000000Z-EngineHung").symlink_to(precious)
    bundle._remove(str(tmp_path / FOLDER / "20200101T000000Z-EngineHung"))
    assert (precious / "file").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_in_a_shared_cache_another_user_has_a_folder_of_its_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    for place in tmp_path.parents:
        if not place.stat().st_mode & stat.S_IXOTH:
            place.chmod(place.stat().st_mode | stat.S_IXOTH)
    keep_bundle(str(tmp_path), "EngineHung", {"a": "root's"})
    program = (
        "import os, sys; sys.path.append(sys.argv[1]); from aim_engine.runtime.bundle import keep_bundle; "
        "os.setgid(12345); os.setuid(12345); print(keep_bundle(sys.argv[2], 'X', {'a': '1'}))"
    )
    root = Path(bundle.__file__).parents[2]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program, root, tmp_path], capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert done.stdout.startswith(f"{tmp_path}/evidence-12345/")


# --- secrets


def test_secrets_are_found_by_the_names_of_their_variables() -> None:
    redaction = Redaction(SECRETS)
    assert redaction.text(f"{KEY} {TOKEN} false 12") == f"{HIDDEN} {HIDDEN} false 12"
    value = {"a": [f"x{KEY}", {KEY: 1}], "n": 12, "none": None, "yes": True}
    assert redaction.value(value) == {"a": [f"x{HIDDEN}", {HIDDEN: 1}], "n": 12, "none": None, "yes": True}


def test_last_lines_are_told_without_secrets(tmp_path: Path) -> None:
    keeper = Evidence(State(str(tmp_path)), str(tmp_path), Log("watch"), {"AIM_API_KEY": "key-of-mine"})
    assert keeper.redacted(["one", "asked with key-of-mine"]) == ["one", f"asked with {HIDDEN}"]


def test_what_looks_like_a_secret_is_one_whoever_knows_it() -> None:
    said = "GET https://user:pass@host/x with hf_ABCDEFGHIJKLMNOPQRSTUV"
    assert "pass" not in Redaction({}).text(said)
    assert "hf_" not in Redaction({}).text(said)
