"""failures.py, attempts.py, progress.py: what an engine's last lines mean, and what follows."""

from __future__ import annotations

import pytest

from aim_engine.errors import AimError, EngineCrashedError, EngineStartTimeoutError, InputError
from aim_engine.runtime.attempts import decide
from aim_engine.runtime.contract import Rung
from aim_engine.runtime.failures import Failure, classify
from aim_engine.runtime.signatures import SIGNATURES

# Lines as engines print them; the prefixes are vLLM 0.32's.
SAID = [
    (
        "(EngineCore pid=9) ERROR 11-21 18:00:00 [core.py:1136] ValueError: To serve at least one request with the "
        "model's max seq len (2048), (0.25 GiB KV cache is needed, which is larger than the available KV cache memory "
        "(0.12 GiB). Based on the available memory, the estimated maximum model length is 1024. Try increasing",
        "DoesNotFit",
        "at most 1024 tokens",
    ),
    ("ValueError: No available memory for the cache blocks. Try increasing", "DoesNotFit", "no memory for the KV"),
    (
        "ValueError: Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token. Try",
        "DoesNotFit",
        "no memory for the KV",
    ),
    (
        "vllm.exceptions.VLLMValidationError: The supplied chat template string (/nowhere/x.jinja) appears path-like, "
        "but doesn't exist! Tried: /nowhere/x.jinja and /nowhere/x.jinja (parameter=chat_template)",
        "EngineRefused",
        "there is no chat template /nowhere/x.jinja",
    ),
    (
        "ValueError: Free memory on device cuda:0 (12.5/192.0 GiB) on startup is less than desired GPU memory "
        "utilization (0.92, 176.6 GiB). Decrease GPU memory utilization",
        "DoesNotFit",
        "other programs hold the memory",
    ),
    (
        "ValueError: Available memory on node 0 (17.07/18.09 GiB) on kv cache allocation is less than requested "
        "memory for kv (200.0 GiB).",
        "DoesNotFit",
        "KV cache that was asked for",
    ),
    (
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 191.98 "
        "GiB of which 1.25 GiB is free.",
        "DoesNotFit",
        "the GPU ran out of memory",
    ),
    ("FileNotFoundError: [Errno 2] No such file or directory: '/psm_4a0fdb92'", "Cache", "cannot use /dev/shm"),
    ("OSError: [Errno 28] No space left on device: '/psm_4a0fdb92'", "Cache", "No space left on device: '/psm_"),
    ("PermissionError: [Errno 13] Permission denied: '/dev/shm/sem.x'", "Cache", "cannot use /dev/shm"),
    ("OSError: [Errno 28] No space left on device: '/cache/x'", "Cache", "the disk is full"),
    ("OSError: [Errno 98] Address already in use", "Input", "the port was taken"),
    (
        "torch._inductor.exc.InductorError: InvalidCxxCompiler: No working C++ compiler found in "
        "torch._inductor.config.cpp.cxx: (None, 'g++')",
        "EngineRefused",
        "there is no compiler",
    ),
    (
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. Access to model meta-llama/X is restricted.",
        "ModelAccess",
        "does not give access",
    ),
    (
        "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name'",
        "ModelAccess",
        "no such model",
    ),
    ("huggingface_hub.errors.LocalEntryNotFoundError: Cannot find", "ModelAccess", "not in the cache"),
    ("safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge", "ModelAccess", "damaged"),
    ("requests: HTTPSConnectionPool: NameResolutionError(...)", "HubUnreachable", "did not answer"),
    (
        "httpx2.RemoteProtocolError: Server disconnected without sending a response.",
        "HubUnreachable",
        "did not answer",
    ),
    (
        "KeyError: \"Reasoning parser 'nonsense' not found. Available parsers: deepseek_r1, qwen3\"",
        "EngineRefused",
        "no parser named nonsense",
    ),
    ("KeyError: \"Tool parser 'nonsense' not found.\"", "EngineRefused", "no parser named nonsense"),
    (
        "  Value error, User-specified max_model_len (999999) is greater than the derived max_model_len "
        "(max_position_embeddings=2048 or model_max_length=None in model's config.json).",
        "EngineRefused",
        "not made for a context of 999999 tokens",
    ),
    (
        "ValueError: Model architectures ['FooForCausalLM'] are not supported for now. Supported architectures: []",
        "EngineRefused",
        "'FooForCausalLM'",
    ),
    ("KeyError: 'invalid tool call parser: nope (chose from { a,b })'", "EngineRefused", "no parser named nope"),
    ("RuntimeError: Unsupported head dim: 16", "EngineRefused", "Unsupported head dim: 16"),
    (
        "RuntimeError: Unsupported CPU attention configuration: head_dim=16 isa=2 kv_cache_idx=0",
        "EngineRefused",
        "head_dim=16",
    ),
    ("vllm serve: error: unrecognized arguments: --no-such", "EngineRefused", "unrecognized arguments: --no-such"),
    (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "EngineRefused",
        "refused its",
    ),
]


