"""One recipe file: both forms, every complaint, and files that are not what they seem."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.catalog.evidence import Evidence
from aim_engine.catalog.recipe import Recipe, read_recipe
from aim_engine.catalog.yaml_file import MAX_FILE_BYTES
from tests.building import examples

NESTED: dict[str, Any] = {
    "recipe_id": "r",
    "model_id": "org/m",
    "precision": "bf16",
    "hardware": {"gpu_type": "MI300X"},
    "vllm_serve": {"4_gpu": {"args": {"max-model-len": 4096}, "env": {"A": "1"}}},
}
FLAT: dict[str, Any] = {
    "recipe_id": "r",
    "model_id": "org/m",
    "precision": "bf16",
    "hardware": {"gpu_type": "MI300X", "gpu_count": 4, "memory_requirement": "192GB"},
    "backend": "vllm",
    "config": {"max_model_len": 4096},
    "env": {"A": "1"},
}


def read(tmp_path: Path, content: Any) -> tuple[Recipe | None, list[str]]:
    """The recipe, and the problems without the file's name."""
    path = tmp_path / "r.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    recipe, problems = read_recipe(path)
    return recipe, [str(problem).removeprefix(str(path)) for problem in problems]


MEASURED = {"level": "measured", "source": "1 x MI300X", "engine": "vllm 0.32.0"}


