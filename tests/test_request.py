"""What was asked: every setting by flag, variable and alias, its legal values, and where each value came from."""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.errors import InputError
from aim_engine.request import SETTINGS, Request, Setting, read_request, settings_table
from aim_engine.values import PortRange
from tests.building import ROOT, examples

# For every setting: a legal text other than its default, what becomes of it, and illegal texts.
VALUES: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "model": ("org/name", "org/name", ("name", "a b/c", "org/name/more", "/\x00", "-org/x", "org/", "é/x", "a/" * 60,
                                      "a/" + "b" * 95, "org/a--b", "org/a..b", "org/a.git")),
    "revision": ("refs/pr/1", "refs/pr/1", ("a b", "../x", "a..b", "-x", "x//y", "x/", "é", "x.lock", "a" * 300)),
    "precision": ("FP8", "fp8", ("fp32", "8", "fp 8")),
    "gpu_count": ("64", 64, ("0", "65", "-1", "four", "4.0", "٣", "1e1", "999999999999999999999")),
    "nodes": ("2", 2, ("0", "65", "two", "auto")),
    "node_rank": ("1", 1, ("-1", "64", "first")),
    "leader_address": ("fd00::7", "fd00::7", ("http://a", "a:29501", "a b", "-a", "[::1]", "a/b", "é", "")),
    "leader_port": ("29600", 29600, ("0", "65536", "x")),
    "metric": ("throughput", "throughput", ("speed", "latencies")),
    "backend": ("sglang", "sglang", (" ", "a\nb")),
    "recipe": ("my-recipe", "my-recipe", ("\t",)),
    "expect_plan": ('{"gpu_count": 4}', {"gpu_count": 4}, ("{", "[1]", "3")),
    "force": ("yes", True, ("2", "maybe")),
    "min_evidence": ("served", "served", ("proved",)),
    "max_model_len": ("4096", 4096, ("0", "-5", "4k", "long")),
    "concurrency": ("16", 16, ("0", "100001", "many")),
    "engine_args": (
        '{"max-num-seqs": 64}',
        {"max-num-seqs": 64},
        ("{", "[1]", "3", '{"--x": 1}', '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', '{"a": "\\u0000"}',
         '{"a": ["\\u0000"]}', '{"a-b": 1, "a_b": 2}', "[" * 100_000, '{"": 1}', "9" * 5000),
    ),
    "host": ("::1", "::1", (" ",)),
    "port": ("9000", 9000, ("0", "65536", "http", "80 80")),
    "health_port": ("9080", 9080, ("0", "65536", "x")),
    "cache_dir": ("/cache", Path("/cache"), ("", "~nobody-of-that-name/x", "a\x00b")),
    "state_dir": ("/state", Path("/state"), ("~nobody-of-that-name",)),
    "recipes_dir": ("/recipes", Path("/recipes"), ("\n",)),
    "models_dir": ("/models", Path("/models"), ("a\nb",)),
    "hardware": ("MI300X:8", "MI300X:8", (" ",)),
    "detect_timeout": ("2.5", 2.5, ("0", "soon", "-1", "1e3", "nan", "inf", "٣")),
    "fallback": ("off", False, ("none",)),
    "forget": ("1", True, ("all",)),
    "start_timeout": ("600", 600.0, ("0", "never", "12345678")),
    "stall_timeout": ("0", 0.0, ("-1", "never", "0.001")),
    "hang_timeout": ("30", 30.0, ("0.5", "x")),
    "canary_seconds": ("0", 0.0, ("-1", "often")),
    "drain_timeout": ("0", 0.0, ("-1", "x")),
    "sanity": ("1", True, ("mostly",)),
    "keep_alive": ("1", True, ("forever",)),
    "api_key": ("s3cret", "s3cret", (" s3cret", "s3\ncret", "s3cret\x7f")),
    "hf_token": ("hf_s3cret", "hf_s3cret", ("hf_s3cret ",)),
    "tls_cert": ("/tls/cert.pem", Path("/tls/cert.pem"), ("a\nb",)),
    "tls_key": ("/tls/key.pem", Path("/tls/key.pem"), (" ",)),
    "offline": ("true", True, ("5",)),
    "hub_timeout": ("3.5", 3.5, ("0", "-1", "soon", "nan")),
    "image_cache": ("/prepared", Path("/prepared"), ("\t",)),
    "log_level": ("DEBUG", "debug", ("loud", "trace")),
    "log_format": ("json", "json", ("xml",)),
    "log_dir": ("/logs", Path("/logs"), ("a\nb",)),
    "log_name": ("a.b-c_1", "a.b-c_1", ("..", "../x", "a/b", ".hidden", "-x", "a b", "é", "a\n", "x" * 201)),
    "log_file_size": ("1g", 2**30, ("1k", "0", "-1", "50x", "m", "٣m", "5.5m", "9" * 20)),
    "log_file_count": ("1", 1, ("0", "101", "x")),
    "port_range": ("8000-8010", PortRange(first=8000, last=8010), ("8000", "8010-8000", "0-5", "1-70000", "-", "a-b")),
    "engine_registry": ("registry.example.com/x", "registry.example.com/x", (" ",)),
}  # fmt: skip