@pytest.mark.parametrize(("line", "name", "text"), SAID, ids=[name + ": " + text for _, name, text in SAID])
def test_texts_are_known(line: str, name: str, text: str) -> None:
    lines = ["INFO before", line, "RuntimeError: Engine core initialization failed. See root cause above."]
    failure = classify(lines, status=1)
    assert failure.error.error_class == name
    assert text in failure.error.message
    assert "{" not in failure.error.message + failure.error.hint.replace('{"gpu', "")
    assert failure.error.hint
    assert failure.permanent is not failure.error.retryable


@pytest.mark.parametrize("prefix", ["", "(EngineCore pid=9) ERROR 11-21 18:00:00 [core.py:1136] "])
def test_semaphores_without_shared_memory(prefix: str) -> None:
    """As Python says it where /dev/shm is missing (`--ipc none`), or is another user's."""
    said = """sl = self._semlock = _multiprocessing.SemLock(
                         ^^^^^^^^^^^^^^^^^^^^^^^^^
FileNotFoundError: [Errno 2] No such file or directory"""
    error = classify([prefix + line for line in said.splitlines()], status=1).error
    assert (error.code, error.message) == (42, "the engine cannot use /dev/shm: No such file or directory")
    assert "--ipc none" in error.hint
    assert "--shm-size" in error.hint


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("/models/mine", "put whole files into /models/mine: it is a folder of yours, not a download"),
        ("org/name", "delete models--org--name in the hub folder of AIM_CACHE_DIR and start again"),
        ("", "delete the model's folder in AIM_CACHE_DIR and start again"),
    ],
)
@pytest.mark.parametrize(
    "line",
    [
        "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
        "ValueError: There is no module or parameter named 'model.foo' in Qwen3ForCausalLM",
        "RuntimeError: start (0) + length (512) exceeds dimension size (256).",
        "    assert param_data.shape == loaded_weight.shape",
    ],
)
def test_damaged_files_are_mended_where_they_are(line: str, model: str, advice: str) -> None:
    hint = classify([line], status=1, model=model).error.hint
    assert advice in hint
    assert ("AIM_CACHE_DIR" in hint) is not model.startswith("/")


def test_a_kill_for_want_of_memory_is_named() -> None:
    plain = classify([], status=-1, how="killed by SIGKILL")
    reason = "the container's memory limit of 4.0 GiB was reached"
    error = classify([], status=-1, how="killed by SIGKILL", out_of_memory=reason).error
    assert error.message == "the engine ended while it started, killed by the kernel: the container's memory limit " \
                            "of 4.0 GiB was reached"  # fmt: skip
    assert (error.error_class, error.code) == (plain.error.error_class, plain.error.code) == ("EngineCrashed", 51)
    assert "memory" in error.hint


def test_a_worker_that_was_killed_for_want_of_memory_takes_the_engine_with_it() -> None:
    """The server then ends by itself, with 0 or 1."""
    lines = ["RuntimeError: cancelled", "EngineDeadError: EngineCore encountered an issue."]
    error = classify(lines, status=0, was_ready=True, out_of_memory="the machine's memory was used up").error
    assert error.message == "the engine ended while it served, a process of it killed by the kernel: the machine's " \
                            "memory was used up"  # fmt: skip
    assert error.code == 51


def test_a_cause_that_the_engine_named_itself_stands() -> None:
    error = classify(["vllm serve: error: unrecognized arguments: --x"], status=2, out_of_memory="reached").error
    assert error.code == 50


