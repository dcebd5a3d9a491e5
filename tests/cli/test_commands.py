"""The other commands, help, completion, colour and pipes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aim_engine import __version__
from aim_engine.catalog.parsed import digest, record
from aim_engine.cli.arguments import LAUNCHING
from aim_engine.cli.main import _ALIASES, _COMMANDS
from aim_engine.request import SETTINGS, settings_table
from tests.building import MODEL, ROOT, write_model, write_recipe
from tests.cli.conftest import Run, interrupting

PLAN = ("plan", MODEL, "--hardware", "MI300X:8")


@pytest.mark.parametrize("command", [None, *_COMMANDS, *_ALIASES])
def test_every_command_explains_itself(cli: Run, command: str | None) -> None:
    done = cli(*([command] if command else []), "--help")
    assert (done.code, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: aim-engine")
    assert len(done.stdout.splitlines()) > 5


def test_the_help_of_serve_names_every_setting_that_is_not_a_secret(cli: Run) -> None:
    text = cli("serve", "--help").stdout
    for setting in SETTINGS:
        shown = not setting.secret and setting.field not in LAUNCHING
        assert (setting.variable in text) is shown, setting.variable
        assert (setting.flag in text.split()) is shown, setting.flag


def test_the_version(cli: Run) -> None:
    assert cli("--version").stdout == f"aim-engine {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [[], ["sevre"], ["plan", "--gpu-cuont", "4"], ["plan", "a/b", "c/d"], ["plan", "--format", "xml"], ["--json"],
     ["completion", "fish"], ["completion"], ["detect", "here"], ["plan", "--api-key", "hunter2"], ["plan", "--port"]],
)  # fmt: skip
def test_a_wrong_command_line_is_a_usage_error(cli: Run, words: list[str]) -> None:
    done = cli(*words)
    assert (done.code, done.stdout) == (2, "")
    assert done.last_words["class"] == "Usage"
    assert "--help" in done.last_words["hint"]


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("paln", "did you mean plan?"),
        ("list-profile", "did you mean list-profiles?"),
        ("xyzzy", "aim-engine --help explains the commands"),
        (MODEL, f"aim-engine serve {MODEL}"),
        ("/models/mine", "-e AIM_MODEL=/models/mine"),
    ],
)
def test_a_word_that_is_no_command(cli: Run, word: str, remedy: str) -> None:
    done = cli(word, "more")
    assert (done.code, done.stdout) == (2, "")
    assert done.last_words["message"] == f"{word!r} is neither a command of aim-engine nor a program"
    assert remedy in done.last_words["hint"]


@pytest.mark.parametrize(
    ("flag", "near"),
    [("--gpu-cuont", "--gpu-count"), ("--prot=1", "--port"), ("--hard", "--hardware"), ("--bogus", None), ("-x", None)],
)
def test_only_a_near_flag_is_suggested(cli: Run, flag: str, near: str | None) -> None:
    hint = cli("plan", MODEL, flag).last_words["hint"]
    assert hint == (f"did you mean {near}? " if near else "") + "aim-engine plan --help lists the flags"


def test_metavars_are_nouns(cli: Run) -> None:
    text = cli("serve", "--help").stdout
    for flag, metavar in {"--recipe": "RECIPE", "--host": "ADDRESS", "--cache-dir": "DIR", "--start-timeout": "SECONDS",
                          "--tls-cert": "FILE", "--engine-args": "JSON", "--hardware": "WHAT", "--port": "PORT",
                          "--max-model-len": "TOKENS", "--concurrency": "COUNT", "--gpus": "COUNT",
                          "--metric": "latency|throughput", "--offline": "[0|1]"}.items():  # fmt: skip
        assert f"{flag} {metavar}" in text, flag
    assert not re.search(r"--[a-z-]+ (a|an|auto\|or)\|", text)


@pytest.mark.parametrize("command", ["plan", "recipes", "doctor"])
def test_the_model_may_be_a_flag(cli: Run, command: str) -> None:
    words = (command, "--hardware", "MI300X:8")
    assert cli(*words, "--model", MODEL).stdout == cli(*words, MODEL).stdout
    assert cli(*words, MODEL, "--model", MODEL).code == cli(*words, MODEL).code
    done = cli(*words, MODEL, "--model", "org/other")
    assert (done.code, done.stdout) == (2, "")
    assert "org/other" in done.last_words["message"]


def test_an_abbreviated_flag_is_not_guessed(cli: Run) -> None:
    assert cli("plan", MODEL, "--hard", "MI300X:8").code == 2


# --- recipes, models, detect, settings ---------------------------------------------------------------------------


def test_recipes_of_a_model_with_their_states(cli: Run) -> None:
    done = cli("recipes", MODEL, "--hardware", "MI300X:4")
    assert (done.code, done.stderr) == (0, "on 4 x MI300X:\n")
    states = {tuple(row.split()[:3]): row for row in done.stdout.splitlines()[1:]}
    assert states[("qwen3-32b-mi300x-bf16", MODEL, "4")].endswith("chosen")
    assert states[("qwen3-32b-mi300x-bf16", MODEL, "2")].endswith("works")
    assert states[("qwen3-32b-mi300x-bf16", MODEL, "8")].endswith("it needs 8 GPUs, and 4 usable of its type are here")
    assert list(states).count(("cpu-any-bf16", "any", "1")) == 1


def test_recipes_as_json(cli: Run) -> None:
    done = cli("list-profiles", "--hardware", "MI300X:4", "--json")
    assert done.json.keys() == {"hardware", "recipes"}
    assert [one["gpu_count"] for one in done.json["recipes"] if one["chosen"] and one["model_id"] == MODEL] == [4]
    assert not any(one["recipe_id"].startswith("derived-") for one in done.json["recipes"]), "those are not in files"
    assert all(one.keys() >= {"recipe_id", "model_id", "gpu_type", "works", "verdicts"} for one in done.json["recipes"])
    of_bf16 = [one for one in done.json["recipes"] if one["recipe_id"] == "qwen3-32b-mi300x-bf16"]
    wide = next(one for one in of_bf16 if one["gpu_count"] == 8)
    assert (wide["state"], wide["against"]) == ("it needs 8 GPUs, and 4 usable of its type are here", ["gpu count"])
    assert Path(wide["path"]).is_file()


def test_recipes_with_too_weak_evidence_say_so(cli: Run) -> None:
    found = cli("recipes", MODEL, "--hardware", "MI300X:8", "--json", AIM_MIN_EVIDENCE="served").json["recipes"]
    of_model = [one for one in found if one["recipe_id"] == "qwen3-32b-mi300x-bf16"]
    assert of_model
    assert all(one["against"] == ["evidence"] and "AIM_MIN_EVIDENCE is served" in one["state"] for one in of_model)


def test_recipes_of_the_users_own_folder_are_listed_too(cli: Run, tmp_path: Path) -> None:
    write_recipe(tmp_path, "mine", model_id="org/mine")
    done = cli("recipes", "--hardware", "MI300X:1", AIM_RECIPES_DIR=str(tmp_path))
    assert "mine" in done.stdout
    assert "qwen3-32b-mi300x-bf16" in done.stdout


def test_models(cli: Run, tmp_path: Path) -> None:
    write_recipe(tmp_path, "mine", model_id="org/mine")
    done = cli("models", "--recipes-dir", str(tmp_path))
    named = [row.split()[0] for row in done.stdout.splitlines()]
    assert named == ["model", *sorted(named[1:], key=str.lower)]
    assert set(named) >= {"org/mine", MODEL, "openai/gpt-oss-120b"}
    shown = {one["model_id"]: one["recipes"] for one in cli("models", "--json").json}
    files = len(list((ROOT / "recipes" / MODEL).glob("*.yaml")))
    assert (shown[MODEL], "org/mine" in shown, len(shown)) == (files, False, len(named) - 2)


def test_models_say_for_what_their_recipes_are(cli: Run, tmp_path: Path) -> None:
    write_recipe(tmp_path, "mine", model_id="org/mine", gpu_type="MI210")
    shown = {one["model_id"]: one for one in cli("models", "--json", "--recipes-dir", str(tmp_path)).json}
    assert {"bf16", "fp8"} <= set(shown[MODEL]["precisions"])
    mine = shown["org/mine"]
    assert (mine["has_card"], mine["recipe_ids"], mine["gpus"], shown[MODEL]["has_card"]) == (
        False, ["mine"], ["MI210"], True)  # fmt: skip


CARDS = sorted(f"{path.parent.name}/{path.stem}" for path in (ROOT / "models").glob("*/*.yaml"))


@pytest.mark.parametrize("model_id", CARDS)
def test_a_model_with_a_card_is_planned_without_a_network_or_refused_in_words(cli: Run, model_id: str) -> None:
    done = cli("plan", model_id, "--hardware", "MI300X:8", "--offline", "--json")
    if done.code == 0:
        assert {line["basis"] for line in done.json["memory"]["lines"] if line["name"] == "weights"} <= {"computed"}
        return
    assert done.code in (21, 30)
    assert (done.last_words["code"], model_id in done.last_words["message"]) == (done.code, True)


def test_models_bears_a_broken_file_and_warns_of_it(cli: Run, tmp_path: Path) -> None:
    write_recipe(tmp_path, "mine", "a: [", model_id="org/mine")
    done = cli("models", "--recipes-dir", str(tmp_path))
    assert done.code == 0
    assert done.stderr.startswith("warning: ")
    assert MODEL in done.stdout


def test_detect_shows_declared_hardware(cli: Run) -> None:
    assert "2 x MI300X (declared, not looked for)" in cli("detect", "--hardware", "MI300X:2").stdout
    words = cli("detect", "--hardware", "MI300X:2", "--json").json
    assert words.keys() >= {"source", "gpus", "notes"}
    assert [gpu["product"] for gpu in words["gpus"]] == ["MI300X", "MI300X"]


def test_detect_finds_the_cpu(cli: Run) -> None:
    words = cli("detect", "--json", AIM_HARDWARE="cpu").json
    assert words["gpus"][0]["product"] == "CPU"
    assert words["host"]["cores"] >= 1


def test_settings(cli: Run) -> None:
    assert cli("settings").stdout == settings_table() + "\n"
    words = cli("settings", "--json").json
    assert [one["variable"] for one in words] == [setting.variable for setting in SETTINGS]


# --- validate ----------------------------------------------------------------------------------------------------


def test_the_shipped_catalogue_is_valid(cli: Run) -> None:
    done = cli("validate")
    assert done.code == 0
    assert done.stdout.endswith(" files, no errors\n")


def test_validate_reports_every_error_of_every_file(cli: Run, tmp_path: Path) -> None:
    write_recipe(tmp_path, "good")
    write_recipe(tmp_path, "bad", "recipe_id: bad\npresicion: x\n")
    write_recipe(tmp_path, "worse", "a: [")
    done = cli("validate", str(tmp_path))
    assert done.code == 31
    assert done.last_words["message"] == "5 errors in 2 of 3 files"
    assert "did you mean precision?" in done.stderr
    as_json = cli("validate", str(tmp_path), "--json")
    assert as_json.code == 31
    assert as_json.json["files"] == 3
    assert len(as_json.json["problems"]) == 5


def test_validate_knows_what_the_gpu_has_no_kernels_for(cli: Run, tmp_path: Path) -> None:
    """What is wrong with the recipe is said once, what is wrong with its variants for each of them."""
    counts = "".join(f'  {count}_gpu: {{env: {{VLLM_ROCM_USE_AITER: "1"}}}}\n' for count in (1, 2))
    of = f"model_id: {MODEL}\nhuggingface_id: {MODEL}-FP8\nprecision: fp8"
    head = f"recipe_id: old\n{of}\nhardware: {{gpu_type: MI210}}\nvllm_serve:\n"
    write_recipe(tmp_path, "old", head + counts)
    done = cli("validate", str(tmp_path))
    assert done.code == 31
    assert done.last_words["message"] == "3 errors in 1 of 1 files"
    assert "vllm_serve.2_gpu.env.VLLM_ROCM_USE_AITER: turns AITER on, which has no kernels for MI210" in done.stderr
    assert " precision: is fp8, in which MI210 (gfx90a) does not compute" in done.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_validate_is_not_fooled_by_an_engine_that_ends_the_program(process: Run, tmp_path: Path, code: int) -> None:
    """The engine's exit code would else be ours, and 0 means that every recipe is fine."""
    package, about = tmp_path / "vllm", tmp_path / "vllm-0.16.0.dist-info"
    package.mkdir()
    about.mkdir()
    (package / "__init__.py").write_text(f"import sys\nsys.exit({code})\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.16.0\n")
    path = f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"
    done = process("validate", "--engine", str(write_recipe(tmp_path / "recipes", "r")), PYTHONPATH=path)
    assert done.code == 50
    assert done.last_words["message"] == "vllm 0.16.0 ended the program while it was imported"