by_name = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.variable)
BAD = [(s, text) for s in SETTINGS for text in VALUES[s.field][2]]


def test_this_table_knows_every_setting_and_the_request_every_field() -> None:
    names = [setting.field for setting in SETTINGS]
    assert names == list(VALUES)
    assert {*names, "environment", "origins", "warnings", "hooked"} == {field.name for field in fields(Request)}


def test_no_name_is_used_twice() -> None:
    variables = [variable for setting in SETTINGS for variable in setting.variables]
    flags = [flag for setting in SETTINGS for flag in (setting.flag, *setting.extra_flags)]
    assert len(variables) == len(set(variables))
    assert len(flags) == len(set(flags))


@by_name
def test_a_setting_by_flag_by_variable_and_by_each_alias(setting: Setting) -> None:
    text, value, _ = VALUES[setting.field]
    by_flag = read_request({setting.field: text}, {})
    assert getattr(by_flag, setting.field) == value
    assert by_flag.origins[setting.field] == "flag"
    for variable in setting.variables:
        request = read_request({}, {variable: text})
        assert getattr(request, setting.field) == value
        assert request.origins[setting.field] == "environment"
        assert request.warnings == ()


@by_name
def test_the_default_is_what_the_request_class_says(setting: Setting) -> None:
    request = read_request({}, {})
    assert request.origins[setting.field] == "default"
    own = getattr(Request(), setting.field)
    assert getattr(request, setting.field) == (own.expanduser() if isinstance(own, Path) else own)


@by_name
def test_a_flag_wins_over_the_variable_and_the_variable_over_its_alias(setting: Setting) -> None:
    text, value, _ = VALUES[setting.field]
    assert getattr(read_request({setting.field: text}, {setting.variable: "overruled"}), setting.field) == value
    for alias in setting.aliases:
        request = read_request({}, {setting.variable: text, alias: "overruled"})
        assert getattr(request, setting.field) == value
        assert request.warnings == (f"{alias} is ignored because {setting.variable} is set too",)
        assert read_request({}, {setting.variable: text, alias: text}).warnings == ()


@pytest.mark.parametrize(("setting", "text"), BAD, ids=[f"{s.variable}-{t[:20]!r}" for s, t in BAD])
def test_a_bad_value_is_an_input_error_that_says_what_is_legal(setting: Setting, text: str) -> None:
    with pytest.raises(InputError) as flag:
        read_request({setting.field: text}, {})
    name = "MODEL" if setting.field == "model" else setting.flag
    assert flag.value.message.startswith(f"{name}: ")
    assert flag.value.hint.startswith(("use ", '"', "one option", "'", "a holds"))
    for variable in setting.variables if text else ():
        with pytest.raises(InputError, match=f"^{variable}: .* is not legal$"):
            read_request({}, {variable: text})


