"""Block latencies of simulated devices, from a per-operator roofline of published figures.

A latency is the runtime's cost of a call, plus for each launched operator the cost of the launch, its
multiply-accumulates over a rate and its bytes over a bandwidth:

    latency = per_call + sum over operators of (overhead + macs / rate + bytes / bandwidth)

Arithmetic and memory traffic are added, not overlapped: this fits published block tables better than
the maximum of the classic roofline (Williams et al., CACM 2009); docs/simulated_devices.md has both.
Every constant and its source is in jmsnas/presets/devices/<name>.toml. These are not measurements.
"""

import functools
from collections.abc import Collection, Sequence

from jmsnas.cost import Operator, operators
from jmsnas.errors import DeviceError, TableError
from jmsnas.files import preset_names, preset_path, read_toml
from jmsnas.profiler.simulation.device_file import (
    MultiplyingCosts,
    RuntimeCosts,
    SimulatedDevice,
    device_from_toml,
)
from jmsnas.profiler.table.latency_table import (
    LAYOUTS,
    PROCESSORS,
    REFERENCE_BLOCK,
    BlockRow,
    LatencyTable,
    RuntimeKey,
)
from jmsnas.space import Block

_FLOAT32_BYTES = 4
_CLASS_OF_KIND = {
    **dict.fromkeys(("conv", "pointwise", "dense"), "pointwise"),
    "depthwise": "depthwise",
    **dict.fromkeys(("norm", "activation", "add", "multiply", "pool"), "elementwise"),
}
# onnxruntime folds normalisation into the preceding convolution and fuses the following activation;
# eager torch launches every operator.
_FUSED_KINDS = {"onnxruntime": frozenset({"norm", "activation"}), "torch": frozenset[str]()}
_NO_EVIDENCE = "no evidence for this runtime"


def simulated_device_names() -> tuple[str, ...]:
    """Names of the built-in simulated devices, sorted."""
    return preset_names("devices")


@functools.cache
def load_simulated_device(name: str) -> SimulatedDevice:
    """Load a built-in simulated device. Raises DeviceError for an unknown name or an invalid file."""
    known = simulated_device_names()
    if name not in known:
        raise DeviceError(f"unknown simulated device {name!r}: expected one of {', '.join(known)}")
    return device_from_toml(read_toml(preset_path("devices", name), DeviceError), f"{name}.toml")


def processor_of(device: str) -> str:
    """Processor of a device by its name: `cuda` for the built-in GPUs, `cpu` for all other names."""
    return load_simulated_device(device).processor if device in simulated_device_names() else "cpu"


def cpu_name(device: str) -> str:
    """Name that the CPU of a device is profiled under: `jetson-cpu` of `jetson`, else its own name."""
    return device if processor_of(device) == "cpu" else f"{device}-cpu"


def serving_key(device: str, runtime: str, keys: Collection[RuntimeKey]) -> RuntimeKey:
    """Choose the key of a latency table that a device is predicted by, of its own processor.

    A table of torch may have rows in channels_last only, and one of another name than a built-in device rows
    on CUDA only.
    """
    own = RuntimeKey(runtime, processor=processor_of(device))
    processors = (own.processor,) if own.processor == "cuda" else PROCESSORS
    layouts = LAYOUTS if runtime == "torch" else LAYOUTS[:1]
    variants = (
        RuntimeKey(runtime, processor=processor, layout=layout)
        for processor in processors
        for layout in layouts
        if runtime == "torch" or processor == own.processor
    )
    return next((key for key in variants if key in keys), own)


def _costs(device: SimulatedDevice, runtime: str) -> RuntimeCosts:
    if runtime not in device.runtimes:
        known = ", ".join(device.runtimes)
        raise DeviceError(
            f"simulated device {device.name} has no runtime {runtime!r}: expected one of {known}"
        )
    return device.runtimes[runtime]


