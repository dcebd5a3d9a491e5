"""The sglang backend: from a placed recipe to argv, environment and URLs; its options by version; its memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.backends import sglang, sglang_versions
from aim_engine.backends.base import ServeJob, ServerCommand
from aim_engine.backends.counters import read_counters
from aim_engine.backends.vllm_versions import parse_version
from aim_engine.catalog.load import catalog_folders, load_everything
from aim_engine.errors import CatalogError, EngineRefusedError, InputError
from aim_engine.hardware.installed import Engine
from aim_engine.hardware.products import product_by_name
from aim_engine.selection.budget import budget_bytes, reduced_fraction, spare_bytes
from tests.building import CARD, GIB, MODEL, cpu_here, here, recipe, variant

GPUS = here().gpus
ENGINE = Engine(name="sglang", version="0.5.23", platform="rocm", runs_on=("amd",), distribution="sglang",
                launch=("python", "-P", "-m", "aim_engine.runtime.sglang_server"))  # fmt: skip


def job(**changes: Any) -> ServeJob:
    """Nothing but the model, on one of eight MI300X."""
    plain = ServeJob(
        recipe_id="r", args={}, env={}, overrides={}, environment={}, model=MODEL, served_names=(MODEL,),
        gpus=GPUS[:1], visible_gpus=GPUS, replicas=1, context_tokens=4096, kv_bytes=None, memory_fraction=None,
        host="0.0.0.0", port=8000, cache_dir=Path("/cache"), drain_seconds=60.0, offline=False, engine=ENGINE,
    )  # fmt: skip
    return replace(plain, **changes)


def command(**changes: Any) -> ServerCommand:
    return sglang.command(job(**changes))


def version(text: str | None) -> Engine:
    return replace(ENGINE, version=text)


# --- argv --------------------------------------------------------------------------------------------------------


def test_the_whole_command_of_a_plain_job() -> None:
    assert command().argv == (
        "python", "-P", "-m", "aim_engine.runtime.sglang_server", "--model-path", MODEL, "--host", "0.0.0.0",
        "--port", "8000", "--served-model-name", MODEL, "--context-length", "4096", "--enable-metrics",
        "--uvicorn-access-log-exclude-prefixes", "/health", "/metrics", "/load", "--skip-server-warmup",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("disable-radix-cache", True, ["--disable-radix-cache"]),
        ("disable-radix-cache", False, []),
        ("enable-tf32-matmul", False, ["--no-enable-tf32-matmul"]),
        ("tp", 8, ["--tp-size", "8"]),
        ("tensor-parallel-size", 8, ["--tp-size", "8"]),
        ("mem-fraction-static", 0.85, ["--mem-fraction-static", "0.85"]),
        ("chunked-prefill-size", -1, ["--chunked-prefill-size=-1"]),
        ("lora-paths", ["a", "b"], ["--lora-paths", "a", "b"]),
        ("json-model-override-args", {"a": [1, None]}, ["--json-model-override-args", '{"a": [1, null]}']),
    ],
)
def test_every_kind_of_value_as_words(option: str, value: Any, words: list[str]) -> None:
    argv = command(args={option: value}).argv
    assert list(argv[6 : 6 + len(words)]) == words
    assert argv[6 + len(words)] == "--host"


def test_a_recipe_that_does_not_say_how_it_is_split_is_split_over_its_gpus() -> None:
    assert " --tp-size 4 " in f"{' '.join(command(gpus=GPUS[:4]).argv)} "
    assert command(gpus=GPUS[:4], args={"tp": 2, "pp-size": 2}).argv.count("--tp-size") == 1
    copies = f"{' '.join(command(gpus=GPUS, replicas=4).argv)} "
    assert " --dp-size 4 " in copies
    assert " --tp-size 2 " in copies


@pytest.mark.parametrize(
    ("option", "setting"),
    [("model", "AIM_MODEL"), ("port", "AIM_PORT"), ("context_length", "AIM_MAX_MODEL_LEN"), ("api-key", "AIM_API_KEY"),
     ("admin-api-key", "AIM_API_KEY"), ("tp", "AIM_GPU_COUNT"), ("download-dir", "AIM_CACHE_DIR")],
)  # fmt: skip
def test_options_that_have_a_setting_of_their_own_are_refused(option: str, setting: str) -> None:
    with pytest.raises(InputError, match=f"is set by {setting}$") as caught:
        command(overrides={option: "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("option", ["tokenizer-worker-num", "grpc-port", "use-ray", "config"])
def test_doors_that_no_guard_watches_stay_shut(option: str) -> None:
    value = True if option == "use-ray" else 4
    with pytest.raises(InputError, match="out of our hands"):
        command(overrides={option: value})
    assert f"--{option}" not in command(args={option: value}).argv


@pytest.mark.parametrize("variable", ["SGLANG_GRPC_PORT", "SGLANG_RUST_SERVER"])
def test_variables_that_open_such_a_door_are_taken_out(variable: str) -> None:
    done = command(environment={variable: "1"})
    assert done.unset == (variable,)
    assert any(variable in note for note in done.notes)


def test_no_secret_is_in_the_command() -> None:
    secrets = {"AIM_API_KEY": "hunter2", "HF_TOKEN": "hunter2"}
    assert "hunter2" not in json.dumps(command(environment=secrets).as_json())


def test_code_of_the_models_own_is_never_run_by_itself() -> None:
    assert "--trust-remote-code" not in command().argv


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"mem-fraction-static": 1.2}, "a number above 0 and below 1"), ({"page-size": 0}, "at least 1"),
     ({"page-size": 10**400}, "at most"),
     ({"chunked-prefill-size": -2}, "at least 1"), ({"disable-radix-cache": 1}, "true or false")],
)  # fmt: skip
def test_values_that_cannot_be_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        command(overrides=options)
    with pytest.raises(CatalogError, match=sentence):
        command(args=options)


# --- versions ----------------------------------------------------------------------------------------------------


def test_an_option_goes_by_the_installed_versions_name() -> None:
    new, old = (
        command(args={"cuda-graph-max-bs": 4}),
        command(args={"cuda-graph-max-bs-decode": 4}, engine=version("0.5.9")),
    )
    assert "--cuda-graph-max-bs-decode" in new.argv
    assert "cuda-graph-max-bs is called cuda-graph-max-bs-decode in sglang 0.5.23" in new.notes
    assert "--cuda-graph-max-bs" in old.argv


@pytest.mark.parametrize(
    ("option", "hint"),
    [("max-model-len", "context-length"), ("enforce-eager", "disable-cuda-graph"), ("enable-ep-moe", "ep-size"),
     ("max-running-request", "did you mean max-running-requests?")],
)  # fmt: skip
def test_an_option_that_does_not_exist_is_refused_with_advice(option: str, hint: str) -> None:
    with pytest.raises(EngineRefusedError, match=f"^recipe r: sglang 0.5.23 has no option {option}$") as caught:
        command(args={option: 1})
    assert hint in caught.value.hint
    with pytest.raises(InputError, match=f"^AIM_ENGINE_ARGS: sglang 0.5.23 has no option {option}$"):
        command(overrides={option: 1})


@pytest.mark.parametrize(
    ("text", "path"),
    [(None, "/health"), ("0.5.23", "/health"), ("0.5.9", "/health"), ("0.5.5.post3", "/get_model_info")],
)
def test_what_is_asked_every_second_costs_the_engine_nothing(text: str | None, path: str) -> None:
    done = command(engine=version(text))
    assert done.urls.health == f"http://127.0.0.1:8000{path}"
    assert done.env["SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION"] == "0"


def test_the_newest_version_is_assumed_where_none_is_known() -> None:
    assert command(engine=None).argv[:3] == ("python3", "-m", "aim_engine.runtime.sglang_server")
    assert sglang_versions.has_option("cuda-graph-max-bs-decode", None)
    assert sglang_versions.has_option("tp-size", (9, 9))


def test_every_option_of_a_shipped_recipe_exists_today_and_in_the_version_it_names() -> None:
    recipes, _, _ = load_everything(catalog_folders())
    found = [(one, each) for one in recipes for each in one.variants if each.backend == "sglang"]
    assert found
    for one, each in found:
        named = parse_version(each.evidence.engine.removeprefix("sglang ").strip() or None)
        for option in each.args:
            assert sglang_versions.installed_name(option, None), (one.recipe_id, option)
            assert sglang_versions.installed_name(option, named), (one.recipe_id, option, named)


# --- environment -------------------------------------------------------------------------------------------------


def test_all_that_is_downloaded_and_compiled_is_in_the_one_cache() -> None:
    env = command().env
    assert {value for name, value in env.items() if not name.startswith("SGLANG_ENABLE")} == {
        "/cache", "/cache/sglang", "/cache/triton", "/cache/inductor", "/cache/comgr", "/cache/miopen"
    }  # fmt: skip
    assert command(offline=True).env["HF_HUB_OFFLINE"] == "1"


def test_gpus_are_named_as_for_any_engine() -> None:
    assert command(gpus=GPUS[4:]).env["HIP_VISIBLE_DEVICES"] == "4,5,6,7"
    assert command(environment={"HIP_VISIBLE_DEVICES": ""}).unset == ("HIP_VISIBLE_DEVICES",)


# --- the installed one -------------------------------------------------------------------------------------------


def install(folder: Path, torch: str | None) -> tuple[str, ...]:
    (folder / "sglang-0.5.13.post1.dist-info").mkdir()
    if torch is not None:
        (folder / "torch").mkdir()
        (folder / "torch" / "version.py").write_text(torch)
    return (str(folder / "nowhere"), str(folder))


@pytest.mark.parametrize(
    ("torch", "platform", "vendors"),
    [
        ("cuda: Optional[str] = None\nhip: Optional[str] = '7.2.53211'\n", "rocm", ("amd",)),
        ("__version__ = '2.9.1+cu130'\ncuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "cuda", ("nvidia",)),
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", "cpu", ("cpu",)),
        (None, None, ()),
    ],
)
def test_what_it_runs_on_is_what_its_torch_was_built_for(
    tmp_path: Path, torch: str | None, platform: str | None, vendors: tuple[str, ...]
) -> None:
    found = sglang.find(install(tmp_path, torch), "/opt/python")
    assert found is not None
    assert (found.version, found.platform, found.runs_on) == ("0.5.13.post1", platform, vendors)
    assert found.launch == ("/opt/python", "-P", "-m", "aim_engine.runtime.sglang_server")


def test_where_there_is_none_nothing_is_found(tmp_path: Path) -> None:
    assert sglang.find((str(tmp_path), "/no/such"), "python") is None


# --- what can be said without it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "kind", "sentence"),
    [
        ({"tp": 1, "max-model-len": 1}, "option", "context-length"),
        ({"tp": 1, "tp-size": 1}, "option", "is the same option as tp"),
        ({"port": 1}, "option", "AIM_PORT does"),
        ({"grpc-port": 1}, "option", "out of AIM Engine's hands"),
        ({"mem-fraction-static": 90}, "value", "below 1"),
    ],
)
def test_a_recipe_is_reviewed(args: dict[str, Any], kind: str, sentence: str) -> None:
    found = sglang.review(recipe(), variant(1, backend="sglang", args=args))
    assert [(one.kind, sentence in one.sentence) for one in found] == [(kind, True)]


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"env": {"SGLANG_USE_AITER": "1"}}, "env.SGLANG_USE_AITER"),
     ({"env": {"ROCM_QUICK_REDUCE_QUANTIZATION": "INT4"}}, "env.ROCM_QUICK_REDUCE_QUANTIZATION"),
     ({"args": {"attention-backend": "aiter"}}, "args.attention-backend")],
)  # fmt: skip
def test_kernels_that_the_gpu_lacks_are_named(changes: dict[str, Any], key: str) -> None:
    one = variant(1, backend="sglang", **{"args": {}, **changes})
    assert [found.key for found in sglang.review(recipe(gpu_type="MI210"), one)] == [key]
    assert sglang.review(recipe(), one) == []
    with pytest.raises(CatalogError, match="has no kernels for MI210"):
        command(gpu_type="MI210", args=one.args, env=one.env)


# --- derived recipes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("product", "aiter"), [("MI300X", "1"), ("MI355X", "1"), ("MI210", "0"), ("W7900", "0")])
def test_a_derived_recipe_passes_its_own_review(product: str, aiter: str) -> None:
    made = sglang.derive(CARD, MODEL, product_by_name(product))
    assert made is not None
    assert [one.gpu_count for one in made.variants] == [1, 2, 4, 8]
    for one in made.variants:
        assert sglang.review(made, one) == []
        assert (one.args["tp-size"], one.env["SGLANG_USE_AITER"]) == (one.gpu_count, aiter)
    assert sglang.derive(replace(CARD, architecture=None), MODEL, product_by_name(product)) is None


# --- memory ------------------------------------------------------------------------------------------------------


def test_the_share_is_of_what_is_free_and_the_rest_stands_beside_it() -> None:
    gpus = here(free={0: 100 * GIB}).gpus[:1]
    terms = sglang.read_terms({"mem-fraction-static": 0.8, "kv-cache-dtype": "fp8_e4m3"}, {}, gpus[0], None)
    assert (terms.static_share, terms.kv_element_bytes, terms.block_tokens) == (True, 1, 1)
    assert reduced_fraction(gpus, terms) is None
    assert budget_bytes(gpus, terms, None) == 80 * GIB
    assert spare_bytes(gpus, terms, None) == 20 * GIB


def test_devices_that_share_a_memory_share_the_share() -> None:
    parts = tuple(replace(gpu, memory_pool="one", memory_bytes=192 * GIB) for gpu in GPUS)
    terms = sglang.read_terms({"mem-fraction-static": 0.8}, {}, parts[0], None)
    assert reduced_fraction(parts, terms) == 0.1
    assert spare_bytes(parts, terms, 0.1) == 24 * GIB - int(192 * GIB * 0.1)


@pytest.mark.parametrize(
    ("args", "memory_bytes", "expected"),
    [
        ({}, 192 * GIB, (16384, 0.867)),  # 512 + 1.5 x 16384 + 128 + 2 x 512 MiB of 196608, by sglang's own formula
        ({}, 64 * GIB, (8192, 0.795)),
        ({"chunked-prefill-size": 2048}, 64 * GIB, (2048, 0.844)),  # never less than 10 GiB on a large GPU
        ({"chunked-prefill-size": -1, "mem-fraction-static": 0.9}, 64 * GIB, (16384, 0.9)),
    ],
)
def test_sglangs_own_defaults(args: dict[str, Any], memory_bytes: int, expected: tuple[int, float]) -> None:
    terms = sglang.read_terms(args, {}, replace(GPUS[0], memory_bytes=memory_bytes), None)
    assert (terms.batch_tokens, terms.memory_fraction) == expected


def test_the_users_options_count_for_the_memory_too() -> None:
    terms = sglang.read_terms({"context-length": 8, "page-size": 64}, {"disable_cuda_graph": True}, GPUS[0], None)
    assert (terms.context_tokens, terms.block_tokens, terms.eager) == (8, 64, True)
    cpu = sglang.read_terms({}, {}, cpu_here().gpus[0], None)
    assert (cpu.host_memory, cpu.static_share) == (True, False)


# --- what it can do without --------------------------------------------------------------------------------------


def test_what_may_be_given_up_is_given_up_in_its_own_words() -> None:
    whole = job(gpus=GPUS[:4], env={"SGLANG_USE_AITER": "1"}, args={"attention-backend": "aiter", "tp": 4})
    found = {step.kind: sglang.command(step.job) for step in sglang.steps(whole)}
    assert list(found) == ["context", "memory share", "eager", "kernels", "collectives"]
    said = {kind: " ".join(done.argv) for kind, done in found.items()}
    assert "--context-length 2048" in said["context"]
    assert "--mem-fraction-static 0.81" in said["memory share"]
    assert "--disable-cuda-graph" in said["eager"]
    assert "--disable-custom-all-reduce" in said["collectives"]
    assert found["kernels"].env["SGLANG_USE_AITER"] == "0"
    assert "aiter" not in said["kernels"]


def test_what_is_not_there_or_the_users_is_not_given_up() -> None:
    users = {"mem-fraction-static": 0.8, "disable-cuda-graph": True}
    alone = job(context_tokens=None, overrides=users, env={"SGLANG_USE_AITER": "1"},
                environment={"SGLANG_USE_AITER": "1"})  # fmt: skip
    assert sglang.steps(alone) == ()


def test_what_a_recipe_calls_optional_is_left_out_with_a_warning() -> None:
    done = command(args={"enable-ep-moe": True, "tp": 1}, optional=("enable-ep-moe",))
    assert done.warnings == ("enable-ep-moe of recipe r is left out: sglang 0.5.23 has none",)
    assert "--enable-ep-moe" not in done.argv


# --- counters ----------------------------------------------------------------------------------------------------

# of sglang 0.5.23 on a CPU, labels shortened, while it wrote a long answer
METRICS = """# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="tiny",tp_rank="0"} 0.0
sglang:num_queue_reqs{engine_type="unified",model_name="tiny",tp_rank="0"} 0.0
sglang:token_usage{engine_type="unified",model_name="tiny",tp_rank="0"} 0.0
sglang:realtime_tokens_total{engine_type="unified",mode="prefill_compute",model_name="tiny"} 6.0
sglang:realtime_tokens_total{engine_type="unified",mode="prefill_cache",model_name="tiny"} 4.0
sglang:realtime_tokens_total{engine_type="unified",mode="decode",model_name="tiny"} 11.0
sglang:prompt_tokens_total{is_streaming="False",model_name="tiny"} 5.0
sglang:generation_tokens_total{is_streaming="False",model_name="tiny"} 1.0
sglang:time_to_first_token_seconds_sum{is_streaming="False",model_name="tiny"} 0.16109941462491406
sglang:time_to_first_token_seconds_count{is_streaming="False",model_name="tiny"} 1.0
"""


def test_its_counters_have_our_names() -> None:
    assert read_counters(METRICS) == {
        "running": 0, "waiting": 0, "kv_cache_usage": 0, "iterations": 21, "prompt_tokens": 5,
        "generation_tokens": 1, "first_token_seconds": 0.16109941462491406, "first_tokens": 1,
    }  # fmt: skip
