"""Launches on a real Docker Engine: nobody shares a GPU, nothing half-made stays, and one whole cycle on the CPU."""

from __future__ import annotations

import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.catalog.load import Catalog
from aim_engine.deploy import launch_create, launch_decide, launch_lock
from aim_engine.deploy.choosing import find_endpoint
from aim_engine.deploy.docker import connect
from aim_engine.deploy.launch import launch
from aim_engine.deploy.launch_create import create_alone
from aim_engine.deploy.launch_job import TOKEN, Job, Wishes
from aim_engine.deploy.launch_lock import NAME as LOCK
from aim_engine.deploy.launch_lock import LockLostError, remove_labelled
from aim_engine.deploy.listing import list_endpoints
from aim_engine.deploy.reach import Vantage
from aim_engine.deploy.secrets import secrets_folder, secrets_name
from aim_engine.deploy.stopping import stop
from aim_engine.errors import AimError, DockerError, InputError, NoAcceleratorError
from aim_engine.hardware.inventory import Inventory
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.request import Request, read_request
from tests.building import MODEL, cpu_here
from tests.deploy.planning import CPU_RECIPE, SHIPPED, SMALL, with_nodes
from tests.image.containers import LABEL, docker

pytestmark = pytest.mark.image

KEY = "s3cret-of-the-launch"
RANGE = "23000-23199"


def host_of_eight() -> Inventory:
    """Eight GPUs at addresses and device files that no machine has, so that nobody's containers hold them."""
    found = with_nodes()
    gpus = tuple(
        replace(gpu, pci_address=f"fa15:{gpu.index:02x}:00.0", render_node=f"/dev/dri/renderD{9000 + gpu.index}")
        for gpu in found.gpus
    )
    return replace(found, gpus=gpus, source="declared")


def plan(request: Request, inventory: Inventory) -> Plan | Refusal:
    if inventory.gpus[0].product == "CPU":
        catalog = Catalog(recipes=(CPU_RECIPE,), card=replace(SMALL, model_id=request.required_model))
        return make_plan(request, inventory, catalog)
    return make_plan(request, inventory, SHIPPED)


Jobs = Callable[..., Job]


@pytest.fixture
def token() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def client(engine: None, token: str) -> Iterator[Any]:
    with closing(connect(os.environ)) as found:
        yield found
        remove_labelled(found, TOKEN, token)


@pytest.fixture
def job(empty_image: str, tmp_path: Path, token: str) -> Jobs:
    def make(on: Inventory | None = None, *, given: Mapping[str, str] | None = None, **wishes: Any) -> Job:
        flags = {"model": MODEL, "port_range": RANGE, "host": "127.0.0.1", "gpu_count": "1"}
        return Job(
            request=read_request(flags, {"AIM_API_KEY": KEY, **(given or {})}, ports_follow=True),
            inventory=on or host_of_eight(),
            planner=plan,
            wishes=Wishes(**{"image": empty_image, **wishes}),
            environment={"XDG_STATE_HOME": str(tmp_path)},
            token=token,
        )

    return make


def of_token(client: Any, token: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.api.containers(all=True, filters={"label": f"{TOKEN}={token}"})
    return found


# --- alone -------------------------------------------------------------------------------------------------------


def test_twenty_at_once_never_share_a_gpu(client: Any, job: Jobs, token: str) -> None:
    wanted = job()

    def one(number: int) -> tuple[str, ...] | AimError:
        with closing(connect(os.environ)) as own:
            try:
                ((_, decision),) = create_alone(own, wanted)
            except AimError as error:
                return error
            return tuple(str(gpu.pci_address) for gpu in decision.plan.winner.gpus)

    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(one, range(20)))
    taken = [address for found in results if isinstance(found, tuple) for address in found]
    refused = [found for found in results if isinstance(found, AimError)]
    assert sorted(taken) == sorted(str(gpu.pci_address) for gpu in host_of_eight().gpus)
    assert len(refused) == 12
    for error in refused:
        assert isinstance(error, NoAcceleratorError), error
        assert error.message == "1 GPU was asked for, and 0 of 8 are free"
        assert "the container aim-engine-qwen-qwen3-32b-1gpu-bf16-vllm" in error.details[0]
    ours = [one for one in list_endpoints(client, all=True) if one.name in names(client, token)]
    assert sorted(gpu for one in ours for gpu in one.gpus) == sorted(taken)
    assert len({port for one in ours for port in (one.port, one.health_port)}) == 16
    assert len(names(client, token)) == 8
    assert not docker("ps", "--all", "--quiet", "--filter", f"name=^{LOCK}$").stdout.strip()


