"""From request to plan: who chose, who configured, and what is planned again because of it."""

from __future__ import annotations

import json
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import pytest

from aim_engine.catalog.measurement import Measurement
from aim_engine.catalog.remembered import keep
from aim_engine.decide import Configure, Planner, decide, know, look, planned, survey
from aim_engine.errors import DoesNotFitError, InputError
from aim_engine.plan import Plan, Refusal
from aim_engine.request import Request, read_request
from aim_engine.selection.candidate import Judged
from aim_engine.selection.select import RULES_CHOSE, Chooser
from tests.building import MODEL, ROCM, TINY_CONFIG, here, request, write_recipe
from tests.deploy.planning import SHIPPED

LAST = Chooser(name="the test", choose=lambda offered: offered[-1])
FIRST = Chooser(name="the test", choose=lambda offered: offered[0])


def plan(asked: Request | None = None, chooser: Chooser | None = None, configure: Configure | None = None) -> Plan:
    found = planned(asked or request(), here(), SHIPPED, ROCM, chooser=chooser, configure=configure)
    assert isinstance(found, Plan), found
    return found


def with_args(**args: object) -> Configure:
    """A configuration that lays these options over the request's."""

    def configure(one: Plan) -> Request:
        options = {name.replace("_", "-"): value for name, value in args.items()}
        hooked = one.request.hooked | options.keys()
        return replace(one.request, engine_args={**one.request.engine_args, **options}, hooked=hooked)

    return configure


def test_without_anybody_the_rules_choose() -> None:
    found = plan()
    assert found.chosen_by == RULES_CHOSE == found.as_json()["chosen_by"]
    assert not any("chose" in note for note in found.notes)


def test_another_choice_is_the_plan_s_and_is_said() -> None:
    ours, theirs = plan(), plan(chooser=LAST)
    assert theirs.winner.in_words() != ours.winner.in_words()
    assert theirs.chosen_by == "the test"
    assert theirs.notes[0].endswith(f"the rules would now take {ours.winner.in_words()}")
    chosen = [one for one in theirs.judged if one.candidate is theirs.winner]
    assert [one.passed_over for one in chosen] == [""]
    assert {one.passed_over for one in theirs.judged if one.passed and one not in chosen} == {"the test chose another"}


def test_the_same_choice_leaves_the_reasons_as_they_were() -> None:
    ours, theirs = plan(), plan(chooser=FIRST)
    assert theirs.judged == ours.judged
    assert theirs.command == ours.command
    assert "as the rules would have" in theirs.notes[0]


@pytest.mark.parametrize("metric", ["latency", "throughput"])
def test_what_is_offered_is_what_a_container_can_be_told(metric: str) -> None:
    """Every choice, pinned by its recipe and its number of GPUs as a container's is, is the same plan again."""
    offered: list[tuple[str, int]] = []

    def note(judged: tuple[Judged, ...]) -> Judged:
        offered.extend((one.candidate.recipe.recipe_id, one.candidate.gpu_count) for one in judged)
        return judged[0]

    plan(request(metric=metric), chooser=Chooser(name="the test", choose=note))
    assert len(set(offered)) == len(offered) > 1
    for place, (recipe, count) in enumerate(offered):
        pick = Chooser(name="the test", choose=itemgetter(place))
        chosen = plan(request(metric=metric), chooser=pick)
        pinned = plan(request(metric=metric, recipe=recipe, gpu_count=str(count)))
        assert pinned.winner.variant == chosen.winner.variant
        assert (pinned.winner.replicas, pinned.command.options) == (chosen.winner.replicas, chosen.command.options)


def test_a_pin_is_all_that_is_offered() -> None:
    seen: list[str] = []

    def choose(judged: tuple[Judged, ...]) -> Judged:
        seen.extend(one.candidate.recipe.recipe_id for one in judged)
        return judged[0]

    plan(request(recipe="qwen3-32b-mi300x-fp8"), chooser=Chooser(name="the test", choose=choose))
    assert set(seen) == {"qwen3-32b-mi300x-fp8"}


def test_where_nothing_fits_nobody_is_asked() -> None:
    def choose(_: tuple[Judged, ...]) -> Judged:
        raise AssertionError("asked")

    chooser = Chooser(name="the test", choose=choose)
    assert isinstance(planned(request(gpu_count="8"), here("MI300X:2"), SHIPPED, ROCM, chooser=chooser), Refusal)


def test_a_configuration_counts_in_the_memory_too() -> None:
    found = plan(configure=with_args(gpu_memory_utilization=0.5))
    before, after = plan().ledger, found.ledger
    assert before
    assert after
    assert after.budget_bytes < before.budget_bytes
    assert found.command.options["gpu-memory-utilization"] == 0.5
    assert found.origins["--gpu-memory-utilization"] == "the configure hook"
    assert "gpu-memory-utilization: the configure hook says 0.5, the recipe said 0.9" in found.notes


