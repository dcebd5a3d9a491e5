"""Where an endpoint is reached from a host, from a container beside it, and through a remote engine."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aim_engine.deploy.endpoints import Endpoint
from aim_engine.deploy.host_paths import HostPaths, OwnMount
from aim_engine.deploy.reach import Vantage, vantage
from tests.deploy.running import FakeDocker, endpoint


def published(host: str = "127.0.0.1") -> Endpoint:
    from aim_engine.deploy.endpoints import endpoint_of
    from tests.deploy.running import inspected

    recorded = inspected(ports=(40000, 40001))
    for inner in ("8000/tcp", "8080/tcp"):
        recorded["NetworkSettings"]["Ports"][inner][0]["HostIp"] = host
    return endpoint_of(recorded)


def test_on_the_host_it_is_the_published_port() -> None:
    assert Vantage().reach(published()).url == "http://127.0.0.1:40000"


def test_in_a_container_it_is_the_shared_network() -> None:
    found = Vantage(networks={"mine": "", "bridge": "172.17.0.1"}).reach(published())
    assert (found.url, found.health_url) == ("http://172.17.0.2:8000", "http://172.17.0.2:8080")


@pytest.mark.parametrize(("host", "url"), [("0.0.0.0", "http://10.9.0.1:40000"), ("127.0.0.1", None)])
def test_in_a_container_on_another_network_only_open_ports_are_reached(host: str, url: str | None) -> None:
    assert Vantage(networks={"other": "10.9.0.1"}).reach(published(host)).url == url


def test_a_remote_engine_publishes_on_its_own_host() -> None:
    found = vantage(SimpleNamespace(api=SimpleNamespace(base_url="https://gpu7.example.com:2376")), Path("/nowhere"))
    assert found.reach(published()).url == "http://gpu7.example.com:40000"
    local = vantage(SimpleNamespace(api=SimpleNamespace(base_url="http+docker://localhost")), Path("/nowhere"))
    assert local.reach(published()).url == "http://127.0.0.1:40000"


def in_a_container(root: Path, own_id: str) -> Path:
    (root / ".dockerenv").touch()
    (root / "proc/self").mkdir(parents=True)
    mounts = f"1 2 8:1 /var/lib/docker/containers/{own_id}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n"
    (root / "proc/self/mountinfo").write_text(mounts)
    return root


def test_our_own_container_is_known_by_its_id(tmp_path: Path, fake_docker: FakeDocker, client: Any) -> None:
    own = fake_docker.add("orchestrator")
    found = vantage(client, in_a_container(tmp_path, own["Id"]))
    assert found.networks == {"bridge": "172.17.0.1"}


def test_our_own_container_is_known_by_its_host_name(tmp_path: Path, fake_docker: FakeDocker, client: Any) -> None:
    own = fake_docker.add(socket.gethostname())
    own["Config"]["Hostname"] = socket.gethostname()
    (tmp_path / ".dockerenv").touch()
    assert vantage(client, tmp_path).networks == {"bridge": "172.17.0.1"}


def test_a_container_of_another_engine_counts_as_a_host(tmp_path: Path, client: Any) -> None:
    assert vantage(client, in_a_container(tmp_path, "f" * 64)).networks is None


def test_a_stranger_who_bears_our_host_name_is_not_us(tmp_path: Path, fake_docker: FakeDocker, client: Any) -> None:
    fake_docker.add(socket.gethostname())
    (tmp_path / ".dockerenv").touch()
    assert vantage(client, tmp_path).networks is None


def test_a_container_in_the_host_s_network_is_a_host(tmp_path: Path, fake_docker: FakeDocker, client: Any) -> None:
    own = fake_docker.add("orchestrator")
    own["NetworkSettings"]["Networks"] = {"host": {"Gateway": "", "IPAddress": ""}}
    assert vantage(client, in_a_container(tmp_path, own["Id"])).networks is None


def test_an_endpoint_without_ports_stays_without() -> None:
    assert Vantage().reach(endpoint()).url is None


def test_files_of_the_host_are_found_where_they_are_mounted_here() -> None:
    paths = HostPaths(mounts=(OwnMount(target="/state", source="/srv/state"),))
    files = replace(endpoint(), key_file="/srv/state/secrets/a/AIM_API_KEY", certificate="/etc/tls/cert.pem")
    found = Vantage(networks={}, paths=paths).reach(files)
    assert (found.key_file, found.certificate) == ("/state/secrets/a/AIM_API_KEY", None)
    assert Vantage().reach(files).key_file == files.key_file


def test_what_is_shared_with_the_engine() -> None:
    """A container in the host's network shares its ports and not its files; another host shares nothing."""
    host, in_network = Vantage(), Vantage(own={}, paths=HostPaths(mounts=()))
    assert (host.shares_files, host.shares_ports) == (True, True)
    assert (in_network.shares_files, in_network.shares_ports) == (False, True)
    assert Vantage(networks={}).shares_ports is False
    assert Vantage(by_socket=False).shares_files is False


def test_the_ports_on_the_host_are_known_wherever_it_is_reached_from() -> None:
    found = Vantage(networks={"bridge": "172.17.0.1"}).reach(published())
    assert found.port == 8000
    assert found.published == (40000, 40001)


def test_a_typed_folder_is_what_the_host_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path.resolve() / "real"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    assert Vantage().folders_on_host("./link") == {str(tmp_path / "link"), str(folder)}
    assert Vantage().folders_on_host("real/../real/") == {str(folder)}
    assert Vantage().folders_on_host("/not/here") == {"/not/here"}
    for none in ("", "absent", "org/model", "~nobody-of-that-name/x", "a\0b"):
        assert Vantage().folders_on_host(none) == frozenset()
    inside = Vantage(paths=HostPaths(mounts=(OwnMount(target=str(tmp_path.resolve()), source="/host"),)))
    assert inside.folders_on_host("real") == {"/host/real"}
    assert inside.folders_on_host("/srv/of-the-host") == {"/srv/of-the-host"}