def test_a_status_of_a_usage_error_is_enough() -> None:
    assert classify(["usage: vllm"], status=2).error.code == 50


def test_what_is_not_known_is_a_crash_and_worth_another_attempt() -> None:
    failure = classify(["INFO all well", "ValueError: what?"], status=0, was_ready=True)
    assert isinstance(failure.error, EngineCrashedError)
    assert failure.error.message == "the engine ended while it served, with exit status 0: ValueError: what?"
    assert failure.error.details == ("ValueError: what?",)
    assert not failure.permanent


def test_a_signal_is_named() -> None:
    assert "killed by SIGSEGV" in classify([], status=-11).error.message
    assert "killed by SIGKILL" in classify([], status=-1, how="killed by SIGKILL").error.message
    assert "killed by a signal" in classify([], status=-1).error.message


def test_texts_of_a_start_mean_nothing_once_it_served() -> None:
    assert classify(["OSError: [Errno 98] Address already in use"], status=0, was_ready=True).error.code == 51
    ran_out = classify(["torch.OutOfMemoryError: HIP out of memory."], status=0, was_ready=True).error
    assert (ran_out.code, ran_out.message) == (51, "the GPU ran out of memory while it served")


def test_the_last_of_several_counts() -> None:
    lines = ["the estimated maximum model length is 10", "the estimated maximum model length is 20"]
    assert "at most 20" in classify(lines, status=1).error.message


def test_signatures_say_where_their_text_comes_from() -> None:
    assert all(signature.source and signature.hint for signature in SIGNATURES)


def failure(error: AimError) -> Failure:
    return Failure(error=error)


@pytest.mark.parametrize(
    ("ready_seconds", "most", "delays"),
    [(0, 5, [1.0, 3.0, 10.0, 30.0, 30.0]), (2, 3, [0.0, 3.0, 10.0]), (5, 3, [0.0, 0.0, 10.0])],
)
def test_attempts_are_few_and_further_and_further_apart(ready_seconds: float, most: int, delays: list[float]) -> None:
    """The first of an engine that has served is made at once, and so is one of an engine that has served for longer
    than the pause would be.
    """
    crash, used, found = failure(EngineCrashedError("x")), 0, []
    while True:
        step = decide(crash, retries_used=used, max_retries=most, ready_seconds=ready_seconds)
        if step.delay_seconds is None:
            break
        found.append(step.delay_seconds)
        used = step.retries_used
    assert found == delays


def test_permanent_and_unwanted_retries() -> None:
    for error, most in ((InputError("x"), 5), (EngineCrashedError("x"), 0)):
        assert decide(failure(error), retries_used=0, max_retries=most, ready_seconds=0).delay_seconds is None


def test_a_start_that_took_too_long_is_worth_one_more() -> None:
    late = failure(EngineStartTimeoutError("x"))
    assert decide(late, retries_used=0, max_retries=5, ready_seconds=0).delay_seconds is not None
    assert decide(late, retries_used=1, max_retries=5, ready_seconds=0).delay_seconds is None


def test_ten_good_minutes_make_up_for_earlier_failures() -> None:
    assert decide(failure(EngineCrashedError("x")), retries_used=2, max_retries=2, ready_seconds=601).retries_used == 1


def test_the_cause_is_the_exception_that_says_something() -> None:
    lines = [
        "(EngineCore pid=9) ERROR 11-21 17:43:00 [core.py:1] ValueError: the real reason",
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ]
    assert classify(lines, status=1).cause == "ValueError: the real reason"
    assert classify(lines, status=-9).cause == ""
    dead = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)."
    assert classify([lines[0], dead], status=0, was_ready=True).cause == "ValueError: the real reason"


def test_the_same_exception_twice_will_come_again() -> None:
    crash = classify(["ValueError: the real reason"], status=1)
    again = decide(crash, retries_used=1, max_retries=5, ready_seconds=0, previous=crash.error.message)
    assert again.delay_seconds is None
    other = decide(crash, retries_used=1, max_retries=5, ready_seconds=0, previous="something else")
    assert other.delay_seconds is not None
    killed = classify([], status=-9)
    assert decide(killed, retries_used=1, max_retries=5, ready_seconds=0, previous=killed.error.message).delay_seconds


RUNG = Rung(name="r", failures=("cache", "crash"), gives_up="", options={}, env={}, unset=())


