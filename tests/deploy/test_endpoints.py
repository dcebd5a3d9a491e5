"""What is running, from recorded and from hostile answers of `docker inspect`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.deploy.endpoints import endpoint_of, printable
from tests.building import examples
from tests.deploy.planning import planned, with_nodes
from tests.deploy.running import LABEL, RECORDED, ended, endpoint, inspected


def test_a_recorded_container() -> None:
    found = endpoint_of(RECORDED)
    assert (found.name, found.model, found.recipe) == ("aim-b-1", "/models/tiny", "cpu-any-bf16")
    assert (found.url, found.health_url) == ("http://127.0.0.1:32831", "http://127.0.0.1:32830")
    assert (found.state, found.exit_code, found.docker_health) == ("running", None, "healthy")
    assert found.networks == {"bridge": "172.17.0.2"}
    assert found.finished_at is None


def test_the_labels_that_a_spec_writes_are_read_back() -> None:
    from aim_engine.deploy.spec import container_spec

    spec = container_spec(planned(on=with_nodes(), gpu_count="4"))
    recorded = inspected(labels={name.removeprefix(LABEL): text for name, text in spec.labels.items()})
    found = endpoint_of(recorded)
    assert found.model == "Qwen/Qwen3-32B"
    assert (found.gpu_type, found.gpu_count, found.metric) == ("MI300X", 4, "latency")
    assert found.gpus == tuple(f"0000:{index:02x}:00.0" for index in range(4))


def test_a_port_that_docker_chose_wins_over_the_label() -> None:
    found = endpoint(labels={"port": "8000"}, ports=(40000, 40001))
    assert (found.port, found.health_port) == (40000, 40001)


def test_a_stopped_container_keeps_the_ports_it_asked_for() -> None:
    recorded = inspected(state=ended(0), ports=(40000, 40001))
    recorded["NetworkSettings"]["Ports"] = {}
    assert endpoint_of(recorded).port == 40000


def test_without_published_ports_there_is_no_url() -> None:
    found = endpoint(labels={"port": "8000"})
    assert (found.url, found.health_url) == (None, None)


def test_the_host_network_has_the_container_s_own_ports() -> None:
    recorded = inspected(environment=("AIM_PORT=9000",))
    recorded["HostConfig"]["NetworkMode"] = "host"
    found = endpoint_of(recorded)
    assert (found.url, found.health_url) == ("http://127.0.0.1:9000", "http://127.0.0.1:8080")


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:9"), ("::", "http://127.0.0.1:9"), ("::1", "http://[::1]:9"),
                      ("", "http://127.0.0.1:9"), ("10.1.2.3", "http://10.1.2.3:9")]
)  # fmt: skip
def test_every_address_is_reached_through_loopback(host: str, url: str) -> None:
    recorded = inspected(ports=(9, None))
    recorded["NetworkSettings"]["Ports"]["8000/tcp"][0]["HostIp"] = host
    assert endpoint_of(recorded).url == url


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [({}, 90), ({"environment": ("AIM_DRAIN_TIMEOUT=300",)}, 330), ({"environment": ("AIM_DRAIN_TIMEOUT=x",)}, 90)],
)
def test_a_stop_may_take_as_long_as_a_drain(changes: dict[str, Any], seconds: int) -> None:
    assert endpoint(**changes).stop_seconds == seconds


def test_the_container_s_own_stop_time_wins() -> None:
    recorded = inspected(environment=("AIM_DRAIN_TIMEOUT=300",))
    recorded["Config"]["StopTimeout"] = 17
    assert endpoint_of(recorded).stop_seconds == 17


@pytest.mark.parametrize(
    ("told", "name"), [(("AIM_LOG_NAME=mine",), "mine"), ((), "tiny-8000"), (("AIM_PORT=9000",), "tiny-9000")]
)
def test_the_log_file_is_the_host_s(told: tuple[str, ...], name: str) -> None:
    mounts = [{"Type": "bind", "Source": "/var/log/aim", "Destination": "/workspace/logs", "RW": True}]
    recorded = inspected(environment=("AIM_LOG_DIR=/workspace/logs", *told), Mounts=mounts)
    assert endpoint_of(recorded).log_file == f"/var/log/aim/{name}.log"
    assert endpoint_of(recorded | {"Mounts": []}).log_file is None
    forged = inspected(environment=("AIM_LOG_DIR=/workspace/logs", "AIM_LOG_NAME=a\nb\x1b[2J"), Mounts=mounts)
    assert endpoint_of(forged).log_file == "/var/log/aim/a b\ufffd[2J.log"
    assert endpoint_of(inspected(Mounts=mounts)).log_file is None


def test_the_certificate_is_the_host_s_file() -> None:
    recorded = inspected(environment=("AIM_TLS_CERT=/config/tls/cert.pem",))
    recorded["Mounts"] = [{"Source": "/etc/mine.pem", "Destination": "/config/tls/cert.pem"}]
    assert endpoint_of(recorded).certificate == "/etc/mine.pem"


MINE = "/home/u/.local/state/aim-engine/secrets/k.4f"


@pytest.mark.parametrize(("label", "source", "folder"), [
    ("k.4f", f"{MINE}/HF_TOKEN", "k.4f"),
    ("k.4f", "/srv/elsewhere/k.4f/HF_TOKEN", "k.4f"),  # as the host calls it
    (None, "/home/u/.local/state/aim-engine/secrets/k/HF_TOKEN", "k"),  # of before there was the label
    ("of-another", f"{MINE}/HF_TOKEN", "k.4f"),
    ("of-another", "/home/u/keys/HF_TOKEN", None),
    (None, "/home/u/keys/HF_TOKEN", None),
])  # fmt: skip
def test_the_folder_of_its_secrets_is_the_one_that_is_mounted(
    label: str | None, source: str, folder: str | None
) -> None:
    recorded = inspected("renamed", labels={"secrets": label} if label else {})
    recorded["Mounts"] = [{"Source": source, "Destination": "/run/secrets/HF_TOKEN"}]
    assert endpoint_of(recorded).secrets == folder


def test_a_label_without_a_mount_names_no_folder() -> None:
    """As of a container of an image that docker commit made of another one."""
    assert endpoint(labels={"secrets": "k.4f"}).secrets is None


def test_odd_labels_of_another_version_do_no_harm() -> None:
    found = endpoint(labels={"gpu-count": "eight", "gpus": ",,a,", "scheme": "gopher", "new-in-9": "x"})
    assert (found.gpu_count, found.gpus, found.scheme) == (0, ("a",), "http")


def test_control_characters_never_come_out() -> None:
    found = endpoint(labels={"model": "a\x1b[2Jb\u202e\x9bc\r\nd", "gpus": "\x07x"})
    assert found.model == "a\ufffd[2Jb\ufffd\ufffdc  d"
    assert found.gpus == ("\ufffdx",)


def test_a_long_label_is_cut() -> None:
    assert len(endpoint(labels={"recipe": "r" * 10_000}).recipe) == 256


@examples(200)
@given(st.text())
def test_what_is_printable_is_one_line_that_no_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() or not {c for c in shown if not c.isprintable()} - {"\u00a0", " "}
    assert len(shown) <= 256


_ODD: tuple[Any, ...] = (None, 0, 5, -1, 1.5, True, "", "x", [], [5], [{}], {}, {"x": 5})


def _replaced(value: Any, odd: Any) -> Iterator[Any]:
    """The value with each of its parts in turn replaced by something odd."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        for new in (odd, *_replaced(value[key], odd)):
            changed = copy.copy(value)
            changed[key] = new
            yield changed