@pytest.mark.parametrize(
    ("field", "text", "hint"),
    [
        ("precision", "bf61", "auto, fp4, fp8, int4, int8, bf16, fp16 (did you mean bf16?)"),
        ("metric", "latencyy", "latency, throughput (did you mean latency?)"),
        ("gpu_count", "65", "auto or a whole number from 1 to 64"),
        ("max_model_len", "x", "auto or recipe or a whole number of at least 1"),
        ("port", "0", "a whole number from 1 to 65535"),
        ("hang_timeout", "x", "a number of seconds, at least 1"),
        ("start_timeout", "x", "at least 1, or auto"),
        ("force", "x", "1 or 0"),
        ("engine_args", "x", '{"max-num-seqs": 64}'),
        ("model", "x", "Qwen/Qwen3-32B"),
    ],
)
def test_the_remedy_names_the_legal_values(field: str, text: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        read_request({field: text}, {})
    assert hint in caught.value.hint


TOKEN = "hf_" + "aB3" * 12


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"kv-transfer-config": {"token": "s3cret"}}, "kv-transfer-config.token"),
        ({"kv-transfer-config": {"extra": [{"authToken": "s3cret"}]}}, "kv-transfer-config.extra.authToken"),
        ({"kv-transfer-config": '{"redis_password": "s3cret"}'}, "kv-transfer-config.redis_password"),
        ({"kv-transfer-config.api_key": "s3cret"}, "kv-transfer-config.api_key"),
        ({"tokenizer": "hf_s3cret"}, "tokenizer"),
        ({"middleware": ["a", f"x={TOKEN}"]}, "middleware"),
        ({"additional-config": {"url": "redis://u:s3cret@host"}}, "additional-config.url"),
        ({"additional-config": {"credentials": 123456}}, "additional-config.credentials"),
    ],
)
def test_a_secret_within_an_engine_option_is_refused_and_not_repeated(value: dict[str, Any], place: str) -> None:
    for flags, variables in (({"engine_args": json.dumps(value)}, {}), ({}, {"AIM_ENGINE_ARGS": json.dumps(value)})):
        with pytest.raises(InputError) as caught:
            read_request(flags, variables)
        assert f"{place} looks like one" in caught.value.hint
        assert "--env NAME" in caught.value.hint
        told = caught.value.message + caught.value.hint
        assert not [one for one in ("s3cret", "123456", TOKEN) if one in told]


def test_a_secret_behind_an_escape_is_not_repeated_either() -> None:
    with pytest.raises(InputError) as caught:
        read_request({"engine_args": '{"a": {"\\u0074oken": "s3cret"}}'}, {})
    assert "s3cret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "value",
    [
        {"hf-overrides": {"eos_token": "</s>", "hf_text_config": {"max_tokens": 5}}, "max-num-batched-tokens": 8192},
        {"hf_overrides": {"a": "b"}, "load-format": "hf", "kv-transfer-config": {"token": "", "use_secret": True}},
        {"api-key": "x", "hf-token": "hf_x"},  # whose settings the engine's own part names
    ],
)
def test_what_only_sounds_like_a_secret_is_an_option(value: dict[str, Any]) -> None:
    assert read_request({"engine_args": json.dumps(value)}, {}).engine_args == value


@pytest.mark.parametrize("field", ["engine_args", "expect_plan"])
@pytest.mark.parametrize("text", ['{"a": {"api_key": "s3cret"}', "{'password': 's3cret'}", f'{{"a": "{TOKEN}"'])
def test_json_that_cannot_be_read_is_not_repeated_where_it_may_hold_a_secret(field: str, text: str) -> None:
    with pytest.raises(InputError, match="its value is not legal") as caught:
        read_request({field: text}, {})
    assert "line 1 column" in caught.value.hint
    assert not [one for one in ("s3cret", TOKEN) if one in caught.value.message + caught.value.hint]


def test_an_expectation_that_is_no_json_is_told_what_one_is() -> None:
    with pytest.raises(InputError) as caught:
        read_request({"expect_plan": "{recipe_id: x}"}, {})
    assert "{recipe_id: x}" in caught.value.message
    assert '{"recipe_id": "' in caught.value.hint


def test_a_long_bad_value_is_cut_short_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        read_request({"precision": "x" * 5000}, {})
    assert len(caught.value.message) < 120


def test_the_words_for_nothing_in_particular() -> None:
    request = read_request({"gpu_count": "auto", "max_model_len": "Recipe", "start_timeout": "AUTO"}, {})
    assert (request.gpu_count, request.max_model_len, request.start_timeout) == (None, None, None)
    assert read_request({"max_model_len": "auto"}, {}).max_model_len == "auto"


def test_an_empty_variable_counts_as_absent() -> None:
    """Compose files and charts write them that way. But for the API's key: see below."""
    request = read_request({}, {setting.variable: "" for setting in SETTINGS if setting.may_be_empty})
    assert set(request.origins.values()) == {"default"}
    assert read_request({}, {"AIM_MODEL": "", "AIM_MODEL_ID": "a/b"}).model == "a/b"