def test_a_configuration_that_does_not_fit_is_said_with_its_class() -> None:
    found = planned(request(gpu_count="1"), here(), SHIPPED, ROCM, configure=with_args(gpu_memory_utilization=0.1))
    assert isinstance(found, Refusal)
    assert isinstance(found.error, DoesNotFitError)


def test_a_configuration_that_only_another_could_bear_changes_nothing_in_silence() -> None:
    one_gpu = Chooser(
        name="the test",
        choose=lambda judged: next(
            one
            for one in judged
            if (one.candidate.recipe.recipe_id, one.candidate.gpu_count) == ("qwen3-32b-mi300x-bf16", 1)
        ),
    )
    with pytest.raises(InputError, match="qwen3-32b-mi300x-bf16 on 1 x MI300X cannot be served any more"):
        plan(chooser=one_gpu, configure=with_args(gpu_memory_utilization=0.3))


def test_a_chosen_one_stays_chosen_when_it_is_configured() -> None:
    found = plan(chooser=LAST, configure=with_args(max_num_seqs=64))
    assert found.winner.in_words() == plan(chooser=LAST).winner.in_words()
    assert found.chosen_by == "the test"


def test_what_aim_engine_sets_itself_is_not_overruled_in_silence() -> None:
    with pytest.raises(InputError, match="enable-server-load-tracking is for AIM Engine to set"):
        plan(configure=with_args(enable_server_load_tracking=False))
    with pytest.raises(InputError, match="the configure hook: port is set by AIM_PORT"):
        plan(configure=with_args(port=9))


def test_the_guard_stays_where_a_middleware_is_added() -> None:
    guard = plan().command.options["middleware"]
    found = plan(configure=with_args(middleware=[*guard, "mine.Middleware"]))
    assert found.command.options["middleware"] == [*guard, "mine.Middleware"]


def test_a_planner_reads_the_catalogue_once(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "one", model_id="org/m")
    asked = read_request({"model": "org/m", "recipes_dir": str(tmp_path), "offline": "1"}, {})
    planner = Planner()
    assert isinstance(planner(asked, here()), Plan)
    recipe.unlink()
    assert isinstance(planner(asked, here()), Plan)
    assert isinstance(Planner()(asked, here()), Refusal)


def test_decide_and_survey_take_the_same_choice() -> None:
    asked = read_request({"model": MODEL, "hardware": "MI300X:8"}, {})
    decided, surveyed = decide(asked, chooser=LAST), survey(asked, here(), chooser=LAST)
    assert isinstance(decided, Plan)
    assert isinstance(surveyed, Plan)
    assert decided.winner.in_words() == surveyed.winner.in_words()


@pytest.mark.parametrize(
    ("flags", "precision", "checkpoint"),
    [
        ({"hardware": "MI325X:1"}, "bf16", "org/m"),
        ({"hardware": "MI325X:1", "precision": "fp8"}, "fp8", "org/m-FP8"),
        ({"hardware": "MI300X:1"}, "bf16", "org/m"),  # there is a recipe for that GPU, in bf16
        ({"hardware": "MI300X:1", "precision": "fp8"}, "fp8", "org/m-FP8"),
    ],
)
def test_a_precision_without_a_recipe_is_served_from_the_checkpoint_that_the_card_names(
    tmp_path: Path, flags: dict[str, str], precision: str, checkpoint: str
) -> None:
    card = {"model_id": "org/m", "precision": "bf16", "config": TINY_CONFIG, "weights_bytes": {"bf16": 10**9},
            "checkpoints": {"fp8": "org/m-FP8"}}  # fmt: skip
    (tmp_path / "models" / "org").mkdir(parents=True)
    (tmp_path / "models" / "org" / "m.yaml").write_text(json.dumps(card))
    write_recipe(tmp_path / "recipes", "r", model_id="org/m")
    folders = {"models_dir": str(tmp_path / "models"), "recipes_dir": str(tmp_path / "recipes")}
    asked = read_request({"model": "org/m", **flags, **folders}, {})
    plan = planned(asked, look(asked), know(asked, look(asked)))
    assert isinstance(plan, Plan)
    assert (plan.winner.recipe.precision, plan.checkpoint) == (precision, checkpoint)


def remembering(folder: Path) -> Request:
    """A request for that cache, in which an engine's figures for its plan are kept."""
    asked = read_request({"model": MODEL, "cache_dir": str(folder)}, {})
    found = planned(asked, here(), know(asked, here()), ROCM)
    assert isinstance(found, Plan), found
    assert found.winner.occasion is not None
    keep(folder, Measurement(occasion=found.winner.occasion, lines={"graphs": 5}, date="2026-10-10"))
    return asked


def basis(plan: Plan | Refusal, name: str = "graphs") -> str:
    assert isinstance(plan, Plan), plan
    assert plan.ledger is not None
    return next(line.basis for line in plan.ledger.lines if line.name == name)


