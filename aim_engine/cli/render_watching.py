"""`aim-engine render alerts` and `render dashboard`: files for Prometheus and Grafana, of no model in particular."""

from __future__ import annotations

from typing import Any, NamedTuple


class Page(NamedTuple):
    """A file that needs no plan: what help says of it, and examples."""

    summary: str
    examples: str


PAGES = {
    "alerts": Page(
        summary="alerting rules for Prometheus",
        examples="""examples:
  aim-engine render alerts -o alerts.yaml                     for rule_files of prometheus.yml
  aim-engine render alerts | promtool check rules /dev/stdin

They go by what the health sidecar serves, for every engine and model; docs/monitoring.md says what they mean.
""",
    ),
    "dashboard": Page(
        summary="a dashboard for Grafana, as JSON",
        examples="""examples:
  aim-engine render dashboard -o dashboard.json               Grafana: Dashboards, New, Import

It asks for its data source, and shows all endpoints that this Prometheus scrapes, or those you choose.
""",
    ),
}


def page_of(name: str) -> tuple[str, Any]:
    """The file, and the same as a value."""
    from aim_engine.deploy.alerts import rules
    from aim_engine.deploy.dashboard import dashboard

    if name == "dashboard":
        import json

        found = dashboard()
        return json.dumps(found, indent=1, ensure_ascii=False), found
    from aim_engine.deploy.yaml_text import comment_lines, yaml_text

    found = rules()
    about = "AIM Engine's alerts, for rule_files of Prometheus; made by: aim-engine render alerts"
    return "\n".join([*comment_lines([about]), yaml_text(found)]), found