@pytest.mark.parametrize(("text", "level"), [("CRITICAL", "error"), ("WARN", "warning"), ("INFO", "info")])
def test_log_levels_as_other_tools_write_them(text: str, level: str) -> None:
    assert read_request({}, {"AIM_LOG_LEVEL": text}).log_level == level


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("AIM_MODLE", "AIM_MODEL"),
        ("AIM_GPU_CUONT", "AIM_GPU_COUNT"),
        ("AIM_PORTS", "AIM_PORT"),
        ("AIM_MAX_MODEL_LENGTH", "AIM_MAX_MODEL_LEN"),
    ],
)
def test_a_misspelt_variable_is_a_warning_with_the_nearest_name(name: str, near: str) -> None:
    (warning,) = read_request({}, {name: "x"}).warnings
    assert warning == f"{name} is not a setting of AIM Engine and is ignored; did you mean {near}?"


def test_a_variable_that_resembles_nothing_is_a_warning_without_a_guess() -> None:
    assert read_request({}, {"AIM_QQQQQQQQQQQQ": "x", "AIMLESS": "x", "PATH": "x"}).warnings == (
        "AIM_QQQQQQQQQQQQ is not a setting of AIM Engine and is ignored",
    )


# What Kubernetes gives every pod of a namespace that has services called aim, aim-health and aim-engine.
SERVICE_LINKS = {
    f"{service}_{ending}": text
    for service in ("AIM", "AIM_ENGINE", "AIM_ENGINE_QWEN")
    for ending, text in {
        "SERVICE_HOST": "10.0.0.7",
        "SERVICE_PORT": "8000",
        "SERVICE_PORT_HTTP": "8000",
        "PORT_8000_TCP": "tcp://10.0.0.7:8000",
        "PORT_8000_TCP_PROTO": "tcp",
        "PORT_8000_TCP_PORT": "8000",
        "PORT_8000_TCP_ADDR": "10.0.0.7",
    }.items()
} | {"AIM_ENGINE_PORT": "tcp://10.0.0.7:8000", "AIM_ENGINE_QWEN_PORT": "udp://10.0.0.7:8000"}


def test_the_service_variables_of_kubernetes_are_passed_over_in_silence() -> None:
    assert read_request({}, SERVICE_LINKS).warnings == ()


@pytest.mark.parametrize(("name", "field"), [("AIM_PORT", "port"), ("AIM_HEALTH_PORT", "health_port")])
def test_a_service_link_where_a_port_should_be_is_dropped_with_a_warning(name: str, field: str) -> None:
    request = read_request({}, {name: "tcp://10.0.0.7:8000"})
    assert getattr(request, field) == getattr(Request(), field)
    assert request.origins[field] == "default"
    assert request.warnings == (
        f"{name}=tcp://10.0.0.7:8000 is ignored: it is a service link injected by Kubernetes, not a port",
    )


def test_a_flag_is_never_taken_for_a_service_link() -> None:
    with pytest.raises(InputError, match=r"^--port: 'tcp://x' is not legal"):
        read_request({"port": "tcp://x"}, {})


def test_the_two_ports_must_differ() -> None:
    with pytest.raises(InputError, match="are both 8080"):
        read_request({"port": "8080"}, {})


@pytest.mark.parametrize("name", ["AIM_API_KEY", "VLLM_API_KEY"])
def test_a_key_that_is_empty_is_not_none(name: str) -> None:
    """Whoever set it meant to have one; a token is only missed where a model is gated."""
    with pytest.raises(InputError, match=f"^{name} is set and empty") as caught:
        read_request({}, {name: ""})
    assert caught.value.code == 10
    assert f"unset {name}" in caught.value.hint
    assert read_request({}, {"HF_TOKEN": ""}).hf_token is None
    assert read_request({}, {"AIM_API_KEY": "", "VLLM_API_KEY": "k"}).api_key == "k"


@pytest.mark.parametrize("name", ["AIM_API_KEY", "VLLM_API_KEY", "HF_TOKEN"])
def test_a_secret_is_never_shown(name: str) -> None:
    assert "hunter2" not in repr(read_request({}, {name: "hunter2"}))
    with pytest.raises(InputError) as caught:
        read_request({}, {name: " hunter2"})
    assert "hunter2" not in json.dumps(caught.value.as_json())
    assert "hunter2" not in " ".join(read_request({}, {"AIM_API_KEY": "a", "VLLM_API_KEY": "hunter2"}).warnings)