def test_what_an_earlier_start_measured_is_known_here_and_not_for_declared_hardware(tmp_path: Path) -> None:
    asked = remembering(tmp_path)
    assert basis(planned(asked, here(), know(asked, here()), ROCM)) == "measured"
    assert know(asked, replace(here(), source="declared")).measurements == ()
    assert know(asked, replace(here(), recorded=True)).measurements == ()


def test_a_damaged_file_is_a_note_of_the_plan(tmp_path: Path) -> None:
    asked = remembering(tmp_path)
    (file,) = (tmp_path / "measured").rglob("*.json")
    file.write_text("{")
    found = planned(asked, here(), know(asked, here()), ROCM)
    assert basis(found) == "assumed"
    assert isinstance(found, Plan)
    assert [note for note in found.notes if note.startswith(f"{file}, which tells of memory that was measured")]


def test_launch_counts_what_is_in_the_folder_that_its_container_will_have(tmp_path: Path) -> None:
    """Without one the container has a volume, and what lies in this user's own cache is of other engines."""
    asked = remembering(tmp_path)
    found = Planner()(asked, here())
    assert basis(found) == "measured"
    assert isinstance(found, Plan)
    assert any("need not be the engine that will run" in note for note in found.notes)
    volume = replace(asked, origins={**asked.origins, "cache_dir": "default"})
    assert basis(Planner()(volume, here())) == "assumed"


def asked_for(model: str, **flags: str) -> Plan | Refusal:
    asked = read_request({"model": model, **flags}, {})
    return planned(asked, look(asked), know(asked, look(asked)))


@pytest.mark.parametrize(
    ("model", "flags", "recipe"),
    [
        ("deepseek-ai/DeepSeek-V3", {"hardware": "MI300X:4"}, "derived-mi300x-fp8"),  # the file's is for eight
        ("meta-llama/Llama-3.1-8B-Instruct", {"hardware": "R9700:2", "max_model_len": "131072"}, "derived-r9700-bf16"),
        ("Qwen/Qwen3-32B", {"hardware": "R9700:1", "precision": "int4"}, "derived-r9700-int4"),  # as on a W7900
    ],
)
def test_where_no_recipe_does_one_is_made(model: str, flags: dict[str, str], recipe: str) -> None:
    plan = asked_for(model, **{"max_model_len": "4096", **flags})
    assert isinstance(plan, Plan), plan
    assert plan.recipe_id == recipe
    derived_at_once = flags.get("precision") is not None
    assert any(note.startswith("no recipe of this model does here (") for note in plan.notes) != derived_at_once


def test_where_none_that_is_made_does_either_the_refusal_has_numbers() -> None:
    refusal = asked_for("deepseek-ai/DeepSeek-V3", hardware="MI300X:2")
    assert isinstance(refusal, Refusal)
    assert isinstance(refusal.error, DoesNotFitError)
    assert {change.kind for change in refusal.changes} >= {"gpus"}


def test_a_pin_and_wishes_that_no_recipe_can_meet_stay_refused() -> None:
    for flags in ({"min_evidence": "served"}, {"gpu_count": "3"}):
        assert isinstance(asked_for("deepseek-ai/DeepSeek-V3", hardware="MI300X:4", **flags), Refusal)


@pytest.mark.parametrize(
    ("model", "flags", "note"),
    [
        ("openai/gpt-oss-120b", {"metric": "throughput"}, "aim-engine launch openai/gpt-oss-120b --replicas 8"),
        ("openai/gpt-oss-120b", {"metric": "throughput", "gpu_count": "1"}, ""),
        ("Qwen/Qwen3-32B", {"metric": "throughput"}, ""),
        ("meta-llama/Llama-3.3-70B-Instruct", {}, "the model's own precision is AIM_PRECISION=bf16"),
        ("meta-llama/Llama-3.3-70B-Instruct", {"precision": "fp8"}, ""),
    ],
)
def test_what_is_left_idle_or_lower_than_the_model_s_own_is_said(model: str, flags: dict[str, str], note: str) -> None:
    plan = asked_for(model, hardware="MI300X:8", **flags)
    assert isinstance(plan, Plan)
    said = " ".join(plan.notes)
    assert note in said
    assert bool(note) == ("--replicas" in said or "own precision is" in said)


def test_a_made_recipe_that_a_plan_came_to_can_be_pinned() -> None:
    """As containers and pods do, which plan again: its file's recipes do not fit four GPUs, so one was made."""
    asked = {"model": "deepseek-ai/DeepSeek-R1", "hardware": "MI355X:4", "offline": "1"}
    found = decide(read_request(asked, {}))
    assert isinstance(found, Plan)
    assert found.winner.recipe.generated
    again = decide(read_request({**asked, "recipe": found.recipe_id, "gpu_count": "4"}, {}))
    assert isinstance(again, Plan)
    assert again.command.argv == found.command.argv
    other = decide(read_request({**asked, "recipe": "derived-mi355x-bf16", "gpu_count": "4"}, {}))
    assert isinstance(other, Refusal)