def changed(base: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """`base` with keys laid over it; None takes a key out."""
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def test_both_forms_give_the_same_value(tmp_path: Path) -> None:
    nested, problems = read(tmp_path, NESTED)
    flat, more_problems = read(tmp_path, FLAT)
    assert (problems, more_problems) == ([], [])
    assert nested == flat
    assert nested is not None
    assert nested.huggingface_id == "org/m"
    assert dict(nested.variants[0].args) == {"max-model-len": 4096}


def test_variants_are_in_order_of_backend_and_count_and_inherit_the_evidence(tmp_path: Path) -> None:
    recipe, _ = read(
        tmp_path,
        changed(
            NESTED,
            evidence={"level": "served", "source": "8 x MI300X", "engine": "vllm 0.32.0", "date": "2026-01-02"},
            sglang_serve={"2_gpu": {}},
            vllm_serve={
                "8_gpu": {},
                "1_gpu": {"evidence": MEASURED, "enabled": False},
            },
        ),
    )
    assert recipe is not None
    assert [(v.backend, v.gpu_count, v.enabled) for v in recipe.variants] == [
        ("sglang", 2, True), ("vllm", 1, False), ("vllm", 8, True)]  # fmt: skip
    assert [v.evidence.level for v in recipe.variants] == ["served", "measured", "served"]
    assert recipe.evidence == Evidence(level="served", source="8 x MI300X", engine="vllm 0.32.0", date="2026-01-02")


def test_what_is_optional_is_named_as_args_and_env_have_it(tmp_path: Path) -> None:
    words = {"args": {"async_scheduling": True}, "env": {"A_B": "1"}, "optional": ["async_scheduling", "A_B"]}
    nested, problems = read(tmp_path, changed(NESTED, vllm_serve={"1_gpu": words}))
    assert problems == []
    assert nested is not None
    assert nested.variants[0].optional == ("async-scheduling", "A_B")
    flat, problems = read(tmp_path, changed(FLAT, config={"dtype": "auto"}, optional=["dtype"]))
    assert problems == []
    assert flat is not None
    assert flat.variants[0].optional == ("dtype",)


def test_a_date_may_be_written_bare(tmp_path: Path) -> None:
    recipe, problems = read(tmp_path, yaml.safe_dump(NESTED) + "evidence: {level: derived, date: 2026-11-21}\n")
    assert problems == []
    assert recipe is not None
    assert recipe.evidence.date == "2026-11-21"


@pytest.mark.parametrize(
    ("evidence", "problems"),
    [
        ({"level": "reported"}, ["source: is missing"]),
        ({"level": "parsed", "source": "I looked", "engine": "vllm 0.32.0"},
         ['source: must begin with "aim-engine validate --engine"']),
        ({"level": "parsed", "source": "aim-engine validate --engine, all of it", "engine": "vllm"},
         ["engine: must name the version that it was parsed with"]),
        ({"level": "reported", "source": "my colleague Bob"}, ["source: names no public place"]),
        ({"level": "reported", "source": "vLLM 0.11.1/0.12 on 10.0.0.1/24 and/or MI300X"}, ["source: names no public"]),
        ({"level": "reported", "source": "github.com/ROCm/aiter, README.md at 0a1b2c3d"}, []),
        ({"level": "reported", "source": "https://docs.vllm.ai/en/latest/x.html"}, []),
        ({"level": "reported", "source": "Qwen's card (huggingface.co/Qwen/Qwen3-8B)"}, []),
        ({"level": "reported", "source": "arXiv:2309.06180, table 2"}, []),
        ({"level": "measured", "source": "1 x MI300X", "engine": "newest"}, ["engine: must name the version"]),
        ({"level": "served", "source": "1 x MI300X"}, ["engine: must name the version"]),
        ({"level": "served", "engine": "vllm 0.32.0"}, ["source: is missing: name what was run and the GPUs"]),
        ({"level": "measured", "source": "two MI325X", "engine": "vllm 0.32.0"},
         ["source: does not say that it was measured on MI300X"]),
        ({"level": "measured", "source": "two MI300XL", "engine": "vllm 0.32.0"},
         ["source: does not say that it was measured on MI300X"]),
        ({"level": "parsed", "source": "aim-engine validate --engine", "engine": "vllm 0.32"}, []),
        ({"level": "measured", "source": "8 x Instinct mi300x of ours", "engine": "vllm 0.32.0"}, []),
        ({"level": "derived"}, []),
    ],
)  # fmt: skip
def test_a_level_needs_what_it_rests_on(tmp_path: Path, evidence: dict[str, str], problems: list[str]) -> None:
    """Of the recipe, of one variant, and in the flat form."""
    for place, content in {
        "evidence": changed(NESTED, evidence=evidence),
        "vllm_serve.1_gpu.evidence": changed(NESTED, vllm_serve={"1_gpu": {"evidence": evidence}}),
        "evidence ": changed(FLAT, evidence=evidence),
    }.items():
        _, found = read(tmp_path, content)
        assert len(found) == len(problems)
        for problem, expected in zip(found, problems, strict=True):
            assert problem.startswith(f" (recipe r): {place.strip()}.{expected}")


def test_without_evidence_a_recipe_says_that_there_is_none(tmp_path: Path) -> None:
    recipe, _ = read(tmp_path, NESTED)
    assert recipe is not None
    assert recipe.evidence == Evidence(level="derived", source="no evidence is given")


@pytest.mark.parametrize(
    ("content", "problems"),
    [
        (changed(NESTED, presicion="bf16"), [" (recipe r): presicion: is an unknown key; did you mean precision?"]),
        (changed(NESTED, hardware={"gpu_typ": "MI300X"}),
         [" (recipe r): hardware.gpu_type: is missing",
          " (recipe r): hardware.gpu_typ: is an unknown key; did you mean gpu_type?"]),
        (changed(NESTED, vllm_serve={"4_gpu": {"arg": {}}}),
         [" (recipe r): vllm_serve.4_gpu.arg: is an unknown key; did you mean args?"]),
        (changed(NESTED, evidence={"level": "proved"}),
         [" (recipe r): evidence.level: input should be 'derived', 'reported', 'parsed', 'served' or 'measured', "
          "found 'proved'"]),
        (changed(NESTED, evidence={"level": "served", "sauce": "x"}),
         [" (recipe r): evidence.sauce: is an unknown key; did you mean source?"]),
        (changed(NESTED, precision="bf61"),
         [" (recipe r): precision: input should be 'fp4', 'fp8', 'int4', 'int8', 'bf16' or 'fp16', found 'bf61'"]),
        (changed(NESTED, zzz=1), [" (recipe r): zzz: is an unknown key; known here: backend, config, description, env, "
                                  "evidence, hardware, huggingface_id, model_id, optional, precision, recipe_id, "
                                  "sglang_serve, "
                                  "vllm_serve"]),
        (changed(NESTED, optional=["dtype"]),
         [" (recipe r): optional: belongs under a GPU count in this form, for instance vllm_serve.1_gpu.optional"]),
        (changed(NESTED, vllm_serve={"1_gpu": {"args": {"dtype": "auto"}, "optional": ["dtpye", "A"]}}),
         [" (recipe r): vllm_serve.1_gpu.optional: dtpye stands neither in args nor in env of this variant; did you "
          "mean dtype?",
          " (recipe r): vllm_serve.1_gpu.optional: A stands neither in args nor in env of this variant"]),
        (changed(FLAT, optional=["zzz"]),
         [" (recipe r): optional: zzz stands neither in args nor in env of this variant"]),
        (changed(NESTED, model_id=None), [" (recipe r): model_id: is missing"]),
        (changed(NESTED, recipe_id="R!"), [" (recipe R!): recipe_id: must be of lower-case letters, digits, '.', '_' "
                                           "and '-', found 'R!'"]),
        (changed(NESTED, vllm_serve={"four_gpu": {}}),
         [" (recipe r): vllm_serve.four_gpu: must be a GPU count such as 1_gpu or 8_gpu"]),
        (changed(NESTED, vllm_serve={"1٣_gpu": {}}),
         [" (recipe r): vllm_serve.1٣_gpu: must be a GPU count such as 1_gpu or 8_gpu"]),
        (changed(NESTED, vllm_serve={}), [" (recipe r): vllm_serve: is empty; it needs at least one GPU count such as "
                                          "1_gpu"]),
        (changed(NESTED, vllm_serve=None), [" (recipe r): vllm_serve: is missing: a recipe needs vllm_serve (or another"
                                            " backend's), or backend + config"]),
        (changed(NESTED, serve={}), [" (recipe r): serve: is an unknown key; did you mean vllm_serve?"]),
        (changed(NESTED, config={}), [" (recipe r): config: the flat form (backend, config) and the *_serve form cannot"
                                      " be mixed in one file"]),
        (changed(NESTED, env={"A": "1"}), [" (recipe r): env: belongs under a GPU count in this form, for instance "
                                           "vllm_serve.1_gpu.env"]),
        (changed(FLAT, hardware={"gpu_type": "x"}, config=None),
         [" (recipe r): hardware.gpu_count: is missing: the flat form needs it",
          " (recipe r): config: is missing: the flat form needs it"]),
        (changed(FLAT, hardware={"gpu_type": "x", "gpu_count": 0}),
         [" (recipe r): hardware.gpu_count: input should be greater than or equal to 1, found 0"]),
        (changed(FLAT, env={"A": 1}), [' (recipe r): env.A: must be text; write numbers and switches in quotes, as "1",'
                                       " found 1"]),
        (changed(FLAT, env={"A": "\0"}), [" (recipe r): env.A: must not hold a NUL character, found '\\x00'"]),
        (changed(FLAT, config={"--max-model-len": 1}),
         [" (recipe r): config: has '--max-model-len', which is not an option's long name without dashes in front, "
          "found {'--max-model-len': 1}"]),
        (changed(FLAT, config={"a-b": 1, "a_b": 2}),
         [" (recipe r): config: has one option twice, with dashes and with underscores, found {'a-b': 1, 'a_b': 2}"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_place_and_nearest_key(tmp_path: Path, content: Any, problems: list[str]) -> None:
    assert read(tmp_path, content) == (None, problems)


def test_all_errors_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    _, problems = read(tmp_path, changed(NESTED, precision="x", model_id=3, hardware={}, vllm_sreve={}))
    assert len(problems) == 4


@pytest.mark.parametrize(
    "name",
    ["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH",
     "PYTHONPATH", "HF_TOKEN", "MY_SECRET", "DB_PASSWORD", "X_API_KEY", "AIM_PORT"],
)  # fmt: skip
def test_a_recipe_does_not_set_what_is_others_to_set(tmp_path: Path, name: str) -> None:
    _, problems = read(tmp_path, changed(FLAT, env={name: "x"}))
    assert [one.partition(": it ")[0] for one in problems] == [f" (recipe r): env.{name}: is not for a recipe to set"]


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_a_switch_of_aiters_parts_does_nothing_without_aiter_itself(tmp_path: Path, value: str) -> None:
    part = {"VLLM_ROCM_USE_AITER_MHA": value}
    sentence = 'VLLM_ROCM_USE_AITER_MHA: does nothing without VLLM_ROCM_USE_AITER: "1"; set that too, or leave this out'
    nested = {**NESTED, "vllm_serve": {"4_gpu": {"env": part}, "8_gpu": {"env": {**part, "VLLM_ROCM_USE_AITER": "0"}}}}
    assert read(tmp_path, nested)[1] == [f" (recipe r): vllm_serve.{count}_gpu.env.{sentence}" for count in (4, 8)]
    assert read(tmp_path, {**FLAT, "env": part})[1] == [f" (recipe r): env.{sentence}"]


@pytest.mark.parametrize(
    "env",
    [
        {"VLLM_ROCM_USE_AITER": "1", "VLLM_ROCM_USE_AITER_MHA": "1"},
        {"VLLM_ROCM_USE_AITER": "true", "VLLM_ROCM_USE_AITER_MHA": "0"},
        {"VLLM_ROCM_USE_AITER_MHA": "0"},
        {"VLLM_ROCM_USE_SKINNY_GEMM": "1"},
    ],
)
def test_switches_that_do_something_or_are_off_are_fine(tmp_path: Path, env: dict[str, str]) -> None:
    assert read(tmp_path, {**NESTED, "vllm_serve": {"4_gpu": {"env": env}}})[1] == []
    assert read(tmp_path, {**FLAT, "env": env})[1] == []


@pytest.mark.parametrize("name", ["A B", "1A", "", "A=B", "Ä"])
def test_a_variable_has_a_name(tmp_path: Path, name: str) -> None:
    assert "must be the name of an environment variable" in read(tmp_path, changed(FLAT, env={name: "x"}))[1][0]


@pytest.mark.parametrize(
    "value",
    [".nan", "-.inf", "[1, .nan]", "{a: {b: .inf}}", "2026-01-02", "[2026-01-02]", "!!binary aGk=", "{1: 2}",
     "!!set {a, b}", "[!!set {a}]", "!!omap [a: 1]", '"a\\0b"', '["\\0"]', "{2026-01-02: 1}"],
)  # fmt: skip
def test_an_argument_is_something_that_a_command_line_can_carry(tmp_path: Path, value: str) -> None:
    text = yaml.safe_dump(changed(FLAT, config=None)) + f"config: {{x: {value}}}\n"
    recipe, problems = read(tmp_path, text)
    assert recipe is None
    assert problems[0].startswith(" (recipe r): config.x: must")


@pytest.mark.parametrize("value", ["1", "1.5", "true", "null", "text", "[a, 1]", "{a: {b: [1, null]}}", "08:30", "''"])
def test_every_other_argument_is_kept_as_it_is(tmp_path: Path, value: str) -> None:
    recipe, problems = read(tmp_path, yaml.safe_dump(changed(FLAT, config=None)) + f"config: {{x: {value}}}\n")
    assert problems == []
    assert recipe is not None
    assert dict(recipe.variants[0].args) == {"x": yaml.safe_load(value)}


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 9))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 400))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a: [", ": is not YAML: did not find expected node content (line 2, column 1)"),
        ("a: b: c", ": is not YAML: mapping values are not allowed in this context (line 1, column 5)"),
        ("a: 1\na: 2", ": is not YAML: the key 'a' is there twice (line 2, column 1)"),
        ("x: {y: {z: 1, z: 2}}", ": is not YAML: the key 'z' is there twice (line 1, column 15)"),
        ("", ": must hold a map of keys, not nothing (the file is empty)"),
        ("- a\n- b", ": must hold a map of keys, not a list"),
        ("just text", ": must hold a map of keys, not text"),
        ("1: a", ": keys must be words, not 1"),
        ("? [a, b]\n: c", ": is not YAML: found unhashable key (line 1, column 3)"),
        ("? {a: b}\n: c", ": is not YAML: found unhashable key (line 1, column 3)"),
        ("x: !!python/object:os.system {}", ": is not YAML: could not determine a constructor for the tag "
                                            "'tag:yaml.org,2002:python/object:os.system' (line 1, column 4)"),
        ("x: !!python/object/apply:os.system ['true']", ": is not YAML: could not determine a constructor"),
        ("x: !secret y", ": is not YAML: could not determine a constructor for the tag '!secret' (line 1, column 4)"),
        ("x: *nobody", ": is not YAML: found undefined alias (line 1, column 4)"),
        ("x: 2026-13-45", ": is not YAML: 2026-13-45 is no date: month must be in 1..12"),
        (b"x: \xff\xfe\xfa", ": is not usable YAML: "),
        (b"x: a\x00b", ": is not usable YAML: "),
        ("a: 1\n---\nb: 2", ": is not YAML: but found another document (line 2, column 1)"),
        ("x: " + "[" * 500_000, ": is not usable: it is nested too deeply, or contains itself"),
        ("x: " + "[" * 60_000 + "]" * 60_000, ": is not usable: it is nested too deeply, or contains itself"),
        ("x: " + "[" * 60 + "]" * 60, ": is not usable: it is nested too deeply, or contains itself"),
        ("- " * 200_000, ": is not usable: it is nested too deeply, or contains itself"),
        ("{" * 200_000, ": is not usable: it is nested too deeply, or contains itself"),
        ("x: &x [*x]", ": is not usable: it is nested too deeply, or contains itself"),
        ("x: &x {y: *x}", ": is not usable: it is nested too deeply, or contains itself"),
        (LAUGHS, ": is not usable YAML: its aliases make it too large"),
        (MERGES, ": is not YAML: its merged maps grow too large"),
        (CHAIN, ": is not usable: it is nested too deeply, or contains itself"),
        ("x: 0x" + "f" * 9000, ": is not usable YAML: it holds a number of more than 64 bits"),
        ("x: " + "9" * 9000, ": is not usable YAML: "),
        ("x" * (MAX_FILE_BYTES + 1), ": the file is larger than 1,000,000 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_usable_yaml_is_one_problem_and_soon(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    began = time.monotonic()
    recipe, problems = read(tmp_path, content)
    assert recipe is None
    assert len(problems) == 1
    assert problems[0].startswith(sentence)
    assert time.monotonic() - began < 5


def test_a_map_merged_before_its_own_turn_does_not_seem_to_repeat_its_keys(tmp_path: Path) -> None:
    """YAML builds shallow maps first; a deep one may have been merged into one of those by then."""
    path = tmp_path / "r.yaml"
    path.write_text("a: {b: {c: &deep {<<: &base {k: 1}, k: 2}}}\ntop: {<<: *deep, x: 3}\n")
    _, problems = read_recipe(path)
    assert not [problem for problem in problems if "twice" in problem.sentence]


def test_merged_maps_and_anchors_do_what_they_look_like(tmp_path: Path) -> None:
    text = yaml.safe_dump(changed(NESTED, vllm_serve=None)) + (
        "vllm_serve:\n  1_gpu: {args: &a {x: 1, y: 2}}\n  2_gpu: {args: &b {<<: *a, x: 2}}\n  4_gpu: {args: {<<: *b}}\n"
    )
    recipe, problems = read(tmp_path, text)
    assert problems == []
    assert recipe is not None
    assert [dict(v.args) for v in recipe.variants] == [{"x": 1, "y": 2}, {"x": 2, "y": 2}, {"x": 2, "y": 2}]


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    """A FIFO would never answer."""
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    sentences = [read_recipe(tmp_path / f"{name}.yaml")[1][0].sentence for name in ("fifo", "folder", "gone")]
    assert sentences == ["is not a regular file", "is not a regular file", "cannot be read: No such file or directory"]


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is closed to root")
def test_a_file_that_may_not_be_read_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(NESTED))
    path.chmod(0)
    assert read_recipe(path)[1][0].sentence == "cannot be read: Permission denied"


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary()
keys = st.sampled_from([*NESTED, *FLAT, "sglang_serve", "evidence", "4_gpu", "args", "level"]) | st.text(max_size=6)
structures = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


@examples(120)
@given(base=st.sampled_from([NESTED, FLAT]), changes=st.dictionaries(keys, structures, max_size=3))
def test_any_structure_is_a_recipe_or_has_problems(
    tmp_path_factory: pytest.TempPathFactory, base: dict[str, Any], changes: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(yaml.safe_dump({**base, **changes}, allow_unicode=True))
    recipe, problems = read_recipe(path)
    assert (recipe is None) == bool(problems)
    assert all(str(problem) for problem in problems)


@examples(120)
@given(st.binary(max_size=60) | st.text("[]{}&*!:-?<|>'\"#%@`, \nab1", max_size=60).map(str.encode))
def test_any_bytes_are_a_recipe_or_have_problems(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(data)
    recipe, problems = read_recipe(path)
    assert recipe is None
    assert problems


@pytest.mark.parametrize("number", ["0100000", "12:30:45", "-010"])
def test_a_number_that_is_not_what_it_looks_like_is_refused(tmp_path: Path, number: str) -> None:
    """YAML 1.1 reads octal and sexagesimal numbers where nobody writes any."""
    text = f"recipe_id: r\nhardware: {{gpu_count: {number}}}\n"
    _, (problem,) = read(tmp_path, text)
    assert f"{number} is not the number it looks like; put text into quotes (line 2, column 23)" in problem


@pytest.mark.parametrize("date", ["soon", "2026-13-01", "21.11.2026", ""])
def test_a_date_is_one(tmp_path: Path, date: str) -> None:
    _, problems = read(tmp_path, changed(NESTED, evidence={"level": "derived", "date": date}))
    assert problems == [f" (recipe r): evidence.date: must be a date such as 2026-11-21, found {date!r}"]


def test_a_time_of_day_is_left_out_of_a_date(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(NESTED)[:-1] + ', "evidence": {"level": "derived", "date": 2026-11-21T10:00:00Z}}')
    recipe, problems = read_recipe(path)
    assert problems == []
    assert recipe is not None
    assert recipe.evidence.date == "2026-11-21"


@pytest.mark.parametrize("key", ["_serve", "VLLM_serve", "v llm_serve"])
def test_an_engine_has_a_name(tmp_path: Path, key: str) -> None:
    _, problems = read(tmp_path, changed(NESTED, vllm_serve=None, **{key: {"1_gpu": {}}}))
    assert [p for p in problems if p.startswith(f" (recipe r): {key}: must be an engine's name")]


KEY = "hf_" + "a1B2" * 8


@pytest.mark.parametrize(
    "change",
    [
        {"description": f"use {KEY}"},
        {"evidence": {"level": "derived", "source": KEY}},
        {"evidence": {"level": "derived", "engine": KEY}},
        {"evidence": {"level": KEY}},
        {"huggingface_id": f"org/{KEY}"},
        {"precision": KEY},
        {"recipe_id": KEY},
        {"hardware": KEY},
        {KEY: 1},
        {"vllm_serve": {"1_gpu": {"env": [f"HF_TOKEN={KEY}"]}}},
        {"vllm_serve": {"1_gpu": {"env": ["MY_THING=a1B2a1B2a1B2"]}}},
        {"vllm_serve": {"1_gpu": {"env": {"MY_THING": ["a1B2a1B2a1B2"]}}}},
        {"vllm_serve": {"1_gpu": {"optional": [KEY]}}},
        {"vllm_serve": {"1_gpu": {"args": {"additional-config": {"api_key": "a1B2a1B2"}}}}},
        {"vllm_serve": {"1_gpu": {"args": {"additional-config": '{"a": {"password": "a1B2a1B2"}}'}}}},
    ],
)
def test_a_secret_is_refused_wherever_it_stands_and_never_repeated(tmp_path: Path, change: dict[str, Any]) -> None:
    recipe, problems = read(tmp_path, changed(NESTED, **change))
    assert recipe is None
    assert problems
    assert "a1B2" not in "".join(problems)


def test_a_key_that_is_there_twice_is_not_repeated_where_it_is_a_secret(tmp_path: Path) -> None:
    _, problems = read(tmp_path, f"{KEY}: 1\n{KEY}: 2\n")
    assert problems == [": is not YAML: the key '(a secret)' is there twice (line 2, column 1)"]


def test_what_a_models_own_config_calls_tokens_are_no_secrets(tmp_path: Path) -> None:
    overrides = {"eos_token": "</s>", "bos_token_id": 1, "max_tokens": 5}
    args = {"hf-overrides": overrides, "override-generation-config": json.dumps(overrides)}
    recipe, problems = read(tmp_path, changed(NESTED, vllm_serve={"1_gpu": {"args": args}}))
    assert problems == []
    assert recipe is not None
    assert recipe.variants[0].args == args
