"""Visibility variables: what the engine will see in which order, and every way they can be wrong. The semantics are
those of ROCr's and clr's sources; no AMD GPU was at hand to try them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.errors import InputError
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.visibility import NAMES, put_first, visible
from tests.building import examples, here

HIP, CUDA, ROCR = "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
FOUR = tuple(
    replace(gpu, unique_id=f"00000000000000a{gpu.index}", pci_address=f"0000:0{gpu.index}:00.0",
            xgmi_peers=tuple(peer for peer in range(4) if peer != gpu.index))
    for gpu in here("MI300X:4").gpus
)  # fmt: skip


def seen(environment: dict[str, str], gpus: tuple[Gpu, ...] = FOUR) -> list[str]:
    """PCI addresses of the GPUs the engine sees, in its order."""
    return [str(gpu.pci_address)[6] for gpu in visible(gpus, environment).gpus if gpu.usable]


def refused(environment: dict[str, str], gpus: tuple[Gpu, ...] = FOUR) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        visible(gpus, environment)
    assert caught.value.code == 10
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("environment", "left"),
    [
        ({}, "0123"),
        ({HIP: "2,3"}, "23"),
        ({HIP: "3,0"}, "30"),
        ({CUDA: "1"}, "1"),
        ({HIP: "2,3", CUDA: "2,3"}, "23"),
        ({ROCR: "2,3"}, "23"),
        ({ROCR: "3, 1"}, "31"),
        ({ROCR: "2,3", HIP: "1"}, "3"),
        ({ROCR: "3,2,1", HIP: "1,0"}, "23"),
        ({ROCR: "GPU-00000000000000a2,0"}, "20"),
        ({ROCR: "gpu-00000000000000A2"}, "2"),
        ({HIP: "", CUDA: "1"}, "1"),
        ({ROCR: "", HIP: " "}, "0123"),
        ({HIP: "1,-1,2"}, "1"),
        ({HIP: "1,9,2"}, "1"),
        ({ROCR: "1,9,2"}, "1"),
    ],
)
def test_what_is_left(environment: dict[str, str], left: str) -> None:
    assert "".join(seen(environment)) == left


def test_the_visible_ones_come_first_and_are_numbered_as_the_engine_does() -> None:
    done = visible(FOUR, {HIP: "3,1"})
    assert [gpu.index for gpu in done.gpus] == [0, 1, 2, 3]
    assert [gpu.pci_address for gpu in done.gpus] == ["0000:03:00.0", "0000:01:00.0", "0000:00:00.0", "0000:02:00.0"]
    assert [gpu.unusable for gpu in done.gpus] == [None, None, *["hidden by HIP_VISIBLE_DEVICES=3,1"] * 2]
    assert done.settings == ("HIP_VISIBLE_DEVICES=3,1",)
    assert done.notes == ()


def test_links_follow_the_new_numbers() -> None:
    ring = tuple(replace(gpu, xgmi_peers=((gpu.index + 1) % 4,)) for gpu in FOUR)
    done = visible(ring, {HIP: "3,1"}).gpus  # now 3 -> 0, 1 -> 1, 0 -> 2, 2 -> 3
    assert [gpu.xgmi_peers for gpu in done] == [(2,), (3,), (1,), (0,)]


def test_each_hidden_one_says_which_variable_hides_it() -> None:
    done = visible(FOUR, {ROCR: "1,2", HIP: "1"})
    assert [gpu.unusable for gpu in done.gpus] == [
        None, f"hidden by {ROCR}=1,2", f"hidden by {HIP}=1", f"hidden by {ROCR}=1,2"]  # fmt: skip
    assert done.settings == (f"{ROCR}=1,2", f"{HIP}=1")


def test_equal_choices_are_both_in_force() -> None:
    assert visible(FOUR, {HIP: "2", CUDA: "2"}).settings == (f"{HIP}=2", f"{CUDA}=2")


def test_without_variables_nothing_changes() -> None:
    assert visible(FOUR, {}).gpus == FOUR
    assert visible(FOUR, {}).settings == ()
    assert visible((), {HIP: "nonsense"}).gpus == ()


def test_an_unusable_gpu_keeps_its_reason() -> None:
    broken = (*FOUR[:3], replace(FOUR[3], unusable="closed"))
    assert [gpu.unusable for gpu in visible(broken, {HIP: "2"}).gpus] == [None, *[f"hidden by {HIP}=2"] * 2, "closed"]
    assert refused({HIP: "3"}, broken)[1].endswith("; 1 more cannot be used: closed")
    closed = tuple(replace(gpu, unusable="closed") for gpu in FOUR)
    assert visible(closed, {HIP: "3"}).gpus[0].unusable == "closed"


def test_gpus_that_are_not_ours_are_not_counted() -> None:
    foreign = tuple(replace(gpu, unusable="its render node is not here") for gpu in FOUR[2:])
    assert "".join(seen({HIP: "1,0"}, (*FOUR[:2], *foreign))) == "10"
    assert "".join(seen({HIP: "0,2,1"}, (*FOUR[:2], *foreign))) == "0"
    message, hint = refused({HIP: "2"}, (*FOUR[:2], *foreign))
    assert "2" in message
    assert "0:00.0" in hint
    assert "0000:02" not in hint


def test_devices_that_are_equal_in_everything_known_are_still_two() -> None:
    twins = tuple(replace(FOUR[0], index=place) for place in range(2))
    alike = tuple(replace(gpu, index=0, xgmi_peers=()) for gpu in twins)
    assert [gpu.usable for gpu in visible(alike, {HIP: "1"}).gpus] == [True, False]


def test_indices_mean_the_order_of_the_kfd_nodes_not_of_the_pci_addresses() -> None:
    """The MI210 board of a public dump: its first node is at 0x63, its second at 0x43, its third at 0x03."""
    addresses = ("0000:63:00.0", "0000:43:00.0", "0000:03:00.0")
    board = tuple(
        replace(gpu, pci_address=address, kfd_node=gpu.index + 2)
        for gpu, address in zip(here("MI210:3").gpus, addresses, strict=True)
    )
    assert visible(board, {HIP: "0"}).gpus[0].pci_address == "0000:63:00.0"
    assert visible(board, {ROCR: "2,0"}).gpus[0].pci_address == "0000:03:00.0"


@pytest.mark.parametrize("value", ["-1", "-1,0"])
@pytest.mark.parametrize("name", [HIP, CUDA, ROCR])
def test_everything_hidden_is_refused(name: str, value: str) -> None:
    """That leaves nothing to serve on, so it is refused as an index is that is not here."""
    message, hint = refused({name: value})
    assert message == f"{name}={value} hides every GPU"
    assert hint.startswith(f"unset {name}, or name 0-3: the indices here are 0 (0000:00:00.0")


def test_what_hip_hides_of_what_rocr_leaves() -> None:
    assert refused({ROCR: "2", HIP: "-1"})[1].startswith(f"unset {HIP}, or name 0: the indices here are 0 (0000:02")


def test_the_other_name_for_hips_variable_is_unset_with_it() -> None:
    assert refused({HIP: "-1", CUDA: "-1"})[1].startswith(f"unset {HIP} and {CUDA}, or name 0-3")


def test_different_choices_for_hip_and_cuda_are_refused_with_both_values() -> None:
    message, hint = refused({HIP: "0", CUDA: "1"})
    assert "HIP_VISIBLE_DEVICES=0 and CUDA_VISIBLE_DEVICES=1 differ" in message
    assert "unset one of them" in hint


@pytest.mark.parametrize(
    ("rocr", "hip", "says", "instead"),
    [
        ("2,3", "2,3", "leave no GPU", "0,1"),
        ("2,3", "3", "leave no GPU", "1"),
        ("1,2,3", "3,2", "contradict each other: there is no 3", "2,1"),
        ("2,3", "0,2", "contradict each other: there is no 2", "0,1"),
        ("GPU-00000000000000a2", "2", "leave no GPU", "0"),
    ],
)
@pytest.mark.parametrize("name", [HIP, CUDA])
def test_hip_counts_within_what_rocr_leaves(name: str, rocr: str, hip: str, says: str, instead: str) -> None:
    message, hint = refused({ROCR: rocr, name: hip})
    assert message.startswith(f"{ROCR}={rocr} and {name}={hip} {says}")
    assert f"write {name}={instead}," in hint


@pytest.mark.parametrize("word", ["all", "1.0", "0x1", "+1", "٣", "0;1", "03", "99999", "GPU-", "UUID-1", "--1"])
@pytest.mark.parametrize("name", [HIP, CUDA, ROCR])
def test_a_word_that_is_no_index_is_refused(name: str, word: str) -> None:
    message, hint = refused({name: f"0,{word}"})
    assert name in message
    assert word in message
    assert hint


@pytest.mark.parametrize("value", ["2, 3", " 2", "2,,3", "2,"])
def test_hip_takes_no_spaces_and_no_gaps(value: str) -> None:
    """It would silently see fewer GPUs than were meant."""
    message, hint = refused({HIP: value})
    assert "is not an index without spaces around it" in message
    assert "the indices here are 0 (0000:00:00.0), 1 (0000:01:00.0)" in hint


@pytest.mark.parametrize("name", [HIP, ROCR])
def test_a_repeated_gpu_is_refused(name: str) -> None:
    assert "names GPU 2 (0000:02:00.0) twice" in refused({name: "2,2"})[0]
    assert "names GPU 2 (0000:02:00.0) twice" in refused({ROCR: "2,GPU-00000000000000a2"})[0]


@pytest.mark.parametrize("name", [HIP, CUDA, ROCR])
def test_a_choice_that_is_not_here_at_all_is_refused(name: str) -> None:
    message, hint = refused({name: "9"})
    assert message == f"{name}=9 leaves no GPU: 9 is not here"
    assert hint.startswith("the indices here are 0 (0000:00:00.0")


def test_an_unknown_id_is_refused_with_those_that_are_here() -> None:
    message, hint = refused({ROCR: "GPU-0123456789abcdef"})
    assert "GPU-0123456789abcdef is not here" in message
    assert "GPU-00000000000000a0, GPU-00000000000000a1" in hint
    nameless = tuple(replace(gpu, unique_id=None) for gpu in FOUR)
    assert "name them by index" in refused({ROCR: "GPU-0123456789abcdef"}, nameless)[1]


def test_hip_is_told_no_ids() -> None:
    message, hint = refused({HIP: "GPU-00000000000000a2"})
    assert "is an id" in message
    assert "2 (0000:02:00.0, GPU-00000000000000a2)" in hint
    assert ROCR in hint


def test_the_id_of_a_partitioned_gpu_names_all_its_partitions_and_rocr_takes_none() -> None:
    parts = tuple(replace(gpu, unique_id="f00d", partition="CPX/NPS4") for gpu in FOUR)
    message, hint = refused({ROCR: "GPU-000000000000f00d"}, parts)
    assert "names 4 devices here" in message
    assert f"{ROCR}=0,1,2,3" in hint


@pytest.mark.parametrize("name", [HIP, CUDA, ROCR])
def test_an_empty_value_is_noted(name: str) -> None:
    assert visible(FOUR, {name: ""}).notes == (f"{name} is set to nothing, which counts as not set",)
    assert visible(FOUR, {name: ""}).settings == ()


def test_what_follows_a_missing_index_is_noted() -> None:
    (note,) = visible(FOUR, {HIP: "1,9,2"}).notes
    assert note == f"{HIP}=1,9,2: 9 is not here, so it and what follows it count for nothing"


def test_opencls_variable_alone_is_refused_and_beside_another_noted() -> None:
    message, hint = refused({"GPU_DEVICE_ORDINAL": "1"})
    assert "GPU_DEVICE_ORDINAL=1" in message
    assert hint == "set HIP_VISIBLE_DEVICES=1 instead, and unset GPU_DEVICE_ORDINAL"
    both = visible(FOUR, {"GPU_DEVICE_ORDINAL": "1", ROCR: "1"})
    assert both.notes == ("GPU_DEVICE_ORDINAL=1 is OpenCL's: the engine does not go by it",)
    assert both.settings == (f"{ROCR}=1",)


@pytest.mark.parametrize(("value", "noted"), [("0,1", True), ("all", False), ("", False)])
def test_the_container_toolkits_variable_is_no_choice(value: str, noted: bool) -> None:
    done = visible(FOUR, {"AMD_VISIBLE_DEVICES": value})
    assert bool(done.notes) is noted
    assert all(gpu.usable for gpu in done.gpus)


@pytest.mark.parametrize(
    ("settings", "indices", "words"),
    [
        (("HIP_VISIBLE_DEVICES=5,2,7",), [1, 2], "HIP_VISIBLE_DEVICES=2,7"),
        (("ROCR_VISIBLE_DEVICES=5,2",), [1], "ROCR_VISIBLE_DEVICES=2"),
        (("ROCR_VISIBLE_DEVICES=5,2", "HIP_VISIBLE_DEVICES=1,0"), [1], "HIP_VISIBLE_DEVICES=0"),
        (("HIP_VISIBLE_DEVICES=5,2", "CUDA_VISIBLE_DEVICES=5,2"), [1], "HIP_VISIBLE_DEVICES=2 CUDA_VISIBLE_DEVICES=2"),
        (("HIP_VISIBLE_DEVICES=5",), [1], ""),
        ((), [0], ""),
    ],
)
def test_the_settings_own_words_in_another_order(settings: tuple[str, ...], indices: list[int], words: str) -> None:
    assert put_first(settings, indices) == words


ANY_NAME = st.sampled_from(NAMES)


@examples(300)
@given(st.dictionaries(ANY_NAME, st.text("0123459-, GPUgpuaf", max_size=24) | st.text(max_size=8), max_size=3))
def test_any_environment_is_a_choice_or_an_input_error(environment: dict[str, str]) -> None:
    try:
        done = visible(FOUR, environment)
    except InputError as error:
        assert error.hint  # noqa: PT017
        return
    assert [gpu.index for gpu in done.gpus] == [0, 1, 2, 3]
    assert sorted(str(gpu.pci_address) for gpu in done.gpus) == [gpu.pci_address for gpu in FOUR]
    usable = [gpu.usable for gpu in done.gpus]
    assert usable == sorted(usable, reverse=True)
    assert bool(done.settings) or all(usable)