@pytest.mark.parametrize("name", ["AIM_API_KEY", "VLLM_API_KEY", "HF_TOKEN"])
@pytest.mark.parametrize("secret", ["schlüssel", "schlüssel🔑", "k\udcffy", "k\x7fy", "k\ty", "key "])
def test_a_secret_that_clients_would_send_in_different_ways_is_refused(name: str, secret: str) -> None:
    """Nobody says how other letters go into an HTTP header: clients differ, and one of them would be locked out."""
    with pytest.raises(InputError, match=f"^{name}: its value is not legal") as caught:
        read_request({}, {name: secret})
    assert caught.value.code == 10
    assert "ASCII" in caught.value.hint
    assert secret.strip() not in json.dumps(caught.value.as_json(), ensure_ascii=False)


def test_a_secret_may_have_every_printable_ascii_character() -> None:
    text = "".join(map(chr, range(33, 127))) + " x"
    assert read_request({}, {"AIM_API_KEY": text}).api_key == text


def test_a_model_must_be_named_where_one_is_needed() -> None:
    with pytest.raises(InputError, match="no model was asked for"):
        _ = read_request({}, {}).required_model


@pytest.mark.parametrize("text", ["/models/mine", "./mine", "../mine", "~/mine", ".", ".."])
def test_a_path_is_a_local_model(text: str) -> None:
    assert read_request({"model": text}, {}).model_folder == Path(text).expanduser()


def test_a_folder_that_exists_is_a_local_model_though_it_looks_like_an_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_request({"model": "org/name"}, {}).model_folder is None
    (tmp_path / "org/name").mkdir(parents=True)  # as in a clone of the recipes: it holds no model
    assert read_request({"model": "org/name"}, {}).model_folder is None
    (tmp_path / "org/name/config.json").write_text("{}")
    assert read_request({"model": "org/name"}, {}).model_folder == Path("org/name")
    (tmp_path / "bare").mkdir()
    assert read_request({"model": "bare"}, {}).model_folder == Path("bare")


def test_the_home_of_nobody_is_no_model() -> None:
    with pytest.raises(InputError, match=r"^MODEL: '~nobody-of-that-name/x' is not legal"):
        read_request({"model": "~nobody-of-that-name/x"}, {})


def test_the_readme_carries_the_table_of_settings() -> None:
    readme = (ROOT / "README.md").read_text()
    between = re.search(r"<!-- settings -->\n(.*?)\n<!-- /settings -->", readme, re.DOTALL)
    assert between, "README.md has no <!-- settings --> ... <!-- /settings -->"
    assert between.group(1).strip() == settings_table()


def test_the_table_has_a_row_for_each_setting_and_no_stray_columns() -> None:
    rows = settings_table().splitlines()[2:]
    assert len(rows) == len(SETTINGS)
    assert all(row.count("|") == 6 for row in rows)
    assert not [row for row in rows if "AIM_API_KEY" in row and "--api-key" in row]


words = st.text(max_size=40) | st.sampled_from(["auto", "8", "fp8", "{}", "tcp://x:1", "~", "a/b", "/", "0", "1"])
names = st.sampled_from([v for s in SETTINGS for v in s.variables]) | st.from_regex(r"AIM_[A-Z_]{0,12}", fullmatch=True)


@examples(150)
@given(
    flags=st.dictionaries(st.sampled_from([s.field for s in SETTINGS]), words, max_size=4),
    environment=st.dictionaries(names, words, max_size=5),
)
def test_any_texts_give_a_request_or_an_input_error(flags: dict[str, str], environment: dict[str, str]) -> None:
    try:
        request = read_request(dict(flags), environment)
    except InputError:
        return
    assert set(request.origins) == {setting.field for setting in SETTINGS}
    assert request.model is None or request.model_folder is None or isinstance(request.model_folder, Path)


@examples(60)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=8))  # fmt: skip
def test_engine_arguments_that_are_taken_can_be_passed_on(value: Any) -> None:
    try:
        taken = read_request({"engine_args": json.dumps(value)}, {}).engine_args
    except InputError:
        return
    assert json.loads(json.dumps(taken, allow_nan=False).encode()) == value


# --- secrets as files ------------------------------------------------------------------------------------------------

SECRETS = pytest.mark.parametrize("setting", [one for one in SETTINGS if one.secret], ids=lambda one: one.variable)


