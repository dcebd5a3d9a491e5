"""The product facts: every field of every entry, and both ways to look one up."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from aim_engine.errors import InputError
from aim_engine.hardware import products
from aim_engine.hardware.products import (
    Product,
    all_products,
    product_by_device_id,
    product_by_name,
    refused_format,
)

GIB = 2**30
EVERY = pytest.mark.parametrize("product", all_products(), ids=lambda product: product.name)


@EVERY
def test_every_field_is_in_its_legal_range(product: Product) -> None:
    assert product.vendor == "amd"
    assert product.full_name.startswith("AMD ")
    assert product.name in product.full_name
    assert re.fullmatch(r"gfx[0-9a-f]{3,4}", product.gfx)
    assert 12 * GIB <= product.memory_bytes <= 432 * GIB
    assert 200e9 <= product.bandwidth <= 20e12
    assert product.compute_units is None or 16 <= product.compute_units <= 304
    assert product.devices_per_package in (1, 2)
    assert product.max_per_node in (1, 4, 8, 16)
    assert product.link in ("xgmi", "pcie", "none")
    assert len(product.source) > 20
    for device_id in product.device_ids:
        assert re.fullmatch(r"0x[0-9a-f]{4}(:[0-9a-f]{2})?", device_id)


@EVERY
def test_rates_and_native_formats_agree(product: Product) -> None:
    native = set(product.low_precisions)
    assert native <= {"fp8_fnuz", "fp8_ocp", "mxfp8", "mxfp6", "mxfp4", "int8"}
    assert set(product.peak_tflops) <= {"bf16", "fp8", "int8", "fp4"}
    assert all(20 < rate <= 40000 for rate in product.peak_tflops.values())
    assert ("fp8" in product.peak_tflops) == bool(native & {"fp8_fnuz", "fp8_ocp"})
    assert ("fp4" in product.peak_tflops) == ("mxfp4" in native)
    assert "int8" not in product.peak_tflops or "int8" in native
    if "fp8" in product.peak_tflops and "bf16" in product.peak_tflops:
        assert product.peak_tflops["fp8"] == pytest.approx(2 * product.peak_tflops["bf16"], rel=0.02)


@EVERY
def test_what_the_instruction_set_decides(product: Product) -> None:
    # vLLM's platforms/rocm.py and AITER: fp8 is FNUZ on gfx942 and OCP on gfx950 and gfx12; older ones have none
    fp8 = {"gfx942": "fp8_fnuz", "gfx950": "fp8_ocp", "gfx1201": "fp8_ocp", "gfx1250": "fp8_ocp"}.get(product.gfx)
    assert {word for word in product.low_precisions if word.startswith("fp8")} == ({fp8} if fp8 else set())
    assert product.has_fp8 == bool(fp8)
    assert product.aiter == (product.gfx in ("gfx942", "gfx950"))
    assert product.all_reduce == (("custom", "quick") if product.gfx.startswith(("gfx94", "gfx95")) else ())
    assert ("mxfp4" in product.low_precisions) == (product.gfx in ("gfx950", "gfx1250"))


@EVERY
def test_every_product_is_found_by_each_of_its_names_and_ids(product: Product) -> None:
    for name in (product.name, product.full_name, *product.aliases, product.name.lower().replace(" ", "-")):
        assert product_by_name(name) is product
    for device_id in product.device_ids:
        number, _, revision = device_id.partition(":")
        assert product_by_device_id(number.upper().replace("0X", ""), revision or None) is product


def test_no_id_and_no_name_belongs_to_two_products() -> None:
    ids = [device_id for product in all_products() for device_id in product.device_ids]
    names = [product.name for product in all_products()]
    assert len(ids) == len(set(ids))
    assert len(names) == len(set(names)) == 24


@pytest.mark.parametrize(
    ("device_id", "revision", "units", "name"),
    [
        ("0x74a1", None, None, "MI300X"),
        ("0x74b5", "0x00", None, "MI300X"),
        ("0x74a1", "0x00", 38, "MI300X"),  # one partition of eight
        ("0x744c", "0xc8", None, "RX 7900 XTX"),
        ("0x744c", "0xcc", None, "RX 7900 XT"),
        ("0x744c", "0xce", None, "RX 7900 GRE"),
        ("0x744c", "0x77", None, "RX 7900 XTX"),
        ("0x7550", "c3", None, "RX 9070"),
        ("0x7550", "c2", None, "RX 9070 GRE"),
        ("0x740c", "0x01", 110, "MI250X"),
        ("0x740c", "0x01", 104, "MI250"),
        ("0x740f", "0x02", 104, "MI210"),
    ],
)
def test_by_device_id(device_id: str, revision: str | None, units: int | None, name: str) -> None:
    product = product_by_device_id(device_id, revision, compute_units=units)
    assert product is not None
    assert product.name == name


@pytest.mark.parametrize("device_id", ["0x1234", "", "N/A", "0xffffffffffffffff"])
def test_an_unknown_device_id_is_no_error(device_id: str) -> None:
    assert product_by_device_id(device_id, "0x00") is None


def test_memory_sizes_as_drivers_report_them() -> None:
    assert product_by_name("MI300X").memory_bytes == 196592 * 2**20
    assert product_by_name("MI355X").memory_bytes == 301973504 * 1024
    assert product_by_name("MI250X").memory_bytes == 64 * GIB  # one of the package's two devices
    assert product_by_name("MI250X").devices_per_package == 2


@pytest.mark.parametrize(
    "name", ["mi300x", "MI-300X", "AMD Instinct MI300X", "AMD_Instinct_MI300X_OAM", "Instinct(TM) MI300X", " mi 300 x "]
)
def test_names_are_read_as_people_write_them(name: str) -> None:
    assert product_by_name(name).name == "MI300X"


def test_an_unknown_name_gets_near_ones_and_the_list() -> None:
    with pytest.raises(InputError, match="'MI300' is not a GPU product") as caught:
        product_by_name("MI300")
    assert caught.value.hint.startswith("did you mean MI300X or MI300A")
    assert all(product.name in caught.value.hint for product in all_products())


@given(st.text(max_size=200))
def test_any_text_is_a_product_or_an_input_error(text: str) -> None:
    hint = ""
    try:
        found = product_by_name(text) in all_products()
    except InputError as error:
        found, hint = False, error.hint
    assert found or "known products" in hint


def test_formats_that_a_vendor_refuses() -> None:
    assert "NVIDIA's own format" in refused_format("amd", "nvfp4")
    assert refused_format("amd", "") == refused_format("nvidia", "nvfp4") == refused_format("cpu", "nvfp4") == ""


def test_products_are_plain_values() -> None:
    product = product_by_name("MI300X")
    assert json.dumps(dataclasses.asdict(product))
    assert len({product, product_by_name("MI325X")}) == 2


def test_the_file_is_read_once_and_by_the_fast_reader() -> None:
    assert all_products() is all_products()
    assert yaml.__with_libyaml__, "PyYAML without libyaml takes ten times as long"


def test_facts_are_packaged_beside_the_code() -> None:
    assert Path(products.__file__).with_name("products.yaml").is_file()
