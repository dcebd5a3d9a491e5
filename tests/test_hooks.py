"""Hooks as the rest of the package asks them, and what is said of one that raises or returns nonsense."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aim_engine.decide import planned
from aim_engine.deploy.looking import Health
from aim_engine.errors import AimError, InputError, NoRecipeError
from aim_engine.hooks import Hooks, Remembering
from aim_engine.plan import Plan
from tests.building import ROCM, here, request
from tests.deploy.planning import SHIPPED
from tests.deploy.running import endpoint


def broken(*_: Any) -> Any:
    raise ValueError("out of cheese")


def plan(hooks: Hooks, **flags: str) -> Plan:
    found = planned(request(**flags), here(), SHIPPED, ROCM, chooser=hooks.chooser, configure=hooks.configuring)
    assert isinstance(found, Plan), found
    return found


def configured(change: Callable[[dict[str, Any], dict[str, str]], Any], **flags: str) -> Plan:
    return plan(Hooks(configure=change), **flags)


def test_no_hook_is_nobody() -> None:
    assert (Hooks().chooser, Hooks().judge, Hooks().configuring) == (None, None, None)


@pytest.mark.parametrize("name", ["select", "health_check", "configure", "on_progress"])
def test_what_cannot_be_called_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}=7 cannot be called"):
        Hooks(**{name: 7})  # type: ignore[arg-type]


def test_a_hook_that_raises_is_named_and_its_traceback_is_the_cause() -> None:
    calls: Mapping[str, Callable[[Hooks], object]] = {
        "select": lambda hooks: plan(Hooks(select=hooks.select)),
        "configure": lambda hooks: plan(Hooks(configure=hooks.configure)),
        "health_check": lambda hooks: hooks.judge and hooks.judge(endpoint()),
        "on_progress": lambda hooks: hooks.telling().begin("plan"),
    }
    for name, call in calls.items():
        with pytest.raises(InputError, match=f"the {name} hook raised ValueError: out of cheese") as caught:
            call(Hooks(select=broken, configure=broken, health_check=broken, on_progress=broken))
        cause = caught.value.__cause__
        assert isinstance(cause, ValueError)
        assert "in broken" in "".join(traceback.format_tb(cause.__traceback__))


def test_an_error_of_ours_from_a_hook_is_the_hook_s_all_the_same() -> None:
    def choosy(_: Any) -> Any:
        raise NoRecipeError("too dear", hint="")

    with pytest.raises(InputError, match="the select hook raised NoRecipeError: too dear"):
        plan(Hooks(select=choosy))


# --- select ------------------------------------------------------------------------------------------------------


def test_select_is_given_what_fits_best_first() -> None:
    seen: list[Any] = []
    found = plan(Hooks(select=lambda candidates: seen.extend(candidates) or candidates[-1]))  # type: ignore[func-returns-value]
    assert all(one.passed for one in seen)
    assert seen[0].candidate.in_words() == plan(Hooks()).winner.in_words()
    assert found.winner is seen[-1].candidate
    assert found.chosen_by == "the select hook"


def test_select_must_return_one_of_them_itself() -> None:
    from dataclasses import replace

    for wrong in (lambda _: None, lambda _: 0, lambda c: c, lambda c: replace(c[0]), lambda c: c[0].candidate):
        with pytest.raises(InputError, match=r"the select hook returned .* none of the 8 candidates"):
            plan(Hooks(select=wrong))  # type: ignore[arg-type]


# --- health_check ------------------------------------------------------------------------------------------------


def test_a_verdict_is_a_health_or_yes_or_no() -> None:
    own = Health(word="busy", source="mine", ready=False, live=True)
    for answer, word, ready in ((True, "ready", True), (False, "not ready", False), (own, "busy", False)):
        judge = Hooks(health_check=lambda _, answer=answer: answer).judge  # type: ignore[misc]
        assert judge
        assert (judge(endpoint()).word, judge(endpoint()).ready) == (word, ready)


@pytest.mark.parametrize("answer", [None, "ready", 1, {"success": True}])
def test_anything_else_is_no_verdict(answer: Any) -> None:
    judge = Hooks(health_check=lambda _: answer).judge
    assert judge
    with pytest.raises(InputError, match="is no verdict"):
        judge(endpoint())


# --- configure ---------------------------------------------------------------------------------------------------


def test_configure_is_given_the_command_and_what_it_changes_is_recorded_as_its_own() -> None:
    given: dict[str, Any] = {}

    def change(options: dict[str, Any], variables: dict[str, str]) -> Any:
        given.update(options=dict(options), variables=dict(variables))
        return {**options, "max_num_seqs": 64}, {**variables, "VLLM_ROCM_USE_AITER": "0", "MINE": "1"}

    found, plain = configured(change), plan(Hooks())
    assert given == {"options": dict(plain.command.options), "variables": dict(plain.command.env)}
    assert ("--max-num-seqs", "64") in zip(found.command.argv, found.command.argv[1:], strict=False)
    assert found.command.env["VLLM_ROCM_USE_AITER"] == "0"
    assert found.command.env["MINE"] == "1"
    for name in ("--max-num-seqs", "VLLM_ROCM_USE_AITER", "MINE"):
        assert found.origins[name] == "the configure hook"
    assert found.origins["AIM_ENGINE_ARGS"] == "hook"
    assert any("VLLM_ROCM_USE_AITER: the configure hook says 0" in note for note in found.notes)
    assert found.request.engine_args == {"max-num-seqs": 64}


def test_a_hook_that_changes_nothing_is_not_to_be_seen() -> None:
    assert configured(lambda options, variables: (options, variables)) == plan(Hooks())


def test_what_a_hook_does_to_its_arguments_does_no_harm() -> None:
    def change(options: dict[str, Any], variables: dict[str, str]) -> Any:
        options["served-model-name"].clear()
        kept = dict(options), dict(variables)
        options.clear()
        variables.clear()
        return kept

    with pytest.raises(InputError, match="the configure hook: served-model-name is set by AIM_MODEL"):
        configured(change)


def test_the_user_s_own_options_stay_and_a_hook_overrules_them() -> None:
    def change(options: dict[str, Any], variables: dict[str, str]) -> Any:
        return {**options, "max-num-seqs": 64}, variables

    found = configured(change, engine_args='{"max_num_seqs": 8, "seed": 3}')
    assert found.command.options["max-num-seqs"] == 64
    assert found.command.options["seed"] == 3
    assert (found.origins["--seed"], found.origins["AIM_ENGINE_ARGS"]) == ("AIM_ENGINE_ARGS", "flag")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda _options, _variables: None, "the configure hook returned None"),
        (lambda options, _: options, "the configure hook returned"),
        (lambda options, variables: (options, [*variables]), "the configure hook returned"),
        (lambda _, variables: ({}, variables), "the configure hook left out"),
        (lambda options, _: (options, {}), "the configure hook left out"),
        (lambda options, variables: ({**options, 3: 4}, variables), "the name 3"),
        (lambda options, variables: (options, {**variables, "A": 1}), "A=1 is no text"),
        (lambda options, variables: (options, {**variables, "A": "a\0b"}), "cannot be a variable"),
        (lambda options, variables: (options, {**variables, "AIM_PORT": "1"}), "the configure hook: AIM_PORT"),
        (lambda options, variables: (options, {**variables, "HF_TOKEN": "x"}), "the configure hook: HF_TOKEN"),
        (lambda options, variables: ({**options, "seed": object()}, variables), "cannot be passed on"),
        (lambda options, variables: ({**options, "seed": float("nan")}, variables), "cannot be passed on"),
        (lambda options, variables: ({**options, "max-num-sesq": 1}, variables), "has no option max-num-sesq"),
        (lambda options, variables: ({**options, "max-num-seqs": 0}, variables), "the configure hook: max-num-seqs"),
        (lambda options, variables: ({**options, "api-key": "x"}, variables), "api-key is set by AIM_API_KEY"),
    ],
)
def test_what_a_hook_may_not_return(change: Any, sentence: str) -> None:
    with pytest.raises(AimError, match=sentence) as caught:
        configured(change)
    assert isinstance(caught.value, InputError)
    assert "hook" in caught.value.message
    assert caught.value.hint


# --- on_progress -------------------------------------------------------------------------------------------------


def test_progress_is_told_in_three_words() -> None:
    told: list[tuple[str, float | None, str]] = []
    teller = Remembering(teller=Hooks(on_progress=lambda *words: told.append(words)).telling())
    teller.begin("image")
    teller.progress(1, 4, "pulling")
    teller.progress(0, 0, "waiting")
    teller.warn("mind the gap")
    teller.end("it is here")
    assert told == [
        ("image", 0.0, ""),
        ("image", 0.25, "pulling"),
        ("image", None, "waiting"),
        ("warning", None, "mind the gap"),
        ("image", 1.0, "it is here"),
    ]
    assert teller.warnings == ["mind the gap"]


def test_nobody_need_listen() -> None:
    Hooks().telling().begin("plan")