def test_validate_counts_a_file_once(cli: Run, tmp_path: Path) -> None:
    write_recipe(tmp_path, "name").rename(tmp_path / MODEL / "other.yaml")
    shipped = int(cli("validate").stdout.split()[0])
    done = cli("validate", AIM_RECIPES_DIR=str(tmp_path))
    assert done.last_words["message"] == f"1 error in 1 of {shipped + 1} files"


def test_validate_takes_single_files(cli: Run, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "good")
    assert cli("validate", str(path), str(path)).stdout == "2 files, no errors\n"
    assert cli("validate", str(tmp_path / "nowhere")).code == 31


def test_validate_tells_of_a_damaged_record_and_goes_on(cli: Run, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "good")
    (path.parent / "parsed.json").write_text("{")
    done = cli("validate", str(tmp_path))
    assert (done.code, done.stdout) == (0, "1 files, no errors, 1 warning\n")
    assert f"{path.parent / 'parsed.json'}: is no record of what an engine's parser accepted" in done.stderr


def test_only_an_engine_can_accept(cli: Run, tmp_path: Path) -> None:
    done = cli("validate", "--record", str(write_recipe(tmp_path, "good")))
    assert done.code == 2
    assert "--record is for --engine" in done.stderr


def test_a_record_is_shown_wherever_the_evidence_is(cli: Run, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "mine")
    record("vllm 0.32.0", {path: digest(path)}, "2026-11-22")
    words = "parsed: derived: no evidence is given; accepted by vllm 0.32.0's own parser, 2026-11-22"
    there = {"AIM_RECIPES_DIR": str(tmp_path)}
    assert f"evidence    {words}\n" in cli("recipe", "show", "mine", **there).stdout
    assert f"evidence {words}\n" in cli("recipe", "explain", "mine", "--hardware", "MI300X:1", **there).stdout
    assert cli("recipe", "show", "mine", "--json", **there).json["evidence"]["counts_as"] == "parsed"
    asked = (MODEL, "--hardware", "MI300X:1", "--json")
    (mine,) = [one for one in cli("recipes", *asked, **there).json["recipes"] if one["recipe_id"] == "mine"]
    assert mine["evidence"] == "parsed"
    assert cli("plan", *asked, AIM_RECIPE="mine", **there).json["evidence"]["level"] == "parsed"


