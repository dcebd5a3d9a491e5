"""The command further down the ladder: options in their place, variables gone, one rung on top of another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aim_engine.runtime.contract import Command, Rung
from aim_engine.runtime.rungs import below, taken, with_option

COMMAND = Command(
    argv=("vllm", "serve", "m", "--names", "a", "b", "--eager", "--level={\"x\": -1}", "--len", "9"),
    env={"A": "1", "A_SUB": "1"}, unset=("OLD",), files=(), links=(), health_url="", metrics_url="", load_url="",
    probe_url="", probe_body={},
)  # fmt: skip
PLAIN = Rung(name="x", failures=("cache",), gives_up="", options={}, env={}, unset=())


@pytest.mark.parametrize(
    ("name", "words", "argv"),
    [
        ("names", ("--names", "c"), "vllm serve m --names c --eager"),
        ("names", (), "vllm serve m --eager"),
        ("eager", ("--no-eager",), "vllm serve m --names a b --no-eager"),
        ("nam", ("--nam", "1"), "vllm serve m --names a b --eager --nam 1"),
        ("serve", (), "vllm serve m --names a b --eager"),
    ],
)
def test_an_option_is_set_where_it_stood(name: str, words: tuple[str, ...], argv: str) -> None:
    assert with_option(COMMAND.argv[:7], name, words) == tuple(argv.split())


def test_a_value_of_one_word_with_its_option_goes_with_it() -> None:
    assert with_option(COMMAND.argv, "level", ()) == (*COMMAND.argv[:7], "--len", "9")
    negated = ("x", "--no-eager", "--len", "9")
    assert with_option(negated, "eager", ("--eager",)) == ("x", "--eager", "--len", "9")


def test_rungs_are_taken_one_on_top_of_another() -> None:
    first = replace(PLAIN, options={"len": ("--len", "auto")}, env={"A": "0", "B": "2"}, unset=("A_SUB",))
    second = replace(PLAIN, name="y", options={"len": ("--len", "5"), "eager": ()}, env={"B": "3"})
    found = below(COMMAND, (first, second))
    assert found.argv == (*COMMAND.argv[:6], COMMAND.argv[7], "--len", "5")
    assert found.env == {"A": "0", "B": "3"}
    assert found.unset == ("OLD", "A_SUB")
    assert below(COMMAND, ()) == COMMAND


def test_names_that_the_ladder_does_not_have_are_left_out() -> None:
    ladder = (PLAIN, replace(PLAIN, name="y"))
    assert [rung.name for rung in taken(ladder, ["y", "old one", "x", "y"])] == ["y", "x"]
