"""Pre-flight checks of what AMD's driver needs: device files, kernel settings, versions, variables.

In: `Needs` and a `Site`. Out: one `Check` each. Tried on planted trees only: no AMD GPU was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from aim_engine.hardware.cgroup import read_text
from aim_engine.hardware.device_nodes import is_here, is_sign_of_gpu
from aim_engine.hardware.inventory import Gpu
from aim_engine.hardware.links import has_links, hives
from aim_engine.hardware.preflight.check import DEVICES, Check, Needs, Site, failure, ok, skipped, warning

# The file that every process which computes must open, beside its GPU's render node.
_DRIVER_FILE = {"amd": "/dev/kfd"}
_NO_GPU = "no AMD GPU is to be used"
_MANY = 4  # files that are still named one by one
# Set for the mock that AMD ships with amdsmi: there are no device files behind it.
_MOCK = "AMDSMI_MOCK_STATE_DIR"
_PCI_VENDOR = "0x1002"
_OVERFLOW_GID = 65534  # whom the kernel names where an owner has no number here (user_namespaces(7))

# The version of AMD's packaged driver (sys/module/amdgpu/version; the kernel's own has no such file), and the oldest
# and newest ROCm that AMD lists with it. "User and kernel-space support matrix" (rocm.docs.amd.com, 2025-09: up to a
# year apart from 6.4 on, two releases before), and the driver tables of the release notes of ROCm 7.2.4, which name
# 6.3.3 and 6.4.z too. 6.16 is driver 30.20 and 30.30. Where newest is None, AMD has not said yet where it ends.
_MATRIX: dict[tuple[int, int], tuple[tuple[int, int], tuple[int, int] | None]] = {
    (6, 3): ((5, 6), (6, 2)),
    (6, 7): ((5, 7), (6, 4)),
    (6, 8): ((6, 0), (7, 0)),
    (6, 10): ((6, 1), (7, 2)),
    (6, 12): ((6, 1), (7, 2)),
    (6, 14): ((6, 2), None),
    (6, 16): ((6, 2), None),
}

_VARIABLES = {
    "HSA_OVERRIDE_GFX_VERSION": "every GPU is taken for another kind than it is, and kernels may crash or compute "
    "nonsense",
    "HSA_XNACK": "memory may be paged in on demand, which slows computing down, and libraries built without it refuse "
    "to load",
}


def devices(needs: Needs, site: Site) -> Check:
    """Can the driver's file and every GPU's render node be opened?"""
    if _MOCK in site.environment:
        return skipped("devices", f"{_MOCK} is set: there are no device files behind a mock")
    nodes = _nodes(needs, site)
    if not nodes:
        return skipped("devices", _NO_GPU)
    missing = [node for node in nodes if not is_here(site.root, node)]
    closed = [node for node in nodes if node not in missing and not site.may_use(site.path(node))]
    sentences = [f"{_list(missing)} {_is(missing)} not here"] if missing else []
    sentences += [f"{_list(closed)} cannot be opened by {site.who}: permission denied"] if closed else []
    if not sentences:
        return ok("devices", f"{_list(nodes)} can be opened")
    remedies = [*([_pass_in(missing, site)] if missing else []), *([_let_in(closed, site)] if closed else [])]
    return failure("devices", DEVICES, "; ".join(sentences), "; ".join(remedies))


def numa_balancing(needs: Needs, site: Site) -> Check:
    """Does the kernel move pages between NUMA nodes? AMD's system guides ask for it to be off: the GPUs stall while
    their mappings are redone.
    """
    if not _amd(needs):
        return skipped("numa balancing", _NO_GPU)
    setting = (read_text(site.path("/proc/sys/kernel/numa_balancing")) or "").strip()
    if setting != "1":
        return ok("numa balancing", "the kernel leaves pages where they are")
    where = "on the host: " if site.in_container else ""
    return warning("numa balancing", "the kernel moves pages between NUMA nodes, and GPUs stall while it does",
                   f"{where}sudo sysctl kernel.numa_balancing=0")  # fmt: skip


def iommu(needs: Needs, site: Site) -> Check:
    """Does the IOMMU translate what GPUs send each other over PCIe? With XGMI between all of them they do not use
    PCIe; GPUs of several kinds are never used together.
    """
    gpus = _amd(needs)
    if len(gpus) < 2:
        return skipped("iommu", "fewer than two AMD GPUs are to be used")
    kinds = [[gpu for gpu in gpus if gpu.product == product] for product in dict.fromkeys(gpu.product for gpu in gpus)]
    together = [hives(kind) for kind in kinds]
    if all(len(found) == 1 for found in together):
        linked = any(has_links(found[0]) for found in together)
        return ok("iommu", "the GPUs reach each other over XGMI" if linked else "the GPUs are parts of one package")
    if not _translates(gpus, site):
        return ok("iommu", "no IOMMU translates between the GPUs")
    return warning(
        "iommu",
        "the IOMMU translates what these GPUs send each other over PCIe: slow, and RCCL may hang",
        "on the host: boot with the kernel parameter iommu=pt; if RCCL still hangs, switch PCIe ACS off in the BIOS",
    )


def driver(needs: Needs, site: Site) -> Check:
    """Does AMD list the host's driver with this ROCm? Says something only where both are known."""
    if not _amd(needs):
        return skipped("driver", _NO_GPU)
    text = (read_text(site.path("/sys/module/amdgpu/version")) or "").strip()
    known = _MATRIX.get(_version(text) or (0, 0))
    rocm = _rocm(needs, site)
    if known is None or rocm is None:
        what = f"driver {text}" if text else "the driver is the kernel's own"
        return skipped("driver", f"{what}, ROCm {_dotted(rocm) if rocm else 'unknown'}: no table of AMD's tells")
    oldest, newest = known
    pair = f"driver amdgpu {text} and ROCm {_dotted(rocm)}"
    if rocm >= oldest and (newest is None or rocm <= newest):
        return ok("driver", f"{pair} go together by AMD's support matrix")
    other = f"an image with ROCm {_dotted(oldest)}" + (f" to {_dotted(newest)}" if newest else " or later")
    remedy = f"use {other}" + ("" if rocm < oldest else ", or update the host's driver")
    return warning("driver", f"{pair} are further apart than AMD's support matrix goes", remedy)