# --- completion --------------------------------------------------------------------------------------------------


def test_the_completion_script_for_bash_is_bash(cli: Run) -> None:
    script = cli("completion", "bash").stdout
    assert "--gpu-count" in script
    assert "list-profiles" in script
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_completion_for_other_shells(cli: Run, shell: str) -> None:
    assert "aim-engine" in cli("completion", shell).stdout


# --- colour, pipes, streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"NO_COLOR": "1"}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_in_a_pipe(cli: Run, environment: dict[str, str], coloured: bool) -> None:
    assert ("\x1b[" in cli(*PLAN, **environment).stdout) is coloured
    assert ("\x1b[" in cli("plan", "-x", **environment).stderr) is coloured
    assert "\x1b[" not in cli(*PLAN, "--json", **environment).stdout


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_on_a_terminal(environment: dict[str, str], coloured: bool) -> None:
    main_end, terminal_end = pty.openpty()
    argv = [sys.executable, "-m", "aim_engine.cli.main", "settings", "--nonsense"]
    plain = {"PATH": os.environ["PATH"], "TERM": "xterm", **environment}
    subprocess.run(argv, stdout=terminal_end, stderr=terminal_end, env=plain, check=False)
    shown = os.read(main_end, 4096)
    os.close(main_end)
    os.close(terminal_end)
    assert (b"\x1b[31merror\x1b[0m" in shown) is coloured


@pytest.mark.parametrize("words", [PLAN, (*PLAN, "--json"), ("--help",), ("settings",), ("completion", "bash")])
def test_a_reader_that_leaves_early_is_no_error(words: tuple[str, ...]) -> None:
    argv = [sys.executable, "-m", "aim_engine.cli.main", *words]
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(argv, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_told_as_such() -> None:
    argv = [sys.executable, "-m", "aim_engine.cli.main", *PLAN]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["code"] == done.returncode != 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_streams(process: Run, encoding: str) -> None:
    assert process(*PLAN, PYTHONIOENCODING=encoding).code == 0
    assert process(*PLAN, "--json", "--engine-args", '{"chat-template": "✓"}', PYTHONIOENCODING=encoding).json


def test_an_interrupt_ends_quietly(process: Run, tmp_path: Path) -> None:
    """As if Ctrl-C came while the model's config is opened."""
    done = process("plan", str(write_model(tmp_path / "m")), "--hardware", "cpu", PYTHONPATH=interrupting(tmp_path))
    assert (done.code, done.stdout, done.stderr) == (130, "", "interrupted\n")
