"""Description of this host (processor, clocks, memory, versions), stored with every measured row."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("jmsnas", "torch", "onnxruntime", "numpy")
# 64-bit Arm has numbers instead of a name; these are the kernel's (arch/arm64/include/asm/cputype.h).
_ARM_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x4e", "0x003"): "NVIDIA Denver 2",
    ("0x4e", "0x004"): "NVIDIA Carmel",
}


def describe_host(root: Path = Path("/")) -> dict[str, str]:
    """Describe what can change a latency on this host: processor, clocks, memory, system, versions.

    `root` is the folder that holds `proc`, `sys`, `etc` and `var`. Values that are not available are left
    out. Only values that are constant while the host runs are included, as the environment's id depends on
    them. `boost` and `smt` are 1 where on; `power_mode` is a Jetson's (nvpmodel).
    """
    frequency = "sys/devices/system/cpu/cpu0/cpufreq"
    found = {
        "cpu": cpu_model(root),
        "cores": str(os.cpu_count() or ""),
        "machine": platform.machine(),
        "board": _board(root),
        "system": platform.platform(),
        "governor": _text(root / frequency / "scaling_governor"),
        "min_frequency_khz": _text(root / frequency / "scaling_min_freq"),
        "max_frequency_khz": _text(root / frequency / "scaling_max_freq"),
        "memory_bytes": str(meminfo_bytes("MemTotal", root) or ""),
        "boost": _boost(root),
        "smt": _text(root / "sys/devices/system/cpu/smt/active"),
        "virtual": "yes" if _in_virtual_machine(root) else "",
        "tegra": _text(root / "etc/nv_tegra_release").partition(", GCID")[0].strip("# "),
        "power_mode": _text(root / "var/lib/nvpmodel/status"),
        "gpu": _gpu(root),
        "gpu_driver": _text(root / "sys/module/nvidia/version"),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {name: value for name, value in found.items() if value}


def environment_id(environment: dict[str, str]) -> str:
    """Hash an environment to an id of twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:12]


def cpu_model(root: Path = Path("/")) -> str:
    """Return the name of the processor; empty where unknown."""
    cpuinfo = _cpuinfo(root)
    if "model name" in cpuinfo:
        return cpuinfo["model name"]
    part = (cpuinfo.get("CPU implementer", ""), cpuinfo.get("CPU part", ""))
    if any(part):
        return _ARM_CORES.get(part, f"Arm implementer {part[0]} part {part[1]}")
    if sys.platform == "darwin":
        brand = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return brand.stdout.strip()
    return platform.processor()


def is_this_host(device: str, root: Path = Path("/")) -> bool:
    """Return whether this host is a built-in device: `local` always, an unknown name never.

    pi4 and jetson are recognised by their board, laptop and cloud by the processor (the paper, section V-A).
    """
    name = device.removesuffix("-cpu")
    if name == "pi4":
        return "Raspberry Pi 4" in _board(root)
    if name == "jetson":
        board = _board(root)
        return (root / "etc/nv_tegra_release").exists() or "Jetson" in board or "Xavier" in board
    if name == "laptop":
        return "i7-11800H" in cpu_model(root)
    if name == "cloud":
        return "Platinum 8280" in cpu_model(root)
    return device == "local"


def meminfo_bytes(name: str, root: Path = Path("/")) -> int | None:
    """Read an entry of /proc/meminfo in bytes, such as `MemTotal`; None where it is not available."""
    lines = _text(root / "proc/meminfo").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _cpuinfo(root: Path) -> dict[str, str]:
    pairs = [line.partition(":") for line in _text(root / "proc/cpuinfo").splitlines()]
    # Reversed, so that the first core's value is kept: boards of unlike cores list the small ones first.
    return {name.strip(): value.strip() for name, _, value in reversed(pairs)}


def _boost(root: Path) -> str:
    if no_turbo := _text(root / "sys/devices/system/cpu/intel_pstate/no_turbo"):
        return {"0": "1", "1": "0"}.get(no_turbo, "")
    return _text(root / "sys/devices/system/cpu/cpufreq/boost")


def _in_virtual_machine(root: Path) -> bool:
    return "hypervisor" in _cpuinfo(root).get("flags", "").split()


def _board(root: Path) -> str:
    return _text(root / "proc/device-tree/model") or _text(root / "sys/firmware/devicetree/base/model")


def _gpu(root: Path) -> str:
    """Return the name of an NVIDIA card from its driver: importing torch would take seconds."""
    files = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for file in files for line in _text(file).splitlines()]
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Model:")), "")