def variables(needs: Needs, site: Site) -> Check:
    """Are variables set that change what the GPUs are or how they reach memory?"""
    if not _amd(needs):
        return skipped("variables", _NO_GPU)
    found = {name: site.environment[name] for name in _VARIABLES if site.environment.get(name, "") not in ("", "0")}
    if not found:
        return ok("variables", "none is set that misleads the GPU's libraries")
    sentence = "; ".join(f"{name}={text}: {_VARIABLES[name]}" for name, text in found.items())
    return warning("variables", sentence, f"unset {' '.join(found)}, unless you know why it is set")


def _amd(needs: Needs) -> tuple[Gpu, ...]:
    return tuple(gpu for gpu in needs.gpus if gpu.vendor in _DRIVER_FILE)


def _nodes(needs: Needs, site: Site) -> tuple[str, ...]:
    """The device files a start needs; where nothing was found although a driver is here, those it would need."""
    gpus = _amd(needs)
    if gpus:
        own = (gpu.render_node for gpu in gpus)
        return (*{_DRIVER_FILE[gpu.vendor]: None for gpu in gpus}, *dict.fromkeys(node for node in own if node))
    if needs.planned or needs.gpus or not is_sign_of_gpu(site.root):
        return ()
    here = sorted(path.name for path in site.path("/dev/dri").glob("renderD*") if _is_amd(path.name, site))
    return (*_DRIVER_FILE.values(), *(f"/dev/dri/{name}" for name in here or ("renderD*",)))


