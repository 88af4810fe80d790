"""Energy meters: RAPL of a processor and NVML of a GPU.

RAPL counts microjoules (the kernel's Documentation/power/powercap/powercap.rst), NVML millijoules since the
driver was loaded (nvmlDeviceGetTotalEnergyConsumption).
"""

import math
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

# Of the power domains, psys and dram cover other hardware, and core and uncore are included in package.
_PACKAGE = re.compile(r"package-\d")
_RAPL_UPDATE_S = 1e-3
# Observed on current GPUs: the counter is updated every 20 to 100 ms.
_NVML_UPDATE_S = 0.1


@dataclass(frozen=True, slots=True)
class EnergyMeter:
    """A counter of the energy that a processor consumes.

    Attributes
    ----------
    name
        What is read, such as `RAPL package-0`.
    counts
        Description of the hardware whose energy it counts.
    update_s
        Largest age of a reading, seconds.
    read_j
        Joules since an arbitrary moment, never decreasing; NaN where a reading fails.
    awake
        A context around readings that are compared with each other; a power sensor is sampled only inside.
    """

    name: str
    counts: str
    update_s: float
    read_j: Callable[[], float]
    awake: Callable[[], AbstractContextManager[object]] = nullcontext


def rapl_meter(root: Path) -> EnergyMeter | str | None:
    """Make the meter of all processor packages; the reason it cannot be read, or None without RAPL."""
    folder = root / "sys/class/powercap"
    try:
        # AMD's domains have the same names.
        domains = sorted(folder.glob("intel-rapl:*"))
        names = [(domain / "name").read_text().strip() for domain in domains]
        packages = {name: domain for name, domain in zip(names, domains, strict=True) if _PACKAGE.match(name)}
        counters = [_unwrapped(package) for package in packages.values()]
    except PermissionError:
        return f"RAPL is readable by root only. Run: sudo chmod a+r {folder}/intel-rapl:?/energy_uj"
    except (OSError, ValueError) as error:
        return f"RAPL cannot be read ({error})"
    if not counters:
        return None
    return EnergyMeter(
        name="RAPL " + ", ".join(packages),
        counts="whole processor packages and all that runs on them, without the memory modules",
        update_s=_RAPL_UPDATE_S,
        read_j=lambda: math.fsum(counter() for counter in counters),
    )


def _unwrapped(package: Path) -> Callable[[], float]:
    """Make a reader in joules of a counter that wraps around to 0 at the end of its range."""
    range_uj, last_uj = (_number(package / "max_energy_range_uj"), _number(package / "energy_uj"))
    total_uj = 0

    def read_j() -> float:
        nonlocal last_uj, total_uj
        try:
            now_uj = _number(package / "energy_uj")
        except (OSError, ValueError):
            return math.nan
        total_uj += now_uj - last_uj + (range_uj if now_uj < last_uj else 0)
        last_uj = now_uj
        return total_uj * 1e-6

    return read_j


def _number(path: Path) -> int:
    return int(path.read_text())


def nvml_meter() -> EnergyMeter | str:
    """Make the meter of the GPU that CUDA uses, or return the reason why there is none."""
    try:
        import pynvml
    except ImportError:
        return "nvidia-ml-py is not installed. Run: pip install 'jmsnas[power]'"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    try:
        pynvml.nvmlInit()
        if visible.startswith("GPU-"):
            gpu = pynvml.nvmlDeviceGetHandleByUUID(visible.partition(",")[0])
        elif pynvml.nvmlDeviceGetCount() > 1:
            # An index would not identify it: CUDA numbers the GPUs in another order than NVML.
            return (
                "several GPUs, and it is not known which of them runs the blocks. "
                "Run: export CUDA_VISIBLE_DEVICES=GPU-..., one of those that nvidia-smi -L lists"
            )
        else:
            gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
        name = pynvml.nvmlDeviceGetName(gpu)
    except pynvml.NVMLError as error:
        return f"NVML reports {error}. Check that nvidia-smi shows the GPU"

    def read_j() -> float:
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) * 1e-3
        except pynvml.NVMLError:
            return math.nan

    return EnergyMeter(
        name=f"NVML {name}",
        counts="the whole graphics card with its memory and all that runs on it",
        update_s=_NVML_UPDATE_S,
        read_j=read_j,
    )
