"""Hardware that was written down instead of found: the text of `--hardware` in, an `Inventory` out.

The text is a list of products (`MI300X:8`, `MI300X:4,MI325X:4`), the path of an inventory as `detect --json` prints it,
or the folder of a recorded host, which is only told apart here: detect.py looks into it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from aim_engine.errors import InputError
from aim_engine.hardware.inventory import Gpu, Inventory
from aim_engine.hardware.products import Product, product_by_name

MAX_COUNT = 64  # eight packages of eight partitions each
MAX_FILE_BYTES = 8 * 2**20  # an inventory is a few kilobytes; anything larger is something else
LEGAL = (
    "use detect, cpu, products with counts such as MI300X:8 or MI300X:4,MI325X:4, "
    "the path of a file written by: aim-engine detect --json, or a folder written by: scripts/record-host FOLDER"
)
RECORDED = "a recorded host is a folder with sys/, dev/ and proc/ in it, as scripts/record-host FOLDER writes it"

_COUNT = re.compile(r"[0-9]{1,3}")


_PACKED = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".tar.bz2", ".zip", ".gz")


def declared_inventory(text: str) -> Inventory:
    """The inventory that `text` declares.

    Raises:
        InputError: a product is unknown, a count is not legal, or the file is not an inventory; says what is legal.
    """
    text = text.strip()
    if not text:
        raise InputError("no hardware is named", hint=LEGAL)
    if _is_path(text):
        return _read_file(Path(text))
    try:
        declared = _from_products(text)
        return replace(declared, notes=_also_here(text)) if os.path.exists(text) else declared  # noqa: PTH110 - as below
    except InputError:
        if os.path.exists(text):  # noqa: PTH110 - no error for a name too long; a product's name comes before a file's; ./NAME always means the file
            return _read_file(Path(text))
        raise


def _also_here(text: str) -> tuple[str, ...]:
    kind = "folder" if os.path.isdir(text) else "file"  # noqa: PTH112 - no error for a name too long
    return (f"{text} is the product here; a {kind} of that name is here too: write ./{text} for that",)


def recorded_host(text: str) -> Path | None:
    """The root of the recorded host that `text` names; None when it names anything but a folder.

    Raises:
        InputError: the folder is no recorded host.
    """
    text = text.strip()
    try:
        root = Path(text).expanduser().resolve()
        if not text or not root.is_dir() or (_is_product(text) and not _is_path(text)):
            return None
        if root == Path("/"):
            raise InputError("/ is this machine itself, no recorded host", hint="say --hardware detect")
        if not (root / "sys").is_dir():
            raise InputError(f"the folder {text} is no recorded host: it has no sys/ in it", hint=RECORDED)
    except (OSError, RuntimeError, ValueError):  # a loop of links; no such user in ~user; a NUL in the path
        return None
    return root


def _is_product(text: str) -> bool:
    try:
        return bool(_from_products(text).gpus)
    except InputError:
        return False


def _is_path(text: str) -> bool:
    return "/" in text or text.startswith("~") or text.lower().endswith((".json", *_PACKED))


def _from_products(text: str) -> Inventory:
    products = [product for part in text.split(",") for product in _repeat(part)]
    if len(products) > MAX_COUNT:
        raise InputError(f"{text!r} declares {len(products)} devices", hint=f"declare 1 to {MAX_COUNT} of them")
    gpus = tuple(_gpu(index, product) for index, product in enumerate(products))
    return Inventory(source="declared", gpus=gpus)


def _repeat(part: str) -> Iterator[Product]:
    """`MI300X:8` as eight products; a name without a count is one."""
    name, _, count = part.rpartition(":") if ":" in part else (part, "", "1")
    if not name.strip():
        raise InputError(f"{part!r} names no GPU product", hint=LEGAL)
    product = product_by_name(name.strip())
    if not _COUNT.fullmatch(count.strip()) or not 1 <= int(count) <= MAX_COUNT:
        raise InputError(
            f"{count.strip()!r:.40} is not a number of devices",
            hint=f"write {product.name}:N with N from 1 to {MAX_COUNT}",
        )
    return iter([product] * int(count))


def _gpu(index: int, product: Product) -> Gpu:
    return Gpu(
        index=index,
        product=product.name,
        vendor=product.vendor,
        memory_bytes=product.memory_bytes,
        device_id=_plain_id(product),
        gfx=product.gfx,
        compute_units=product.compute_units,
    )


def _plain_id(product: Product) -> str | None:
    """The first device id without its revision, as a live GPU of this product would carry it."""
    return product.device_ids[0].partition(":")[0] if product.device_ids else None


def _read_file(path: Path) -> Inventory:
    """The recorded inventory, equal in everything to the one it was made from."""
    inventory = Inventory.from_json(_read_bytes(path), where=str(path))
    if not inventory.gpus:
        raise InputError(f"{path} lists no GPU", hint=LEGAL)
    for gpu in inventory.gpus:
        if gpu.memory_bytes <= 0 and gpu.usable:
            raise InputError(
                f"{path}: GPU {gpu.index} has no memory", hint="give its memory_bytes, or the reason in unusable"
            )
    return replace(inventory, recorded=True)


def _read_bytes(path: Path) -> bytes:
    try:
        path = path.expanduser()
        if not path.is_file():
            raise InputError(f"{path} is not a file", hint=LEGAL)
        if path.name.lower().endswith(_PACKED):
            raise InputError(f"{path} is packed", hint=f"unpack it first, and name the folder in it: tar xf {path}")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:  # no permission; no such user in ~user; a NUL in the path
        raise InputError(f"{path} cannot be read: {error}", hint=LEGAL) from None
    if len(content) > MAX_FILE_BYTES:
        raise InputError(f"{path} is larger than {MAX_FILE_BYTES} bytes: that is no inventory", hint=LEGAL)
    return content
