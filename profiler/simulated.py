"""Devices that are not at hand: block latencies from a per-operator roofline of published figures.

A latency is the run time's cost of a call, plus for each operator it launches the launch itself, its
multiply-accumulates over a rate and its bytes over a bandwidth:

    latency = per_call + sum over operators of (overhead + macs / rate + bytes / bandwidth)

Arithmetic and memory traffic are added, not overlapped: this fits published block tables better than
the maximum of the classic roofline (Williams et al., CACM 2009); docs/simulated_devices.md has both.
Every constant and its source is in jmsnas/presets/devices/<name>.toml. Nothing here is a measurement.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from jmsnas.cost import Operator, operators
from jmsnas.errors import DeviceError, TableError
from jmsnas.files import preset_names, preset_path, read_toml, refuse_unknown_keys
from jmsnas.profiler.table import REFERENCE, RUNTIMES, Key, LatencyTable, Row
from jmsnas.space import Block

_FLOAT32_BYTES = 4
_CLASS_OF_KIND = {
    "conv": "pointwise",
    "pointwise": "pointwise",
    "dense": "pointwise",
    "depthwise": "depthwise",
    "norm": "elementwise",
    "activation": "elementwise",
    "add": "elementwise",
    "pool": "elementwise",
}
# onnxruntime folds normalisation into the convolution before it and fuses the activation behind it;
# eager torch launches every operator.
_FUSED_KINDS = {"onnxruntime": frozenset({"norm", "activation"}), "torch": frozenset[str]()}
_MULTIPLYING = ("macs_per_s", "bytes_per_s", "overhead_s")
_CLASS_KEYS = {
    "pointwise": _MULTIPLYING,
    "depthwise": _MULTIPLYING,
    "elementwise": ("bytes_per_s", "overhead_s"),
}


@dataclass(frozen=True, slots=True)
class Constant:
    """A number of a device file and where it comes from, in words."""

    value: float
    source: str


@dataclass(frozen=True, slots=True)
class OperatorCosts:
    """What operators of one class cost: MACs a second (infinite where there are none), bytes a second, s."""

    macs_per_s: Constant
    bytes_per_s: Constant
    overhead_s: Constant


@dataclass(frozen=True, slots=True)
class RuntimeCosts:
    """The constants of one run time on a device.

    `evidence` says whether published measurements of the same processor design under a run time of the
    same family (compiled graph, or eager) stand behind them; `basis` which ones, or why there are none.
    """

    evidence: bool
    basis: str
    per_call_s: Constant
    classes: Mapping[str, OperatorCosts]


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """A device file: one thread, batch 1, float32. `dated` is when its constants were written, ISO 8601."""

    name: str
    description: str
    dated: str
    runtimes: Mapping[str, RuntimeCosts]

    def constants(self) -> dict[str, Constant]:
        """Every constant by its dotted name in the file: `torch.depthwise.macs_per_s`."""
        found: dict[str, Constant] = {}
        for runtime, costs in self.runtimes.items():
            found[f"{runtime}.per_call_s"] = costs.per_call_s
            for name, of_class in costs.classes.items():
                for key in _CLASS_KEYS[name]:
                    found[f"{runtime}.{name}.{key}"] = getattr(of_class, key)
        return found


def simulated_names() -> tuple[str, ...]:
    """Names of the built-in devices that can be simulated, sorted."""
    return preset_names("devices")


@functools.cache
def load_simulated(name: str) -> SimulatedDevice:
    """Load a built-in simulated device. Raises DeviceError for a name nobody knows or a wrong file."""
    known = simulated_names()
    if name not in known:
        raise DeviceError(f"unknown simulated device {name!r}: expected one of {', '.join(known)}")
    return device_from_toml(read_toml(preset_path("devices", name), DeviceError), f"{name}.toml")


def device_from_toml(table: Mapping[str, Any], where: str) -> SimulatedDevice:
    """Make a device from a TOML document; docs/simulated_devices.md describes its keys.

    Raises
    ------
    DeviceError
        Naming the file and what is unknown, missing, or of the wrong kind in it.
    """
    refuse_unknown_keys(table, ("name", "description", "dated", *RUNTIMES), where, DeviceError)
    try:
        dated = table["dated"]
        if type(dated) is not date:
            raise DeviceError(f"{where} has dated = {dated!r}: expected a date such as 2026-11-23")
        return SimulatedDevice(
            name=_text(table, "name", where),
            description=_text(table, "description", where),
            dated=dated.isoformat(),
            runtimes={
                runtime: _runtime_costs(table[runtime], f"{where} [{runtime}]") for runtime in RUNTIMES
            },
        )
    except KeyError as error:
        raise DeviceError(f"{where} lacks the key {error}") from error


def _runtime_costs(table: Any, where: str) -> RuntimeCosts:
    _check_keys(table, ("evidence", "basis", "per_call_s", *_CLASS_KEYS), where)
    if not isinstance(table["evidence"], bool):
        raise DeviceError(f"{where} has evidence = {table['evidence']!r}: expected true or false")
    return RuntimeCosts(
        evidence=table["evidence"],
        basis=_text(table, "basis", where),
        per_call_s=_constant(table["per_call_s"], f"{where} per_call_s"),
        classes={name: _operator_costs(table[name], name, f"{where} {name}") for name in _CLASS_KEYS},
    )


def _operator_costs(table: Any, name: str, where: str) -> OperatorCosts:
    keys = _CLASS_KEYS[name]
    _check_keys(table, keys, where)
    found = {key: _constant(table[key], f"{where} {key}") for key in keys}
    rate = found.get("macs_per_s", Constant(math.inf, "these operators multiply nothing"))
    return OperatorCosts(rate, found["bytes_per_s"], found["overhead_s"])


def _constant(table: Any, where: str) -> Constant:
    _check_keys(table, ("value", "source"), where)
    value = table["value"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise DeviceError(f"{where} has value = {value!r}: expected a finite number above 0")
    return Constant(float(value), _text(table, "source", where))


def _check_keys(table: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(table, dict):
        raise DeviceError(f"{where} is {table!r}: expected a table with the keys {', '.join(keys)}")
    refuse_unknown_keys(table, keys, where, DeviceError)
    missing = [key for key in keys if key not in table]
    if missing:
        raise DeviceError(f"{where} lacks {', '.join(missing)}: expected the keys {', '.join(keys)}")


def _text(table: Mapping[str, Any], key: str, where: str) -> str:
    text = table[key]
    if not isinstance(text, str) or not text.strip():
        raise DeviceError(f"{where} has {key} = {text!r}: expected words")
    return text


def operators_s(device: SimulatedDevice, runtime: str, launched: Sequence[Operator], batch: int = 1) -> float:
    """Seconds of one call that runs these operators, those that the run time fuses left out.

    Numbers take four bytes (float32). `batch` multiplies MACs and activations, not parameters. Raises
    DeviceError for a run time the device has no constants for.
    """
    if runtime not in device.runtimes:
        raise DeviceError(
            f"simulated device {device.name} has no run time {runtime!r}: expected one of "
            f"{', '.join(device.runtimes)}"
        )
    costs = device.runtimes[runtime]
    total_s = costs.per_call_s.value
    for op in launched:
        if op.kind in _FUSED_KINDS[runtime]:
            continue
        of_class = costs.classes[_CLASS_OF_KIND[op.kind]]
        moved_bytes = _FLOAT32_BYTES * (batch * (op.read + op.written) + op.parameters)
        total_s += of_class.overhead_s.value + batch * op.macs / of_class.macs_per_s.value
        total_s += moved_bytes / of_class.bytes_per_s.value
    return total_s


def predict_s(device: SimulatedDevice, runtime: str, block: Block) -> float:
    """Seconds of one call of a block: one thread, batch 1, float32. Identity costs the bare call."""
    return operators_s(device, runtime, operators(block))


def simulated_table(device: str, blocks: Sequence[Block], keys: Sequence[Key]) -> LatencyTable:
    """Make the latency table of a device that is not at hand; every row says `simulated`.

    The same arguments give the same table on any day: `measured_at` is the date of the device file.

    Raises
    ------
    DeviceError
        For a device nobody knows.
    TableError
        For a key other than 1 thread, batch 1, float32: no constants are published for it.
    """
    loaded = load_simulated(device)
    for key in keys:
        if (key.threads, key.batch, key.dtype) != (1, 1, "float32"):
            raise TableError(
                f"simulated device {device} knows 1 thread, batch 1 and float32 only, got {key.label}. "
                f"For others measure, on that machine: jmsnas profile --device {device} --measured-only"
            )
    environment = {"host": f"none: simulated {loaded.description}", "constants": loaded.dated}
    rows = tuple(_row(loaded, key, block) for key in keys for block in blocks)
    return LatencyTable(device, rows, {"simulated": environment})


def _row(device: SimulatedDevice, key: Key, block: Block) -> Row:
    median_s, reference_s = predict_s(device, key.runtime, block), predict_s(device, key.runtime, REFERENCE)
    ratio = median_s / reference_s
    costs = device.runtimes[key.runtime]
    standing = "evidence" if costs.evidence else "no evidence for this run time"
    return Row(
        device=device.name, key=key, block=block, kind="simulated",
        median_s=median_s, low_s=median_s, high_s=median_s,
        ratio=ratio, ratio_low=ratio, ratio_high=ratio, reference_s=reference_s,
        min_s=median_s, p90_s=median_s, rounds=0, converged=True,
        environment="simulated", measured_at=device.dated,
        source=f"roofline of devices/{device.name}.toml; {standing}: {costs.basis}",
    )  # fmt: skip