def test_a_rung_is_for_its_failures_and_taken_once() -> None:
    full = classify(["ValueError: the estimated maximum model length is 9"], status=1)
    step = decide(full, retries_used=0, max_retries=0, ready_seconds=0, ladder=[RUNG])
    assert (step.rung, step.retries_used, step.delay_seconds) == (RUNG, 0, 1.0)
    assert (
        decide(full, retries_used=0, max_retries=2, ready_seconds=0, ladder=[RUNG], taken=["r"]).delay_seconds is None
    )
    port = classify(["OSError: [Errno 98] Address already in use"], status=1)
    assert decide(port, retries_used=0, max_retries=2, ready_seconds=0, ladder=[RUNG]).delay_seconds is None
    late = decide(full, retries_used=0, max_retries=2, ready_seconds=0, ladder=[RUNG], seconds_left=0)
    assert late.delay_seconds is None


def test_a_crash_is_tried_once_more_as_it_was_before_anything_is_given_up() -> None:
    crash = classify(["Segmentation fault"], status=-11)
    first = decide(crash, retries_used=0, max_retries=1, ready_seconds=0, ladder=[RUNG])
    assert (first.rung, first.retries_used) == (None, 1)
    assert decide(crash, retries_used=1, max_retries=1, ready_seconds=0, ladder=[RUNG]).rung == RUNG


@pytest.mark.parametrize(
    ("line", "kind"),
    [  # of GPUs that were not at hand: as ROCm's and PyTorch's sources print them
        ("Memory access fault by GPU node-2 (Agent handle: 0x55) on address 0x7f. Reason: Unknown.", "kernel"),
        ("RuntimeError: HIP error: invalid device function", "kernel"),
        ("ImportError: cannot import name 'fmoe' from aiter.ops (/x/aiter/ops.py)", "kernel"),
        (":0:rocdevice.cpp :2984: Callback: Queue 0x7 aborting with error : HSA_STATUS_ERROR_EXCEPTION: An HSAIL "
         "operation resulted in a hardware exception. code: 0x1016", "device"),
        ("RuntimeError: HIP error: no ROCm-capable device is detected", "device"),
        ("torch.distributed.DistBackendError: NCCL error in: /pytorch/x.cpp:94, unhandled cuda error", "collective"),
        ("torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB.", "memory"),
        ("something else", "crash"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("was_ready", [False, True])
def test_what_gpus_say_is_told_apart_at_a_start_and_later(line: str, kind: str, was_ready: bool) -> None:
    found = classify([line], status=1, was_ready=was_ready)
    assert found.kind == ("serving memory" if kind == "memory" and was_ready else kind)
    assert found.error.code == (21 if kind == "memory" and not was_ready else 51)


def test_log_lines_that_name_no_error_are_no_detail() -> None:
    failure = classify(["INFO 11-21 [x.py:1] no Error here", "WARNING an Error perhaps", "KeyError: 'x'"], status=1)
    assert failure.lines == ("KeyError: 'x'",)


def test_a_config_that_pydantic_refuses_is_quoted() -> None:
    text = """pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig
  Value error, The checkpoint you are trying to load has model type `foo` but Transformers does not recognize this \
architecture. [type=value_error, input_value=ArgsKwargs(), input_type=ArgsKwargs]"""
    assert "type foo" in classify(text.splitlines(), status=1).error.message
    other = text.replace("has model type `foo` but Transformers does not recognize this", "is odd, an odd")
    assert "is odd, an odd" in classify(other.splitlines(), status=1).error.message


def test_tensors_of_another_model_are_a_damaged_checkpoint() -> None:
    line = "ValueError: There is no module or parameter named 'model.foo' in Qwen3ForCausalLM"
    assert classify([line], status=1).error.code == 40


def test_a_shorter_context_is_of_no_use_where_not_even_one_block_fits() -> None:
    """Only where the engine names a length that would do."""
    needs = (
        "ValueError: To serve at least one request with the model's max seq len (2048), (1.0 GiB KV cache is needed, "
    )
    fits = needs + "the estimated maximum model length is 9"
    assert classify([fits], status=1).kind == "cache"
    assert classify([needs + "0.0 GiB are there"], status=1).kind == "no cache"
