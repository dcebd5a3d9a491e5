"""Expressions for tests: the metrics that one names, and the real promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    not PROMTOOL, reason="promtool is not installed (Debian: apt-get install prometheus)"
)

_NAME = re.compile(r"\b(?:aim_engine|vllm|sglang)[a-z0-9_:]*", re.ASCII)


def names_in(expression: str) -> set[str]:
    """The metrics of AIM Engine and of an engine that the expression names."""
    return set(_NAME.findall(re.sub(r'"[^"]*"', "", expression)))


def filled_in(expression: str, rate: str = "1m") -> str:
    """A dashboard's expression with Grafana's variables replaced: everything is chosen."""
    for variable, text in {"$__rate_interval": rate, "$job": ".*", "$instance": ".*"}.items():
        expression = expression.replace(variable, text)
    assert "$" not in expression, expression
    return expression


def promtool(*words: str | Path) -> str:
    """What it says; fails where it does not accept something. JSON is YAML to it."""
    done = subprocess.run([str(PROMTOOL), *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_rules(folder: Path, document: Any) -> None:
    path = folder / "rules.yaml"
    path.write_text(json.dumps(document))
    promtool("check", "rules", path)


def check_expressions(folder: Path, expressions: Iterable[str]) -> None:
    """That Prometheus can parse them: as recording rules."""
    rules = [{"record": f"expression:{number}", "expr": one} for number, one in enumerate(expressions)]
    check_rules(folder, {"groups": [{"name": "expressions", "rules": rules}]})
