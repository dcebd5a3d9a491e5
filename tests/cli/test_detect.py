"""`aim-engine detect` on recorded hosts: what it prints, and what its exit code says."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run
from tests.fakes.trees import plant_host, read_host


def test_detect_shows_what_is_not_usable_and_fails(cli: Run, tmp_path: Path) -> None:
    root = plant_host(read_host("render-nodes-closed"), tmp_path)
    for words in ((), ("--json",)):
        done = cli("detect", "--hardware", str(root), *words)
        assert done.code == done.last_words["code"] == 20
        assert "0000:05:00.0" in done.stdout
        assert "--group-add 109" in done.last_words["hint"]
    assert "20 nothing that was found can be used" in cli("detect", "--help").stdout
