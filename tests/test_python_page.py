"""docs/python.md is true: its examples run and give what stands beside them; its calls that need Docker can be made."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from aim_engine import AIMEngine

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"^```python( docker)?\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
RUN = "\n".join(code for docker, code in BLOCKS if not docker)
SAID = re.compile(r"^(?P<before>.*\S)\s+# (?P<value>[('\d].*)$")


def expressions(statements: list[ast.stmt]) -> Any:
    """Every expression that stands alone, those of blocks too."""
    for one in statements:
        for inner in ("body", "handlers"):
            yield from expressions(getattr(one, inner, []))
        if isinstance(one, ast.Expr):
            yield one


def test_the_examples_give_what_stands_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lone expression whose line ends in a comment is compared with the value that the comment is."""
    monkeypatch.delenv("AIM_HARDWARE", raising=False)
    lines, tree, compared = RUN.splitlines(), ast.parse(RUN), []
    for one in expressions(tree.body):
        found = SAID.match(lines[one.end_lineno - 1])
        if found:
            call = ast.Call(ast.Name("_compare", ast.Load()), [one.value, ast.Constant(found["value"])], [])
            one.value = call
    values: dict[str, Any] = {"_compare": lambda value, said: compared.append((value, ast.literal_eval(said)))}
    exec(compile(ast.fix_missing_locations(tree), "docs/python.md", "exec"), values)
    assert len(compared) == len([line for line in lines if SAID.match(line)]) >= 10
    for value, said in compared:
        assert value == said


def test_the_calls_that_need_docker_can_be_made() -> None:
    (code,) = (code for docker, code in BLOCKS if docker)
    calls = [one for one in ast.walk(ast.parse(code)) if isinstance(one, ast.Call)]
    made = [one for one in calls if isinstance(one.func, ast.Attribute) and ast.unparse(one.func.value) == "engine"]
    for one in made:
        assert isinstance(one.func, ast.Attribute)
        signature = inspect.signature(getattr(AIMEngine, one.func.attr))
        signature.bind(None, *one.args, **{str(word.arg): word.value for word in one.keywords})
    assert len(made) == 7


def test_every_method_is_taught() -> None:
    public = [name for name, _ in inspect.getmembers(AIMEngine, inspect.isfunction) if not name.startswith("_")]
    # of values that the command line has already: not for programs that begin with words
    below = {"configurations", "launch", "dry_run", "endpoints", "find", "stop_endpoints", "watcher", "close"}
    assert {name for name in public if f".{name}(" not in PAGE} == below


def test_every_keyword_of_a_launch_is_taught() -> None:
    from aim_engine.keywords import launch_keywords

    assert [name for name in launch_keywords() if not re.search(rf"\b{name}\b", PAGE)] == []
