"""`AIMEngine`: on declared hardware, and against a stand-in Docker Engine and endpoints that answer as told."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import FrozenInstanceError
from itertools import islice
from typing import Any

import pytest

from aim_engine import AIMEngine
from aim_engine.deploy.docker import connect
from aim_engine.errors import DockerError, InputError, ModelAccessError, NoAcceleratorError
from aim_engine.request import read_request
from tests.building import MODEL
from tests.deploy.running import READY, Answering, FakeDocker, ended

ON = "MI300X:8"
NOWHERE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}


@pytest.fixture
def docker() -> Iterator[FakeDocker]:
    with closing(FakeDocker()) as server:
        yield server


@pytest.fixture
def sidecar() -> Iterator[Answering]:
    with closing(Answering()) as server:
        server.routes = {"/status": READY, "/plan": {"recipe_id": "mine"}}
        yield server


Make = Callable[..., AIMEngine]


@pytest.fixture
def make(docker: FakeDocker) -> Iterator[Make]:
    made: list[AIMEngine] = []

    def one(**hooks: Any) -> AIMEngine:
        made.append(AIMEngine(environment={"DOCKER_HOST": docker.host, "HOME": "/nowhere"}, **hooks))
        return made[-1]

    yield one
    for engine in made:
        engine.close()


# --- what would be served ----------------------------------------------------------------------------------------


def test_the_package_stays_cheap_until_the_engine_is_asked_for() -> None:
    code = (
        "import sys, aim_engine; assert aim_engine.__version__; assert 'aim_engine.engine' not in sys.modules\n"
        "from aim_engine import AIMEngine; assert AIMEngine.__module__ == 'aim_engine.engine'\n"
        "assert not {'docker', 'requests', 'rich'} & sys.modules.keys()\n"
        "try: aim_engine.AIMEngin\n"
        "except AttributeError: pass\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_specification_s_methods_take_its_arguments_in_its_order() -> None:
    wanted = {
        "launch_model": ["model_id", "gpu_count", "precision", "backend", "port"],
        "stop_model": ["name"],
        "list_models": [],
        "get_model_status": ["name"],
        "show_model_configurations": ["model_id"],
        "get_optimal_configuration": ["model_id", "customer_gpu_count", "customer_precision", "backend"],
    }
    for name, arguments in wanted.items():
        parameters = list(inspect.signature(getattr(AIMEngine, name)).parameters.values())[1:]
        assert [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == arguments, name


def test_the_environment_is_the_process_s_unless_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIM_HARDWARE", "MI300X:2")
    assert len(AIMEngine().detect_gpus().gpus) == 2
    assert len(AIMEngine(environment={"AIM_HARDWARE": "MI300X:3"}).detect_gpus().gpus) == 3
    assert len(AIMEngine(environment={}).detect_gpus(hardware=ON).gpus) == 8


def test_the_optimal_configuration_has_the_specification_s_keys() -> None:
    engine = AIMEngine(environment={"AIM_HARDWARE": ON})
    found = engine.get_optimal_configuration(MODEL, 4, "bf16", "vllm")
    said = found.as_json()
    assert (found.recipe_id, found.gpu_count, found.available_gpus) == ("qwen3-32b-mi300x-bf16", 4, 8)
    assert {key: said[key] for key in said if key != "config"} == {
        "recipe_id": "qwen3-32b-mi300x-bf16", "model_id": MODEL, "gpu_count": 4, "precision": "bf16", "backend": "vllm",
        "available_gpus": 8,
    }  # fmt: skip
    assert said["config"]["args"]["tensor-parallel-size"] == 4
    assert said["config"]["argv"][:3] == ["vllm", "serve", MODEL]
    assert json.loads(json.dumps(said)) == said
    with pytest.raises(FrozenInstanceError):
        found.plan = None  # type: ignore[misc, assignment]


def test_a_plan_is_the_command_line_s(capsys: pytest.CaptureFixture[str]) -> None:
    from aim_engine.cli.main import main

    assert main(["plan", MODEL, "--hardware", ON, "--gpus", "2", "--json"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    ours = AIMEngine(environment={}).plan(MODEL, 2, hardware=ON).as_json()
    for one in (ours, theirs):
        one["origins"] = {name: text.replace("keyword", "flag") for name, text in one["origins"].items()}
    assert json.loads(json.dumps({**ours, "runtime": 0})) == {**theirs, "runtime": 0}
    assert capsys.readouterr() == ("", "")


def test_a_refusal_is_raised_as_its_class() -> None:
    with pytest.raises(NoAcceleratorError):
        AIMEngine(environment={}).plan(MODEL, 8, hardware="MI300X:4")
    with pytest.raises(InputError, match="no model was asked for"):
        AIMEngine(environment={}).plan(hardware=ON)


def test_a_misspelt_keyword_is_told_the_nearest() -> None:
    engine = AIMEngine(environment=NOWHERE)
    with pytest.raises(InputError, match="max_modle_len is not a keyword") as caught:
        engine.plan(MODEL, hardware=ON, max_modle_len=4096)
    assert "max_model_len" in caught.value.hint
    with pytest.raises(InputError, match="netwrok is not a keyword") as caught:
        engine.launch_model(MODEL, hardware=ON, netwrok="x")
    assert "network" in caught.value.hint
    with pytest.raises(InputError, match="keep is not a keyword"):
        engine.plan(MODEL, hardware=ON, keep=True)


def test_all_configurations_and_the_hook_s_choice_among_them() -> None:
    engine = AIMEngine(environment={"AIM_HARDWARE": ON}, select=lambda candidates: candidates[-1])
    found = engine.show_model_configurations(MODEL)
    (chosen,) = (one for one in found.as_json()["configurations"] if one["chosen"])
    assert found.chosen
    assert (chosen["recipe_id"], chosen["gpu_count"]) == (
        found.chosen.candidate.recipe.recipe_id, found.chosen.candidate.gpu_count
    )  # fmt: skip
    assert found.chosen.candidate.in_words() == engine.plan(MODEL).winner.in_words()
    assert AIMEngine(environment={}).show_model_configurations(MODEL, hardware="cpu").chosen is None


def test_hooks_reach_the_line_of_a_dry_run() -> None:
    def configure(options: dict[str, Any], variables: dict[str, str]) -> Any:
        return {**options, "max-num-seqs": 64}, {**variables, "MINE": "it's"}

    def select(candidates: Any) -> Any:
        return next(one for one in candidates if one.candidate.gpu_count == 2)

    told: list[tuple[str, float | None, str]] = []
    engine = AIMEngine(environment=NOWHERE, configure=configure, select=select,
                       on_progress=lambda *words: told.append(words))  # fmt: skip
    from aim_engine.deploy.launch_job import Wishes

    request = read_request({"model": MODEL, "hardware": ON}, NOWHERE, ports_follow=True)
    (decision,) = engine.dry_run(request, Wishes())
    said = decision.spec.environment
    assert said["AIM_GPU_COUNT"] == "2"
    assert said["AIM_RECIPE"] == decision.plan.recipe_id
    assert json.loads(said["AIM_ENGINE_ARGS"]) == {"max-num-seqs": 64}
    assert said["MINE"] == "it's"
    assert decision.plan.chosen_by == "the select hook"
    assert [step for step, fraction, _ in told if fraction == 1.0] == ["detect", "plan"]
    assert next(words for step, _, words in told if step == "warning").startswith("no Docker Engine")


def test_what_a_container_is_told_makes_the_hooks_plan_again() -> None:
    """Inside there are no hooks: recipe, number of GPUs, options and variables carry what they did."""

    def configure(options: dict[str, Any], variables: dict[str, str]) -> Any:
        return {**options, "max-num-seqs": 64}, {**variables, "VLLM_ROCM_USE_AITER": "0"}

    from aim_engine.deploy.launch_job import Wishes

    engine = AIMEngine(environment=NOWHERE, configure=configure, select=lambda candidates: candidates[-1])
    request = read_request({"model": MODEL, "hardware": ON}, NOWHERE, ports_follow=True)
    (decision,) = engine.dry_run(request, Wishes())
    count = decision.plan.winner.gpu_count
    inside = AIMEngine(environment=decision.spec.environment).plan(hardware=f"MI300X:{count}")
    assert inside.winner.variant == decision.plan.winner.variant
    changed = {"port", "served-model-name", "download-dir"}
    left, right = (
        {name: value for name, value in one.command.options.items() if name not in changed}
        for one in (inside, decision.plan)
    )
    assert left == right
    assert "VLLM_ROCM_USE_AITER" not in inside.command.env  # the process's own, which wins
    assert inside.request.environment["VLLM_ROCM_USE_AITER"] == "0"


# --- with Docker -------------------------------------------------------------------------------------------------


def test_what_runs_with_its_health(make: Make, docker: FakeDocker, sidecar: Answering) -> None:
    docker.add("aim-ready", ports=(None, sidecar.port))
    docker.add("aim-ended", state=ended(0))
    (found,) = make().list_models()
    assert (found.endpoint.name, found.health.word, found.as_json()["health"]["ready"]) == ("aim-ready", "ready", True)
    assert {one.endpoint.name for one in make().list_models(all=True)} == {"aim-ready", "aim-ended"}


def test_the_status_of_one(make: Make, docker: FakeDocker, sidecar: Answering) -> None:
    words = ModelAccessError("it is gated", hint="set HF_TOKEN").as_json()
    docker.add("aim-ready", ports=(None, sidecar.port))
    docker.add("aim-ended", state=ended(40), log=((2, json.dumps(words) + "\n"),))
    ready, over = make().get_model_status("aim-ready"), make().get_model_status("aim-ended")
    assert (ready.plan["recipe_id"], ready.ending) == ("mine", None)
    assert over.ending
    assert isinstance(over.ending.error, ModelAccessError)
    assert over.as_json()["ending"]["exit_code"] == 40
    with pytest.raises(InputError, match="there is no endpoint nobody"):
        make().get_model_status("nobody")


@pytest.mark.parametrize("verdict", [True, False])
def test_a_health_check_has_the_last_word_on_what_runs(
    make: Make, docker: FakeDocker, sidecar: Answering, verdict: bool
) -> None:
    docker.add("aim-one", ports=(None, sidecar.port))
    docker.add("aim-ended", state=ended(0))
    asked: list[str] = []

    def check(endpoint: Any) -> bool:
        asked.append(endpoint.name)
        return verdict

    engine = make(health_check=check)
    assert {one.endpoint.name: one.health.ready for one in engine.list_models(all=True)} == {
        "aim-one": verdict, "aim-ended": False
    }  # fmt: skip
    assert engine.get_model_status("aim-one").health.source == "the health_check hook"
    assert next(iter(engine.watch()))[0].health.ready is verdict
    assert set(asked) == {"aim-one"}


def test_a_health_check_decides_when_the_waiting_ends(make: Make, docker: FakeDocker, sidecar: Answering) -> None:
    """The sidecar says ready at once; the hook only when it is asked for the third time."""
    docker.add("aim-one", ports=(None, sidecar.port))
    verdicts = iter([False, False, True])
    told: list[str] = []
    engine = make(
        health_check=lambda _: next(verdicts), on_progress=lambda step, _, words: told.append(f"{step} {words}")
    )
    found = engine.restart_model("aim-one")
    assert found.ready
    assert next(verdicts, None) is None
    assert told == ["restart not ready", "restart ready"]


def test_a_health_check_that_raises_ends_the_waiting(make: Make, docker: FakeDocker, sidecar: Answering) -> None:
    docker.add("aim-one", ports=(None, sidecar.port))

    def check(_: Any) -> bool:
        raise OSError("no route")

    with pytest.raises(InputError, match="the health_check hook raised OSError: no route") as caught:
        make(health_check=check).restart_model("aim-one", timeout=5)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(InputError, match="the health_check hook raised"):
        make(health_check=check).list_models()


def test_stop_and_restart(make: Make, docker: FakeDocker) -> None:
    docker.add("aim-one")
    assert make().restart_model("aim-one", wait=False).as_json()["ready"] is False
    stopped = make().stop_model("aim-one", keep=True)
    assert (stopped.code, stopped.removed) == (0, False)
    assert make().stop_model("aim-one").removed
    assert docker.containers == {}


def test_a_stop_that_docker_refuses_is_raised(make: Make, docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.add("aim-one")
    answer = docker.answer

    def refuse(method: str, path: str, *rest: Any) -> tuple[int, str, bytes]:
        return (
            (500, "application/json", b'{"message": "no"}') if path.endswith("/stop") else answer(method, path, *rest)
        )

    monkeypatch.setattr(docker, "answer", refuse)
    with pytest.raises(DockerError, match="could not stop aim-one: "):
        make().stop_model("aim-one")


def test_logs_are_lines_of_both_streams(make: Make, docker: FakeDocker) -> None:
    docker.add("aim-one", log=((1, "one\r\ntw"), (2, "err\n"), (1, "o\n\n"), (1, "unended é")))
    assert list(make().logs("aim-one")) == ["one", "err", "two", "", "unended é"]


def test_watching_goes_on_until_it_is_left(make: Make, docker: FakeDocker, sidecar: Answering) -> None:
    docker.add("aim-one", ports=(None, sidecar.port))
    looks = list(islice(make().watch(interval=0.01), 3))
    assert [[row.name for row in rows] for rows in looks] == [["aim-one"]] * 3


def test_it_closes_what_it_opened_and_nothing_else(docker: FakeDocker) -> None:
    with AIMEngine(environment={"DOCKER_HOST": docker.host}) as engine:
        own = engine.docker
        assert engine.docker is own
        pools = own.api.adapters["http://"].poolmanager.pools
        assert len(pools) == 1
    assert len(pools) == 0
    with closing(connect({"DOCKER_HOST": docker.host})) as given:
        with AIMEngine(environment=NOWHERE, docker_client=given) as engine:
            assert engine.endpoints() == []
        assert given.version()["Version"]
        assert len(given.api.adapters["http://"].poolmanager.pools) == 1


def test_no_docker_is_said_as_such() -> None:
    for call in (AIMEngine.list_models, lambda engine: engine.launch_model(MODEL, hardware=ON)):
        with AIMEngine(environment=NOWHERE) as engine, pytest.raises(DockerError):
            call(engine)


def test_many_threads_share_one_engine(make: Make, docker: FakeDocker, sidecar: Answering) -> None:
    for number in range(4):
        docker.add(f"aim-{number}", ports=(None, sidecar.port))
    engine = make()
    together = threading.Barrier(8)

    def one(number: int) -> str:
        together.wait()
        return engine.get_model_status(f"aim-{number % 4}").endpoint.name

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [f"aim-{number % 4}" for number in range(8)]


def test_nothing_is_printed(make: Make, docker: FakeDocker, capfd: pytest.CaptureFixture[str]) -> None:
    docker.add("aim-one")
    engine = make()
    engine.list_models()
    engine.stop_model("aim-one")
    engine.plan(MODEL, hardware=ON)
    assert capfd.readouterr() == ("", "")


def test_results_are_values_that_json_knows(make: Make, docker: FakeDocker, sidecar: Answering) -> None:
    docker.add("aim-one", ports=(None, sidecar.port))
    engine = make()
    results: Mapping[str, Any] = {
        "detect_gpus": engine.detect_gpus(hardware=ON),
        "plan": engine.plan(MODEL, hardware=ON),
        "configurations": engine.show_model_configurations(MODEL, hardware=ON),
        "list": engine.list_models()[0],
        "status": engine.get_model_status("aim-one"),
        "watch": next(iter(engine.watch()))[0],
        "restart": engine.restart_model("aim-one", wait=False),
        "stop": engine.stop_model("aim-one"),
    }
    for name, result in results.items():
        assert json.loads(json.dumps(result.as_json())), name


def test_values_of_other_kinds_are_refused_in_a_sentence() -> None:
    for environment in ({"AIM_PORT": 5}, {1: "x"}, [1]):
        with pytest.raises(InputError, match="environment"):
            AIMEngine(environment=environment)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, 5, b"aim-one"])
def test_a_name_is_text(make: Make, docker: FakeDocker, name: Any) -> None:
    docker.add("aim-one")
    for method in ("stop_model", "get_model_status", "restart_model", "logs"):
        with pytest.raises(InputError, match="is no endpoint's name"):
            getattr(make(), method)(name)


@pytest.mark.parametrize("timeout", ["x", 1.5, True, -1])
def test_a_stop_s_time_is_whole_seconds(make: Make, docker: FakeDocker, timeout: Any) -> None:
    docker.add("aim-one")
    with pytest.raises(InputError, match="timeout"):
        make().stop_model("aim-one", timeout=timeout)
    assert len(docker.containers) == 1
