"""`AIMEngine`, the Python API: what a program asks for in, typed values or an `AimError` out. A thin facade over
`decide` and `deploy`; prints nothing.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from aim_engine.configuration import Configuration, Configurations
from aim_engine.decide import Planner, decide, look, survey
from aim_engine.deploy.choosing import checked_names, choose, choose_replicas
from aim_engine.deploy.container_log import lines_of, stream_log
from aim_engine.deploy.docker import begun, connect, guarded
from aim_engine.deploy.endpoints import Endpoint
from aim_engine.deploy.launch import Teller, dry_run, launch
from aim_engine.deploy.launch_job import Decision, Job, Wishes
from aim_engine.deploy.launched import Launched
from aim_engine.deploy.listing import list_endpoints
from aim_engine.deploy.looking import Running, look_at_all, two_looks
from aim_engine.deploy.reach import Vantage, vantage
from aim_engine.deploy.restarting import Restarted, restart
from aim_engine.deploy.status import Status, status_of
from aim_engine.deploy.stopping import Progress, Stopped, stop_all
from aim_engine.deploy.watching import Row, Watch
from aim_engine.errors import DockerError
from aim_engine.hardware.inventory import Inventory
from aim_engine.hardware.sensors import Sensors, read_sensors
from aim_engine.hooks import ConfigureHook, HealthCheck, Hooks, OnProgress, Remembering, Select
from aim_engine.keywords import checked_environment, checked_seconds, launch_keywords, request_of, wishes_of
from aim_engine.plan import Plan, Refusal
from aim_engine.request import Request

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = ["AIMEngine"]
_CLOSE_SECONDS = 1.0


class AIMEngine:
    """Plans, launches and watches endpoints on this host, or on the one that DOCKER_HOST names.

    Every method raises an `AimError` (`aim_engine.errors`) where it cannot do what was asked: its class, `message`,
    `hint` and `code` are those of the command line. Further keywords are settings by their field's names
    (`max_model_len=4096`), which win over `environment`, by default the process's own. The hooks are described in
    `aim_engine.hooks`. Methods may be called from several threads at once.
    """

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        docker_client: DockerClient | None = None,
        select: Select | None = None,
        health_check: HealthCheck | None = None,
        configure: ConfigureHook | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._environment = checked_environment(os.environ if environment is None else environment)
        self._hooks = Hooks(select=select, health_check=health_check, configure=configure, on_progress=on_progress)
        self._given = docker_client
        self._own: DockerClient | None = None
        self._connecting = threading.Lock()

    def __enter__(self) -> AIMEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection to Docker; a client that was given is left open. A later method connects again."""
        if not self._connecting.acquire(timeout=_CLOSE_SECONDS):
            return  # an engine that does not answer is asked still, and nobody waits for that
        own, self._own = self._own, None
        self._connecting.release()
        if own is not None:
            own.close()

    @property
    def docker(self) -> DockerClient:
        """The client of Docker's SDK, connected when it is first needed."""
        with self._connecting:
            if self._given is None and self._own is None:
                self._own = connect(self._environment)
            return self._given or self._own

    # --- what would be served ----------------------------------------------------------------------------------------

    def detect_gpus(self, **settings: Any) -> Inventory:
        """The GPUs that are here, or declared (`hardware="MI300X:8"`)."""
        return look(request_of(settings, self._environment))

    def plan(
        self,
        model_id: str | None = None,
        gpu_count: int | None = None,
        precision: str | None = None,
        backend: str | None = None,
        **settings: Any,
    ) -> Plan:
        """What would be served, on what, and why. Starts nothing; whether other endpoints have the GPUs is only asked
        by a launch.
        """
        named = {"model": model_id, "gpu_count": gpu_count, "precision": precision, "backend": backend}
        request = request_of({**named, **settings}, self._environment)
        found = decide(request, chooser=self._hooks.chooser, configure=self._hooks.configuring)
        if isinstance(found, Refusal):
            raise found.error
        return found

    def get_optimal_configuration(
        self,
        model_id: str,
        customer_gpu_count: int | None = None,
        customer_precision: str | None = None,
        backend: str | None = None,
        **settings: Any,
    ) -> Configuration:
        """The plan in the specification's words."""
        return Configuration(plan=self.plan(model_id, customer_gpu_count, customer_precision, backend, **settings))

    def show_model_configurations(self, model_id: str | None = None, **settings: Any) -> Configurations:
        """Every configuration of the model, best first, with what speaks for and against it on this hardware."""
        return self.configurations(request_of({"model": model_id, **settings}, self._environment))

    def configurations(self, request: Request) -> Configurations:
        """`show_model_configurations` of a request."""
        model, inventory = request.required_model, look(request)
        outcome = survey(request, inventory, chooser=self._hooks.chooser)
        return Configurations(model_id=model, inventory=inventory, outcome=outcome)

    # --- launching ---------------------------------------------------------------------------------------------------

    def launch_model(
        self,
        model_id: str | None = None,
        gpu_count: int | None = None,
        precision: str | None = None,
        backend: str | None = None,
        port: int | None = None,
        *,
        wait: bool = True,
        timeout: float | None = None,
        **more: Any,
    ) -> Launched:
        """Start a container that serves the model on GPUs that are free; with `wait` until it is ready and has
        answered once. What was created is removed again when that fails.

        Further keywords are settings, and `name`, `image`, `network`, `memory_bytes`, `memory_swap_bytes`, `shm_bytes`,
        `user`, `restart`, `seccomp`, `device_mode`, `env`, `log_options`, `replicas` and `keep`, as the flags of
        `aim-engine launch`.
        """
        named = {"model": model_id, "gpu_count": gpu_count, "precision": precision, "backend": backend, "port": port}
        wishes, settings = wishes_of({"wait": wait, "timeout": timeout, **more})
        environment = {**self._environment, **wishes.extra}
        request = request_of({**named, **settings}, environment, also=launch_keywords(), ports_follow=True)
        return self.launch(request, wishes)

    def launch(self, request: Request, wishes: Wishes, teller: Teller | None = None) -> Launched:
        """`launch_model` of a request (whose environment holds `wishes.extra`, and whose ports may follow)."""
        told = Remembering(teller=teller or self._hooks.telling())
        connecting = begun(lambda: self.docker)  # asking it takes as long as looking at the hardware
        job = self._job(request, wishes, told)
        return replace(launch(connecting.result(), job, told), warnings=tuple(told.warnings))

    def dry_run(self, request: Request, wishes: Wishes, teller: Teller | None = None) -> tuple[Decision, ...]:
        """What a launch would create, one for each replica. Creates nothing; without a Docker Engine what is taken is
        not known.
        """
        told = teller or self._hooks.telling()
        job = self._job(request, wishes, told)
        client = None
        try:
            client = self.docker
        except DockerError as error:
            told.warn(f"{error.message}: names, ports and GPUs that are taken are not known")
        told.begin("plan")
        decisions = dry_run(client, job)
        told.end(", ".join(one.spec.name for one in decisions))
        return decisions

    def _job(self, request: Request, wishes: Wishes, teller: Teller) -> Job:
        for text in request.warnings:
            teller.warn(text)
        request.required_model  # noqa: B018 - raises where none was named, before anything is asked
        teller.begin("detect")
        inventory = look(request)
        teller.end(inventory.in_words())
        return Job(
            request=request,
            inventory=inventory,
            planner=Planner(chooser=self._hooks.chooser, configure=self._hooks.configuring),
            wishes=wishes,
            environment=self._environment,
            token=uuid.uuid4().hex,
            warn=teller.warn,
            judge=self._hooks.judge,
        )

    # --- what runs ---------------------------------------------------------------------------------------------------

    @property
    def vantage(self) -> Vantage:
        """Where this process stands with regard to Docker's containers."""
        with guarded("say where this process runs"):
            return vantage(self.docker)

    def endpoints(self, *, all: bool = False) -> list[Endpoint]:
        """The endpoints on Docker's host, whoever launched them; with `all` those that have ended too. Asks none."""
        place = self.vantage
        with guarded("list its containers"):
            return [place.reach(one) for one in list_endpoints(self.docker, all=all)]

    def find(self, *names: str, replicas: bool = False) -> list[Endpoint]:
        """The endpoints meant: by a container's name, the beginning of its id, or a model (or its folder) that only one
        serves; with `replicas` all of the same launch or model. Each once.
        """
        known, place = self.endpoints(all=True), self.vantage
        wanted = ((name, place.folders_on_host(name)) for name in checked_names(names))
        chosen = (choose_replicas(known, *one) if replicas else [choose(known, *one)] for one in wanted)
        return list({one.container_id: one for several in chosen for one in several}.values())

    def list_models(self, *, all: bool = False) -> list[Running]:
        """The endpoints with their health, and what they do at this moment; also those that were never started."""
        found = [one for one in self.endpoints(all=True) if all or not one.has_ended]
        return two_looks(found, self._environment, judge=self._hooks.judge)

    def get_model_status(self, name: str) -> Status:
        """Everything about one endpoint, and how it ended where it has."""
        (endpoint,) = self.find(name)
        return status_of(self.docker, endpoint, self._environment, judge=self._hooks.judge)

    def logs(self, name: str, *, follow: bool = False, tail: int | None = None) -> Iterator[str]:
        """What an endpoint has written, line by line, of both its streams; with `follow` until it ends."""
        (endpoint,) = self.find(name)
        return lines_of(stream_log(self.docker, endpoint, follow=follow, tail=tail))

    def stop_model(self, name: str, *, timeout: int | None = None, keep: bool = False) -> Stopped:
        """Let an endpoint finish what is in flight, end it, and unless `keep` remove it."""

        def tell(progress: list[Progress]) -> None:
            for one in progress:
                left = "" if one.requests is None else f": {one.requests} in flight"
                self._hooks.tell("stop", min(1.0, one.seconds / max(1, one.allowed_seconds)), f"{one.name}{left}")

        (stopped,) = self.stop_endpoints(self.find(name), timeout=timeout, keep=keep, tell=tell)
        if stopped.error is not None:
            raise stopped.error
        return stopped

    def stop_endpoints(
        self,
        endpoints: Iterable[Endpoint],
        *,
        timeout: int | None = None,
        keep: bool = False,
        tell: Callable[[list[Progress]], None] = lambda _: None,
    ) -> list[Stopped]:
        """Several at the same time; what could not be stopped has its error in its result."""
        return stop_all(
            self.docker,
            endpoints,
            seconds=checked_seconds(timeout),
            keep=keep,
            environment=self._environment,
            vantage=self.vantage,
            on_progress=tell,
        )

    def restart_model(
        self,
        name: str,
        *,
        wait: bool = True,
        timeout: float | None = None,
        tell: Callable[[str, str], None] | None = None,
    ) -> Restarted:
        """Stop an endpoint, start it again, and with `wait` until it is ready. `tell` is told its phases and their
        reasons, in place of `on_progress`.
        """
        (endpoint,) = self.find(name)

        def on_phase(phase: str, reason: str) -> None:
            self._hooks.tell("restart", None, f"{phase}: {reason}" if reason else phase)

        return restart(
            self.docker,
            endpoint,
            self.vantage,
            wait=wait,
            timeout=timeout,
            on_phase=tell or on_phase,
            judge=self._hooks.judge,
        )

    def watch(self, interval: float = 2.0) -> Iterator[list[Row]]:
        """A row for each endpoint that runs, again and again, for ever: the loop that asks decides when it ends."""
        rows = self.watcher()
        while True:
            yield rows(self.endpoints())
            time.sleep(interval)

    def watcher(self) -> Callable[[Iterable[Endpoint]], list[Row]]:
        """A function that looks at endpoints, and says what has happened since it looked before."""
        here = self.vantage.is_here
        watch = Watch(read=read_sensors if here else lambda _: Sensors())
        return lambda endpoints: watch.rows(look_at_all(endpoints, self._environment, judge=self._hooks.judge))
