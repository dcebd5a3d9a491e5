"""What people read: the page of a plan, of a refusal, of an inventory, and the tables."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace

from aim_engine.catalog.load import catalog_folders, load_catalog
from aim_engine.catalog.model_card import ModelCard
from aim_engine.hardware.inventory import Host, Inventory
from aim_engine.plan import Plan, Refusal, make_plan
from aim_engine.report import (
    inventory_text,
    models_text,
    operator_profiles,
    plan_text,
    recipes_text,
    refusal_text,
    script,
    state,
    table,
)
from aim_engine.request import read_request
from tests.building import CARD, GIB, MODEL, ROCM, cpu_here, here, recipe, request

SHIPPED = load_catalog(MODEL, catalog_folders())


def plan(environment: dict[str, str] | None = None, on: Inventory | None = None, **flags: str) -> Plan:
    found = make_plan(read_request({"model": MODEL, **flags}, environment or {}), on or here(), SHIPPED, ROCM)
    assert isinstance(found, Plan)
    return found


def painted(style: str, text: str) -> str:
    return f"<{style}>{text}</{style}>"


def test_the_page_says_what_why_and_why_not() -> None:
    page = plan_text(plan(metric="throughput"))
    for text in (
        f"{MODEL} on 8 x MI300X: qwen3-32b-mi300x-bf16",
        "devices     8 of 8 (GPU 0, 1, 2, 3, 4, 5, 6, 7), tensor parallel 1, 8 data-parallel replicas",
        "context     32,768 tokens x 1 at once",
        "evidence    reported: github.com/",
        "engine      vllm 0.18.1+rocm700",
        "Memory of one device",
        "together",
        "✓ memory: it fits: 61.0 GiB weights",
        "· qwen3-32b-mi300x-bf16 on 8 (4 replicas), 8 (2 replicas), 8: throughput takes the narrowest",
        "✗ cpu-any-bf16 on 1: gpu type: it is for CPU",
        "AIM_METRIC = throughput (flag)",
        "VLLM_ROCM_USE_AITER=1",
        "vllm serve Qwen/Qwen3-32B --tensor-parallel-size 1",
    ):
        assert text in page, text


def addressed(found: Inventory) -> Inventory:
    gpus = tuple(replace(gpu, pci_address=f"0000:{gpu.index:02x}:00.0") for gpu in found.gpus)
    return replace(found, gpus=gpus)


def test_gpus_are_named_with_their_addresses() -> None:
    page = plan_text(plan(on=addressed(here("MI300X:2"))))
    assert "devices     2 of 2, tensor parallel 2: GPU 0 (0000:00:00.0), GPU 1 (0000:01:00.0)" in page
    many = plan_text(plan(on=addressed(here("MI300X:12")), metric="throughput"))
    assert "12 data-parallel replicas: GPU 0 (0000:00:00.0) to GPU 11 (0000:0b:00.0)" in many
    some = replace(
        addressed(here("MI300X:12")),
        gpus=tuple(
            replace(gpu, unusable="closed" if gpu.index == 5 else None) for gpu in addressed(here("MI300X:12")).gpus
        ),
    )
    assert "GPU 4 (0000:04:00.0), GPU 6 (0000:06:00.0)" in plan_text(plan(on=some, metric="throughput"))


def test_one_gpu_of_several_is_used_and_an_unusable_one_has_no_number() -> None:
    page = plan_text(plan(on=addressed(here("MI300X:3", unusable={1: "closed"})), gpu_count="1"))
    assert "1 of 2 usable GPUs is used" in page
    assert "the GPU at 0000:01:00.0 (MI300X) is not used: closed" in page


def test_auto_is_shown_as_it_was_given() -> None:
    page = plan_text(plan(gpu_count="auto", max_model_len="recipe", start_timeout="auto"))
    for text in ("AIM_GPU_COUNT = auto (flag)", "AIM_MAX_MODEL_LEN = recipe (flag)", "AIM_START_TIMEOUT = auto (flag)"):
        assert text in page
    assert "None" not in page


def test_sections_without_content_are_left_out() -> None:
    page = plan_text(plan())
    assert "Notes" not in page
    assert "Warnings" not in page


def test_notes_and_warnings_are_at_the_end() -> None:
    page = plan_text(plan({"AIM_RECIPE": "qwen3-32b-mi300x-bf16", "AIM_FORCE": "1", "AIM_PRECISION": "fp8",
                           "AIM_MODLE": "x"}, on=here("MI300X:3")))  # fmt: skip
    assert page.index("2 of 3 usable GPUs are used") < page.index("forced although precision")
    assert "did you mean AIM_MODEL?" not in page  # that is said before, and on stderr


def test_a_secret_is_shown_as_set() -> None:
    page = plan_text(plan({"AIM_API_KEY": "hunter2"}))
    assert "AIM_API_KEY = (set) (environment)" in page
    assert "hunter2" not in page


def test_paint_reaches_headings_and_marks() -> None:
    page = plan_text(plan(), painted)
    assert "<strong>Why this one</strong>" in page
    assert "<good>✓</good>" in page
    assert "<bad>✗</bad>" in page
    assert "<dim>·</dim>" in page


def test_a_refusal_lists_everything_that_was_looked_at() -> None:
    refusal = make_plan(request(), here("MI250:8"), SHIPPED)
    assert isinstance(refusal, Refusal)
    page = refusal_text(refusal)
    assert page.count("✗") == len(SHIPPED.recipes)
    assert "qwen3-32b-mi300x-bf16 on 8, 4, 2, 1: gpu type" in page
    assert refusal_text(Refusal(error=refusal.error)) == ""


def test_hardware_in_one_line() -> None:
    assert here("MI300X:4,MI325X:4").in_words() == "4 x MI300X and 4 x MI325X"
    assert cpu_here().in_words() == "the CPU"
    assert here("MI300X:1", unusable={0: "closed"}).in_words() == "nothing usable"


def test_partitions_are_not_called_gpus() -> None:
    found = here("MI300X:10")
    modes = ["CPX/NPS4"] * 8 + ["CPX/NPS1", "SPX/NPS1"]
    mixed = replace(
        found, gpus=tuple(replace(gpu, partition=mode) for gpu, mode in zip(found.gpus, modes, strict=True))
    )
    assert mixed.in_words() == "8 partitions of MI300X (CPX/NPS4) and 1 partition of MI300X (CPX/NPS1) and 1 x MI300X"


def test_the_inventory_page_shows_every_device_and_the_host() -> None:
    found = replace(
        here("MI300X:2", free={0: GIB}, unusable={1: "closed"}, notes=("a note",)),
        host=Host(cores=64, numa_nodes=2, memory_bytes=GIB, memory_available_bytes=GIB // 2, architecture="x86_64"),
    )
    page = inventory_text(found)
    for text in ("1 x MI300X (found by amdsmi)", "192.0 GiB", "usable", "closed", "64 usable cores on 2 NUMA", "a note",
                 "none that matters"):  # fmt: skip
        assert text in page, text


def test_a_device_that_the_engine_does_not_see_has_no_number() -> None:
    found = replace(addressed(here("MI300X:2", unusable={1: "hidden by HIP_VISIBLE_DEVICES=0"})),
                    visibility=("HIP_VISIBLE_DEVICES=0",))  # fmt: skip
    lines = inventory_text(found).splitlines()
    assert [line[0] for line in lines[1:4]] == ["#", "0", "–"]
    assert lines[4].startswith("#: the engine's number for it (AMD: the order of the KFD nodes, after the visibility")
    assert "chosen by HIP_VISIBLE_DEVICES=0" in lines
    assert "#:" not in inventory_text(cpu_here())


def test_hives_are_shown() -> None:
    pairs = tuple(replace(gpu, xgmi_peers=(gpu.index ^ 1,)) for gpu in here("MI300X:4").gpus)
    assert "XGMI: 0-1, 2-3" in inventory_text(replace(here(), gpus=pairs)).splitlines()
    assert "XGMI" not in inventory_text(here())


def test_free_memory_that_nobody_knows_of_a_partition_is_explained() -> None:
    cut = tuple(replace(gpu, partition="CPX/NPS4") for gpu in here("MI300X:2").gpus)
    line = "free –: the driver does not say how much of a partition's own memory is free"
    assert line in inventory_text(replace(here(), gpus=cut)).splitlines()
    assert line not in inventory_text(here()).splitlines()


def test_the_table_of_recipes_gives_each_a_state() -> None:
    found = plan()
    page = recipes_text(found.judged, [found.judged[0]])
    rows = page.splitlines()
    assert rows[0].split() == ["recipe", "model", "GPUs", "precision", "metric", "evidence", "state"]
    assert rows[1].endswith("chosen")
    assert any(row.endswith("works") for row in rows)
    assert any("it is for CPU" in row for row in rows)


def test_the_table_of_models_bears_cards_that_say_little() -> None:
    mine = [recipe(recipe_id="one"), recipe(recipe_id="two", gpu_type="MI210")]
    page = models_text([CARD, ModelCard(model_id="a/b")], mine).splitlines()
    assert "61.0 GiB, fp8 32.0 GiB" in page[1]
    assert page[1].endswith("MI300X, MI210")
    assert page[2].split() == ["a/b", "–", "–", "–", "0", "–", "–"]


def test_a_state_names_the_rule_that_speaks_against_it_and_by_how_much() -> None:
    asked = read_request({"model": MODEL, "max_model_len": "40960", "concurrency": "900", "gpu_count": "1"}, {})
    found = make_plan(asked, here("MI300X:1"), SHIPPED, ROCM)
    assert isinstance(found, Refusal)
    assert "it does not fit by " in state(found.judged[0])
    assert " weights " not in state(found.judged[0])


def test_columns_are_aligned() -> None:
    lines = table([("a", "b"), ("longer", "c")])
    assert lines == ["a       b", "longer  c"]


def test_the_profiles_that_amds_operator_reads() -> None:
    (one,) = operator_profiles(plan(gpu_count="2"))
    assert one.keys() == {"filename", "path", "profile", "models", "script"}
    assert one["filename"] == "qwen3-32b-mi300x-bf16.yaml"
    assert one["profile"].keys() == {"aim_id", "model_id", "metadata", "engine_args", "env_vars"}
    metadata = one["profile"]["metadata"]
    assert (metadata["engine"], metadata["gpu"], metadata["gpu_count"], metadata["precision"]) == (
        "vllm", "MI300X", 2, "bf16")  # fmt: skip
    assert metadata["accelerator_count"] == 2
    assert metadata["type"] == "unoptimized"  # nothing here was measured
    assert one["models"] == [{"name": MODEL, "source": f"hf://{MODEL}", "size_gb": 65.52}]


def test_the_script_is_a_script() -> None:
    text = script(plan(engine_args='{"chat-template": "two words\'; $(rm)"}'))
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    last = text.strip().splitlines()[-1]
    assert shlex.split(last)[1:] == list(plan(engine_args='{"chat-template": "two words\'; $(rm)"}').command.argv)
