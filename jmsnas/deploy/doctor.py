"""What works on this host and what to do about the rest. Each library is imported in a process of its own.

A wheel for another processor ends Python with SIGILL: that must be a line of a report, not the report's end.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmsnas.deploy.transport.devices_file import read_devices_file
from jmsnas.deploy.transport.identity import days_left, read_identity
from jmsnas.errors import JmsnasError
from jmsnas.profiler.host.sensors import read_governor
from jmsnas.workspace import Workspace

# What an agent needs, and what the leader needs beside it.
AGENT = ("numpy", "onnxruntime", "grpc", "cryptography")
LEADER = ("torch", "onnx", "onnxscript", "pyarrow", "pandas", "sklearn", "scipy", "matplotlib", "torchprof")
_IMPORT_S = 120.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at: `level` is ok, note or trouble; `remedy` what to type, where there is."""

    what: str
    level: str
    words: str
    remedy: str = ""


def check_host(workspace: Workspace, modules: Sequence[str] = (*AGENT, *LEADER)) -> list[CheckResult]:
    """Look at everything: libraries, processor, clock, governor, certificates, agents."""
    found = [_import(module) for module in modules]
    found += [_word_size(), _clock(), _governor()]
    return [*found, *_certificates(workspace), *_agents(workspace)]


def _import(
    module: str, run: Callable[..., "subprocess.CompletedProcess[str]"] = subprocess.run
) -> CheckResult:
    script = (
        f"import json, {module} as m; told = {{'version': getattr(m, '__version__', '')}}; "
        "told['providers'] = m.get_available_providers() if hasattr(m, 'get_available_providers') else []; "
        "print(json.dumps(told))"
    )
    try:
        done = run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=_IMPORT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return CheckResult(module, "trouble", f"is not there after {_IMPORT_S:.0f} s", "free some memory")
    if done.returncode == 0:
        told = json.loads(done.stdout.splitlines()[-1])
        gpu = ", with CUDA" if "CUDAExecutionProvider" in told["providers"] else ""
        return CheckResult(module, "ok", f"{told['version']}{gpu}")
    return _why_not(module, done.returncode, done.stderr)


def _why_not(module: str, code: int, words: str) -> CheckResult:
    """Name the cause of a failed import, and the remedy."""
    last = words.strip().rpartition("\n")[2][:160]
    if code == -signal.SIGILL:
        return CheckResult(
            module,
            "trouble",
            "Illegal instruction: this wheel was built for a newer processor than this "
            f"{platform.machine()} (a Raspberry Pi 4 lacks LSE atomics)",
            f"python -m pip install --upgrade {_package(module)}  (torch 2.11, onnxruntime 1.22 or newer)",
        )
    if code < 0:
        return CheckResult(
            module, "trouble", f"ends Python with {signal.Signals(-code).name}", _again(module)
        )
    if "GLIBC" in words or "GLIBCXX" in words:
        return CheckResult(module, "trouble", f"needs a newer system: {last}", "upgrade the operating system")
    if "No module named" in words:
        level = "trouble" if module in AGENT else "note"
        return CheckResult(module, level, "is not installed", f"python -m pip install {_package(module)}")
    return CheckResult(module, "trouble", f"cannot be imported: {last}", _again(module))


def _package(module: str) -> str:
    return {"grpc": "grpcio", "sklearn": "scikit-learn"}.get(module, module)


def _again(module: str) -> str:
    return f"python -m pip install --force-reinstall {_package(module)}"


def _word_size() -> CheckResult:
    if sys.maxsize < 1 << 32:
        return CheckResult(
            "processor", "trouble", "32-bit Python: onnxruntime has none", "install a 64-bit system"
        )
    return CheckResult("processor", "ok", f"{platform.machine()}, {os.cpu_count()} cores, Python 64 bit")


def _clock(synchronised: Path = Path("/run/systemd/timesync/synchronized")) -> CheckResult:
    """Say whether the clock is right: certificates are judged by it (latencies are not)."""
    if time.time() < 1_700_000_000:
        return CheckResult("clock", "trouble", "says a year long past", "sudo timedatectl set-ntp true")
    if synchronised.exists():
        return CheckResult("clock", "ok", "synchronised")
    return CheckResult("clock", "note", "cannot tell whether it is synchronised", "timedatectl")


def _governor(root: Path = Path("/")) -> CheckResult:
    found = read_governor(root)
    if found is None:
        return CheckResult("governor", "note", "this host does not tell (most virtual machines)")
    if found in ("performance", "fixed"):
        return CheckResult("governor", "ok", found)
    return CheckResult(
        "governor",
        "note",
        f"{found}: clocks move while blocks are timed",
        "sudo cpupower frequency-set -g performance",
    )


def _certificates(workspace: Workspace) -> list[CheckResult]:
    found = []
    for folder in sorted(workspace.certs.glob("*/")):
        what = f"certificate of {folder.name}"
        try:
            days = days_left(read_identity(folder))
        except JmsnasError as error:
            found.append(CheckResult(what, "trouble", str(error)))
            continue
        level = "ok" if days > 14 else "note" if days > 0 else "trouble"
        again = "" if level == "ok" else f"jmsnas certs --device {folder.name}"
        found.append(CheckResult(what, level, f"good for {days:.0f} days", again))
    return found


def _agents(workspace: Workspace) -> list[CheckResult]:
    """Knock at each agent of devices.toml, and ask those that open what they are."""
    try:
        fleet = read_devices_file(workspace.devices_file)
    except JmsnasError as error:
        return [CheckResult("devices.toml", "trouble", str(error))]
    found = []
    for name, address in fleet.items():
        host, _, port = address.address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), 2).close()
        except OSError as error:
            words = f"{address.address}: {error.strerror or error}"
            found.append(CheckResult(f"agent of {name}", "trouble", words, "start jmsnas agent there"))
            continue
        found.append(_ask(workspace, name))
    return found


def _ask(workspace: Workspace, name: str) -> CheckResult:
    from jmsnas.deploy.leader.leader import Leader

    what = f"agent of {name}"
    try:
        leader = Leader(workspace.certs / "leader", {name: read_devices_file(workspace.devices_file)[name]})
    except JmsnasError as error:
        return CheckResult(what, "trouble", str(error), f"jmsnas certs --device {name}")
    try:
        told = leader.clients[name].describe()
        offset_ns, round_trip_ns = leader.clients[name].clock()
    except JmsnasError as error:
        return CheckResult(what, "trouble", str(error), f"jmsnas certs --device {name}, copy it there")
    finally:
        leader.close()
    words = f"onnxruntime {told['versions']['onnxruntime']}, round trip {round_trip_ns / 1e6:.2f} ms"
    return CheckResult(what, "ok", f"{words}, its steady clock known to {round_trip_ns / 2e6:.2f} ms")
