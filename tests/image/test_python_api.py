"""`AIMEngine` on a real Docker Engine: one real server with all the hooks, launched, asked, listed and stopped; and
launches in parallel from one engine.
"""

from __future__ import annotations

import json
import os
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from aim_engine import AIMEngine
from aim_engine.deploy.launched import Launched
from aim_engine.errors import InputError
from tests.image.containers import LABEL, docker

pytestmark = pytest.mark.image

KEY = "s3cret-of-the-program"


@dataclass
class Program:
    """Somebody's program: it takes the last candidate, wants fewer sequences, and asks the API itself for health."""

    offered: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    told: list[tuple[str, float | None, str]] = field(default_factory=list)

    def select(self, candidates: Any) -> Any:
        self.offered = [one.candidate.recipe.recipe_id for one in candidates]
        return candidates[-1]

    def configure(self, options: dict[str, Any], variables: dict[str, str]) -> Any:
        return {**options, "max-num-seqs": 7}, {**variables, "OF_THE_PROGRAM": 'it\'s "quoted" $(here)'}

    def check(self, endpoint: Any) -> bool:
        self.checked.append(endpoint.name)
        if endpoint.url is None:  # somebody else's on this engine, whose port is not published
            return False
        try:
            with urllib.request.urlopen(f"{endpoint.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def tell(self, step: str, fraction: float | None, words: str) -> None:
        self.told.append((step, fraction, words))


def of(program: Program, state: Path) -> AIMEngine:
    environment = {**os.environ, "XDG_STATE_HOME": str(state), "AIM_PORT_RANGE": "23300-23399"}
    return AIMEngine(environment=environment, select=program.select, configure=program.configure,
                     health_check=program.check, on_progress=program.tell)  # fmt: skip


Served = tuple[AIMEngine, Program, Launched]


@pytest.fixture(scope="module")
def served(image: str, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    program, name = Program(), f"{LABEL}-api-{uuid.uuid4().hex[:8]}"
    with of(program, tmp_path_factory.mktemp("state")) as engine:
        try:
            yield (
                engine,
                program,
                engine.launch_model(
                    str(tiny), hardware="cpu", host="127.0.0.1", api_key=KEY, image=image, name=name, timeout=240
                ),
            )
        finally:
            docker("rm", "--force", "--volumes", name, check=False)


def ask(url: str, key: str | None = None, body: Any = None) -> Any:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def test_it_was_launched_and_has_answered(served: Served) -> None:
    _, program, launched = served
    assert (launched.success, launched.status, launched.backend, launched.gpu_count) == (True, "running", "vllm", 0)
    assert launched.tested
    assert launched.tested.completion_tokens
    assert launched.endpoint_url == f"http://127.0.0.1:{launched.port}"
    assert 23300 <= launched.port <= 23399
    assert json.loads(json.dumps(launched.as_json()))["container_name"] == launched.container_name
    done = [step for step, fraction, _ in program.told if fraction == 1.0]
    assert done == ["detect", "plan", "image", "create", "start", "ready", "test"]


def test_the_hooks_hold_inside_the_container(served: Served) -> None:
    """There no hook is asked: the recipe, the options and the variables have carried what the hooks did."""
    _, program, launched = served
    assert program.offered == ["cpu-any-bf16", "cpu-any-fp16"]
    assert (launched.recipe_id, launched.precision) == ("cpu-any-fp16", "fp16")
    inside: Mapping[str, Any] = ask(f"{launched.health_url}/plan")
    assert inside["recipe_id"] == "cpu-any-fp16"
    words = inside["command"]["argv"]
    assert words[words.index("--max-num-seqs") + 1] == "7"
    assert words[words.index("--dtype") + 1] == "float16"
    said = docker("exec", launched.container_name, "printenv", "OF_THE_PROGRAM").stdout
    assert said == 'it\'s "quoted" $(here)\n'
    assert launched.plan.origins["--max-num-seqs"] == "the configure hook"
    assert set(program.checked) == {launched.container_name}


def test_it_answers_with_its_key_which_nothing_shows(served: Served) -> None:
    _, _, launched = served
    body = {"model": "tiny", "prompt": "Hello", "max_tokens": 3}
    assert ask(f"{launched.endpoint_url}/v1/completions", KEY, body)["usage"]["completion_tokens"] == 3
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(f"{launched.endpoint_url}/v1/completions", None, body)
    assert KEY not in docker("inspect", launched.container_name).stdout + repr(launched) + str(launched.as_json())


def test_it_is_listed_with_the_program_s_own_verdict(served: Served) -> None:
    engine, _, launched = served
    (found,) = (one for one in engine.list_models() if one.endpoint.name == launched.container_name)
    assert (found.health.ready, found.health.source) == (True, "the health_check hook")
    status = engine.get_model_status(launched.container_id)
    assert (status.health.ready, status.plan["recipe_id"]) == (True, "cpu-any-fp16")
    rows = next(iter(engine.watch()))
    assert launched.container_name in [row.name for row in rows]
    assert any("Uvicorn running" in line or "Application startup complete" in line
               for line in engine.logs(launched.container_name))  # fmt: skip


def test_launches_in_parallel_are_each_their_own(image: str, tiny: Path, tmp_path: Path) -> None:
    """Four threads, one engine, nobody waits: four names and eight ports."""
    name = f"{LABEL}-parallel-{uuid.uuid4().hex[:8]}"
    program, made = Program(), list[Launched]()
    with of(program, tmp_path) as engine:

        def one(number: int) -> None:
            made.append(engine.launch_model(str(tiny), hardware="cpu", host="127.0.0.1", image=image, wait=False,
                                            name=f"{name}-{number}"))  # fmt: skip

        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(one, range(4)))
            assert {one.container_name for one in made} == {f"{name}-{number}" for number in range(4)}
            assert len({port for one in made for port in (one.endpoint.port, one.endpoint.health_port)}) == 8
            assert {one.status for one in made} == {"starting"}
            assert len({one.container_id for one in made}) == 4
        finally:
            for number in range(4):
                docker("rm", "--force", "--volumes", f"{name}-{number}", check=False)


def test_a_hook_that_raises_leaves_no_container(image: str, tiny: Path, tmp_path: Path) -> None:
    name = f"{LABEL}-raises-{uuid.uuid4().hex[:8]}"

    def check(_: Any) -> bool:
        raise ValueError("out of cheese")

    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    with AIMEngine(environment=environment, health_check=check) as engine:
        with pytest.raises(InputError, match="the health_check hook raised ValueError: out of cheese") as caught:
            engine.launch_model(str(tiny), hardware="cpu", host="127.0.0.1", image=image, name=name, api_key=KEY)
        assert isinstance(caught.value.__cause__, ValueError)
    assert docker("ps", "--all", "--quiet", "--filter", f"name=^{name}$").stdout == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_it_is_stopped_at_last(served: Served) -> None:
    engine, _, launched = served
    stopped = engine.stop_model(launched.container_name)
    assert (stopped.exit_code, stopped.removed, stopped.cut_short) == (0, True, False)
    with pytest.raises(InputError, match="there is no endpoint"):
        engine.get_model_status(launched.container_name)
