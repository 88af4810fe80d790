"""Choose the runtime of each device's part: from the topology file, --runtime, and the key of its U(.)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from jmsnas.deploy.leader.calibration import CalibratedEstimator
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.parts.torch_probe import TorchInfo
from jmsnas.deploy.transport.responses import AgentInfo
from jmsnas.errors import InputError
from jmsnas.profiler.table.latency_table import RUNTIMES, RuntimeKey
from jmsnas.topology import Topology


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """Runtime of a device's part, and the overhead of one call of it, seconds."""

    key: RuntimeKey
    call_s: float


def with_runtimes(topology: Topology, options: Sequence[str]) -> Topology:
    """Replace the runtimes of devices: `torch` for all of them, `jetson=torch` for one. Raises InputError."""
    names = [device.name for device in topology.devices]
    runtimes = {device.name: device.runtime for device in topology.devices}
    for option in options:
        name, _, runtime = option.rpartition("=")
        if runtime not in RUNTIMES or (name and name not in names):
            raise InputError(
                f"--runtime {option}: expected {' or '.join(RUNTIMES)}, or one for a device, as in "
                f"{names[-1]}=torch; devices are {', '.join(names)}"
            )
        runtimes |= dict.fromkeys([name] if name else names, runtime)
    devices = (replace(device, runtime=runtimes[device.name]) for device in topology.devices)
    return replace(topology, devices=tuple(devices))


def choose_torch_runtimes(
    topology: Topology,
    predictors: Mapping[str, CalibratedEstimator],
    leader: Leader,
    infos: Mapping[str, AgentInfo],
    warn: Callable[[str], None] = lambda text: None,
) -> dict[str, RuntimeChoice]:
    """Choose processor and data type of each device that serves by torch: those of its U(.).

    Where U(.) is of a GPU and the device's torch finds none, the part runs on the CPU, with a warning.
    Devices that are not in the result serve by onnxruntime. `infos` is the result of `leader.describe`; of
    several agents on one host only the first is queried for torch. Raises DeviceLostError.
    """
    by_host: dict[tuple[str, str], TorchInfo] = {}
    choices = {}
    for device in topology.devices:
        if device.runtime != "torch":
            continue
        name, key = device.name, predictors[device.name].estimator.key
        host = infos[name].boot or name, key.processor
        if host not in by_host:
            by_host[host] = leader.clients[name].torch(key.processor)
        if key.processor == "cuda" and not by_host[host].cuda:
            key = replace(key, processor="cpu", dtype="float32")
            warn(
                f"device {name} has no CUDA: its part runs on the CPU, but U(.) is that of a GPU. "
                f"There: jmsnas profile --device {name}-cpu --runtime torch"
            )
        choices[name] = RuntimeChoice(key, by_host[host].call_s)
    return choices
