"""Check libraries, host settings, certificates and agents, and suggest a remedy for each problem.

Each library is imported in a subprocess: a wheel for another processor kills Python with SIGILL.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmsnas.deploy.transport.devices_file import AgentAddress, read_devices_file
from jmsnas.deploy.transport.identity import days_left, read_identity
from jmsnas.deploy.transport.responses import ResponseError
from jmsnas.errors import JmsnasError
from jmsnas.profiler.host.sensors import read_governor
from jmsnas.workspace import Workspace

# Modules that an agent needs, and those that only the leader needs.
AGENT = ("numpy", "onnxruntime", "grpc", "cryptography")
LEADER = ("torch", "onnx", "onnxscript", "pyarrow", "pandas", "sklearn", "scipy", "matplotlib", "torchprof")
_IMPORT_S = 120.0
# gRPC's texts of a TLS handshake that the other side did not answer; a refused one has others.
_UNANSWERED = ("Endpoint closing", "handshaker shutdown")
# Time of all agents together, and of the last ones to report that it has passed.
_AGENTS_S, _GRACE_S = 2.5, 0.3


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check: `level` is ok, note or trouble; `remedy` is a command or advice, or empty."""

    what: str
    level: str
    words: str
    remedy: str = ""


def check_host(workspace: Workspace, modules: Sequence[str] = (*AGENT, *LEADER)) -> list[CheckResult]:
    """Check libraries, processor, clock, governor, certificates and agents."""
    host = [*(_import(module) for module in modules), _word_size(), _clock(), _governor()]
    return [*host, *_certificates(workspace), *check_agents(workspace)]


def _import(
    module: str, run: Callable[..., "subprocess.CompletedProcess[str]"] = subprocess.run
) -> CheckResult:
    script = (
        f"import json, {module} as m; info = {{'version': getattr(m, '__version__', '')}}; "
        "info['providers'] = m.get_available_providers() if hasattr(m, 'get_available_providers') else []; "
        "print(json.dumps(info))"
    )
    try:
        done = run(
            [sys.executable, "-c", script], capture_output=True, text=True, timeout=_IMPORT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return CheckResult(
            module, "trouble", f"import takes longer than {_IMPORT_S:.0f} s", "free some memory"
        )
    if done.returncode == 0:
        info = json.loads(done.stdout.splitlines()[-1])
        gpu = ", with CUDA" if "CUDAExecutionProvider" in info["providers"] else ""
        return CheckResult(module, "ok", f"{info['version']}{gpu}")
    return _failed_import(module, done.returncode, done.stderr)


def _failed_import(module: str, code: int, stderr: str) -> CheckResult:
    """Find the cause of a failed import, and a remedy."""
    last = stderr.strip().rpartition("\n")[2][:160]
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
            module, "trouble", f"kills Python with {signal.Signals(-code).name}", _reinstall(module)
        )
    if "GLIBC" in stderr:
        return CheckResult(module, "trouble", f"needs a newer system: {last}", "upgrade the operating system")
    if "No module named" in stderr:
        level = "trouble" if module in AGENT else "note"
        return CheckResult(module, level, "is not installed", f"python -m pip install {_package(module)}")
    return CheckResult(module, "trouble", f"cannot be imported: {last}", _reinstall(module))


def _package(module: str) -> str:
    return {"grpc": "grpcio", "sklearn": "scikit-learn"}.get(module, module)


def _reinstall(module: str) -> str:
    return f"python -m pip install --force-reinstall {_package(module)}"


def _word_size() -> CheckResult:
    if sys.maxsize < 1 << 32:
        return CheckResult(
            "processor",
            "trouble",
            "32-bit Python: onnxruntime has no 32-bit build",
            "install a 64-bit system",
        )
    return CheckResult("processor", "ok", f"{platform.machine()}, {os.cpu_count()} cores, Python 64 bit")


def _clock(synchronised: Path = Path("/run/systemd/timesync/synchronized")) -> CheckResult:
    """Check the system clock: certificates are validated with it (latencies are not measured with it)."""
    if time.time() < 1_700_000_000:
        return CheckResult("clock", "trouble", "is years in the past", "sudo timedatectl set-ntp true")
    if synchronised.exists():
        return CheckResult("clock", "ok", "synchronised")
    return CheckResult("clock", "note", "unknown whether it is synchronised", "timedatectl")


