"""The Grafana dashboard: its shape, and queries that Prometheus can parse about metrics that are served.

That each of them returns data from a real container is in tests/image/test_hardened.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aim_engine.deploy.dashboard import dashboard
from tests.deploy.promql import check_expressions, filled_in, names_in, needs_promtool
from tests.deploy.test_alerts import served_names

COMMITTED = Path(__file__).parents[2] / "docs" / "monitoring" / "dashboard.json"


def expressions() -> list[str]:
    return [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", ())]


def test_the_committed_file_is_this() -> None:
    hint = "aim-engine render dashboard -o docs/monitoring/dashboard.json"
    assert json.loads(COMMITTED.read_text()) == dashboard(), hint


def test_panels_have_their_own_place_and_number() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 15
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_panel_asks_the_chosen_source() -> None:
    found = dashboard()
    assert found["templating"]["list"][0]["type"] == "datasource"
    panels: list[dict[str, Any]] = [panel for panel in found["panels"] if panel["type"] != "row"]
    assert all(panel["targets"] for panel in panels)
    assert {one["datasource"]["uid"] for panel in panels for one in (panel, *panel["targets"])} == {"${datasource}"}
    assert len({panel["title"] for panel in panels[:-7]}) == len(panels) - 7  # vLLM's row repeats some titles


def test_the_first_rows_need_nothing_but_the_sidecar() -> None:
    named = set().union(*map(names_in, expressions()))
    ours = {name for name in named if name.startswith("aim_engine")}
    assert ours <= served_names()
    assert all(name.startswith("vllm:") for name in named - ours)


@needs_promtool
def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    check_expressions(tmp_path, map(filled_in, expressions()))