def evidence_lines(device: str, runtimes: Sequence[str]) -> tuple[str, ...]:
    """Describe the evidence for each runtime of a simulated device, one line each.

    Raises DeviceError for an unknown device or runtime.
    """
    return tuple(
        f"{runtime}: {_evidence(_costs(load_simulated_device(device), runtime))}" for runtime in runtimes
    )


def _evidence(costs: RuntimeCosts) -> str:
    if checked := costs.checked:
        return (
            f"validated on {checked.rows} rows of {checked.against}: rank {checked.rank:.3f}, "
            f"median error {100 * checked.median_error:.0f} %"
        )
    evidence = "evidence, but not validated on a measured table" if costs.evidence else _NO_EVIDENCE
    return f"{evidence}: {costs.basis}"


def operators_latency_s(
    device: SimulatedDevice, runtime: str, launched: Sequence[Operator], batch: int = 1
) -> float:
    """Seconds of one call that runs these operators, without those that the runtime fuses.

    Numbers take four bytes (float32). `batch` multiplies MACs and activations, not parameters. Raises
    DeviceError for an unknown runtime.
    """
    costs = _costs(device, runtime)
    total_s = costs.per_call_s.value
    for op in launched:
        if op.kind in _FUSED_KINDS[runtime]:
            continue
        class_costs = getattr(costs, _CLASS_OF_KIND[op.kind])
        moved_bytes = _FLOAT32_BYTES * (batch * (op.read + op.written) + op.parameters)
        multiplies = isinstance(class_costs, MultiplyingCosts)
        macs_s = batch * op.macs / class_costs.macs_per_s.value if multiplies else 0.0
        total_s += class_costs.overhead_s.value + macs_s
        total_s += moved_bytes / class_costs.bytes_per_s.value
    return total_s


def block_latency_s(device: SimulatedDevice, runtime: str, block: Block) -> float:
    """Seconds of one call of a block: one thread, batch 1, float32. Identity takes the call cost only."""
    return operators_latency_s(device, runtime, operators(block))


def simulated_table(device: str, blocks: Sequence[Block], keys: Sequence[RuntimeKey]) -> LatencyTable:
    """Make the latency table of a simulated device, with rows of kind `simulated`.

    Deterministic: `measured_at` is the date of the device file. Raises DeviceError for an unknown device;
    TableError for a key other than 1 thread, batch 1, float32, contiguous, wall clock: no constants are
    published.
    """
    loaded = load_simulated_device(device)
    for key in keys:
        if key != RuntimeKey(key.runtime, processor=key.processor):
            raise TableError(
                f"simulated device {device} supports 1 thread, batch 1, float32, contiguous and wall clock "
                f"only, got {key.label}. "
                f"For other settings, on that machine: jmsnas profile --device {device} --measured-only"
            )
    environment = {"host": f"none: simulated {loaded.description}", "constants": loaded.dated.isoformat()}
    rows = tuple(_row(loaded, key, block) for key in keys for block in blocks)
    return LatencyTable(device, rows, {"simulated": environment})


def _row(device: SimulatedDevice, key: RuntimeKey, block: Block) -> BlockRow:
    median_s, reference_s = (block_latency_s(device, key.runtime, b) for b in (block, REFERENCE_BLOCK))
    ratio = median_s / reference_s
    costs = device.runtimes[key.runtime]
    evidence = "evidence" if costs.evidence else _NO_EVIDENCE
    return BlockRow(
        device=device.name, key=key, block=block, kind="simulated",
        median_s=median_s, low_s=median_s, high_s=median_s,
        ratio=ratio, ratio_low=ratio, ratio_high=ratio, reference_s=reference_s,
        min_s=median_s, p90_s=median_s, rounds=0, converged=True,
        environment="simulated", measured_at=device.dated.isoformat(),
        source=f"roofline of devices/{device.name}.toml; {evidence}: {costs.basis}",
    )  # fmt: skip
