"""What this host is: recorded beside every measured row, and asked before a device's name is given to one."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("jmsnas", "torch", "onnxruntime", "numpy")


def describe_host(root: Path = Path("/")) -> dict[str, str]:
    """Describe what could change a latency: processor, clocks, memory, system, versions.

    `root` is where `proc` and `sys` lie. What the host does not tell is left out.
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
        "memory_bytes": _memory_bytes(root),
        "gpu": _gpu(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {name: value for name, value in found.items() if value}


def environment_name(environment: dict[str, str]) -> str:
    """Name an environment by its content: twelve hexadecimal digits."""
    return hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:12]


def cpu_model(root: Path = Path("/")) -> str:
    """Name of the processor; empty where the host does not tell."""
    for line in _text(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    if sys.platform == "darwin":
        answer = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return answer.stdout.strip()
    return platform.processor()


def host_is(device: str, root: Path = Path("/")) -> bool:
    """Whether this host is one of the built-in devices; `local` always, an unknown name never.

    pi4 and jetson by their board's own word, laptop and cloud by the processor (the paper, section V-A).
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


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _board(root: Path) -> str:
    return _text(root / "proc/device-tree/model") or _text(root / "sys/firmware/devicetree/base/model")


def _memory_bytes(root: Path) -> str:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return str(int(line.split()[1]) * 1024)
    return ""


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