def names(client: Any, token: str) -> set[str]:
    return {one["Names"][0].removeprefix("/") for one in of_token(client, token)}


def test_a_lock_that_is_left_behind_is_removed_by_the_engine_s_clock(client: Any, empty_image: str) -> None:
    label = {launch_lock._LABEL: "of one that was killed"}
    left = client.api.create_container(empty_image, command=["true"], name=LOCK, labels=label)["Id"]
    began, waits = time.monotonic(), []
    with launch_lock.launch_lock(
        client, empty_image, on_wait=lambda: waits.append(time.monotonic()), stale_seconds=1.5
    ) as lock:
        assert time.monotonic() - began > 1
        assert lock.container_id != left
        lock.check()
    assert len(waits) > 1


def test_one_whose_lock_was_taken_away_notices(client: Any, empty_image: str) -> None:
    with launch_lock.launch_lock(client, empty_image) as lock:
        client.api.remove_container(lock.container_id, force=True)
        with launch_lock.launch_lock(client, empty_image), pytest.raises(LockLostError):
            lock.check()


def test_a_container_made_under_a_lost_lock_is_made_again(
    client: Any, job: Jobs, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the machine stood still for half a minute between the decision and the creation."""
    real, seen = launch_create.create, []

    def slow(*words: Any) -> str:
        made = real(*words)
        seen.append(made)
        if len(seen) == 1:
            client.api.remove_container(LOCK, force=True)
        return made

    monkeypatch.setattr(launch_create, "create", slow)
    ((made, _),) = create_alone(client, job())
    assert [made] == seen[1:]
    assert [one["Id"] for one in of_token(client, token)] == [made]


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError("x"), SystemExit])
def test_the_lock_is_released_whatever_happens(client: Any, empty_image: str, error: Any) -> None:
    with pytest.raises((KeyboardInterrupt, InputError, SystemExit)), launch_lock.launch_lock(client, empty_image):
        raise error
    assert not docker("ps", "--all", "--quiet", "--filter", f"name=^{LOCK}$").stdout.strip()


# --- names, ports and secrets ----------------------------------------------------------------------------------------


def test_a_second_one_of_a_model_has_a_number(client: Any, job: Jobs) -> None:
    made = [create_alone(client, job())[0][1].spec.name for _ in range(3)]
    assert made == [f"aim-engine-qwen-qwen3-32b-1gpu-bf16-vllm{tail}" for tail in ("", "-2", "-3")]


def test_a_name_that_is_taken(client: Any, job: Jobs, token: str, empty_image: str) -> None:
    name = f"{LABEL}-taken"
    other = docker("create", "--name", name, "--label", LABEL, empty_image, "true").stdout.strip()
    try:
        with pytest.raises(InputError, match=f"--name {name}: a container of that name is there") as caught:
            create_alone(client, job(name=name))
    finally:
        docker("rm", other)
    assert caught.value.code == 10
    assert of_token(client, token) == []


def test_the_engine_sees_files_and_no_secret(client: Any, job: Jobs, token: str, tmp_path: Path) -> None:
    ((made, decision),) = create_alone(client, job())
    said = docker("inspect", made).stdout
    assert KEY not in said
    assert "AIM_API_KEY_FILE=/run/secrets/AIM_API_KEY" in said
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    folder = secrets_folder(environment, secrets_name(decision.spec.name, token))
    assert (folder / "AIM_API_KEY").read_text() == f"{KEY}\n"


def test_a_renamed_one_keeps_its_secrets_when_another_gets_its_name(
    client: Any, job: Jobs, token: str, tmp_path: Path
) -> None:
    environment, name = {"XDG_STATE_HOME": str(tmp_path)}, f"{LABEL}-{token[:8]}"
    ((old, _),) = create_alone(client, job(name=name))
    docker("rename", old, f"{name}-old")
    second = replace(job(name=name), token=uuid.uuid4().hex)
    ((new, _),) = create_alone(client, second)
    try:
        key_files = [Path(find_endpoint(client, one).key_file or "") for one in (old, new)]
        assert [path.read_text() for path in key_files] == [f"{KEY}\n"] * 2
        stop(client, find_endpoint(client, name), seconds=1, keep=False, environment=environment)
        assert [path.exists() for path in key_files] == [True, False]
        stop(client, find_endpoint(client, f"{name}-old"), seconds=1, keep=False, environment=environment)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    finally:
        remove_labelled(client, TOKEN, second.token)


def test_an_engine_that_does_not_see_our_files_gets_a_variable_and_a_warning(
    client: Any, job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_decide, "vantage", lambda _client: Vantage(by_socket=False))
    told: list[str] = []
    ((made, _),) = create_alone(client, replace(job(), warn=told.append))
    assert f"AIM_API_KEY={KEY}" in client.api.inspect_container(made)["Config"]["Env"]
    assert "docker inspect shows it" in told[0]
    assert not (tmp_path / "aim-engine").exists()


# --- what fails, and ^C ---------------------------------------------------------------------------------------------


class Script:
    """A teller that does something when a step begins."""

    def __init__(self, **actions: Callable[[], None]) -> None:
        self.actions, self.steps, self.warnings = actions, list[str](), list[str]()

    def begin(self, step: str) -> None:
        self.steps.append(step)
        self.actions.get(step, lambda: None)()

    def progress(self, done: int, total: int, words: str) -> None:
        pass

    def end(self, words: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["plan", "image", "create", "start"])
def test_an_interrupt_at_any_step_leaves_nothing(client: Any, job: Jobs, token: str, tmp_path: Path, step: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        launch(client, job(), Script(**{step: interrupt}))
    assert_nothing_is_left(client, token, tmp_path)


def assert_nothing_is_left(client: Any, token: str, state: Path) -> None:
    assert of_token(client, token) == []
    assert not docker("ps", "--all", "--quiet", "--filter", f"name=^{LOCK}$").stdout.strip()
    assert [path for path in state.rglob("*") if path.is_file()] == []


def test_an_interrupt_before_the_engine_has_told_the_id(
    client: Any, job: Jobs, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = launch_create.create

    def interrupted(*words: Any) -> str:
        real(*words)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch_create, "create", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch(client, job(), Script())
    assert_nothing_is_left(client, token, tmp_path)


def test_devices_that_are_not_there_fail_the_start_and_leave_nothing(
    client: Any, job: Jobs, token: str, tmp_path: Path
) -> None:
    if Path("/dev/kfd").exists():
        pytest.skip("this machine has GPUs")
    with pytest.raises(DockerError, match="start") as caught:
        launch(client, job(), Script())
    assert caught.value.code == 60
    assert_nothing_is_left(client, token, tmp_path)


def test_an_image_that_is_not_here_and_has_no_registry(client: Any, job: Jobs, token: str, tmp_path: Path) -> None:
    with pytest.raises(DockerError, match="says no registry") as caught:
        launch(client, job(image=f"{LABEL}-no-such-image"), Script())
    assert "scripts/build" in caught.value.hint
    assert_nothing_is_left(client, token, tmp_path)


def test_a_registry_that_does_not_answer(client: Any, job: Jobs, token: str, tmp_path: Path) -> None:
    with pytest.raises(DockerError) as caught:
        launch(client, job(image="127.0.0.1:9/x/y:1"), Script())
    assert caught.value.code == 60
    assert_nothing_is_left(client, token, tmp_path)


class Relay:
    """A way to the engine that can die: a socket of our own, each connection passed on."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path, self._engine, self._open = path, engine, list[socket.socket]()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._engine)
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def die(self) -> None:
        self.path.unlink(missing_ok=True)
        for one in (self._listening, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_dies_in_the_middle(client: Any, job: Jobs, token: str, tmp_path: Path) -> None:
    """The SDK leaves the socket open that could not be connected; hence the filters."""
    where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not where.startswith("unix://"):
        pytest.skip("the engine is not reached by a socket")
    relay = Relay(tmp_path / "relay.sock", where.removeprefix("unix://"))
    with closing(connect({"DOCKER_HOST": f"unix://{relay.path}"})) as fragile, pytest.raises(DockerError) as caught:
        launch(fragile, job(), Script(start=relay.die))
    assert caught.value.code == 60
    assert caught.value.hint
    assert "may be left: aim-engine stop aim-engine-qwen" in caught.value.details[0]
    assert [one["State"] for one in of_token(client, token)] == ["created"]
    del fragile, caught  # whose frames hold the sockets
    gc.collect()


# --- several at once --------------------------------------------------------------------------------------------------


def test_replicas_are_created_together_and_share_nothing(client: Any, job: Jobs, token: str) -> None:
    made = create_alone(client, job(replicas=3))
    assert [decision.spec.name[-2:] for _, decision in made] == ["-1", "-2", "-3"]
    ours = [one for one in list_endpoints(client, all=True) if one.name in names(client, token)]
    assert [one.replica for one in ours] == [1, 2, 3]
    assert len({one.replica_group for one in ours}) == 1
    assert len({gpu for one in ours for gpu in one.gpus}) == 3
    assert len({port for one in ours for port in (one.port, one.health_port)}) == 6


def test_of_replicas_launched_at_once_all_are_there_or_none(client: Any, job: Jobs, token: str) -> None:
    """Three each of eight GPUs, by four at once: two of them have room, and nobody takes a part."""
    wanted = job(replicas=3)

    def one(_number: int) -> int | AimError:
        with closing(connect(os.environ)) as own:
            try:
                return len(create_alone(own, wanted))
            except AimError as error:
                return error

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(4)))
    assert sorted(found for found in results if isinstance(found, int)) == [3, 3]
    refused = [found.message for found in results if isinstance(found, NoAcceleratorError)]
    assert refused == ["3 replicas of 1 GPU each need 3 GPUs, and 2 of 8 are free"] * 2
    assert len(names(client, token)) == 6


