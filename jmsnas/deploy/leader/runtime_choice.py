"""What runs each device's part: the run time of the network's file or of the command, as U(.) knows it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jmsnas.deploy.leader.calibration import CalibratedEstimator
from jmsnas.deploy.leader.leader import Leader
from jmsnas.deploy.parts.torch_probe import TorchInfo
from jmsnas.errors import InputError
from jmsnas.profiler.table.latency_table import RUNTIMES, RuntimeKey
from jmsnas.topology import Topology


def with_runtimes(topology: Topology, wanted: Sequence[str]) -> Topology:
    """Have devices serve by other run times: `torch` for all of them, `jetson=torch` for one.

    Raises
    ------
    InputError
        For a run time or a device that nobody knows.
    """
    names = [device.name for device in topology.devices]
    found = {device.name: device.runtime for device in topology.devices}
    for text in wanted:
        name, _, runtime = text.rpartition("=")
        if runtime not in RUNTIMES or (name and name not in names):
            raise InputError(
                f"--runtime {text}: expected {' or '.join(RUNTIMES)}, or one for a device, as in "
                f"{names[-1]}=torch; devices are {', '.join(names)}"
            )
        found |= dict.fromkeys([name] if name else names, runtime)
    devices = (replace(device, runtime=found[device.name]) for device in topology.devices)
    return replace(topology, devices=tuple(devices))


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """How a device runs its part, and what a call costs there that comes unawaited, seconds."""

    key: RuntimeKey
    call_s: float


def choose_torch_runtimes(
    topology: Topology,
    predictors: Mapping[str, CalibratedEstimator],
    leader: Leader,
    told: Mapping[str, Mapping[str, Any]],
    warn: Callable[[str], None] = lambda text: None,
) -> dict[str, RuntimeChoice]:
    """Say how each device that serves by torch does it: by the key of its U(.), which predicts it.

    Where U(.) is of a GPU that the device's torch does not find, its part runs on the processor, and that is
    told. Devices that are not named serve by onnxruntime.

    Parameters
    ----------
    told
        What `leader.collect` gave. Agents of one host are asked once.

    Raises
    ------
    LostDevice
        When a device does not answer.
    """
    asked: dict[tuple[str, str], TorchInfo] = {}
    found = {}
    for device in topology.devices:
        if device.runtime != "torch":
            continue
        name, key = device.name, predictors[device.name].estimator.key
        host = str(told[name].get("boot") or name), key.processor
        if host not in asked:
            asked[host] = leader.clients[name].torch(key.processor)
        if key.processor == "cuda" and not asked[host].cuda:
            key = replace(key, processor="cpu", dtype="float32")
            warn(
                f"device {name} has no CUDA: its part runs on the processor, and U(.) is that of a GPU. "
                f"There: jmsnas profile --device {name}-cpu --runtime torch"
            )
        found[name] = RuntimeChoice(key, asked[host].call_s)
    return found
