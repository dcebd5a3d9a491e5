"""docs/monitoring.md is true: its table has every metric that the sidecar serves, its configuration is one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from tests.deploy.promql import needs_promtool, promtool
from tests.deploy.test_alerts import served_names

PAGE = (Path(__file__).parent.parent / "docs" / "monitoring.md").read_text()


def test_every_metric_is_in_the_table_and_no_other() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(aim_engine_\w+)", row.split("|")[1])}
    assert named == served_names()


@needs_promtool
def test_the_configuration_is_one(tmp_path: Path) -> None:
    configuration = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])
    for job in configuration["scrape_configs"]:
        if "authorization" in job:
            (tmp_path / "key").write_text("k")
            job["authorization"]["credentials_file"] = str(tmp_path / "key")
    path = tmp_path / "prometheus.yml"
    path.write_text(json.dumps(configuration))
    promtool("check", "config", path)