@pytest.mark.parametrize("odd", _ODD, ids=repr)
def test_an_odd_answer_is_still_an_endpoint(odd: Any) -> None:
    """Whatever part of it is odd, labels and variables included."""
    recorded = inspected(labels={"gpus": "a,b", "gpu-count": "2"}, environment=("AIM_TLS_CERT=/c",))
    recorded["Mounts"] = [{"Source": "/etc/mine.pem", "Destination": "/c"}]
    changed = list(_replaced(recorded, odd))
    assert len(changed) > 60
    for one in changed:
        assert endpoint_of(one).as_json()["scheme"] == "http"


def test_the_devices_it_was_given() -> None:
    recorded = inspected()
    recorded["HostConfig"]["Devices"] = [{"PathOnHost": "/dev/dri/renderD128"}, {"PathOnHost": "/dev/\x1bx"}, {}, 5]
    assert endpoint_of(recorded).devices == ("/dev/dri/renderD128", "/dev/\ufffdx")
    assert endpoint().devices == ()


@pytest.mark.parametrize(
    ("model", "mounts", "served", "folder"),
    [
        ("/models/my model", [("/srv/my model", "/models/my model")], "my model", "/srv/my model"),
        ("/models/m/snapshots/1", [("/hub/m", "/models/m"), ("/x", "/models")], "1", "/hub/m/snapshots/1"),
        ("Qwen/Qwen3-32B", [("/data", "/workspace/model-cache")], "Qwen/Qwen3-32B", None),
        ("/models/tiny", [], "tiny", None),
        ("", [("/data", ".")], "", None),
    ],
)
def test_the_model_s_folder_on_the_host_and_its_name_in_requests(
    model: str, mounts: list[tuple[str, str]], served: str, folder: str | None
) -> None:
    """Of a container that was started by hand too, which has no label of that."""
    binds = [{"Type": "bind", "Source": source, "Destination": target} for source, target in mounts]
    volume = {"Type": "volume", "Source": "/var/lib/docker/volumes/x/_data", "Destination": "/"}
    found = endpoint(environment=(f"AIM_MODEL={model}",), Mounts=[*binds, volume, 5])
    assert (found.served_model, found.model_folder) == (served, folder)


def test_a_label_says_the_name_in_requests() -> None:
    assert endpoint(labels={"served-model": "org/m"}).served_model == "org/m"