def _governor(root: Path = Path("/")) -> CheckResult:
    setting = read_governor(root)
    if setting is None:
        return CheckResult("governor", "note", "not available on this host (most virtual machines)")
    if setting in ("performance", "fixed"):
        return CheckResult("governor", "ok", setting)
    return CheckResult(
        "governor",
        "note",
        f"{setting}: clock rates change while blocks are timed",
        "sudo cpupower frequency-set -g performance",
    )


def _certificates(workspace: Workspace) -> list[CheckResult]:
    results = []
    for folder in sorted(workspace.certs.glob("*/")):
        what = f"certificate of {folder.name}"
        try:
            days = days_left(read_identity(folder))
        except JmsnasError as error:
            results.append(CheckResult(what, "trouble", str(error)))
            continue
        level = "ok" if days > 14 else "note" if days > 0 else "trouble"
        renew = "" if level == "ok" else f"jmsnas certs --device {folder.name}"
        results.append(CheckResult(what, level, f"valid for {days:.0f} days", renew))
    return results


def check_agents(workspace: Workspace, within_s: float = _AGENTS_S) -> list[CheckResult]:
    """Request the descriptions of all agents of devices.toml at once, for `within_s` seconds in all."""
    from jmsnas.deploy.leader import leader  # noqa: F401 - its import is not part of the time of an agent

    try:
        addresses = read_devices_file(workspace.devices_file)
    except JmsnasError as error:
        return [CheckResult("devices.toml", "trouble", str(error))]
    ends_s = time.monotonic() + within_s
    found: dict[str, CheckResult] = {}

    def check(address: AgentAddress) -> None:
        found[address.name] = _agent(workspace, address, ends_s)

    # Daemons, as the name of a host may take longer to resolve than any timeout here.
    threads = [threading.Thread(target=check, args=[one], daemon=True) for one in addresses.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends_s + _GRACE_S - time.monotonic()))
    return [found.get(name, _silent(address)) for name, address in addresses.items()]


def _silent(address: AgentAddress) -> CheckResult:
    return CheckResult(
        f"agent of {address.name}",
        "trouble",
        f"{address.address}: no answer in time",
        "start jmsnas-agent there again; check that no other program has this port",
    )


def _refused(address: str, ends_s: float) -> str:
    """Return why no connection to HOST:PORT can be opened; empty where it can."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _left_s(ends_s)).close()
    except OSError as error:
        return f"{address}: {error.strerror or error}"
    return ""


def _agent(workspace: Workspace, address: AgentAddress, ends_s: float) -> CheckResult:
    from jmsnas.deploy.leader.leader import Leader

    what, renew = f"agent of {address.name}", f"jmsnas certs --device {address.name}"
    if fault := _refused(address.address, ends_s):
        return CheckResult(what, "trouble", fault, "start jmsnas-agent there")
    try:
        leader = Leader(workspace.certs / "leader", {address.name: address})
    except JmsnasError as error:
        return CheckResult(what, "trouble", str(error), renew)
    client = leader.clients[address.name]
    try:
        info = client.describe(_left_s(ends_s))
        if fault := _refused(address.data_address, ends_s):
            remedy = "let this port, which receives tensors, through the firewalls"
            return CheckResult(what, "trouble", fault, remedy)
        _, round_trip_ns = client.clock()
    except ResponseError as error:
        return CheckResult(what, "trouble", str(error))
    except JmsnasError as error:
        if time.monotonic() >= ends_s - _GRACE_S or any(text in str(error) for text in _UNANSWERED):
            return _silent(address)
        return CheckResult(what, "trouble", str(error), f"{renew}, and copy it there")
    finally:
        leader.close()
    return CheckResult(
        what,
        "ok",
        f"onnxruntime {info.versions.get('onnxruntime', '?')}, round trip {round_trip_ns / 1e6:.2f} ms, "
        f"clock offset known to {round_trip_ns / 2e6:.2f} ms",
    )


def _left_s(ends_s: float) -> float:
    return max(0.01, ends_s - time.monotonic())
