"""The words for what a container cannot share with whoever launches it."""

from __future__ import annotations

from aim_engine.deploy.host_paths import HostPaths
from aim_engine.deploy.reach import Vantage
from aim_engine.deploy.secrets import secrets_folder
from aim_engine.deploy.shared_files import shown_secrets

FOLDER = secrets_folder({"HOME": "/root"}, "c")


def test_the_warning_says_how_to_get_files() -> None:
    said = shown_secrets("AIM_API_KEY", FOLDER, Vantage(own={}, paths=HostPaths(mounts=())))
    assert "docker inspect shows it" in said
    assert "-v FOLDER_OF_THE_HOST:/root/.local/state/aim-engine " in said
    assert "-v" not in shown_secrets("AIM_API_KEY", FOLDER, Vantage(by_socket=False))