@SECRETS
@pytest.mark.parametrize("content", ["s3cret", "s3cret\n", "s3cret\r\nsecond line\n"])
def test_a_secret_s_file(setting: Setting, content: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content.encode())
    asked = read_request({}, {f"{setting.variable}_FILE": str(file)})
    assert getattr(asked, setting.field) == "s3cret"
    assert asked.environment[setting.variable] == "s3cret"
    assert asked.origins[setting.field] == "environment"
    assert asked.warnings == ()


@SECRETS
def test_a_secret_given_twice(setting: Setting, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret")
    both = {f"{setting.variable}_FILE": str(file), setting.variable: "s3cret"}
    assert getattr(read_request({}, both), setting.field) == "s3cret"
    for name in setting.variables:
        with pytest.raises(InputError, match="different values") as caught:
            read_request({}, {f"{setting.variable}_FILE": str(file), name: "other"})
        assert "s3cret" not in str(caught.value.as_json())


def _folder(path: Path) -> None:
    path.mkdir()


def _closed(path: Path) -> None:
    path.write_bytes(b"s3cret")
    path.chmod(0)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file"),
        (_folder, "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.write_bytes(b"x" * (64 * 1024 + 1)), "larger than 64 KiB"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\ns3cret"), "is empty"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "not UTF-8"),
        (lambda path: path.write_bytes(b"s3 cret \x07"), "printable"),
    ],
)
def test_a_file_that_is_no_secret(make: Any, why: str, tmp_path: Path) -> None:
    make(tmp_path / "secret")
    with pytest.raises(InputError, match="AIM_API_KEY_FILE=") as caught:
        read_request({}, {"AIM_API_KEY_FILE": str(tmp_path / "secret")})
    assert why in caught.value.message
    assert "s3" not in str(caught.value.as_json()).replace(str(tmp_path), "")


def test_a_closed_file(tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root may read everything")
    _closed(tmp_path / "secret")
    with pytest.raises(InputError, match="Permission denied"):
        read_request({}, {"AIM_API_KEY_FILE": str(tmp_path / "secret")})


def test_no_file_variable_for_what_is_no_secret() -> None:
    assert [s.file_variable for s in SETTINGS if s.file_variable] == ["AIM_API_KEY_FILE", "HF_TOKEN_FILE"]
    assert any("AIM_MODEL_FILE" in warning for warning in read_request({}, {"AIM_MODEL_FILE": "/x"}).warnings)


# --- several nodes ---------------------------------------------------------------------------------------------------

LWS = {"LWS_GROUP_SIZE": "2", "LWS_WORKER_INDEX": "1", "LWS_LEADER_ADDRESS": "m-0.m.ns"}


def test_the_variables_of_a_leader_worker_set_say_which_node_this_is() -> None:
    request = read_request({}, LWS)
    assert (request.nodes, request.node_rank, request.leader_address) == (2, 1, "m-0.m.ns")
    assert request.group_json() == {"nodes": 2, "rank": 1, "address": "m-0.m.ns", "port": 29501}
    assert read_request({}, {}).group_json() is None
    request.check_nodes()


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({**LWS, "AIM_NODES": "3"}, "AIM_NODES=3 and LWS_GROUP_SIZE=2 contradict each other"),
        ({**LWS, "AIM_NODE_RANK": "0"}, "AIM_NODE_RANK=0 and LWS_WORKER_INDEX=1 contradict each other"),
        ({"AIM_NODES": "2", "AIM_NODE_RANK": "2"}, "AIM_NODE_RANK=2 is not among 2 nodes, 0 to 1"),
        ({"AIM_NODE_RANK": "1"}, "AIM_NODE_RANK=1 is not that of a node alone"),
    ],
)
def test_what_is_said_of_nodes_may_not_contradict_itself(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        read_request({}, environment).check_nodes()
    assert error.value.message == sentence
    assert "\n" not in error.value.hint


def test_what_is_said_twice_alike_or_typed_contradicts_nothing() -> None:
    read_request({}, {**LWS, "AIM_NODES": "2"}).check_nodes()
    read_request({"nodes": "4"}, {**LWS}).check_nodes()
    own = read_request({}, {**LWS, "AIM_LEADER_ADDRESS": "10.0.0.7"})
    own.check_nodes()
    assert own.leader_address == "10.0.0.7", "an address may be told better"