def _is_amd(node: str, site: Site) -> bool:
    """Whose render node it is, as far as the kernel tells; another maker's may lie beside it."""
    vendor = read_text(site.path(f"/sys/class/drm/{node}/device/vendor"))
    return vendor is None or vendor.strip() == _PCI_VENDOR


def _pass_in(missing: Sequence[str], site: Site) -> str:
    """What makes device files appear."""
    if site.in_kubernetes:
        return "in the pod: resources: {limits: {amd.com/gpu: 1}}, with AMD's device plugin on the node"
    if site.in_container:
        many = len(missing) > _MANY  # then the folder of all
        given = dict.fromkeys("/dev/dri" if "renderD" in node and (many or "*" in node) else node for node in missing)
        return "start the container with " + " ".join(f"--device {node}" for node in given)
    return "load the driver: sudo modprobe amdgpu; then look at: sudo dmesg | grep amdgpu"


def _let_in(closed: Sequence[str], site: Site) -> str:
    """What opens device files to this process: the groups that own them, by number, because an image need not have a
    group called render, nor with the host's number.
    """
    found = {node: site.owner(site.path(node)) for node in closed}
    barred = [node for node, owner in found.items() if owner.mode & 0o060 != 0o060]
    if barred:
        return f"their group may not use them either; on the host: sudo chmod g+rw {' '.join(barred)}"
    groups = sorted({owner.group for owner in found.values()})
    if _OVERFLOW_GID in groups:
        return "their group has no number in this user namespace: podman run --group-add keep-groups, or rootful Docker"
    if site.in_kubernetes:
        return f"in the pod: securityContext: {{supplementalGroups: {groups}}}"
    added = " ".join(f"--group-add {group}" for group in groups)
    if site.in_container:
        return f"start the container with {added}"
    names = ",".join(_group_name(group, site) for group in groups)
    return f"sudo usermod -aG {names} $USER and log in again; for a container: {added}"


def _group_name(number: int, site: Site) -> str:
    for line in (read_text(site.path("/etc/group")) or "").splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(number):
            return fields[0]
    return str(number)


def _translates(gpus: Sequence[Gpu], site: Site) -> bool:
    """What the kernel says of the GPUs' own groups, or else whether there is an IOMMU that was not told otherwise."""
    groups = (read_text(site.path(f"/sys/bus/pci/devices/{gpu.pci_address}/iommu_group/type")) for gpu in gpus)
    kinds = [kind.strip() for kind in groups if kind]
    if kinds:
        return any(kind.startswith("DMA") for kind in kinds)  # "identity" is what iommu=pt makes
    here = any(site.path("/sys/class/iommu").glob("*"))
    words = (read_text(site.path("/proc/cmdline")) or "").split()
    told = {"iommu=pt", "iommu.passthrough=1", "iommu=off", "amd_iommu=off", "intel_iommu=off"}
    return here and not told & {*words}


def _rocm(needs: Needs, site: Site) -> tuple[int, int] | None:
    """The ROCm that is installed, or else the one the engine says it was built for ("0.18.1+rocm700")."""
    installed = _version(read_text(site.path("/opt/rocm/.info/version")) or "")
    # three digits without dots, or dots: with more digits there is no telling where one number ends
    mark = re.search(r"\+.*rocm(?:(\d)(\d)\d(?!\d)|(\d{1,2})\.(\d{1,2})(?!\d))", needs.engine_version or "")
    built_for = [int(number) for number in mark.groups() if number] if mark else []
    return installed or ((built_for[0], built_for[1]) if built_for else None)


def _version(text: str) -> tuple[int, int] | None:
    found = re.match(r"(\d{1,3})\.(\d{1,3})(?!\d)", text.strip())
    return (int(found[1]), int(found[2])) if found else None


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _list(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"; of many the first and the last."""
    if len(names) > _MANY:
        return f"{names[0]}, {names[1]} to {names[-1]} ({len(names)} files)"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