@pytest.mark.parametrize("step", ["create", "start"])
def test_an_interrupt_leaves_no_replica(client: Any, job: Jobs, token: str, tmp_path: Path, step: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        launch(client, job(replicas=3), Script(**{step: interrupt}))
    assert_nothing_is_left(client, token, tmp_path)


def test_one_replica_whose_name_is_taken_leaves_none(client: Any, job: Jobs, token: str, empty_image: str) -> None:
    name = f"{LABEL}-several"
    other = docker("create", "--name", f"{name}-2", "--label", LABEL, empty_image, "true").stdout.strip()
    try:
        with pytest.raises(InputError, match=f"a container {name}-2 is there already"):
            create_alone(client, job(name=name, replicas=2))
    finally:
        docker("rm", other)
    assert of_token(client, token) == []


# --- with the image ---------------------------------------------------------------------------------------------------


class Command:
    """`aim-engine launch` as a process, for the tiny model on the CPU."""

    def __init__(self, image: str, model: Path, state: Path, *words: str) -> None:
        argv = [sys.executable, "-m", "aim_engine.cli.main", "launch", str(model), "--hardware", "cpu"]
        argv += ["--image", image, "--host", "127.0.0.1", "--port-range", RANGE, *words]
        environment = {**os.environ, "XDG_STATE_HOME": str(state), "AIM_API_KEY": KEY}
        self.process = subprocess.Popen(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self, seconds: float = 200) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


def of_name(name: str) -> str:
    return docker("ps", "--all", "--quiet", "--filter", f"name=^{name}$").stdout.strip()


@pytest.fixture
def name() -> Iterator[str]:
    name = f"{LABEL}-launched-{uuid.uuid4().hex[:8]}"
    yield name
    docker("rm", "--force", "--volumes", name, check=False)


def test_one_whole_cycle(image: str, tiny: Path, name: str, tmp_path: Path) -> None:
    code, out, err = Command(image, tiny, tmp_path, "--name", name, "--wait", "--json").end()
    assert code == 0, err
    said = json.loads(out)
    assert said["success"] is True
    assert said["model_id"] == str(tiny)
    assert said["container_id"] == docker("inspect", "--format", "{{.Id}}", name).stdout[:12]
    assert said["container_name"] == name
    assert (said["gpu_count"], said["available_gpus"], said["gpus"]) == (0, 0, [])
    assert (said["backend"], said["status"]) == ("vllm", "running")
    assert said["auto_selected"] == {"gpu_count": True, "precision": True}
    assert said["endpoint_url"] == f"http://127.0.0.1:{said['port']}"
    assert said["test"]["completion_tokens"] > 0
    assert said["test"]["latency_seconds"] > 0
    for step in ("validate", "detect", "plan", "image", "create", "start", "ready", "test"):
        assert f"✓ {step}" in err or f"+ {step}" in err
    with urllib.request.urlopen(f"{said['health_url']}/health/ready", timeout=10) as answer:
        assert answer.status == 200
    assert KEY not in docker("inspect", name).stdout + docker("logs", name).stdout + docker("logs", name).stderr
    docker("stop", "--time", "90", name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"


def test_a_container_that_dies_while_it_starts(image: str, tiny: Path, name: str, tmp_path: Path) -> None:
    """A model that the container's user may not read: its own last words come out, at once, and it goes."""
    closed = tmp_path / "closed"
    shutil.copytree(tiny, closed)
    closed.chmod(0o700)
    began = time.monotonic()
    words = ("--name", name, "--user", "54321:54321", "--json")
    code, out, err = Command(image, closed, tmp_path / "state", *words).end()
    error = json.loads(out)["error"]
    assert json.loads(out)["success"] is False
    assert code == error["code"] == json.loads(err.strip().splitlines()[-1])["code"]
    assert code in (10, 40), err
    assert "/models/closed" in error["message"]
    assert time.monotonic() - began < 60
    assert of_name(name) == ""
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []


def test_what_failed_can_be_kept(image: str, tiny: Path, name: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    shutil.copytree(tiny, closed)
    closed.chmod(0o700)
    code, _, _ = Command(image, closed, tmp_path / "state", "--name", name, "--user", "54321:54321", "--keep").end()
    assert code in (10, 40)
    assert of_name(name)


@pytest.mark.parametrize("signal_number", [2, 15])
def test_a_signal_while_it_waits(image: str, tiny: Path, name: str, tmp_path: Path, signal_number: int) -> None:
    command = Command(image, tiny, tmp_path, "--name", name)
    assert command.process.stderr
    for line in command.process.stderr:
        if "starting" in line or "loading" in line:
            break
    command.process.send_signal(signal_number)
    code, _, _ = command.end(60)
    assert code == 128 + signal_number
    assert of_name(name) == ""
    assert [path for path in tmp_path.rglob("AIM_API_KEY") if path.is_file()] == []


def test_a_port_taken_by_a_program_that_nobody_could_see(
    client: Any, job: Jobs, image: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from within a container: the engine refuses the port at the start, and the next one is taken."""
    monkeypatch.setattr(launch_decide, "vantage", lambda _client: Vantage(by_socket=False))
    with socket.socket() as busy:
        busy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        busy.bind(("127.0.0.1", 23001))
        busy.listen()
        told = Script()
        made = launch(client, job(cpu_here(), image=image, wait=False), told)
    assert made.status == "starting"
    assert made.endpoint.port
    assert 23001 not in (made.endpoint.port, made.endpoint.health_port)
    assert any("is taken after all" in text for text in told.warnings)


def test_one_that_is_not_ready_in_time_goes(image: str, tiny: Path, name: str, tmp_path: Path) -> None:
    code, out, _ = Command(image, tiny, tmp_path, "--name", name, "--timeout", "6", "--json").end(90)
    assert code == 52
    assert "it was removed" in json.loads(out)["error"]["hint"]
    assert of_name(name) == ""
