"""Two models at once through the command line, on the real engine: both launched at the same time, listed, asked,
watched; one restarted while the other serves; both stopped by one command, and nothing is left.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.image.containers import LABEL, ROOT, docker

pytestmark = [pytest.mark.image, pytest.mark.long]

KEY = "s3cret-of-the-two"
LOCK = "aim-engine-launch-lock"
LAYERS = {"one": 2, "two": 3}
_MAKE = (
    "import sys; sys.path.insert(0, '/scripts'); import tiny_model; from pathlib import Path; "
    "tiny_model.QWEN3['num_hidden_layers'] = int(sys.argv[2]); tiny_model.make(Path(sys.argv[1]))"
)


@dataclass(frozen=True)
class Two:
    """The results of both launches, by the models' names, and how to run a command beside them."""

    launched: dict[str, dict[str, Any]]
    names: dict[str, str]
    environment: dict[str, str]
    state: Path

    def aim(self, *words: str, seconds: float = 200) -> str:
        return self.run(*words, seconds=seconds).stdout

    def run(self, *words: str, seconds: float = 200) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "aim_engine.cli.main", *words], env=self.environment, capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert KEY not in done.stdout + done.stderr
        return done

    def until_ready(self, which: str, seconds: float = 150) -> None:
        deadline = time.monotonic() + seconds
        while json.loads(self.aim("status", self.names[which], "--json"))["health"]["word"] != "ready":
            assert time.monotonic() < deadline
            time.sleep(1)

    def client(self, which: str) -> openai.OpenAI:
        url = self.launched[which]["endpoint_url"]
        return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, timeout=120, max_retries=0)

    def ask(self, which: str, tokens: int = 5) -> int:
        """How many tokens came."""
        with self.client(which) as client:
            answer = client.completions.create(
                model=f"/models/{which}", prompt="Tell me", max_tokens=tokens, extra_body={"ignore_eos": True}
            )
        assert answer.usage
        return answer.usage.completion_tokens


@pytest.fixture(scope="module")
def models(image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for name, layers in LAYERS.items():
        docker("run", "--rm", "--network", "none", "--volume", f"{ROOT}/scripts:/scripts:ro", "--volume",
               f"{folder}:/made", image, "python3", "-c", _MAKE, f"/made/{name}", str(layers))  # fmt: skip
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def two(image: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    state = tmp_path_factory.mktemp("state")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("AIM_")}
    environment = {**kept, "AIM_API_KEY": KEY, "XDG_STATE_HOME": str(state)}
    names = {which: f"{LABEL}-{which}-{uuid.uuid4().hex[:8]}" for which in LAYERS}

    def launch(which: str) -> dict[str, Any]:
        how = "--wait" if which == "one" else "--detach"
        argv = [sys.executable, "-m", "aim_engine.cli.main", "launch", str(models / which), "--hardware", "cpu"]
        argv += ["--image", image, "--host", "127.0.0.1", "--name", names[which], "--port-range", "23400-23499"]
        argv += ["--cache", str(state / f"cache-{which}"), "--json", how]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    try:
        with ThreadPoolExecutor(2) as pool:
            launched = dict(zip(LAYERS, pool.map(launch, LAYERS), strict=True))
        yield Two(launched, names, environment, state)
    finally:
        docker("rm", "--force", "--volumes", *names.values(), check=False)


def test_each_has_its_own_ports_and_answers_under_its_own_name(two: Two) -> None:
    ports = [one[key] for one in two.launched.values() for key in ("endpoint_url", "health_url")]
    assert len(set(ports)) == 4
    assert two.launched["one"]["test"]["completion_tokens"] > 0
    assert (two.launched["two"]["status"], two.launched["two"]["test"]) == ("starting", None)
    two.until_ready("two")  # nobody has waited for it yet
    for which in LAYERS:
        assert two.ask(which) == 5
        with two.client(which) as client:
            assert [one.id for one in client.models.list()] == [f"/models/{which}", which]


def test_both_are_listed_watched_and_known(two: Two) -> None:
    listed = {one["name"]: one for one in json.loads(two.aim("list", "--json"))}
    watched = {row["name"]: row for row in map(json.loads, two.aim("watch", "--once", "--json").splitlines())}
    for which, name in two.names.items():
        assert listed[name]["health"]["word"] == "ready"
        assert watched[name]["health"]["word"] == "ready"
        status = json.loads(two.aim("status", name, "--json"))
        assert status["plan"]["model_id"].endswith(which)
        logs = two.run("logs", name, "--tail", "3")
        assert len((logs.stdout + logs.stderr).splitlines()) == 3
    layers = {which: _layers(name, which) for which, name in two.names.items()}
    assert layers == LAYERS


def _layers(container: str, which: str) -> int:
    config = json.loads(docker("exec", container, "cat", f"/models/{which}/config.json").stdout)
    return int(config["num_hidden_layers"])


def test_a_restart_of_one_loses_no_request_of_the_other(two: Two) -> None:
    over, answered, failed = threading.Event(), list[int](), list[Exception]()

    def load() -> None:
        while not over.is_set():
            try:
                answered.append(two.ask("two", tokens=40))
            except openai.OpenAIError as error:
                failed.append(error)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert two.names["one"] in two.aim("restart", two.names["one"])
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert len(answered) > 4
    assert set(answered) == {40}
    assert two.ask("one") == 5


def test_one_command_stops_both_and_nothing_is_left(two: Two) -> None:
    """The last of these tests."""
    volumes = {mount["Name"] for name in two.names.values() for mount in json.loads(docker("inspect", name).stdout)[0][
        "Mounts"] if mount["Type"] == "volume"}  # fmt: skip
    stopped = json.loads(two.aim("stop", *two.names.values(), "--json"))
    assert {one["name"]: (one["exit_code"], one["removed"], one["cut_short"]) for one in stopped} == dict.fromkeys(
        two.names.values(), (0, True, False)
    )
    there = docker("ps", "--all", "--format", "{{.Names}}").stdout.split()
    assert not {*two.names.values(), LOCK} & set(there)
    assert not volumes & set(docker("volume", "ls", "--quiet").stdout.split())
    secrets = two.state / "aim-engine" / "secrets"
    assert [path for path in secrets.rglob("*") if path.is_file()] == []
    assert not any(name in path.name for path in secrets.rglob("*") for name in two.names.values())
